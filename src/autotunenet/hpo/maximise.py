"""Where an acquisition function is highest: over all points of a small space, by a local search in others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from autotunenet.space import Categorical, Float, SearchSpace

Array = NDArray[np.float64]
Utility = Callable[[Array], Array]

MAX_LISTED = 4096
"""Most points that are all looked at."""

NUM_UNIFORM = 1024
"""Points drawn over the whole of a larger space."""

NUM_ELITES = 8
"""Points that each round of the local search looks around."""

NUM_NEIGHBOURS = 25
"""Points that it looks at around each."""

SCALES = tuple(0.25 * 0.5**i for i in range(10))
"""Widths of the rounds of the local search, in units of each range: from a quarter to 0.0005."""


def ranked_points(space: SearchSpace, utility: Utility, centers: Array, rng: np.random.Generator) -> Array:
    """Return points by their utility, the best first.

    Args:
        space: Where.
        utility: Maps coordinates of shape ``(n, d)`` to values of shape ``(n,)``.
        centers: Coordinates of good points to look around, of shape ``(k, d)``.
        rng: Of the candidates; also of the order of points that are equally good.

    Returns:
        Coordinates of shape ``(n, d)`` in the unit cube.
    """
    if space.num_points is not None and space.num_points <= MAX_LISTED:
        points = rng.permutation(every_point(space))
        return _sorted(points, utility(points))[0]
    points = np.vstack([rng.random((NUM_UNIFORM, len(space))), centers])
    points, values = _sorted(points, utility(points))
    for scale in SCALES:
        near = neighbours(space, points[:NUM_ELITES], scale, rng)
        points, values = _sorted(np.vstack([points, near]), np.concatenate([values, utility(near)]))
    return points


def every_point(space: SearchSpace) -> Array:
    """Return the coordinates of all points of a finite space by index, shape ``(num_points, d)``."""
    axes = []
    for dimension in space.values():
        assert not isinstance(dimension, Float)
        axes.append([dimension.to_unit(dimension.value_at(rank)) for rank in range(dimension.num_values)])
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def neighbours(space: SearchSpace, centers: Array, scale: float, rng: np.random.Generator) -> Array:
    """Return points around others: a Gaussian step in some of the dimensions, at least to the next value.

    Of a `Categorical` any choice is next to any other.
    """
    u = np.repeat(centers, NUM_NEIGHBOURS, axis=0)
    steps = scale * rng.standard_normal(u.shape)
    for i, dimension in enumerate(space.values()):
        if isinstance(dimension, Categorical):
            steps[:, i] = rng.random(len(u)) - u[:, i]
        elif dimension.num_values is not None:
            share = 1.0 / dimension.num_values
            steps[:, i] = np.where(np.abs(steps[:, i]) < share, np.sign(steps[:, i]) * share, steps[:, i])
    moves = rng.random(u.shape) < 0.5
    moves[np.arange(len(u)), rng.integers(len(space), size=len(u))] = True
    return np.clip(u + moves * steps, 0.0, 1.0)


def _sorted(points: Array, values: Array) -> tuple[Array, Array]:
    order = np.argsort(-values, kind="stable")
    return points[order], values[order]
