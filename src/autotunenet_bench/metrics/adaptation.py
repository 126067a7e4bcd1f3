"""How much and how often the hyperparameters were moved."""

from __future__ import annotations

import math

from autotunenet.types import Action, Decision
from autotunenet_bench.metrics.base import Direction, Metric
from autotunenet_bench.results.trace import Trace


def changes(trace: Trace) -> list[Decision]:
    """The adaptations after which another value was in force than before.

    A rollback, and the acceptance of a new level after it, answer damage and have metrics of their own; a
    proposal that a guard cut back to the old value is no change.
    """
    return [d for d in trace.decisions if d.action is Action.ADAPT and _moves(d)]


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
    return [
        relative_change(before[name], after[name]) for name in before if after.get(name, before[name]) != before[name]
    ]


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
)
