"""Two methods on the same runs: the same cells, the same seeds, run by run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from autotunenet_bench.statistics.intervals import Interval, bootstrap, mean
from autotunenet_bench.statistics.resampling import NUM_RESAMPLES, Floats, finite

AnyKey = TypeVar("AnyKey", bound=Hashable)

Run = tuple[Hashable, int]
"""The cell and the seed. What two methods did in equal ones is a pair."""

EXACT_UP_TO = 16
"""Pairs of which all 2^n signs are tried."""
NUM_FLIPS = 100_000
"""Random signs that are tried of more pairs than that."""
_ROUNDING = 1e-12
"""Sums that differ by this part of the sum of all sizes, or less, are level."""
_CHUNK = 2**20
"""Signs that are drawn at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was measured of one method, here A, against another, B, on the same runs. Lower scores are better.

    Attributes:
        num_pairs: n, the pairs of runs.
        num_cells: Cells that they come from.
        num_seeds: Seeds in the cell that has the fewest.
        difference: Mean of A - B over the pairs, with its 95 % BCa interval, in the unit of the scores; below 0 A is
            better.
        p_value: Two-sided, of `sign_flip`; above 0.
        num_flips: Random signs behind `p_value`; 0 where all were tried, which makes it exact.
        p_holm: `p_value` by Holm's correction over `num_comparisons`; at least `p_value`.
        num_comparisons: How many comparisons were made together, this one included.
        improvement: P(A < B), the share of pairs in which A is better, ties half; in [0, 1].
    """

    num_pairs: int
    num_cells: int
    num_seeds: int
    difference: Interval
    p_value: float
    num_flips: int
    p_holm: float
    num_comparisons: int
    improvement: float


def compare(
    ours: Mapping[Run, float], other: Mapping[Run, float], *, seed: int, num_resamples: int = NUM_RESAMPLES
) -> Comparison:
    """Compare two methods run by run. Where there are several others, `compare_all` corrects for their number.

    The pairs are what is drawn anew for the interval, from all cells together: so it also knows how much cells differ,
    and moves where a cell has one seed only. A pair counts alike whatever its cell; give scores whose unit is the same
    in all cells, such as `autotunenet_bench.statistics.normalised_regret`.

    Args:
        ours: Scores of A by (cell, seed); lower is better.
        other: Scores of B, of the same runs.
        seed: Of the generators, which are ones of their own.
        num_resamples: B of the interval.

    Raises:
        ValueError: If the two were not run in the same cells with the same seeds, or a score is not finite.

    >>> ours = {("digits", seed): 0.25 for seed in range(6)}
    >>> result = compare(ours, {run: 0.5 for run in ours}, seed=0)
    >>> result.difference, result.p_value == 2 / 2**6, result.improvement
    (Interval(point=-0.25, low=-0.25, high=-0.25), True, 1.0)
    """
    runs = _common_runs(ours, other)
    mine, theirs = (finite([scores[run] for run in runs], "scores") for scores in (ours, other))
    differences = finite(mine - theirs, "differences")
    seeds = Counter(cell for cell, _ in runs)
    p_value = sign_flip(differences, seed=seed)
    return Comparison(
        num_pairs=len(runs),
        num_cells=len(seeds),
        num_seeds=min(seeds.values()),
        difference=bootstrap([differences], mean, seed=seed, method="bca", num_resamples=num_resamples),
        p_value=p_value,
        num_flips=0 if len(runs) <= EXACT_UP_TO else NUM_FLIPS,
        p_holm=p_value,
        num_comparisons=1,
        improvement=improvement(mine, theirs),
    )


def compare_all(
    ours: Mapping[Run, float],
    others: Mapping[str, Mapping[Run, float]],
    *,
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, Comparison]:
    """Compare one method with each of several others, with Holm's correction over all of them.

    Args:
        ours: Scores of A by (cell, seed); lower is better.
        others: The same of every other method, by its name.
        seed: See `compare`.
        num_resamples: See `compare`.

    Returns:
        One comparison a name, in the order of `others`.

    Raises:
        ValueError: If there is no other, or as in `compare`.

    >>> ours = {("digits", seed): 0.25 for seed in range(6)}
    >>> both = {name: {run: 0.5 for run in ours} for name in ("fixed", "cosine")}
    >>> [result.p_holm for result in compare_all(ours, both, seed=0).values()]
    [0.0625, 0.0625]
    """
    return together(
        {name: compare(ours, other, seed=seed, num_resamples=num_resamples) for name, other in others.items()}
    )


def together(single: Mapping[AnyKey, Comparison]) -> dict[AnyKey, Comparison]:
    """Return comparisons that were made together, each by `compare`, with Holm's correction over all of them.

    Raises:
        ValueError: If there is none.
    """
    corrected = holm([comparison.p_value for comparison in single.values()])
    return {
        name: replace(comparison, p_holm=p, num_comparisons=len(single))
        for (name, comparison), p in zip(single.items(), corrected.tolist(), strict=True)
    }


def sign_flip(differences: ArrayLike, *, seed: int) -> float:
    """Return the two-sided p value of the sign-flip test (Fisher 1935): are the differences symmetric around 0?

        p = share of all 2^n choices of signs s with |sum s_i d_i| >= |sum d_i|       n <= 16, exact
        p = (1 + number of such choices among 100,000 random ones) / (1 + 100,000)    n > 16

    The second counts the signs as they are among the choices (Phipson and Smyth 2010), so neither is ever 0; the
    smallest there is, is `smallest_p`. It takes the pairs as independent.

    Args:
        differences: n numbers, A - B of each pair, any unit.
        seed: Of the generator, which is one of its own; of no effect where n <= 16.

    Returns:
        p in (0, 1]; 1 where all differences are 0.

    Raises:
        ValueError: If there is no difference, or one is not finite.

    >>> sign_flip([1.0, 2.0, 3.0], seed=0)  # of the 8 only +++ and --- reach 6
    0.25
    """
    values = finite(differences, "differences").ravel()
    size = float(np.abs(values).max())
    values = values / size if size > 0 else values
    reach = abs(float(values.sum())) - _ROUNDING * float(np.abs(values).sum())
    hits = sum(int((np.abs(signs @ values) >= reach).sum()) for signs in _signs(len(values), seed))
    # The first of all choices is that of the signs as they are; random ones have to be given it.
    return hits / 2 ** (len(values) - 1) if len(values) <= EXACT_UP_TO else (1 + hits) / (1 + NUM_FLIPS)


def smallest_p(num_pairs: int) -> float:
    """Return the smallest p value that `sign_flip` can give for so many pairs: 2 / 2^n where it is exact.

    Raises:
        ValueError: If there is no pair.

    >>> smallest_p(5), smallest_p(6)
    (0.0625, 0.03125)
    """
    if num_pairs < 1:
        raise ValueError(f"num_pairs must be at least 1, got {num_pairs}")
    return 2 / 2**num_pairs if num_pairs <= EXACT_UP_TO else 1 / (1 + NUM_FLIPS)


def improvement(ours: ArrayLike, other: ArrayLike) -> float:
    """Return P(A < B): the share of pairs in which A is lower, ties half.

        (number of A_i < B_i + half the number of A_i = B_i) / n

    Source: Bouthillier et al. (2021), "Accounting for variance in machine learning benchmarks", who call 0.75 of it
    meaningful. It is of pairs; the one of Agarwal et al. (2021) sets every run of A beside every run of B.

    Args:
        ours: A, any shape; lower is better.
        other: B, of the same shape, the same runs in the same places.

    Returns:
        In [0, 1]; higher is better for A, 0.5 is level.

    Raises:
        ValueError: If the shapes differ, there is no pair, or a score is not finite.

    >>> improvement([1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 4.0, 3.0])
    0.625
    """
    mine, theirs = finite(ours, "scores"), finite(other, "scores")
    if mine.shape != theirs.shape:
        raise ValueError(f"scores must be of the same runs, got shapes {mine.shape} and {theirs.shape}")
    return float(((mine < theirs) + 0.5 * (mine == theirs)).mean())


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Return p values corrected for their number by Holm (1979): the chance of any wrong claim stays at the level.

        of the sorted p_(1) <= ... <= p_(m): min(1, max over j <= i of (m - j + 1) p_(j))

    Args:
        p_values: m of them, in [0, 1], in any order.

    Returns:
        As many, in the same order, each at least the one given.

    Raises:
        ValueError: If there is none, or one is outside [0, 1] or NaN.

    >>> holm([0.25, 0.01, 0.02])
    array([0.25, 0.03, 0.04])
    """
    raw = np.asarray(p_values, dtype=np.float64)
    if raw.ndim != 1 or raw.size == 0 or not ((raw >= 0) & (raw <= 1)).all():
        raise ValueError(f"p values must be a row of numbers in [0, 1], got {p_values}")
    order = np.argsort(raw, kind="stable")
    corrected = np.empty_like(raw)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(raw[order] * np.arange(raw.size, 0, -1)))
    return corrected


def _common_runs(ours: Mapping[Run, float], other: Mapping[Run, float]) -> list[Run]:
    if missing := sorted(map(repr, ours.keys() ^ other.keys())):
        raise ValueError(
            f"a paired comparison needs both methods on the same runs; {len(missing)} have one only, such as "
            f"{missing[0]}; run what is missing, or count it as lost by autotunenet_bench.statistics.at_worst"
        )
    if not ours:
        raise ValueError("a paired comparison needs at least one run, got none")
    return list(ours)


def _signs(num: int, seed: int) -> Iterator[Floats]:
    """Yield rows of num signs: all whose first is +, of which the other half are the mirror; or random ones."""
    size = max(1, _CHUNK // num)
    if num <= EXACT_UP_TO:
        for start in range(0, 2 ** (num - 1), size):
            codes = np.arange(start, min(start + size, 2 ** (num - 1)))
            yield np.where((codes[:, None] >> np.arange(num - 1, -1, -1)) & 1, -1.0, 1.0)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, NUM_FLIPS, size):
        draws = rng.integers(2, size=(min(size, NUM_FLIPS - start), num), dtype=np.int8)
        yield np.where(draws, -1.0, 1.0)
