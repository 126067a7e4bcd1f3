"""How much and how often the hyperparameters were moved, and how the run came through the trigger."""

from __future__ import annotations

import math

from autotunenet.types import Action, Decision
from autotunenet_bench.metrics.base import Direction, Metric, first_step_at, val_losses
from autotunenet_bench.metrics.stability import FAILURE_FRACTION
from autotunenet_bench.results.trace import Trace, Trigger

RECOVERED = 1.05
"""The validation loss is back when it is at or below this multiple of the level; losses are from 0 on."""


def changes(trace: Trace) -> list[Decision]:
    """The adaptations after which another value was in force than before.

    A rollback, and the acceptance of a new level after it, answer damage and have metrics of their own; a
    proposal that a guard cut back to the old value is no change.
    """
    return [d for d in trace.decisions if d.action is Action.ADAPT and _moved(d)]


def update_magnitude(trace: Trace) -> float:
    """Mean size of a change, in e-folds: 0.69 is a doubling or a halving. 0.0 for a run that changed nothing.

    A decision's size is the mean of `relative_change` over the hyperparameters that it moved; the metric is the mean
    over `changes`.
    """
    sizes = [math.fsum(moves) / len(moves) for moves in map(_moves, changes(trace))]
    return math.fsum(sizes) / len(sizes) if sizes else 0.0


def adaptation_frequency(trace: Trace) -> float:
    """Number of `changes` per 100 optimizer steps, discarded steps included; NaN before the first epoch is over."""
    if not trace.epochs:
        return math.nan
    return 100.0 * len(changes(trace)) / trace.epochs[-1].step


def recovery_steps(trace: Trace) -> float:
    """Optimizer steps from the trigger until the validation loss is back at the level before it.

    That level is the last loss before the trigger (L_0 where it strikes at once); back is at or below `RECOVERED` times
    it, at the end of an epoch. The steps of that epoch count whole, so a run that was not hurt has one epoch's. A
    finished run that never comes back has infinity: where the new task is harder, all may have. NaN without a trigger,
    before the end of its epoch, and where an unfinished run may still come back.
    """
    if trace.trigger is None:
        return math.nan
    return _steps_since(trace.trigger, trace, RECOVERED * _level_before(trace.trigger, trace))


def settling_steps(trace: Trace) -> float:
    """Optimizer steps from the trigger until the validation loss is near the best that this run had after it.

    Near is at or below `RECOVERED` times the lowest loss from the trigger's epoch on. It is asked of a finished run
    only, and of one whose lowest loss is that of a model that has learnt (below `FAILURE_FRACTION` x L_0): else it is
    infinity. It says how soon, not how well; read it beside `post_trigger_val_loss`. NaN without a trigger and for a
    run that is not finished.
    """
    if trace.trigger is None or not trace.finished:
        return math.nan
    best = min(val_losses(trace)[trace.trigger.epoch - 1 :], default=math.nan)
    has_learnt = best < FAILURE_FRACTION * trace.initial_val["loss"]
    return _steps_since(trace.trigger, trace, RECOVERED * best if has_learnt else math.nan)


def post_shift_degradation(trace: Trace) -> float:
    """Highest validation loss from the epoch of the trigger on, less the last one before it.

    Below 0 where the run went on improving. NaN without a trigger and before the end of its epoch.
    """
    if trace.trigger is None:
        return math.nan
    after = val_losses(trace)[trace.trigger.epoch - 1 :]
    return max(after) - _level_before(trace.trigger, trace) if after else math.nan


def _level_before(trigger: Trigger, trace: Trace) -> float:
    """Last validation loss before the trigger."""
    return val_losses(trace)[trigger.epoch - 2] if trigger.epoch > 1 else trace.initial_val["loss"]


def _steps_since(trigger: Trigger, trace: Trace, level: float) -> float:
    return first_step_at(trace, level, from_epoch=trigger.epoch) - (trigger.step - 1)


def relative_change(before: float, after: float) -> float:
    """``|ln(after / before)|``, the size of a change whatever the unit and the sign of the change.

    The logarithm says nothing about a value of 0 or below (a momentum switched off), so there the symmetric relative
    change ``2 |after - before| / (|after| + |before|)`` stands in. It agrees with the logarithm to second order and is
    2 for every move from or to zero.

    >>> round(relative_change(0.1, 0.2), 4), round(relative_change(0.2, 0.1), 4)
    (0.6931, 0.6931)
    >>> relative_change(0.0, 0.9), relative_change(0.0, 0.0)
    (2.0, 0.0)
    """
    if before == after:
        return 0.0
    if before > 0 and after > 0:
        return abs(math.log(after) - math.log(before))
    return 2.0 * abs(after - before) / (abs(after) + abs(before))


def _moves(decision: Decision) -> list[float]:
    """Sizes of the change of every hyperparameter that the decision moved."""
    before, after = decision.observation.hyperparams, decision.applied
    return [relative_change(before[name], after[name]) for name in _moved(decision)]


def _moved(decision: Decision) -> list[str]:
    """Names of the hyperparameters that the decision moved."""
    before, after = decision.observation.hyperparams, decision.applied
    if before == after:  # the usual case
        return []
    return [name for name, value in before.items() if after.get(name, value) != value]


METRICS = (
    Metric(
        name="update_magnitude",
        function=update_magnitude,
        unit="e-folds",
        direction=Direction.NONE,
        description="Mean size of a change of the hyperparameters; 0.69 is a factor of 2. Rollbacks are left out.",
        formula="mean over changes of the mean over moved hyperparameters of |ln(applied / in force)|",
    ),
    Metric(
        name="adaptation_frequency",
        function=adaptation_frequency,
        unit="per 100 steps",
        direction=Direction.NONE,
        description="Changes of the hyperparameters per 100 optimizer steps. Rollbacks are left out.",
        formula="100 x changes / optimizer steps",
    ),
    Metric(
        name="recovery_steps",
        function=recovery_steps,
        unit="steps",
        direction=Direction.MIN,
        description="Steps from the trigger until the validation loss is back at the level before it; a miss is inf.",
        may_miss=True,
        formula=f"steps from the trigger to the end of the first e >= trigger with L_e <= {RECOVERED:g} L_(trigger-1)",
    ),
    Metric(
        name="settling_steps",
        function=settling_steps,
        unit="steps",
        direction=Direction.MIN,
        description="Steps from the trigger until the validation loss is near the best that came after; lost is inf.",
        may_miss=True,
        formula=(
            f"steps from the trigger to the end of the first e >= trigger with L_e <= {RECOVERED:g} N, "
            f"N = min over e >= trigger of L_e; infinity if N >= {FAILURE_FRACTION:g} L_0"
        ),
    ),
    Metric(
        name="post_shift_degradation",
        function=post_shift_degradation,
        unit="loss",
        direction=Direction.MIN,
        description="Highest validation loss from the trigger on, less the last before it; below 0 if it still fell.",
        formula="max over e = trigger..E of L_e - L_(trigger - 1)",
    ),
)
