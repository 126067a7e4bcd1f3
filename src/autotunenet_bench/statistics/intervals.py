"""Where a mean, an interquartile mean or a share probably lies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from autotunenet_bench.statistics.resampling import (
    NUM_RESAMPLES,
    Floats,
    Strata,
    as_strata,
    check_level,
    finite,
    resamples,
)

Statistic = Callable[[Floats], Floats]
"""From (..., n) to (...): one number for every row of runs."""

_NORMAL = NormalDist()
_ROUNDING = 1e-12
"""Sums of the same numbers in another order are equal; they may come out this far apart, as a part of the largest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and the bounds of its confidence interval, in the unit of the scores.

    Attributes:
        point: The estimate from the scores as they are.
        low: Lower bound.
        high: Upper bound, at least `low`.
    """

    point: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside; a bound is inside.

        >>> Interval(point=2.0, low=1.0, high=3.0).excludes(1.0)
        False
        """
        return not self.low <= value <= self.high


def mean(values: ArrayLike) -> Floats:
    """Return the arithmetic mean over the last axis: from (..., n) to (...).

    >>> mean([[1.0, 2.0], [3.0, 5.0]])
    array([1.5, 4. ])
    """
    return np.asarray(np.asarray(values, dtype=np.float64).mean(axis=-1))


def interquartile_mean(values: ArrayLike) -> Floats:
    """Return the mean of the middle half over the last axis: from (..., n) to (...), in the unit of `values`.

    Of the n sorted values floor(n / 4) are left out at either end, as Agarwal et al. (2021) and
    ``scipy.stats.trim_mean(values, 0.25)`` have it. It hides the runs that failed as long as they are fewer than a
    quarter: give the share of failures and the worst decile beside it.

    Raises:
        ValueError: If there is no value or one is not finite.

    >>> interquartile_mean([[9.0, 1.0, 2.0, 3.0]])
    array([2.5])
    """
    array = np.sort(finite(values, "values"), axis=-1)
    cut = array.shape[-1] // 4
    return mean(array[..., cut : array.shape[-1] - cut])


def iqm(scores: Strata) -> float:
    """Return the interquartile mean over all runs of all cells; a cell counts by its number of runs.

    Args:
        scores: M rows of N_m scores; a matrix of (cells, seeds) is one.

    Raises:
        ValueError: If there is no score or one is not finite.

    >>> iqm([[9.0, 1.0], [2.0, 3.0]])
    2.5
    """
    return float(interquartile_mean(np.concatenate(as_strata(scores))))


