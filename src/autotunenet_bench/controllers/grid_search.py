"""Grid search over restarts."""

from __future__ import annotations

import itertools
import math
from typing import Literal

from autotunenet import Hyperparams, SearchSpace
from autotunenet.space import Categorical, Dimension, Float, Ordinal
from autotunenet_bench.controllers.offline import OfflineConfig, Search


class GridSearchConfig(OfflineConfig):
    """Offline: trials on an even grid over the space, then a training with the best.

    Both ends of a range are points, and those in between lie at equal distances, at equal ratios where the range is
    logarithmic; a single point is the middle. Trials go from the low end to the high one.
    """

    name: Literal["grid_search"] = "grid_search"

    def build_search(self, space: SearchSpace, seed: int) -> Search:
        """Return the search.

        Raises:
            ValueError: If so many trials make no grid over this space.
        """
        return GridSearch(space, self.num_trials)


class GridSearch(Search):
    """Goes over a grid with as many points in every range; of choices, each is a point.

    Args:
        space: Where.
        num_trials: Points of the whole grid.

    Raises:
        ValueError: If there is no such grid.

    >>> from autotunenet import Float
    >>> grid = GridSearch(SearchSpace({"lr": Float(1e-4, 1.0, log=True)}), num_trials=3)
    >>> [round(grid.ask()["lr"], 12) for _ in range(3)]
    [0.0001, 0.01, 1.0]
    """

    def __init__(self, space: SearchSpace, num_trials: int) -> None:
        self._points = iter(_grid(space, num_trials))

    def ask(self) -> dict[str, float]:
        """Return the next point."""
        return next(self._points)

    def tell(self, params: Hyperparams, value: float) -> None:
        """Do nothing: the grid is laid already."""


def _grid(space: SearchSpace, num_trials: int) -> list[dict[str, float]]:
    sizes: list[int] = []
    for num_points in range(1, num_trials + 1):
        axes = [_points(dimension, num_points) for dimension in space.values()]
        sizes.append(math.prod(len(axis) for axis in axes))
        if sizes[-1] == num_trials:
            return [dict(zip(space, point, strict=True)) for point in itertools.product(*axes)]
        if sizes[-1] > num_trials:
            break
    near = " or ".join(str(size) for size in sorted(set(sizes[-2:])))
    raise ValueError(
        f"grid_search: num_trials={num_trials} points make no grid over {', '.join(space)} with as many points in "
        f"every range; change num_trials, for example to {near}"
    )


def _points(dimension: Dimension, num: int) -> list[float]:
    """Return an even grid over a range, its ends included; whole numbers once each, choices all."""
    if isinstance(dimension, Categorical):
        return list(dimension.choices)
    if isinstance(dimension, Ordinal):
        return list(dimension.values)
    if num == 1:
        return [dimension.from_unit(0.5)]
    inner = [index / (num - 1) for index in range(1, num - 1)]
    if isinstance(dimension, Float):
        return [dimension.low, *(dimension.from_unit(share) for share in inner), dimension.high]
    real = Float(dimension.low, dimension.high, dimension.log)
    return sorted({dimension.low, *(dimension.clip(real.from_unit(share)) for share in inner), dimension.high})
