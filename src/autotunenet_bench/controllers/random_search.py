"""Random search over restarts: the floor for every other search."""

from __future__ import annotations

from typing import Literal

import numpy as np

from autotunenet import Hyperparams, SearchSpace
from autotunenet_bench.controllers.offline import OfflineConfig, Search


class RandomSearchConfig(OfflineConfig):
    """Offline: trials at random points of the space, then a training with the best.

    Bergstra and Bengio 2012, "Random Search for Hyper-Parameter Optimization". Points are uniform over the space, and
    over orders of magnitude where a range is logarithmic, as that of lr is.
    """

    name: Literal["random_search"] = "random_search"

    def build_search(self, space: SearchSpace, seed: int) -> Search:
        """Return the search."""
        return RandomSearch(space, seed)


class RandomSearch(Search):
    """Draws every point independently and learns nothing.

    Args:
        space: Where.
        seed: Of its own generator.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space, self._generator = space, np.random.default_rng(seed)

    def ask(self) -> dict[str, float]:
        """Return the next point."""
        return self._space.sample(self._generator)

    def tell(self, params: Hyperparams, value: float) -> None:
        """Do nothing: no trial has an influence on another."""
