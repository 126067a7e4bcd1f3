"""Which part of the runs is how good, and who is before whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from autotunenet_bench.statistics.resampling import NUM_RESAMPLES, Floats, Strata, as_strata, check_level, resamples


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The share of runs at or below each threshold; all four of shape (T,).

    Attributes:
        taus: Thresholds, in the unit of the scores.
        shares: Shares in [0, 1]; higher is better, as scores are lower-is-better.
        low: Lower ends of the pointwise band.
        high: Upper ends of it.
    """

    taus: Floats
    shares: Floats
    low: Floats
    high: Floats


def profile(
    scores: Strata, taus: ArrayLike, *, seed: int, level: float = 0.95, num_resamples: int = NUM_RESAMPLES
) -> Profile:
    """Return the run-score distribution of one method, with a band.

        rho(tau) = number of runs with score <= tau / n

    Source: Agarwal et al. (2021), section 4.2, turned round for scores of which the lower is better. Of the ratios of
    `ratio_to_best` it is the performance profile of Dolan and Moré (2002). The band is pointwise, by the percentiles of
    the stratified bootstrap; that a curve leaves the other's band somewhere is no test.

    Args:
        scores: M rows of N_m scores; plus infinity is one that no threshold reaches.
        taus: T thresholds, none of them NaN.
        seed: Of the generator, which is one of its own.
        level: Of the confidence, in (0, 1).
        num_resamples: B.

    Raises:
        ValueError: If there is no score, one is NaN or minus infinity, or an argument is out of its range.

    >>> profile([[0.1, 0.4], [0.2, float("inf")]], [0.1, 0.2, 9.0], seed=0).shares
    array([0.25, 0.5 , 0.75])
    """
    check_level(level)
    thresholds = np.asarray(taus, dtype=np.float64)
    if thresholds.ndim != 1 or thresholds.size == 0 or np.isnan(thresholds).any():
        raise ValueError(f"taus must be a row of thresholds without NaN, got {taus!r}")
    strata = as_strata(scores, infinite=True)
    drawn = np.concatenate(
        [_shares(rows, thresholds) for rows in resamples(strata, seed=seed, num_resamples=num_resamples)]
    )
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Profile(taus=thresholds, shares=_shares(np.concatenate(strata), thresholds), low=low, high=high)


def _shares(runs: Floats, taus: Floats) -> Floats:
    """From (..., n) to (..., T), one threshold at a time: all at once would be T times the memory."""
    return np.stack([(runs <= tau).mean(axis=-1) for tau in taus], axis=-1)


def ratio_to_best(scores: ArrayLike) -> Floats:
    """Return the scores of each method over the best of all methods on the same run.

        r = score / min over methods of score

    Source: Dolan and Moré (2002), "Benchmarking optimization software with performance profiles"; a run, a seed of a
    cell, is a problem. The ratios depend on which methods take part: with another one they may change order.

    Args:
        scores: Shape (methods, ...), the same runs in the same places for every method, at least 0; plus infinity for
            a run that never arrived.

    Returns:
        Ratios of the same shape, from 1 (the best) to infinity (never arrived); 0 over 0 is 1. Lower is better.

    Raises:
        ValueError: If there is none, or one is NaN or below 0.

    >>> ratio_to_best([[1.0, 3.0], [2.0, float("inf")]])
    array([[ 1.,  1.],
           [ 2., inf]])
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim == 0 or values.size == 0 or not (values >= 0).all():
        raise ValueError(f"scores must be one row a method, of numbers from 0 on without NaN, got {scores!r}")
    best = np.broadcast_to(values.min(axis=0), values.shape)
    arrived = np.isfinite(values)
    ratios = np.full(values.shape, np.inf)
    np.divide(values, best, out=ratios, where=arrived & (best > 0))
    ratios[arrived & (values == best)] = 1.0
    return ratios


def ranks(values: ArrayLike) -> Floats:
    """Return ranks from 1 over the last axis, the lowest first; what is level shares the mean of its ranks.

        1 + number below + (number level - 1) / 2

    That is the rank of ``scipy.stats.rankdata(method="average")``, but for NaN: that counts as the worst there is,
    level with infinity.

    Args:
        values: Shape (..., methods), any unit; lower is better.

    Returns:
        The same shape; a row adds up to k (k + 1) / 2 with k methods.

    Raises:
        ValueError: If it is a single number.

    >>> ranks([1.0, 2.0, 2.0, float("nan")])
    array([1. , 2.5, 2.5, 4. ])
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0:
        raise ValueError(f"ranks need a row of values, got one: {values!r}")
    array = np.where(np.isnan(array), np.inf, array)
    mine, others = array[..., :, None], array[..., None, :]
    below, level = (others < mine).sum(axis=-1), (others == mine).sum(axis=-1)
    return np.asarray(1 + below + (level - 1) / 2)


def mean_ranks(costs: ArrayLike) -> Floats:
    """Return the mean over cells of the rank of each method; lower is better.

    Source: Friedman's ranks as in Demšar (2006). They compare order alone: a method that is first by a hair and one
    that is first by far have the same.

    Args:
        costs: Shape (cells, methods), one number a cell and method, such as the median over seeds; lower is better.

    Returns:
        Shape (methods,), from 1 to the number of methods.

    Raises:
        ValueError: If it is not such a matrix, or is empty.

    >>> mean_ranks([[0.1, 0.2, 0.3], [0.5, 0.4, 0.5]])
    array([1.75, 1.5 , 2.75])
    """
    array = np.asarray(costs, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"costs must be a matrix of (cells, methods), got shape {array.shape}")
    return np.asarray(ranks(array).mean(axis=0))
