"""What goes into a statistic, checked, and the resamples of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Strata = Sequence[ArrayLike] | Floats
"""One row of scores a cell, one number a run; rows may differ in length. A matrix of (cells, seeds) is one."""

NUM_RESAMPLES = 10_000
"""As many as Agarwal et al. (2021) ask for at least."""

_CHUNK = 2**20
"""Numbers that are drawn at once: 8 MiB of them."""


def finite(values: ArrayLike, what: str) -> Floats:
    """Return an array of finite numbers.

    Args:
        values: Any shape, but not empty.
        what: Its name in an error.

    Raises:
        ValueError: If there is none, or one is NaN or infinite.

    >>> finite([1, 2], "losses")
    array([1., 2.])
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError(f"{what} must hold at least one number, got shape {array.shape}")
    if not np.isfinite(array).all():
        num = int((~np.isfinite(array)).sum())
        raise ValueError(
            f"{what} must be finite, and {num} of {array.size} are not; no run is dropped: count a lost one at the "
            "loss that it began with, by autotunenet_bench.statistics.at_worst"
        )
    return array


def as_strata(scores: Strata, *, infinite: bool = False) -> tuple[Floats, ...]:
    """Return the scores of each cell as a vector.

    Args:
        scores: See `Strata`.
        infinite: Whether plus infinity is a score, that of a run that never arrived.

    Raises:
        ValueError: If there is no cell, a cell is no vector or has no run, or a score is not finite.

    >>> as_strata([[1, 2], [3]])
    (array([1., 2.]), array([3.]))
    """
    strata = tuple(np.asarray(row, dtype=np.float64) for row in scores)
    if not strata:
        raise ValueError("scores must hold at least one cell, got none")
    for i, row in enumerate(strata):
        if row.ndim != 1:
            raise ValueError(f"scores must have one row a cell and one number a run; cell {i} has shape {row.shape}")
        finite(np.where(row == np.inf, 0.0, row) if infinite else row, f"scores of cell {i}")
    return strata


def resamples(strata: Sequence[Floats], *, seed: int, num_resamples: int) -> Iterator[Floats]:
    """Yield stratified resamples: from every cell as many runs as it has, with replacement.

    Source: Agarwal et al. (2021), section 4.1. The generator is one of its own.

    Args:
        strata: M vectors of N_m scores.
        seed: Of the generator. Equal seeds give equal resamples.
        num_resamples: B, at least 1.

    Yields:
        Arrays of shape (b, n), n the sum of all N_m, in the order of `strata`; the b add up to B.

    Raises:
        ValueError: If B is below 1.

    >>> [rows.shape for rows in resamples([np.arange(3.0), np.arange(2.0)], seed=0, num_resamples=7)]
    [(7, 5)]
    """
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK // sum(map(len, strata)))
    for start in range(0, num_resamples, size):
        num = min(size, num_resamples - start)
        yield np.concatenate([row[rng.integers(len(row), size=(num, len(row)))] for row in strata], axis=1)


def check_level(level: float) -> None:
    """Refuse a confidence level outside (0, 1).

    Raises:
        ValueError: If it is.

    >>> check_level(0.95)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), such as 0.95, got {level}")