def bootstrap(
    scores: Strata,
    statistic: Statistic = interquartile_mean,
    *,
    seed: int,
    method: Literal["bca", "percentile"] = "percentile",
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Return a stratified bootstrap interval: cells stay, the seeds within each are drawn anew.

    *percentile* gives the (1 - level) / 2 quantile of the resampled statistics and its mirror. *bca* moves both by the
    bias z0 and the acceleration a (Efron 1987; for several samples Davison and Hinkley 1997, section 5.3). With T the
    statistic, T* a resampled one, T_mi the one without run i of cell m, z the normal quantile of a bound and Phi the
    normal distribution:

        z0 = Phi^-1(share of T* below T, ties half)
        u_mi = mean over the runs of cell m of T_m. - T_mi
        a = 1/6 sum u_mi^3 / (sum u_mi^2)^(3/2), both over all runs of all cells
        bound = quantile of T* at Phi(z0 + (z0 + z) / (1 - a (z0 + z)))

    The interval speaks of other seeds in the same cells, not of other cells. A cell with one seed does not move at
    all, and few seeds make the interval too narrow, by about sqrt((N - 1) / N).

    Args:
        scores: M rows of N_m scores; a matrix of (cells, seeds) is one.
        statistic: Over the last axis, from (..., n) to (...); `mean`, `interquartile_mean` or your own.
        seed: Of the generator, which is one of its own.
        method: "bca" or "percentile".
        level: Of the confidence, in (0, 1).
        num_resamples: B.

    Raises:
        ValueError: If there is no score, one is not finite, `statistic` does not work on the last axis, or an argument
            is out of its range.

    >>> bootstrap([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]], mean, seed=0).point
    3.0
    """
    check_level(level)
    if method not in ("bca", "percentile"):
        raise ValueError(f"method must be 'bca' or 'percentile', got {method!r}")
    strata = as_strata(scores)
    point = float(statistic(np.concatenate(strata)))
    drawn = np.concatenate(
        [_rows(statistic, rows) for rows in resamples(strata, seed=seed, num_resamples=num_resamples)]
    )
    tails = (1 - level) / 2, (1 + level) / 2
    if method == "bca":
        tails = _bca_tails(strata, statistic, point, drawn, tails)
    low, high = np.quantile(drawn, tails)
    return Interval(point=point, low=float(low), high=float(high))


def _rows(statistic: Statistic, rows: Floats) -> Floats:
    values = np.asarray(statistic(rows), dtype=np.float64)
    if values.shape != rows.shape[:-1]:
        raise ValueError(
            f"statistic must work over the last axis: of shape {rows.shape} it made {values.shape}, "
            f"not {rows.shape[:-1]}; write for example lambda runs: runs.mean(axis=-1)"
        )
    return values


def _bca_tails(
    strata: Sequence[Floats], statistic: Statistic, point: float, drawn: Floats, tails: tuple[float, float]
) -> tuple[float, float]:
    slack = _ROUNDING * float(np.abs(drawn).max())
    num_tied = np.count_nonzero(np.abs(drawn - point) <= slack)
    share = (np.count_nonzero(drawn < point - slack) + num_tied / 2) / len(drawn)
    # Were all resamples on one side, the bias would be infinite: at most half a resample is taken to be there.
    half = 0.5 / len(drawn)
    bias = _NORMAL.inv_cdf(min(max(share, half), 1 - half))
    speed = _acceleration(strata, statistic, slack)

    def moved(tail: float) -> float:
        at = bias + _NORMAL.inv_cdf(tail)
        scale = 1 - speed * at
        # Past its pole the formula would turn round; its limit there is the last resample.
        return _NORMAL.cdf(bias + at / scale) if scale > 0 else float(at > 0)

    return moved(tails[0]), moved(tails[1])


def _acceleration(strata: Sequence[Floats], statistic: Statistic, slack: float) -> float:
    values = np.concatenate(strata)
    if len(values) < 2:
        return 0.0
    kept = np.broadcast_to(values, (len(values), len(values)))[~np.eye(len(values), dtype=np.bool_)]
    without = _rows(statistic, kept.reshape(len(values), -1))
    # Cells have a fixed number of runs, so what a run does is measured against the other runs of its cell.
    pulls = np.concatenate(
        [row.mean() - row for row in np.split(without, np.cumsum([len(row) for row in strata])[:-1])]
    )
    # What is rounding must not get a direction.
    pulls[np.abs(pulls) <= slack] = 0.0
    squares = float((pulls**2).sum())
    return float((pulls**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0


def wilson(hits: int, num: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's (1927) interval for a share: its bounds, in [0, 1].

    With p = hits / num it is (p + z²/2n ± z sqrt(p (1 - p)/n + z²/4n²)) / (1 + z²/n), n being `num`.

    Args:
        hits: Cases that count, from 0 to `num`.
        num: Cases in all; of none nothing is known: (0, 1).
        z: Quantile of the normal distribution, above 0; 1.96 for 95 %.

    Raises:
        ValueError: If `hits` is not from 0 to `num`.

    >>> [round(bound, 3) for bound in wilson(0, 200)]
    [0.0, 0.019]
    """
    if not 0 <= hits <= num:
        raise ValueError(f"hits must be from 0 to num, got {hits} of {num}")
    if num == 0:
        return 0.0, 1.0
    share, square = hits / num, z * z
    centre = (share + square / (2 * num)) / (1 + square / num)
    half = z / (1 + square / num) * math.sqrt(share * (1 - share) / num + square / (4 * num * num))
    return max(0.0, centre - half), min(1.0, centre + half)
