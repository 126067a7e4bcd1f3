"""Random search, as a config says it."""

from __future__ import annotations

from typing import ClassVar, Literal

from autotunenet.hpo import Direction, RandomSearch
from autotunenet.space import SearchSpace
from autotunenet_bench.searches.base import SearchConfig


class RandomSearchConfig(SearchConfig):
    """Points drawn uniformly from the space; of a finite space each once."""

    looks_at_results: ClassVar[bool] = False

    name: Literal["random"] = "random"

    def build(self, space: SearchSpace, *, seed: int, direction: Direction) -> RandomSearch:
        """Return the search."""
        return RandomSearch(space, seed=seed, direction=direction)
