"""Curves of runs, and of controllers over seeds, as arrays for the figures. No drawing here.

S is the number of seeds of one controller, P the number of points of a curve. Steps count from 0 (before training).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotunenet_bench.metrics.base import Direction, fill_with_worst, val_accuracies, val_losses
from autotunenet_bench.results.trace import Trace

Array = NDArray[np.float64]
Curve = tuple[Array, Array]
"""Steps and values, both of shape (P,)."""

NUM_INTERVALS = 60
"""Points of a training-loss curve: enough to see a spike, few enough for a small file."""

MAX_DRAWN = 100.0
"""Losses above this multiple of the initial validation loss are drawn at it: one run that reaches 1e30 would press all
others into a line. The numbers in tables and CSV files are untouched."""


@dataclass(frozen=True, slots=True)
class Band:
    """Several runs of one controller as a line and a band, all of shape (P,): steps, mean, lowest and highest."""

    steps: Array
    mean: Array
    low: Array
    high: Array


def train_loss_curve(trace: Trace) -> Curve:
    """Means of the training loss over intervals of equal length, at the intervals' ends.

    Losses that are not finite are judged before anything is averaged: they count as the worst finite loss of the run,
    at least the initial validation loss.
    """
    losses = fill_with_worst(trace.losses, trace.initial_val["loss"], Direction.MIN)
    values = np.asarray(losses, dtype=np.float64)
    num = min(NUM_INTERVALS, len(values)) or 1
    length, num_longer = divmod(len(values), num)
    ends = np.cumsum(np.repeat([length + 1, length], [num_longer, num - num_longer]))
    return ends.astype(np.float64), _capped(trace, _interval_means(values, num))


def non_finite_steps(trace: Trace) -> list[int]:
    """First steps of the excursions in which the training loss was not finite."""
    bad = [not math.isfinite(loss) for loss in trace.losses]
    return [step for step, now in enumerate(bad, start=1) if now and (step == 1 or not bad[step - 2])]


def val_loss_curve(trace: Trace) -> Curve:
    """Validation loss before training and after every epoch."""
    steps, losses = _val_curve(trace, trace.initial_val["loss"], val_losses(trace))
    return steps, _capped(trace, losses)


def val_accuracy_curve(trace: Trace) -> Curve:
    """Validation accuracy in [0, 1] before training and after every epoch."""
    return _val_curve(trace, trace.initial_val.get("accuracy", math.nan), val_accuracies(trace))


def hyperparam_curve(trace: Trace, name: str) -> Curve:
    """Value in force from each step on: a step function. NaN where the run has no such hyperparameter.

    Read from the decisions, and from the ends of the epochs in case something else moved the value.
    """
    # What is decided at the very end is in force for no step.
    end = trace.epochs[-1].step if trace.epochs else math.inf
    points = [(epoch.step, 0, epoch.hyperparams.get(name, math.nan)) for epoch in trace.epochs]
    # At one step the epoch's value is the one before the decision.
    points += [
        (d.observation.step, 1, d.applied.get(name, math.nan)) for d in trace.decisions if d.observation.step < end
    ]
    points = [(0, 0, trace.initial_hyperparams.get(name, math.nan)), *sorted(points, key=lambda point: point[:2])]
    steps, values = np.array([p[0] for p in points], dtype=np.float64), np.array([p[2] for p in points])
    # A tuner may decide at every step: only where the value changes, and the end, are worth a point.
    kept = np.concatenate([[True], values[1:] != values[:-1]])
    kept[-1] = True
    return steps[kept], values[kept]


def band(curves: Sequence[Curve], *, hold: bool = False, geometric: bool = False) -> Band:
    """Bring S curves onto the union of their steps.

    Args:
        curves: Of one controller, one a seed. A curve counts only up to its own last step.
        hold: Hold the last value between points (a step function); otherwise interpolate linearly.
        geometric: Take the geometric mean, the fair one for positive values on a log axis.

    >>> steps = np.array([1.0, 2.0])
    >>> band([(steps, np.array([1.0, 2.0])), (steps, np.array([3.0, 6.0]))]).mean.tolist()
    [2.0, 4.0]
    """
    steps = np.unique(np.concatenate([curve[0] for curve in curves]))
    resample = _hold if hold else _interpolate
    values = np.stack([resample(steps, curve) for curve in curves])  # (S, P)
    values[~np.isfinite(values)] = np.nan
    return Band(
        steps=steps,
        mean=_over_seeds(_geometric_mean if geometric else np.mean, values),
        low=_over_seeds(np.min, values),
        high=_over_seeds(np.max, values),
    )


def _over_seeds(reduce: Callable[[Array], np.floating], values: Array) -> Array:
    """`reduce` over the finite ones of each column of `values` (S, P); NaN for a column without any, no warning."""
    columns = [column[~np.isnan(column)] for column in values.T]
    return np.array([reduce(column) if column.size else math.nan for column in columns], dtype=np.float64)


def _geometric_mean(values: Array) -> np.floating:
    return np.exp(np.mean(np.log(values))) if np.all(values > 0) else np.mean(values)


def _interpolate(steps: Array, curve: Curve) -> Array:
    return np.interp(steps, *curve, left=math.nan, right=math.nan)


def _hold(steps: Array, curve: Curve) -> Array:
    """Value of the last point at or before each step; several points at one step: the last of them."""
    indices = np.searchsorted(curve[0], steps, side="right") - 1
    held = np.where(indices >= 0, curve[1][np.maximum(indices, 0)], math.nan)
    return np.where(steps <= curve[0][-1], held, math.nan)


def _val_curve(trace: Trace, initial: float, values: Sequence[float]) -> Curve:
    steps = [0, *(epoch.step for epoch in trace.epochs)]
    return np.array(steps, dtype=np.float64), np.array([initial, *values], dtype=np.float64)


def _capped(trace: Trace, losses: Array) -> Array:
    initial = trace.initial_val["loss"]
    return np.minimum(losses, MAX_DRAWN * (abs(initial) if math.isfinite(initial) and initial else 1.0))


def _interval_means(values: Array, num: int) -> Array:
    """Means of `num` intervals as `numpy.array_split` has them, shape (num,); NaN where something is not finite.

    >>> _interval_means(np.array([1.0, 3.0, 5.0, math.inf]), 3).tolist()
    [2.0, 5.0, nan]
    """
    if not values.size:
        return np.full(num, math.nan)
    length, num_longer = divmod(len(values), num)
    cut = num_longer * (length + 1)
    longer, shorter = values[:cut].reshape(num_longer, length + 1), values[cut:].reshape(num - num_longer, length)
    # Divided first: a sum of finite losses may overflow.
    with np.errstate(invalid="ignore"):
        means = np.concatenate([np.sum(part / part.shape[1], axis=1) for part in (longer, shorter)])
    means[~np.isfinite(means)] = math.nan
    return means
