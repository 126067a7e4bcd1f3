"""Losses made comparable. A run that is lost counts at its worst and is never dropped."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autotunenet_bench.statistics.resampling import Floats, finite


def at_worst(losses: ArrayLike, initial: ArrayLike, failed: ArrayLike = False) -> Floats:
    """Return losses in which no run counts for more than the loss it began with; lost ones count for exactly that.

        L if the run did not fail and L is finite and below L_init, else L_init

    A run that failed, diverged or gave NaN would else leave the averages, and the method that loses most runs would
    look best; and beyond the loss of the untrained model all runs are equally lost, so that a mean would tell of
    nothing but the worst of them. This is the one place where it is decided; all scores here go through it.

    Args:
        losses: L, any shape, in the unit of the loss; NaN or infinite where there is none.
        initial: L_init, the losses before the first step; of a shape that broadcasts.
        failed: Whether the run failed, whatever loss it left behind; of a shape that broadcasts.

    Returns:
        Finite losses of the shape that all three broadcast to; lower is better.

    Raises:
        ValueError: If there is no loss, or an initial loss is not finite.

    >>> at_worst([0.3, float("nan"), float("inf"), 9.0, 0.2], 2.3, [False, False, False, False, True])
    array([0.3, 2.3, 2.3, 2.3, 2.3])
    """
    begun = np.asarray(initial, dtype=np.float64)
    if begun.size == 0 or not np.isfinite(begun).all():
        raise ValueError(f"initial losses must be finite, for they stand in where a run is lost; got {initial!r}")
    values = np.asarray(losses, dtype=np.float64)
    if values.size == 0:
        raise ValueError(f"losses must hold at least one number, got shape {values.shape}")
    lost: NDArray[np.bool_] = ~np.isfinite(values) | np.asarray(failed, dtype=np.bool_)
    return np.asarray(np.where(lost, begun, np.minimum(values, begun)))


def normalised_regret(losses: ArrayLike, *, initial: ArrayLike, oracle: ArrayLike, failed: ArrayLike = False) -> Floats:
    """Return how much of what could be learnt was not, from 0 (as good as the oracle) to 1 (nothing was learnt).

        clip((L - L_oracle) / (L_init - L_oracle), 0, 1), L by the rule of `at_worst`

    Source: normalised scores as in Agarwal et al. (2021), turned round and clipped. Without a unit, so that tasks with
    losses of different kinds can be averaged. What is better than the oracle is not rewarded.

    Args:
        losses: L, any shape; NaN or infinite where a run was lost.
        initial: L_init, the losses before the first step; of a shape that broadcasts.
        oracle: L_oracle, the best loss known, of other seeds than those scored; of a shape that broadcasts.
        failed: See `at_worst`.

    Returns:
        Regrets in [0, 1]; lower is better.

    Raises:
        ValueError: If an initial or an oracle's loss is not finite, or an oracle's is not below the initial one.

    >>> normalised_regret([0.1, 1.1, float("nan"), 0.05], initial=2.1, oracle=0.1)
    array([0. , 0.5, 1. , 0. ])
    """
    charged = at_worst(losses, initial, failed)
    begun = np.asarray(initial, dtype=np.float64)
    best = finite(oracle, "the oracle's losses")
    if not (best < begun).all():
        raise ValueError(
            f"the oracle's losses must be below the initial ones, got {oracle!r} and {initial!r}; "
            "a task on which nothing can be learnt has no regret"
        )
    return np.asarray(np.clip((charged - best) / (begun - best), 0.0, 1.0))


def lr_sensitivity(losses: ArrayLike, initial: ArrayLike, *, best: float | None = None) -> Floats:
    """Return the loss that a wrong initial lr costs in the mean over a grid, in the unit of the loss; 0 is the best.

        mean over lr of min(L(lr), L_init) - L_best, L by the rule of `at_worst`

    Source: Wortsman et al. (2023), "Small-scale proxies for large-scale Transformer training instabilities", section
    2.3. It depends on the grid: compare methods on the same one only, usually even in log lr.

    Args:
        losses: Final losses of shape (..., num_lrs), at least two lrs; NaN or infinite where a run was lost.
        initial: L_init, of a shape that broadcasts.
        best: L_best. None takes the lowest of each grid, as the source does. One number for all methods charges each
            also for not reaching it; then a method that is better than `best` everywhere is below 0.

    Returns:
        Shape (...).

    Raises:
        ValueError: If there are fewer than two lrs, or `best` or an initial loss is not finite.

    >>> float(lr_sensitivity([0.5, 0.1, 0.3, float("inf")], 2.1))
    0.65
    """
    charged = at_worst(losses, initial)
    if charged.ndim == 0 or charged.shape[-1] < 2:
        raise ValueError(f"losses must have at least two lrs on their last axis, got shape {charged.shape}")
    if best is None:
        return np.asarray((charged - charged.min(axis=-1, keepdims=True)).mean(axis=-1))
    return np.asarray((charged - finite(best, "best")).mean(axis=-1))


def worst_decile(scores: ArrayLike) -> float:
    """Return the mean of the worst tenth of all runs: of the ceil(n / 10) largest, so of at least one.

    It stands beside the interquartile mean, which does not see them. Also called CVaR or expected shortfall at 10 %
    (Rockafellar and Uryasev 2000).

    Args:
        scores: Any shape, n numbers in all; lower is better.

    Returns:
        In the unit of the scores; lower is better.

    Raises:
        ValueError: If there is none, or one is not finite: count lost runs by `at_worst` first.

    >>> worst_decile(range(20)), worst_decile([3.0, 1.0])
    (18.5, 3.0)
    """
    values = np.sort(finite(scores, "scores"), axis=None)
    return float(values[-math.ceil(values.size / 10) :].mean())
