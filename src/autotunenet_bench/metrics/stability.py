"""How often training went wrong, and how often it was taken back."""

from __future__ import annotations

import itertools
import math

import numpy as np

from autotunenet_bench.metrics.base import Direction, Metric
from autotunenet_bench.metrics.performance import final_val_loss
from autotunenet_bench.results.trace import Trace

DIVERGENCE_FACTOR = 4.0
"""A step has diverged when its loss exceeds this multiple of the initial validation loss.

The initial loss is that of a model that knows nothing (about log(classes) for a classifier), so the multiple is a
property of the task and not of the run's own history. Mini-batch noise, label noise and a shifted input move a sound
model to a few times less than it; four times the loss of knowing nothing is reached by weights that blew up.
"""

SPIKE_WINDOW = 20
"""Finite losses before a step that it is judged by."""
SPIKE_DEVIATIONS = 6.0
"""Robust standard deviations above their median from which on a loss stands out."""
SPIKE_SHARE = 0.25
"""Share of the initial validation loss by which it has to stand out besides.

Near the end of a training most losses are close to nothing and the deviation with them, so that any hard batch would
be a spike. With this share sound stationary runs of the shipped tasks have none, and a change of the data one.
"""

_NORMAL = 1.4826
"""Standard deviations in a median absolute deviation of normal values."""

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


def loss_spikes(trace: Trace) -> float:
    """Number of maximal runs of consecutive steps whose training loss stands out from those before.

    It stands out when it is not finite, or exceeds the median of the `SPIKE_WINDOW` finite losses before it by more
    than `SPIKE_DEVIATIONS` robust standard deviations (1.4826 median absolute deviations) and than `SPIKE_SHARE` L_0.
    Before there are so many, only a loss that is not finite does. A loss that rises to a new level is a spike once: the
    window has followed after half its length. Where L_0 is not finite the share is not asked for.
    """
    losses = np.asarray(trace.losses, dtype=np.float64)
    is_finite = np.isfinite(losses)
    odd, finite, num_before = ~is_finite, losses[is_finite], np.cumsum(is_finite) - is_finite
    if len(finite) > SPIKE_WINDOW:
        judged = is_finite & (num_before >= SPIKE_WINDOW)
        odd[judged] = losses[judged] > _spike_limits(finite, trace.initial_val["loss"])[: judged.sum()]
    return float(np.count_nonzero(odd & ~np.concatenate([[False], odd[:-1]])))


def _spike_limits(finite: np.ndarray[tuple[int], np.dtype[np.float64]], initial: float) -> np.ndarray:
    """Limit for the loss after each window, the first window first."""
    windows = np.lib.stride_tricks.sliding_window_view(finite, SPIKE_WINDOW)
    least = SPIKE_SHARE * initial if math.isfinite(initial) else 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # of losses near the largest number; a NaN limit is none
        median = np.median(windows, axis=1)
        deviation = _NORMAL * np.median(np.abs(windows - median[:, None]), axis=1)
        return median + np.maximum(SPIKE_DEVIATIONS * deviation, least)


def lr_oscillations(trace: Trace) -> float:
    """Number of times lr turned round, per 100 optimizer steps, discarded steps included.

    A move is a decision of any kind, a rollback too, after which lr is another than before; it turned round where a
    move goes the other way than the move before it. NaN before the first epoch is over.
    """
    if not trace.epochs:
        return math.nan
    moves = []
    for decision in trace.decisions:
        before = decision.observation.hyperparams.get("lr", math.nan)
        after = decision.applied.get("lr", before)
        if after > before or after < before:
            moves.append(after > before)
    turns = sum(one != other for one, other in itertools.pairwise(moves))
    return 100.0 * turns / trace.epochs[-1].step


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
    Metric(
        name="loss_spikes",
        function=loss_spikes,
        unit="events",
        direction=Direction.MIN,
        description="Times the training loss stood out from those before; an excursion of many steps counts once.",
        formula=(
            f"maximal runs of steps t with l_t not finite or l_t > med + max({SPIKE_DEVIATIONS:g} x {_NORMAL} MAD, "
            f"{SPIKE_SHARE:g} L_0), over the {SPIKE_WINDOW} finite losses before t"
        ),
    ),
    Metric(
        name="lr_oscillations",
        function=lr_oscillations,
        unit="per 100 steps",
        direction=Direction.NONE,
        description="Times lr turned round, per 100 optimizer steps. A rollback that cuts lr is a move too.",
        formula="100 x sign changes of ln(lr applied / lr in force) over the decisions that moved lr / optimizer steps",
    ),
)
