"""Losses of every kind, in any order, against every part: a refusal or a decision, and an lr that can be used."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autotunenet import AutoTuneNet, Float, Health, SearchSpace, Tuner
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.controllers import CONTROLLERS, Heuristic
from autotunenet.monitors import MONITORS, WorstOf

SPACE = SearchSpace({"lr": Float(1e-6, 10.0, log=True)})
NUMBERS = [math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, 1e-30, 0.5, 1.0, -1.0, 1e300, -1e300, 1.7e308, -1.7e308]
NUMBERS += [10**400, -(10**400), True, 7]
CALIBRATION = 1e-8 * 0.1
"""The lr of the first steps of a launch, which stand still as good as, to see how the losses vary."""

NO_NUMBERS = ["1.0", None, [1.0], {}, 1j, torch.ones(2), torch.ones(0)]
LOSSES = st.one_of(st.sampled_from(NUMBERS), st.floats(), st.floats(0.1, 3.0), st.sampled_from(NO_NUMBERS))
SEQUENCES = st.lists(LOSSES, min_size=10, max_size=80)

BUILD = {f"controller {name}": {"controller": controller} for name, controller in CONTROLLERS.items()}
BUILD |= {f"monitor {name}": {"controller": Heuristic, "monitor": monitor} for name, monitor in MONITORS.items()}
WHOLE = {"whole": {}, "no launch": {"launch": False}, "no attribution": {"attribution": False}, "no end": {}}


def make(name):
    """An optimizer whose one weight rises at each step, and its tuner."""
    weight = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(weight.parameters(), lr=0.1)
    if name in WHOLE:
        steps = None if name == "no end" else 60
        return weight, optimizer, AutoTuneNet(weight, optimizer, steps, space=SPACE, **WHOLE[name])
    parts = {key: part() for key, part in BUILD[name].items()}
    run = TorchRun(weight, optimizer, names=SPACE)
    return weight, optimizer, Tuner(run, SPACE, interval=3, snapshot_every=4, proof_steps=3, **parts)


def feed(name, losses):
    """Train for as many steps; return how many were counted."""
    model, optimizer, tuner = make(name)
    num_counted = 0
    for loss in losses:
        for param in model.parameters():
            param.grad = torch.full_like(param, 1e-3)
        optimizer.step()
        if any(loss is one for one in NO_NUMBERS):
            before = tuner.state_dict()["_num_steps"]
            with pytest.raises(TypeError, match="loss must be one number"):
                tuner.step(loss)
            assert tuner.state_dict()["_num_steps"] == before
        else:
            decision = tuner.step(loss)
            num_counted += 1
            if decision is not None:
                assert decision.reason
                assert all(map(math.isfinite, decision.applied.values()))
        lr = tuner.run.get_hyperparams()["lr"]
        assert 1e-6 * (1 - 1e-9) <= lr <= 10.0 * (1 + 1e-9) or (name == "no end" and lr == CALIBRATION)
    assert not any(math.isnan(value) for value in tuner.metrics().values())
    assert tuner.state_dict()["_num_steps"] == num_counted
    tuner.close()


@pytest.mark.parametrize("name", [*BUILD, *WHOLE])
@pytest.mark.parametrize("loss", NUMBERS, ids=str)
def test_one_and_the_same_loss_for_ever(name, loss):
    feed(name, [loss] * 30)


@pytest.mark.parametrize("name", [*BUILD, *WHOLE])
@given(losses=SEQUENCES)
@settings(max_examples=8)
def test_losses_in_any_order(name, losses):
    feed(name, losses)


@given(losses=st.lists(st.floats(), max_size=60))
def test_monitors_alone_judge_any_loss(losses):
    for monitor in (monitor() for name, monitor in MONITORS.items() if name != "worst_of"):
        both = WorstOf(monitor)
        for step, loss in enumerate(losses, start=1):
            assert isinstance(both.update(loss, step), Health)


@pytest.mark.parametrize("metric", [*NUMBERS, *NO_NUMBERS], ids=str)
@pytest.mark.parametrize("mode", ["min", "max"])
def test_any_validation_metric_is_heard_or_refused(metric, mode):
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tuner = Tuner(TorchRun(model, optimizer, names=SPACE), SPACE, controller=Heuristic(), mode=mode)
    for _ in range(5):
        tuner.step(1.0)
        if any(metric is one for one in NO_NUMBERS):
            with pytest.raises(TypeError, match="metric must be one number"):
                tuner.observe(metric)
        else:
            assert math.isfinite(tuner.observe(metric).applied["lr"])
