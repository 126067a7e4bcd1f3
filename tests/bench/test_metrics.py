"""Every metric against a value worked out by hand."""

import math

import pytest

from autotunenet.types import Action, Decision, Health, Observation
from autotunenet_bench.metrics import METRICS, Direction, Metric, summarize
from autotunenet_bench.metrics.base import fill_with_worst
from autotunenet_bench.results.trace import Trace

NAN, INF = math.nan, math.inf


def decision(step, action, before, after, discarded=0):
    seen = Observation(step, 1.0, before)
    return {"event": "decision", **Decision(seen, Health.STABLE, action, after, after, discarded, "why").to_record()}


def epoch(number, losses, loss, accuracy, control_seconds=0.25):
    return {
        "event": "epoch",
        "epoch": number,
        "step": 5 * number,
        "losses": losses,
        "val": {"loss": loss, "accuracy": accuracy},
        "hyperparams": {"lr": 0.1},
        "clock": {"train_seconds": 2.0, "eval_seconds": 1.0, "control_seconds": control_seconds},
    }


def trace(*events, initial_loss=2.0, num_restarts=0):
    start = {
        "event": "start",
        "environment": {},
        "hyperparams": {"lr": 0.1},
        "val": {"loss": initial_loss, "accuracy": 0.1},
    }
    end = {"event": "end", "num_restarts": num_restarts, "weights_sha256": "00"}
    return Trace.from_events({"seed": 0}, [start, *events, end])


@pytest.fixture
def run():
    """Two epochs of five steps with a rollback; limit of divergence 4 x 2.0 = 8.0."""
    return trace(
        # Excursions: steps 2-3, and 5-6 across the end of the epoch; 8.0 itself is not above the limit.
        epoch(1, [2.0, 8.5, NAN, 8.0, INF], 3.0, 0.5),
        decision(5, Action.ROLLBACK, {"lr": 0.1}, {"lr": 0.01}, discarded=4),
        decision(7, Action.ADAPT, {"lr": 0.1, "momentum": 0.0}, {"lr": 0.2, "momentum": 0.9}),
        decision(8, Action.ADAPT, {"lr": 0.2, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.9}),
        decision(9, Action.ADAPT, {"lr": 0.1}, {"lr": 0.1}),  # cut back by a guard: no change
        decision(10, Action.HOLD, {"lr": 0.1}, {"lr": 0.1}),
        epoch(2, [9.0, 1.0, 1.0, 1.0, 1.0], 1.5, 0.75),
        num_restarts=1,
    )


# Of the trace `run`: L_0 = 2, L_1 = 3 at step 5, L_2 = 1.5 at step 10; no trigger, no FLOPs, no memory.
GOLDEN = {
    "final_val_loss": 1.5,
    "best_val_loss": 1.5,
    "final_train_loss": 2.6,  # (9 + 1 + 1 + 1 + 1) / 5
    "final_val_accuracy": 0.75,
    "best_val_accuracy": 0.75,
    "final_test_loss": NAN,  # no test part
    "final_test_accuracy": NAN,
    "final_val_f1": NAN,  # of another task
    "final_test_f1": NAN,
    "final_val_top5_accuracy": NAN,
    "final_test_top5_accuracy": NAN,
    "cumulative_val_loss": 4.5,
    "post_trigger_val_loss": 2.25,  # no trigger: the mean of all
    "anytime_val_loss": 1.0,  # (5 x 2 + 5 x min(3, 2)) / (10 x 2): what is held in epoch e was measured before it
    "steps_to_target": INF,  # 1.5 > 0.5 x 2
    "failure": 0.0,  # 1.5 < 0.9 * 2.0
    "divergence_events": 2.0,
    "rollback_count": 1.0,
    "loss_spikes": 2.0,  # fewer than 20 losses: only those that are not finite, at steps 3 and 5
    "lr_oscillations": 20.0,  # down (the rollback), up, down: 2 turns in 10 steps
    "update_magnitude": ((math.log(2) + 2.0) / 2 + math.log(2)) / 2,
    "adaptation_frequency": 20.0,  # 2 changes in 10 steps
    "recovery_steps": NAN,
    "settling_steps": NAN,
    "post_shift_degradation": NAN,
    "discarded_steps": 4.0,
    "num_restarts": 1.0,
    "wall_clock": 6.5,
    "controller_seconds": 0.5,
    "optimizer_evaluations": 10.0,  # none counted: the steps
    "train_seconds": 4.0,
    "eval_seconds": 2.0,
    "peak_memory": NAN,
    "train_flops": NAN,
    "eval_flops": NAN,
    "total_flops": NAN,
    "compute_adjusted_val_loss": NAN,
}


@pytest.mark.parametrize("name", METRICS)
def test_golden_value(run, name):
    assert METRICS[name](run) == pytest.approx(GOLDEN[name], rel=1e-12, nan_ok=True)


def test_summarize_gives_every_metric_that_the_task_has_in_order(run):
    due = [name for name, metric in METRICS.items() if not metric.needs]
    assert summarize(run) == pytest.approx({name: GOLDEN[name] for name in due}, nan_ok=True)
    assert list(summarize(run)) == due


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_metric_says_what_it_is(metric):
    assert isinstance(metric, Metric)
    assert isinstance(metric.direction, Direction)
    assert metric.description.endswith(".")
    assert metric.formula
    assert METRICS[metric.name] is metric


