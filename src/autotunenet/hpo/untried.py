"""What is left of a finite space, without listing it."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np


def untried_index(tried: Collection[int], rank: int) -> int:
    """Return the index of an untried point, by its rank among the untried.

    Args:
        tried: Different indices of points.
        rank: Counted from 0.

    >>> [untried_index({0, 2, 3}, rank) for rank in range(3)]
    [1, 4, 5]
    """
    index = rank
    for other in sorted(tried):
        if other > index:
            break
        index += 1
    return index


def draw_untried(rng: np.random.Generator, num_points: int, tried: Collection[int]) -> int:
    """Return the index of one of the untried points, each as likely as the others.

    Args:
        rng: What to draw from.
        num_points: How many points there are, tried or not; any size.
        tried: Different indices of points, fewer than `num_points`.
    """
    left = num_points - len(tried)
    num_bytes = left.bit_length() // 8 + 9  # 64 bits more than needed: the remainder favours none by more than 2^-64
    return untried_index(tried, int.from_bytes(rng.bytes(num_bytes), "little") % left)
