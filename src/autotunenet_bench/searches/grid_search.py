"""Grid search, as a config says it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from autotunenet.hpo import Direction, GridSearch
from autotunenet.space import SearchSpace
from autotunenet_bench.searches.base import SearchConfig

NumPoints = Annotated[int, Field(ge=2, le=10_000)]


class GridSearchConfig(SearchConfig):
    """Every point of an even grid, once; of a finite space all points."""

    looks_at_results: ClassVar[bool] = False

    name: Literal["grid"] = "grid"
    points_per_dimension: NumPoints | dict[str, NumPoints] | None = Field(
        None, description="values of each range, or of those named; both ends are among them"
    )
    order: Literal["given", "random"] = Field("given", description="of the points; random: by the seed")

    def trials_of(self, space: SearchSpace, usual: int | None) -> int:
        """Return how many trials it gets: all points, whatever `usual` says.

        Raises:
            ValueError: If a range is given no number of points.
        """
        num_points = self.build(space, seed=0, direction="minimize").grid.num_points
        assert num_points is not None
        return min(self.num_trials or num_points, num_points)

    def build(self, space: SearchSpace, *, seed: int, direction: Direction) -> GridSearch:
        """Return the search.

        Raises:
            ValueError: If a range is given no number of points, or what is named is no range.
        """
        try:
            return GridSearch(
                space, points_per_dimension=self.points_per_dimension, order=self.order, seed=seed, direction=direction
            )
        except KeyError as error:
            raise ValueError(str(error.args[0])) from error
