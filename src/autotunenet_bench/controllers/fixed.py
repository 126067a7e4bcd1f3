"""The hyperparameters that the user gave, to the end: the null member."""

from __future__ import annotations

from typing import Literal

from autotunenet import SearchSpace
from autotunenet.controllers import Controller, Fixed
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.types import Horizon


class FixedConfig(ControllerConfig):
    """Changes nothing: the floor that nothing may fall below."""

    name: Literal["fixed"] = "fixed"

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return the controller."""
        return Fixed()
