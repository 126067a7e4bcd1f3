"""How often training went wrong, and how often it was taken back."""

from __future__ import annotations

import math

from autotunenet_bench.metrics.base import Direction, Metric
from autotunenet_bench.metrics.performance import final_val_loss
from autotunenet_bench.results.trace import Trace

DIVERGENCE_FACTOR = 4.0
"""A step has diverged when its loss exceeds this multiple of the initial validation loss.

The initial loss is that of a model that knows nothing (about log(classes) for a classifier), so the multiple is a
property of the task and not of the run's own history. Mini-batch noise, label noise and a shifted input move a sound
model to a few times less than it; four times the loss of knowing nothing is reached by weights that blew up.
"""

FAILURE_FRACTION = 0.9
"""A run has failed when its final validation loss is not below this fraction of the initial one."""


def divergence_events(trace: Trace) -> float:
    """Number of maximal runs of consecutive steps with a diverged training loss.

    A loss has diverged when it is not finite or exceeds `DIVERGENCE_FACTOR` times the initial validation loss. One
    excursion of many steps counts once, also across an epoch's end; two that a sound step divides count twice. Where
    the initial loss is itself not finite, only losses that are not finite count.
    """
    initial = trace.initial_val["loss"]
    limit = DIVERGENCE_FACTOR * initial if math.isfinite(initial) else math.inf
    diverged = [not math.isfinite(loss) or loss > limit for loss in trace.losses]
    return float(sum(now and not before for before, now in zip([False, *diverged], diverged, strict=False)))


def rollback_count(trace: Trace) -> float:
    """Number of decisions that returned to a known good state."""
    return float(len(trace.rollbacks))


def failure(trace: Trace) -> float:
    """1.0 when the run ended without having learnt, else 0.0; NaN before the first epoch is over.

    It has not learnt when its final validation loss is not finite or is at least `FAILURE_FRACTION` times the initial
    one: blown up, or collapsed to chance, which no divergence event shows.
    """
    if not trace.epochs:
        return math.nan
    # Negated so that a NaN on either side is a failure.
    return float(not final_val_loss(trace) < FAILURE_FRACTION * trace.initial_val["loss"])


METRICS = (
    Metric(
        name="failure",
        function=failure,
        unit="",
        direction=Direction.MIN,
        description="1 if the run ended without having learnt, else 0; its mean is the failure rate.",
        formula=f"1 if L_E is not finite or L_E >= {FAILURE_FRACTION} L_0, else 0",
    ),
    Metric(
        name="divergence_events",
        function=divergence_events,
        unit="events",
        direction=Direction.MIN,
        description="Times the training loss blew up; an excursion of many steps counts once.",
        formula=f"maximal runs of steps t with l_t not finite or l_t > {DIVERGENCE_FACTOR:g} L_0",
    ),
    Metric(
        name="rollback_count",
        function=rollback_count,
        unit="events",
        direction=Direction.NONE,
        description="Returns to a known good state. Few is not better by itself: a needed one that is missed costs.",
        formula="number of decisions whose action is rollback",
    ),
)
