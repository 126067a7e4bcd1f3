"""Initial designs: well-spread points to fit the first surrogate to.

Each takes ``(space, num, rng)`` and returns `num` points of the space as a list. In a finite space they differ, as far
as there are so many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotunenet.hpo.encoding import Encoding
from autotunenet.hpo.grid_search import grid_over
from autotunenet.hpo.untried import draw_untried
from autotunenet.space import Dimension, Float, Int, SearchSpace

Array = NDArray[np.float64]
Point = dict[str, Any]
Design = Callable[[SearchSpace, int, np.random.Generator], list[Point]]

MAX_LEVELS = 8
"""Most whole numbers of an `Int` that `grid_subset` has all of."""

MAX_GRID = 2048
"""Most points of a grid that `grid_subset` looks at; of larger ones, as many at random."""


def sobol(space: SearchSpace, num: int, rng: np.random.Generator) -> list[Point]:
    """Return the first points of a scrambled Sobol sequence (Sobol 1967, Owen 1998).

    Every elementary interval of volume 2^-m holds as many of the first 2^m points as any other. In a finite space a
    point that is there already is left out, and the sequence goes on.
    """
    from scipy.stats import qmc

    def points() -> Iterator[Array]:
        sequence = qmc.Sobol(len(space), seed=rng)
        num_drawn = 0
        while True:  # powers of two keep the balance, and scipy quiet
            m = max(math.ceil(math.log2(max(num, 2))), num_drawn.bit_length() - 1)
            yield from sequence.random_base2(m)
            num_drawn += 2**m

    return _distinct(space, num, points(), rng)


def latin_hypercube(space: SearchSpace, num: int, rng: np.random.Generator) -> list[Point]:
    """Return a Latin hypercube: each of `num` equal shares of every dimension holds one point (McKay et al. 1979).

    In a finite space a point that is there already is left out, and another hypercube fills up.
    """
    from scipy.stats import qmc

    def points() -> Iterator[Array]:
        while True:
            yield from qmc.LatinHypercube(len(space), seed=rng).random(num)

    return _distinct(space, num, points(), rng)


def grid_subset(space: SearchSpace, num: int, rng: np.random.Generator) -> list[Point]:
    """Return points of a grid, each as far as can be from those before it (Gonzalez 1985); the first is drawn.

    The grid has three evenly spaced values of a `Float`, and of an `Int` that has more than eight, both ends included;
    of other dimensions all. Distances are Euclidean in the unit cube, where two choices of a `Categorical` are as far
    apart as the ends of a range; so corners come first.
    """
    grid = grid_over(space, {name: 3 for name, dimension in space.items() if _is_wide(dimension)})
    num_points = grid.num_points
    assert num_points is not None
    is_small = num_points <= MAX_GRID
    indices = range(num_points) if is_small else {draw_untried(rng, num_points, ()) for _ in range(MAX_GRID)}
    points = [grid.point_at(index) for index in sorted(indices)]
    features = Encoding(space).features(np.stack([space.to_unit(point) for point in points]))
    chosen, distances = [int(rng.integers(len(points)))], np.full(len(points), np.inf)
    order = rng.random(len(points)) * 1e-9  # equal distances: whichever
    while len(chosen) < min(num, len(points)):
        distances = np.minimum(distances, np.linalg.norm(features - features[chosen[-1]], axis=1))
        chosen.append(int(np.argmax(distances + order)))
    first = (space.to_unit(points[index]) for index in chosen)
    return _distinct(space, num, first, rng)


def uniform(space: SearchSpace, num: int, rng: np.random.Generator) -> list[Point]:
    """Return independent points, uniform over the unit cube."""
    return _distinct(space, num, (rng.random(len(space)) for _ in iter(int, 1)), rng)


def _is_wide(dimension: Dimension) -> bool:
    return isinstance(dimension, Float) or (isinstance(dimension, Int) and dimension.num_values > MAX_LEVELS)


def _distinct(space: SearchSpace, num: int, coordinates: Iterable[Array], rng: np.random.Generator) -> list[Point]:
    """Return the first `num` points; of a finite space different ones, filled up at random after many repeats."""
    if space.num_points is None:
        chosen = [space.from_unit(u) for _, u in zip(range(num), coordinates, strict=False)]
        return chosen + [space.sample(rng) for _ in range(num - len(chosen))]
    indices: dict[int, None] = {}
    num = min(num, space.num_points)
    for _, u in zip(range(20 * num), coordinates, strict=False):
        indices[space.index_of(space.from_unit(u))] = None
        if len(indices) == num:
            break
    while len(indices) < num:
        indices[draw_untried(rng, space.num_points, indices)] = None
    return [space.point_at(index) for index in indices]


DESIGNS: dict[str, Design] = {
    "sobol": sobol,
    "latin_hypercube": latin_hypercube,
    "grid": grid_subset,
    "random": uniform,
}
