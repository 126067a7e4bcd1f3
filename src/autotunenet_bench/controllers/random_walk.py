"""Random steps of lr."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autotunenet import SearchSpace
from autotunenet.controllers import Controller, RandomWalk
from autotunenet_bench.controllers.base import SafeControllerConfig
from autotunenet_bench.types import Horizon


class RandomWalkConfig(SafeControllerConfig):
    """A random step of lr after every epoch: the floor for online methods."""

    name: Literal["random_walk"] = "random_walk"
    max_step: float = Field(0.5, gt=0, le=10, description="largest relative step")

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return the controller."""
        return RandomWalk(max_step=self.max_step, seed=seed)
