"""Schedules and Plateau against torch's own schedulers, over whole runs through a real optimizer and a real tuner."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from autotunenet import Float, SearchSpace, Tuner
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.controllers import SCHEDULES, Plateau, Schedule
from autotunenet.guards import chain
from autotunenet.monitors import WorstOf
from autotunenet.snapshots import SnapshotBuffer

LR = 0.1
NUM_STEPS = 24  # in every case the length of the run; one unit or more beyond the end where torch defines it


def wsd(optimizer, *, total, warmup, decay, start, final):
    return lr_scheduler.SequentialLR(
        optimizer,
        [
            lr_scheduler.LinearLR(optimizer, start, 1.0, total_iters=warmup),
            lr_scheduler.ConstantLR(optimizer, 1.0, total_iters=0),
            lr_scheduler.LinearLR(optimizer, 1.0, final, total_iters=decay),
        ],
        milestones=[warmup, total - decay],
    )


# Name, our arguments, torch's scheduler, number of units it is defined for.
CASES = [
    ("constant", {}, lambda o: lr_scheduler.ConstantLR(o, 1.0), 24),
    ("step_decay", {"period": 7, "gamma": 0.3}, lambda o: lr_scheduler.StepLR(o, 7, 0.3), 24),
    ("step_decay", {"period": 1}, lambda o: lr_scheduler.StepLR(o, 1), 24),
    ("exponential_decay", {"gamma": 0.9}, lambda o: lr_scheduler.ExponentialLR(o, 0.9), 24),
    (
        "exponential_decay",
        {"gamma": 0.5, "decay_units": 5},
        lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.5 ** (t / 5)),
        24,
    ),
    (
        "exponential_decay",
        {"gamma": 0.5, "decay_units": 5, "staircase": True},
        lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.5 ** math.floor(t / 5)),
        24,
    ),
    ("cosine", {"total": 24}, lambda o: lr_scheduler.CosineAnnealingLR(o, 24), 24),
    ("cosine", {"total": 13, "final": 0.1}, lambda o: lr_scheduler.CosineAnnealingLR(o, 13, eta_min=0.1 * LR), 13),
    ("cosine", {"total": 1}, lambda o: lr_scheduler.CosineAnnealingLR(o, 1), 1),
    ("warmup_stable_decay", {"total": 20}, lambda o: wsd(o, total=20, warmup=1, decay=4, start=0.01, final=0.0), 24),
    (
        "warmup_stable_decay",
        {"total": 20, "warmup": 0.25, "decay": 0.5, "start": 0.2, "final": 0.05},
        lambda o: wsd(o, total=20, warmup=5, decay=10, start=0.2, final=0.05),
        24,
    ),
    (
        "warmup_stable_decay",
        {"total": 20, "warmup": 0.5, "decay": 0.5},
        lambda o: wsd(o, total=20, warmup=10, decay=10, start=0.01, final=0.0),
        24,
    ),
    *(
        (
            "one_cycle",
            {"total": total, "warmup": share, "start": 1 / div, "final": 1 / div / final_div},
            lambda o, total=total, share=share, div=div, final_div=final_div: lr_scheduler.OneCycleLR(
                o, LR, total, pct_start=share, div_factor=div, final_div_factor=final_div, cycle_momentum=False
            ),
            total - 1,
        )
        for total in (10, 20, 23, 24)
        for share, div, final_div in ((0.3, 25, 1e4), (0.5, 10, 100), (0.25, 25, 1e4), (0.9, 2, 5))
    ),
]


def new_optimizer(lr=LR):
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=lr)


def trained_step(optimizer):
    optimizer.zero_grad()
    (optimizer.param_groups[0]["params"][0] * 0).sum().backward()
    optimizer.step()


def new_tuner(optimizer, controller, **kwargs):
    space = SearchSpace({"lr": Float(0.0, 10.0)})
    run = TorchRun(torch.nn.ParameterList(optimizer.param_groups[0]["params"]), optimizer, names=space)
    return Tuner(
        run,
        space,
        controller=controller,
        guard=chain(),
        monitor=WorstOf(),
        snapshots=SnapshotBuffer(run, "none"),
        **kwargs,
    )


def torch_lrs(make_scheduler, num_units):
    optimizer = new_optimizer()
    scheduler = make_scheduler(optimizer)
    lrs = []
    for _ in range(num_units):
        lrs.append(optimizer.param_groups[0]["lr"])
        trained_step(optimizer)
        scheduler.step()
    return [*lrs, optimizer.param_groups[0]["lr"]]


@pytest.mark.filterwarnings("ignore:.*epoch parameter.*")
@pytest.mark.parametrize("steps_per_unit", [1, 3])
@pytest.mark.parametrize(("name", "arguments", "make_scheduler", "num_units"), CASES)
def test_schedule_is_torchs(name, arguments, make_scheduler, num_units, steps_per_unit):
    optimizer = new_optimizer()
    schedule = Schedule(SCHEDULES[name](**arguments), steps_per_unit)
    tuner = new_tuner(optimizer, schedule, interval=1 if steps_per_unit == 1 else None)
    lrs = []
    for _ in range(num_units):
        lrs.append(optimizer.param_groups[0]["lr"])
        for _ in range(steps_per_unit):
            trained_step(optimizer)
            tuner.step(1.0)
            assert steps_per_unit == 1 or optimizer.param_groups[0]["lr"] == lrs[-1]
        tuner.observe(1.0)
    lrs.append(optimizer.param_groups[0]["lr"])
    assert lrs == pytest.approx(torch_lrs(make_scheduler, num_units), rel=1e-12, abs=LR * 1e-15)


def test_every_schedule_has_a_golden_case():
    assert {name for name, *_ in CASES} == set(SCHEDULES)


@pytest.mark.parametrize(
    ("name", "arguments", "final"),
    [
        ("cosine", {"total": 10, "final": 0.25}, 0.25),
        ("one_cycle", {"total": 10, "final": 0.125}, 0.125),
        ("warmup_stable_decay", {"total": 10, "final": 0.5}, 0.5),
    ],
)
def test_after_its_end_a_schedule_stays_where_it_ended(name, arguments, final):
    factor = SCHEDULES[name](**arguments)
    assert [factor(t) for t in (10, 11, 10**9)] == pytest.approx([final] * 3)


METRICS = st.lists(
    st.one_of(
        st.floats(0.01, 10.0),
        st.sampled_from([1.0, 1.0, 0.5, 2.0, math.nan, math.inf]),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(
    metrics=METRICS,
    mode=st.sampled_from(["min", "max"]),
    threshold_mode=st.sampled_from(["rel", "abs"]),
    threshold=st.sampled_from([0.0, 1e-4, 0.1]),
    factor=st.sampled_from([0.1, 0.5, 0.9]),
    patience=st.integers(0, 4),
    cooldown=st.integers(0, 4),
    min_lr=st.sampled_from([0.0, 1e-3, 0.05]),
    eps=st.sampled_from([1e-8, 1e-2]),
)
def test_plateau_is_reduce_lr_on_plateau(metrics, mode, **arguments):
    reference = new_optimizer()
    scheduler = lr_scheduler.ReduceLROnPlateau(reference, mode=mode, **arguments)
    optimizer = new_optimizer()
    tuner = new_tuner(optimizer, Plateau(**arguments), mode=mode)
    for metric in metrics:
        scheduler.step(metric)
        tuner.step(1.0)
        tuner.observe(metric)
        assert optimizer.param_groups[0]["lr"] == reference.param_groups[0]["lr"]


def test_plateau_in_the_direction_max_knows_better_from_worse_where_torch_does_not():
    """With negative metrics torch's relative threshold points the wrong way; ours is a share of the magnitude."""
    optimizer = new_optimizer()
    tuner = new_tuner(optimizer, Plateau(patience=0, threshold=0.1), mode="max")
    for metric in (-10.0, -8.0, -6.0):  # better each time, by more than a tenth
        tuner.observe(metric)
    assert optimizer.param_groups[0]["lr"] == LR
    tuner.observe(-5.9)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(LR / 10)
