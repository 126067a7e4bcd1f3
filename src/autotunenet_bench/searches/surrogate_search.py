"""Surrogate search, as a config says it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from autotunenet.hpo import Direction, SurrogateSearch
from autotunenet.space import SearchSpace
from autotunenet_bench.searches.base import SearchConfig, installed

_NAMES = {"gp": "gp", "random_forest": "forest"}


class SurrogateSearchConfig(SearchConfig):
    """A model trained on the results so far says what to train next: a Gaussian process or a random forest.

    With ``acquisition: mean`` and a `batch_size` it is the plain way: a surrogate is trained on a subset of the
    results, and its top predictions are trained for real.
    """

    packages: ClassVar[tuple[str, ...]] = ("scikit-learn", "scipy")

    name: Literal["surrogate"] = "surrogate"
    surrogate: Literal["gp", "random_forest"] = Field("gp", description="the model of the objective")
    acquisition: Literal["log_ei", "ei", "pi", "lcb", "mean"] = Field(
        "log_ei", description="what a point is worth by its prediction; mean: the prediction itself, nothing explored"
    )
    initial: Literal["sobol", "latin_hypercube", "grid", "random"] = Field(
        "sobol", description="the points before the first fit"
    )
    num_initial: int | None = Field(None, ge=1, le=100_000, description="how many; null: the dimensions and one")
    batch_size: int = Field(1, ge=1, le=10_000, description="trials that are chosen from one fit, the best in order")

    def build(self, space: SearchSpace, *, seed: int, direction: Direction) -> SurrogateSearch:
        """Return the search.

        Raises:
            ValueError: If scipy or scikit-learn is not installed.
        """
        with installed():
            return SurrogateSearch(
                space,
                surrogate=self.surrogate,
                acquisition=self.acquisition,
                initial=self.initial,
                num_initial=self.num_initial,
                batch_size=self.batch_size,
                seed=seed,
                direction=direction,
            )

    def _own_name(self) -> str:
        name = f"surrogate {_NAMES[self.surrogate]}"
        return name if self.acquisition == "log_ei" else f"{name}, {self.acquisition}"
