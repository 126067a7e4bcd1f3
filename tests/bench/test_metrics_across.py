"""Metrics of several runs, with numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from autotunenet.types import Action, Decision, Health, Observation
from autotunenet_bench.metrics import METRICS
from autotunenet_bench.metrics.across import (
    charged,
    failure_rate,
    false_reactions,
    over_seeds,
    regrets,
    sensitivity_to_lr,
)
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.statistics import wilson

NAN, INF = math.nan, math.inf
FINAL, ACCURACY = METRICS["final_val_loss"], METRICS["best_val_accuracy"]


def make(
    loss,
    *,
    controller="fixed",
    seed=0,
    lr=None,
    regime="stationary",
    task="digits",
    is_finished=True,
    acts=(),
    **options,
):
    """One epoch of 400 steps from L_0 = 2; under `null` it triggers at step 201. `acts`: (step, action)."""
    start = {"event": "start", "environment": {}, "hyperparams": {"lr": 0.1}, "val": {"loss": 2.0, "accuracy": 0.1}}
    rows = [{**start, **options}]
    if regime == "null":
        rows.append({"event": "trigger", "epoch": 1, "step": 201, "description": "nothing changes"})
    for step, action in acts:
        seen = Observation(step, 1.0, {"lr": 0.1})
        rows.append({"event": "decision", **Decision(seen, Health.STABLE, action, {}, {}, 0, "why").to_record()})
    clock = dict.fromkeys(("train_seconds", "eval_seconds", "control_seconds"), 0.0)
    row = {"event": "epoch", "epoch": 1, "step": 400, "losses": [], "hyperparams": {"lr": 0.1}, "clock": clock}
    rows.append({**row, "val": {"loss": loss, "accuracy": 1 - loss / 2}})
    if is_finished:
        rows.append({"event": "end", "num_restarts": 0, "weights_sha256": "00"})
    spec = {
        "task": {"name": task, "lr": lr, "label": None},
        "regime": {"name": regime},
        "controller": {"name": controller},
        "seed": seed,
        "num_epochs": 1,
        "labels": {"task": task, "regime": regime, "controller": controller},
    }
    return Trace.from_events(spec, rows)


def test_lost_runs_count_as_what_they_began_with():
    assert [charged(make(loss)) for loss in (0.5, 1.79, 1.8, 9.0, INF)] == [0.5, 1.79, 2.0, 2.0, 2.0]
    assert charged(make(NAN)) == 2.0
    with pytest.raises(ValueError, match="must be finite"):
        charged(make(1.0, val={"loss": NAN}))


def test_failure_rate():
    share = failure_rate([make(0.5), make(NAN, seed=1), make(1.9, seed=2), make(0.1, seed=3, is_finished=False)])
    assert (share.hits, share.num, share.rate) == (2, 3, 2 / 3)
    assert share.interval == wilson(2, 3)
    nothing = failure_rate([])
    assert math.isnan(nothing.rate)
    assert nothing.interval == (0.0, 1.0)


def test_worst_seed_and_variance():
    runs = [make(loss, seed=seed) for seed, loss in ((4, 1.0), (2, 1.5), (7, 0.5), (1, 1.5))]
    seen = over_seeds([*runs, make(9.0, seed=9, is_finished=False)], FINAL)
    assert (seen.num, seen.mean, seen.worst, seen.worst_seed) == (4, 1.125, 1.5, 1)
    assert seen.variance == pytest.approx((0.125**2 + 2 * 0.375**2 + 0.625**2) / 3)
    assert over_seeds(runs, ACCURACY).worst_seed == 1  # where higher is better, the lowest
    assert over_seeds(runs, ACCURACY).worst == 0.25


def test_worst_seed_of_one_none_and_lost_runs():
    one = over_seeds([make(0.5, seed=3)], FINAL)
    assert (one.worst, one.worst_seed) == (0.5, 3)
    assert math.isnan(one.variance)
    none = over_seeds([], FINAL)
    assert (none.num, none.worst_seed) == (0, None)
    lost = over_seeds([make(1.5, seed=0), make(0.5, seed=1)], METRICS["steps_to_target"])
    assert (lost.worst, lost.worst_seed) == (INF, 0)
    assert math.isnan(lost.variance)
    unknown = over_seeds([make(1.5), make(0.5, seed=1)], METRICS["total_flops"])
    assert math.isnan(unknown.worst)
    with pytest.raises(ValueError, match="a seed of its own"):
        over_seeds([make(0.5), make(0.5)], FINAL)


def test_sensitivity_to_the_initial_lr():
    grid = {0.01: (0.4, 0.6), 0.1: (0.2, 0.2), 1.0: (NAN, 1.0)}  # means 0.5, 0.2 and (2 + 1) / 2
    runs = [make(loss, lr=lr, seed=seed) for lr, losses in grid.items() for seed, loss in enumerate(losses)]
    assert sensitivity_to_lr(runs) == pytest.approx((0.3 + 0.0 + 1.3) / 3)
    assert math.isnan(sensitivity_to_lr(runs[:2]))
    assert math.isnan(sensitivity_to_lr([]))
    with pytest.raises(ValueError, match="differ in more than"):
        sensitivity_to_lr([*runs, make(0.5, regime="null")])
    with pytest.raises(ValueError, match="differ in more than"):
        sensitivity_to_lr([*runs, make(0.5, controller="cosine")])


def test_regrets_in_every_cell():
    table = {"fixed": (0.5, 0.75), "cosine": (0.25, 0.5), "ours": (0.375, NAN)}
    runs = [make(loss, controller=name, seed=seed) for name, row in table.items() for seed, loss in enumerate(row)]
    rows = {row.controller: row for row in regrets(runs)}
    assert {name: row.against_fixed for name, row in rows.items()} == {"fixed": 0.0, "cosine": -0.25, "ours": 0.5625}
    assert {name: row.against_best for name, row in rows.items()} == {"fixed": 0.25, "cosine": 0.0, "ours": 0.8125}
    assert {(row.task, row.regime, row.best, row.num_runs) for row in rows.values()} == {
        ("digits", "stationary", "cosine", 2)
    }
    only = regrets(runs, schedules={"fixed"})
    assert [row.against_best for row in only] == [0.0, -0.25, 0.5625]
    assert math.isnan(regrets(runs, fixed="other")[0].against_fixed)
    assert regrets([]) == []


def test_regrets_are_of_one_cell_each():
    runs = [make(0.5), make(0.25, controller="b"), make(0.5, task="mnist"), make(0.75, task="mnist", controller="b")]
    assert [(row.task, row.controller, row.best, row.against_best) for row in regrets(runs)] == [
        ("digits", "fixed", "b", 0.25),
        ("digits", "b", "b", 0.0),
        ("mnist", "fixed", "fixed", 0.0),
        ("mnist", "b", "fixed", 0.25),
    ]


@pytest.mark.parametrize(
    ("runs", "options", "words"),
    [
        ([make(0.5), make(0.5, controller="b", seed=1)], {}, "need the same seeds"),
        ([make(0.5), make(0.6)], {}, "a seed is there twice"),
        ([make(0.5)], {"schedules": {"cosine"}}, "none of the schedules"),
    ],
)
def test_regrets_that_cannot_be_are_refused_in_words(runs, options, words):
    with pytest.raises(ValueError, match=words):
        regrets(runs, **options)


def test_false_reactions():
    calm = make(0.5, regime="null", acts=[(200, Action.ADAPT), (100, Action.ADAPT), (250, Action.HOLD)])
    jumpy = make(
        0.5,
        regime="null",
        seed=1,
        acts=[(201, Action.ROLLBACK), (300, Action.ADAPT), (301, Action.ADAPT), (101, Action.PROBE)],
    )
    elsewhere = make(0.5, regime="stationary", acts=[(201, Action.ROLLBACK)])
    seen = false_reactions([calm, jumpy, elsewhere])
    assert (seen.runs.hits, seen.runs.num) == (1, 2)
    assert (seen.num_after, seen.num_before) == (2, 2)  # 201..300 and 101..200
    assert false_reactions([calm, jumpy], window=101).num_after == 3
    assert false_reactions([]).runs.num == 0
    with pytest.raises(ValueError, match="window must be at least 1"):
        false_reactions([calm], window=0)
