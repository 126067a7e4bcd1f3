"""Optuna's samplers, as a config says them."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from autotunenet.hpo import Direction, OptunaSearch
from autotunenet.space import SearchSpace
from autotunenet_bench.searches.base import SearchConfig, installed


class OptunaSearchConfig(SearchConfig):
    """A sampler of Optuna: its tree-structured Parzen estimator or its Gaussian process."""

    packages: ClassVar[tuple[str, ...]] = ("optuna",)

    name: Literal["optuna"] = "optuna"
    sampler: Literal["tpe", "gp"] = Field("tpe", description="which of its samplers")
    num_initial: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="results at random points before it uses any; null: Optuna's 10",
    )

    def build(self, space: SearchSpace, *, seed: int, direction: Direction) -> OptunaSearch:
        """Return the search.

        Raises:
            ValueError: If Optuna is not installed.
        """
        with installed():
            return OptunaSearch(
                space, sampler=self.sampler, num_initial=self.num_initial, seed=seed, direction=direction
            )

    def _own_name(self) -> str:
        return f"optuna {self.sampler}"
