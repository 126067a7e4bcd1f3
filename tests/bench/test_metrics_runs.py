"""Metrics of one run, each on a trace made for it, with numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotunenet.types import Action, Decision, Health, Observation
from autotunenet_bench.metrics import METRICS
from autotunenet_bench.results.trace import Trace

NAN, INF = math.nan, math.inf
L_0 = 2.0


def make(val, *, losses=None, steps=None, trigger=None, lrs=(), is_finished=True, initial=L_0, flops=None, passes=None):
    """Epochs of 10 steps, or ending at `steps`; `lrs` are the pairs (in force, applied) of the decisions."""
    start = {"event": "start", "environment": {}, "hyperparams": {"lr": 0.1}, "val": {"loss": initial}}
    rows = [start if flops is None else {**start, "flops": flops}]
    for before, after in lrs:
        seen = Observation(1, 1.0, {"lr": before})
        decision = Decision(seen, Health.STABLE, Action.ADAPT, {"lr": after}, {"lr": after}, 0, "why")
        rows.append({"event": "decision", **decision.to_record()})
    steps = steps or [10 * (index + 1) for index in range(len(val))]
    for index, loss in enumerate(val):
        number = index + 1
        if number == trigger:
            rows.append(
                {"event": "trigger", "epoch": number, "step": [0, *steps][index] + 1, "description": "it strikes"}
            )
        clock = {"train_seconds": 2.0, "eval_seconds": 0.5, "control_seconds": 0.25}
        row = {"event": "epoch", "epoch": number, "step": steps[index], "hyperparams": {"lr": 0.1}, "clock": clock}
        row |= {"val": {"loss": loss}, "losses": (losses or []) if index == 0 else []}
        rows.append(row if passes is None else {**row, "passes": passes[index]})
    if is_finished:
        rows.append(
            {"event": "end", "num_restarts": 0, "weights_sha256": "00", "clock": {"peak_memory_bytes": 3 * 2**20}}
        )
    return Trace.from_events({"seed": 0, "num_epochs": len(val)}, rows)


def value(name, *args, **options):
    return METRICS[name](make(*args, **options))


def same(one, other):
    return (math.isnan(one) and math.isnan(other)) or one == pytest.approx(other, rel=1e-12)


# -- anytime loss and target -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("val", "steps", "expected"),
    [
        ([0.1], [10], 1.0),  # nothing is known to be better before the run is over
        ([1.0, 0.1], [10, 20], 0.75),  # (10 x 2 + 10 x 1) / (20 x 2)
        ([1.0, 0.1], [30, 40], 0.875),  # (30 x 2 + 10 x 1) / (40 x 2)
        ([NAN, 0.1], [10, 20], 1.0),  # lost counts as untrained
        ([99.0, 1.0, 0.0], [10, 20, 30], 5 / 6),  # (2 + 2 + 1) / (3 x 2)
        ([], [], NAN),
    ],
)
def test_anytime_loss(val, steps, expected):
    assert same(value("anytime_val_loss", val, steps=steps), expected)


@pytest.mark.parametrize("initial", [NAN, INF, 0.0, -1.0])
def test_anytime_loss_needs_a_first_loss_to_be_a_share_of(initial):
    assert math.isnan(value("anytime_val_loss", [1.0], initial=initial))


@given(st.lists(st.floats(0, 10) | st.just(NAN), min_size=1, max_size=6))
def test_anytime_loss_is_a_share(val):
    assert 0 <= value("anytime_val_loss", val) <= 1


@pytest.mark.parametrize(
    ("val", "is_finished", "expected"),
    [
        ([1.5, 1.0, 0.5], True, 20.0),  # 1.0 is 0.5 x 2
        ([1.5, 1.001], True, INF),
        ([1.5, 1.001], False, NAN),  # may still come
        ([0.5, NAN], False, 10.0),
        ([NAN, INF, -INF], True, INF),  # -inf is broken, not good
        ([], True, NAN),
    ],
)
def test_steps_to_target(val, is_finished, expected):
    assert same(value("steps_to_target", val, is_finished=is_finished), expected)


def test_there_is_no_target_without_a_first_loss():
    assert value("steps_to_target", [0.1], initial=INF) == INF


# -- spikes and oscillations -------------------------------------------------------------------------------------------

CALM = [1.0, 1.1] * 10  # median 1.05, MAD 0.05: limit 1.05 + max(6 x 1.4826 x 0.05 = 0.445, 0.5) = 1.55
LOUD = [1.0, 1.2] * 10  # median 1.1, MAD 0.1: limit 1.1 + max(0.890, 0.5) = 1.990


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([*CALM, 1.549], 0),
        ([*CALM, 1.551], 1),
        ([*CALM, -9.0], 0),  # down is no spike
        ([*LOUD, 1.98], 0),
        ([*LOUD, 1.995], 1),
        ([*CALM, 3.0, 3.0, 1.0, 3.0], 2),  # two in a row are one
        ([*CALM, NAN, INF, 1.0], 1),
        ([NAN, *CALM[:19], 9.0], 1),  # 19 finite losses before it are too few
        ([NAN, *CALM, 9.0], 2),
        ([*CALM, *[5.0] * 40], 1),  # a new level is one spike
        ([1.0] * 20 + [1.49], 0),
        ([1.0] * 20 + [1.51], 1),
        ([1e308, -1e308] * 15, 0),
        ([], 0),
    ],
)
def test_loss_spikes(losses, expected):
    assert value("loss_spikes", [1.0], losses=losses) == expected


def test_spikes_where_the_first_loss_is_no_number():
    assert value("loss_spikes", [1.0], losses=[*CALM, 1.51], initial=NAN) == 1  # 1.05 + 0.445
    assert value("loss_spikes", [1.0], losses=[*CALM, 1.48], initial=NAN) == 0


@given(st.lists(st.floats(0, 5) | st.sampled_from([NAN, INF, 50.0]), max_size=80))
def test_spikes_agree_with_the_definition_step_by_step(losses):
    odd, before = [], []
    for loss in losses:
        window = sorted(before[-20:])
        limit = INF
        if len(window) == 20:
            median = (window[9] + window[10]) / 2
            deviations = sorted(abs(each - median) for each in window)
            limit = median + max(6.0 * (1.4826 * (deviations[9] + deviations[10]) / 2), 0.25 * L_0)
        odd.append(not math.isfinite(loss) or loss > limit)
        before += [loss] if math.isfinite(loss) else []
    expected = sum(now and not last for last, now in zip([False, *odd], odd, strict=False))
    assert value("loss_spikes", [1.0], losses=losses) == expected


@pytest.mark.parametrize(
    ("lrs", "expected"),
    [
        ([], 0.0),
        ([(1.0, 2.0), (2.0, 2.0), (2.0, 4.0)], 0.0),
        ([(1.0, 2.0), (2.0, 2.0), (2.0, 1.0)], 5.0),  # one turn in 20 steps, the hold between is no move
        ([(1.0, 2.0), (2.0, 1.0), (1.0, 2.0)], 10.0),
        ([(0.0, 1.0), (1.0, 0.0)], 5.0),
    ],
)
def test_oscillations(lrs, expected):
    assert value("lr_oscillations", [1.0, 1.0], lrs=lrs) == pytest.approx(expected)


# -- the trigger -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("val", "trigger", "recovery", "settling", "degradation"),
    [
        ([1.0, 0.5, 1.5, 0.9, 0.525], 3, 30, 30, 1.0),  # back at 1.05 x 0.5 in epoch 5
        ([1.0, 0.5, 1.5, 0.9, 0.86], 3, INF, 20, 1.0),  # never back; 0.9 is within 1.05 x 0.86
        ([1.0, 0.5, 0.4, 0.3], 3, 10, 20, -0.1),  # not hurt
        ([1.0, 0.5, NAN, 0.5], 3, 20, 20, 1.5),  # NaN counts as the worst, L_0
        ([1.0, 0.5, 1.9, 1.85], 3, INF, INF, 1.4),  # all that came after is lost: 1.85 is above 0.9 x 2
        ([1.0, 0.5], 1, 10, 20, -1.0),  # at once: the level before is L_0
        ([1.0, 0.5], None, NAN, NAN, NAN),
    ],
)
def test_after_the_trigger(val, trigger, recovery, settling, degradation):
    assert same(value("recovery_steps", val, trigger=trigger), recovery)
    assert same(value("settling_steps", val, trigger=trigger), settling)
    assert same(value("post_shift_degradation", val, trigger=trigger), degradation)


def test_steps_since_the_trigger_are_counted_from_its_own_first_step():
    assert value("recovery_steps", [1.0, 3.0, 1.0], steps=[7, 20, 50], trigger=2) == 43  # 8, 9, ..., 50


def test_an_unfinished_run_may_still_come_back():
    assert math.isnan(value("recovery_steps", [0.5, 1.5], trigger=2, is_finished=False))
    assert math.isnan(value("settling_steps", [0.5, 0.5], trigger=2, is_finished=False))
    assert value("recovery_steps", [0.5, 0.5], trigger=2, is_finished=False) == 10


# -- cost --------------------------------------------------------------------------------------------------------------


def test_cost():
    flops = {"train_epoch": 70, "num_batches": 10, "evaluation": 5}
    trace = make([1.0, 0.5], flops=flops, passes=[13, 30])
    assert METRICS["optimizer_evaluations"](trace) == 30
    assert METRICS["train_flops"](trace) == 210  # 30 x 7
    assert METRICS["eval_flops"](trace) == 15  # before, and after two epochs
    assert METRICS["total_flops"](trace) == 225
    assert METRICS["peak_memory"](trace) == 3
    assert METRICS["train_seconds"](trace) == 4.0
    assert METRICS["eval_seconds"](trace) == 1.0
    assert METRICS["compute_adjusted_val_loss"](trace) == pytest.approx(1.0 - 0.5 * (155 - 101) / (225 - 101))


@pytest.mark.parametrize(
    "flops",
    [
        {"train_epoch": 1},
        {"train_epoch": 1, "num_batches": 0, "evaluation": 1},
        {"train_epoch": -1, "num_batches": 1, "evaluation": 1},
        7,
    ],
)
def test_damaged_flops_are_refused_in_words(flops):
    with pytest.raises(ValueError, match=r"row 1 of the events \('start'\) is malformed"):
        make([1.0], flops=flops)
