"""Training and validation parts that are the same in every run, whatever its seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified_split(labels: NDArray[np.uint8], num_val: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split examples so that every class has its share in the validation part.

    The validation examples of a class are evenly spaced among its examples. No random generator takes part, so the
    split cannot change with a library's version.

    Args:
        labels: Shape ``(n,)``.
        num_val: Validation examples, ``1 <= num_val < n``.

    Returns:
        Indices of the training examples, shape ``(n - num_val,)``, and of the validation examples, shape
        ``(num_val,)``; both ascending, together every index once.

    Raises:
        ValueError: If either part would be empty.

    >>> train, val = stratified_split(np.array([0, 0, 0, 0, 1, 1]), num_val=3)
    >>> train.tolist(), val.tolist()
    ([0, 2, 4], [1, 3, 5])
    """
    if not 1 <= num_val < len(labels):
        raise ValueError(f"num_val must be in [1, {len(labels) - 1}] so that both parts hold examples, got {num_val}")
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    parts = [
        np.flatnonzero(codes == code)[_evenly_spaced(count, quota)]
        for code, (count, quota) in enumerate(zip(counts, _quotas(counts, num_val), strict=True))
    ]
    val = np.sort(np.concatenate(parts))
    return np.setdiff1d(np.arange(len(labels)), val, assume_unique=True), val


def three_way_split(labels: NDArray[np.uint8], num_val: int, num_test: int) -> tuple[NDArray[np.intp], ...]:
    """Split examples into training, validation and test parts, each with every class's share.

    The validation part is that of `stratified_split`, whatever `num_test` is: the test part is taken from what would
    be trained on otherwise, and so a run without one goes on as ever.

    Args:
        labels: Shape ``(n,)``.
        num_val: Validation examples, at least 1.
        num_test: Test examples, from 0.

    Returns:
        Indices of the training, the validation and the test examples; each ascending, together every index once.

    Raises:
        ValueError: If no training or no validation example would be left.

    >>> [part.tolist() for part in three_way_split(np.array([0, 0, 0, 0, 1, 1, 1, 1]), num_val=2, num_test=2)]
    [[0, 3, 4, 7], [2, 6], [1, 5]]
    """
    rest, val = stratified_split(labels, num_val)
    if num_test == 0:
        return rest, val, np.empty(0, dtype=np.intp)
    if not 0 < num_test < len(rest):
        raise ValueError(f"num_test must be in [0, {len(rest) - 1}] so that training examples are left, got {num_test}")
    train, test = stratified_split(labels[rest], num_test)
    return rest[train], val, rest[test]


def stratified_share(labels: NDArray[np.uint8], fraction: float) -> NDArray[np.intp]:
    """Choose a share of the examples, of every class alike; the same ones every time.

    Args:
        labels: Shape ``(n,)``, n from 0.
        fraction: In (0, 1]; of n examples ``fraction * n`` are chosen, rounded to the nearest, but at least one.

    Returns:
        Ascending indices; all of them where `fraction` is 1.

    Raises:
        ValueError: If `fraction` is out of its range.

    >>> stratified_share(np.array([0, 0, 0, 0, 1, 1]), 0.5).tolist()
    [1, 3, 5]
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"a share of the data must lie in (0, 1], got {fraction}")
    num_chosen = min(len(labels), max(1, round(fraction * len(labels))))
    return np.arange(len(labels)) if num_chosen == len(labels) else stratified_split(labels, num_chosen)[1]


def _quotas(counts: NDArray[np.intp], total: int) -> NDArray[np.intp]:
    """Share `total` among classes in proportion to `counts`, by the method of the largest remainder."""
    # In whole numbers: exact, and so the same everywhere. Ties go to the lower class.
    quotas, remainders = np.divmod(counts * total, counts.sum())
    quotas[np.argsort(-remainders, kind="stable")[: total - quotas.sum()]] += 1
    return quotas


def _evenly_spaced(count: int, quota: int) -> NDArray[np.intp]:
    """Pick `quota` of ``range(count)``: the middles of `quota` equal parts."""
    return (2 * np.arange(quota) + 1) * count // (2 * max(quota, 1))