def test_a_diverged_run_counts_at_its_worst_finite_value():
    values = summarize(trace(epoch(1, [5.0], 3.0, 0.05), epoch(2, [NAN], NAN, NAN), epoch(3, [NAN], INF, 0.2)))
    assert values["final_val_loss"] == 3.0
    assert values["cumulative_val_loss"] == 9.0
    assert values["best_val_accuracy"] == 0.2
    assert values["failure"] == 1.0


def test_a_run_that_diverges_at_once_is_no_better_than_untrained():
    values = summarize(trace(epoch(1, [NAN], NAN, NAN)))
    assert values["final_val_loss"] == values["best_val_loss"] == 2.0
    assert values["final_val_accuracy"] == 0.1
    assert (values["failure"], values["divergence_events"]) == (1.0, 1.0)


def test_nothing_finite_at_all_is_infinitely_bad():
    values = summarize(trace(epoch(1, [NAN], NAN, NAN), initial_loss=NAN))
    assert values["final_val_loss"] == INF
    assert values["failure"] == 1.0


@pytest.mark.parametrize(("final", "failed"), [(1.79, 0.0), (1.8, 1.0), (2.5, 1.0), (INF, 1.0)])
def test_failure_begins_at_nine_tenths_of_the_initial_loss(final, failed):
    assert METRICS["failure"](trace(epoch(1, [1.0], final, 0.5))) == failed


def test_after_a_trigger_its_own_epoch_counts_and_those_before_do_not():
    trigger = {"event": "trigger", "epoch": 2, "step": 6, "description": "something changes"}
    rows = [epoch(1, [1.0], 9.0, 0.5), trigger, epoch(2, [1.0], 3.0, 0.5), epoch(3, [1.0], NAN, 0.5)]
    assert METRICS["post_trigger_val_loss"](trace(*rows[:3])) == 3.0
    assert METRICS["post_trigger_val_loss"](trace(*rows)) == 6.0  # the NaN is as bad as the worst, 9.0


def test_a_rollback_is_no_adaptation():
    values = summarize(trace(decision(3, Action.ROLLBACK, {"lr": 1.0}, {"lr": 0.1}, 2), epoch(1, [1.0], 1.0, 0.5)))
    assert (values["update_magnitude"], values["adaptation_frequency"], values["rollback_count"]) == (0.0, 0.0, 1.0)


def test_before_the_first_epoch_what_is_unknown_is_nan():
    values = summarize(trace())
    unknown = {name for name, value in values.items() if math.isnan(value)}
    assert unknown == {
        *("final_val_loss", "best_val_loss", "final_val_accuracy", "best_val_accuracy", "cumulative_val_loss"),
        *("post_trigger_val_loss", "failure", "adaptation_frequency", "anytime_val_loss", "steps_to_target"),
        *("lr_oscillations", "recovery_steps", "settling_steps", "post_shift_degradation", "peak_memory"),
        *("final_test_loss", "final_test_accuracy", "final_train_loss"),
        *("train_flops", "eval_flops", "total_flops", "compute_adjusted_val_loss"),
    }


def test_a_task_without_accuracy_has_none():
    events = [
        {"event": "start", "environment": {}, "hyperparams": {"lr": 0.1}, "val": {"loss": 2.0}},
        {**epoch(1, [1.0], 1.0, 0.0), "val": {"loss": 1.0}},
    ]
    values = summarize(Trace.from_events({}, events))
    assert math.isnan(values["final_val_accuracy"])
    assert values["final_val_loss"] == 1.0


@pytest.mark.parametrize(
    ("test", "loss", "accuracy"),
    [
        ({"loss": 0.7, "accuracy": 0.9}, 0.7, 0.9),
        ({"loss": NAN, "accuracy": NAN}, 2.0, 0.1),  # lost: no better than untrained
        ({"loss": 0.7}, 0.7, NAN),
        ({}, NAN, NAN),
    ],
)
def test_the_finished_model_is_tested_once(test, loss, accuracy):
    start = {"event": "start", "environment": {}, "hyperparams": {}, "val": {"loss": 2.0, "accuracy": 0.1}}
    end = {"event": "end", "num_restarts": 0, "weights_sha256": "00", "test": test}
    values = summarize(Trace.from_events({"seed": 0}, [start, epoch(1, [1.0], 1.0, 0.5), end]))
    assert values["final_test_loss"] == pytest.approx(loss, nan_ok=True)
    assert values["final_test_accuracy"] == pytest.approx(accuracy, nan_ok=True)


def test_a_damaged_test_is_refused_in_words():
    start = {"event": "start", "environment": {}, "hyperparams": {}, "val": {"loss": 2.0}}
    end = {"event": "end", "num_restarts": 0, "weights_sha256": "00", "test": 0.7}
    with pytest.raises(ValueError, match=r"row 2 of the events \('end'\) is malformed: its 'test' must be an object"):
        Trace.from_events({"seed": 0}, [start, end])


def test_fill_with_worst_leaves_finite_values_alone():
    assert fill_with_worst([1.0, 5.0], initial=9.0, direction=Direction.MIN) == [1.0, 5.0]
