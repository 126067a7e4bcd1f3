"""The rule of what may be claimed, in one place, and the words for what may not."""

from __future__ import annotations

import math
from enum import Enum

from autotunenet_bench.statistics.intervals import wilson
from autotunenet_bench.statistics.paired import EXACT_UP_TO, Comparison, smallest_p

ALPHA = 0.05
"""A corrected p value has to be below it."""
MIN_PAIRS = 6
"""With five the smallest two-sided p value is 2 / 2^5 = 0.0625."""
MIN_SEEDS = 10
"""With fewer the limits have to be told."""
MEANINGFUL = 0.75
"""P(improvement) from which on it matters (Bouthillier et al. 2021)."""
_POWER = 7.85
"""(z_0.975 + z_0.8)^2: n = 7.85 (sd / difference)^2 pairs find a difference four times out of five, at 5 %."""


class Claim(Enum):
    """What may be said of A against B."""

    MEANINGFULLY_BETTER = "meaningfully better"
    BETTER = "better"
    NOTHING = "no claim"
    WORSE = "worse"
    MEANINGFULLY_WORSE = "meaningfully worse"


def claim(comparison: Comparison) -> Claim:
    """Return what a comparison allows to say: this is the rule, and there is no other.

    - *better* only if the 95 % interval of the mean difference lies below 0, and p after Holm's correction is below
      0.05, and there are at least 6 pairs;
    - *meaningfully better* if besides P(improvement) is at least 0.75;
    - *worse* and *meaningfully worse* by the same rule from the other side; else nothing.

    "No claim" does not say that the two are equal. Sources: Agarwal et al. (2021) for intervals, Holm (1979),
    Bouthillier et al. (2021) for 0.75.

    Args:
        comparison: Of lower-is-better scores, from `compare_all` with all methods that were tried.

    >>> from autotunenet_bench.statistics import compare
    >>> ours = {("digits", seed): 0.25 for seed in range(6)}
    >>> claim(compare(ours, {run: 0.5 for run in ours}, seed=0)).value
    'meaningfully better'
    """
    difference, share = comparison.difference, comparison.improvement
    if not (difference.excludes(0.0) and comparison.p_holm < ALPHA and comparison.num_pairs >= MIN_PAIRS):
        return Claim.NOTHING
    if difference.high < 0:
        return Claim.MEANINGFULLY_BETTER if share >= MEANINGFUL else Claim.BETTER
    return Claim.MEANINGFULLY_WORSE if 1 - share >= MEANINGFUL else Claim.WORSE


def limits(
    num_pairs: int, num_seeds: int, num_comparisons: int = 1, *, num_same: int = 0, num_run: int | None = None
) -> str:
    """Return in words what can not be claimed from so few runs; empty where there is nothing to warn of.

    With n pairs the smallest p is `smallest_p`, times `num_comparisons` after Holm; a mean difference of
    sqrt(7.85 / n) standard deviations of the differences is found four times out of five (by the normal
    approximation); and a share k / n differs from one half where Wilson's interval does.

    Args:
        num_pairs: n.
        num_seeds: Seeds in the cell that has the fewest.
        num_comparisons: Comparisons made together.
        num_same: Pairs that are not among `num_pairs`, for they are the very same runs as some that are.
        num_run: Seeds that were run in the cell that has the fewest; None: `num_seeds`.

    Raises:
        ValueError: If a number is below 1, or there are fewer pairs than seeds.

    >>> limits(5, 5)
    'Nothing can be claimed: 5 pairs are fewer than 6, and their smallest two-sided p is 2/2^5 = 0.0625.'
    >>> limits(20, 20)
    ''
    """
    if not 1 <= num_seeds <= num_pairs or num_comparisons < 1:
        raise ValueError(
            "num_seeds must be from 1 to num_pairs and num_comparisons at least 1, "
            f"got {num_seeds}, {num_pairs} and {num_comparisons}"
        )
    smallest = smallest_p(num_pairs)
    if num_pairs < MIN_PAIRS:
        few = f"{num_pairs} pairs are" if num_pairs > 1 else "1 pair is"
        return (
            f"Nothing can be claimed: {few} fewer than {MIN_PAIRS}, and "
            f"{'their' if num_pairs > 1 else 'its'} smallest two-sided p is {_told(num_pairs)}."
        )
    if smallest * num_comparisons >= ALPHA:
        return (
            f"Nothing can be claimed: the smallest two-sided p of {num_pairs} pairs is {_told(num_pairs)}, and after "
            f"Holm's correction over {num_comparisons} comparisons {_number(min(1.0, smallest * num_comparisons))}."
        )
    if num_seeds >= MIN_SEEDS:
        return ""
    seeds = f"{num_seeds} seed{'s are' if num_seeds > 1 else ' is'}"
    if num_run is not None and num_run > num_seeds:
        same = f"{num_same} pair{' was' if num_same == 1 else 's were'} the very same runs as others"
        seeds = f"{num_run} seeds, of which a cell keeps {num_seeds} because {same}, are"
    return _few_seeds(seeds, num_pairs, num_seeds, num_comparisons)


def _few_seeds(seeds: str, num_pairs: int, num_seeds: int, num_comparisons: int) -> str:
    over = f" ({_number(smallest_p(num_pairs) * num_comparisons)} after Holm's correction)" * (num_comparisons > 1)
    told = next(k for k in range(num_pairs // 2, num_pairs + 1) if wilson(k, num_pairs)[0] > 0.5)
    words = [
        f"{seeds} fewer than {MIN_SEEDS}: of {num_pairs} pairs the "
        f"smallest two-sided p is {_told(num_pairs)}{over}; a mean difference below "
        f"{_number(math.sqrt(_POWER / num_pairs))} standard deviations of the differences is missed more than once in "
        f"five times, so that no claim does not mean equal; P(improvement) differs from one half from "
        f"{told}/{num_pairs} on."
    ]
    if num_pairs > num_seeds:
        words.append("The pairs of one seed in several cells are not independent, so p may be too small.")
        if num_seeds < MIN_PAIRS:
            words.append(f"Of a cell by itself nothing can be claimed: the smallest two-sided p is {_told(num_seeds)}.")
    return " ".join(words)


def _told(num_pairs: int) -> str:
    p = smallest_p(num_pairs)
    return f"2/2^{num_pairs} = {_number(p)}" if num_pairs <= EXACT_UP_TO else _number(p)


def _number(value: float) -> str:
    return f"{value:.3g}"
