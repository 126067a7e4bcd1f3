"""Grid search: every combination of a few values of each hyperparameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from autotunenet.hpo.base import Direction, Search
from autotunenet.hpo.trial import Trial
from autotunenet.hpo.untried import draw_untried, untried_index
from autotunenet.space import Dimension, Float, Int, Ordinal, SearchSpace

Order = Literal["given", "random"]


class GridSearch(Search):
    """Every point of an even grid, once; of a finite space all points.

    Args:
        space: Where to search.
        points_per_dimension: Values of each `Float` and `Int`, or a mapping of some of their names to such numbers.
            They lie at equal distances, at equal ratios where the range is logarithmic, both ends included; real
            numbers have twelve digits. Whole numbers come once each, so there may be fewer. An `Int` without a number
            has all of its values, as `Categorical` and `Ordinal` always have; a `Float` needs one.
        order: "given": the last dimension varies fastest. "random": every order is as likely, by the seed; better
            where the search may be stopped early.
        seed: Of the order.
        direction: Whether small or large values are good.

    Attributes:
        grid: The finite space whose points are tried.

    Raises:
        ValueError: If a `Float` has no number of points, a number is below 2, or the order is none.
        KeyError: If a name is not in the space, or is no range.

    >>> from autotunenet import Categorical
    >>> space = SearchSpace({"act": Categorical(("relu", "gelu")), "lr": Float(1e-4, 1.0, log=True)})
    >>> search = GridSearch(space, points_per_dimension=3)
    >>> [search.ask().params["lr"] for _ in range(3)], search.ask().params, search.grid.num_points
    ([0.0001, 0.01, 1.0], {'act': 'gelu', 'lr': 0.0001}, 6)
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        points_per_dimension: int | Mapping[str, int] | None = None,
        order: Order = "given",
        seed: int = 0,
        direction: Direction = "minimize",
    ) -> None:
        super().__init__(space, seed=seed, direction=direction)
        if order not in ("given", "random"):
            raise ValueError(f"order must be 'given' or 'random', got {order!r}")
        self.order = order
        self.grid = grid_over(space, points_per_dimension)

    @property
    def is_exhausted(self) -> bool:
        """Whether every point of the grid has a trial."""
        return len(self._tried()) >= self._num_points

    @property
    def _num_points(self) -> int:
        num_points = self.grid.num_points
        assert num_points is not None
        return num_points

    def _tried(self) -> set[int]:
        params = [trial.params for trial in self._trials]
        return {self.grid.index_of(point) for point in params if self.grid.contains(point)}

    def _propose(self, number: int) -> Trial | None:
        tried = self._tried()
        if len(tried) >= self._num_points:
            return None
        if self.order == "given":
            index = untried_index(tried, 0)
        else:
            index = draw_untried(self._stream(number), self._num_points, tried)
        return Trial(number=number, params=self.grid.point_at(index))


def grid_over(space: SearchSpace, points_per_dimension: int | Mapping[str, int] | None) -> SearchSpace:
    """Return a finite space: the grid with so many values in each range, as `GridSearch` says."""
    ranges = [name for name, dimension in space.items() if isinstance(dimension, Float | Int)]
    if points_per_dimension is None:
        wanted: dict[str, int] = {}
    elif isinstance(points_per_dimension, Mapping):
        wanted = dict(points_per_dimension)
    else:
        wanted = dict.fromkeys(ranges, points_per_dimension)
    for name, num in wanted.items():
        if name not in ranges:
            what = "has its values already" if name in space else "is not in the space"
            raise KeyError(f"points_per_dimension: {name!r} {what}; the ranges are {', '.join(ranges) or 'none'}")
        if num < 2:
            raise ValueError(f"points_per_dimension: a grid holds both ends of {name!r}, so at least 2; got {num}")
    return SearchSpace({name: _axis(name, dimension, wanted.get(name)) for name, dimension in space.items()})


def _axis(name: str, dimension: Dimension, num: int | None) -> Dimension:
    """Return the values of a dimension on the grid, as a dimension."""
    if isinstance(dimension, Float):
        if num is None:
            raise ValueError(f"a grid over real numbers needs points_per_dimension, for example {{{name!r}: 5}}")
        return Ordinal(_evenly(dimension, num))
    if isinstance(dimension, Int) and num is not None and num < dimension.num_values:
        real = _evenly(Float(dimension.low, dimension.high, dimension.log), num)
        return Ordinal(tuple(sorted(set(map(dimension.clip, real)))))
    return dimension


def _evenly(dimension: Float, num: int) -> tuple[float, ...]:
    """Return an even grid over a range; its ends are exact, and 0.01 is not 0.010000000000000004."""
    inner = [float(f"{dimension.from_unit(index / (num - 1)):.12g}") for index in range(1, num - 1)]
    return tuple(sorted({float(dimension.low), *map(dimension.clip, inner), float(dimension.high)}))
