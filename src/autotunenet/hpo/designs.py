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

from autotunenet.hpo.untried import draw_untried
from autotunenet.space import SearchSpace

Array = NDArray[np.float64]
Point = dict[str, Any]
Design = Callable[[SearchSpace, int, np.random.Generator], list[Point]]

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

    The grid has all values of a dimension that has few, and three evenly spaced ones of the others, both ends included.
    Distances are Euclidean in the unit cube; two choices of a `Categorical` are as far apart as the ends of a range.
    """
    from autotunenet.hpo.encoding import Encoding
    from autotunenet.hpo.grid_search import grid_over

    wide = {name: 3 for name, dimension in space.items() if _is_range(dimension.num_values)}
    grid = grid_over(space, {name: num for name, num in wide.items() if hasattr(space[name], "low")})
    num_points = grid.num_points
    assert num_points is not None
    if num_points <= MAX_GRID:
        indices: Iterable[int] = range(num_points)
    else:
        drawn: set[int] = set()
        while len(drawn) < MAX_GRID:
            drawn.add(draw_untried(rng, num_points, drawn))
        indices = sorted(drawn)
    points = [grid.point_at(index) for index in indices]
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


def _is_range(num_values: int | None) -> bool:
    return num_values is None or num_values > 8


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
