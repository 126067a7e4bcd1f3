"""Cut lr when the metric has stopped improving."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autotunenet import SearchSpace
from autotunenet.controllers import Controller, Plateau
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.types import Horizon


class PlateauConfig(ControllerConfig):
    """ReduceLROnPlateau, with a patience for short runs: torch's 10 epochs would never act in them."""

    name: Literal["plateau"] = "plateau"
    factor: float = Field(0.5, gt=0, lt=1, description="factor of a cut")
    patience: int = Field(1, ge=0, description="epochs without improvement that are let pass")
    threshold: float = Field(1e-4, ge=0, description="relative improvement that counts")
    min_lr: float = Field(0.0, ge=0, description="lr is not cut below this")

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return the controller."""
        return Plateau(factor=self.factor, patience=self.patience, threshold=self.threshold, min_lr=self.min_lr)
