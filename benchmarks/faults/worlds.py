"""A world of our own for the cells."""

import math
from typing import Literal

from pydantic import Field

from autotunenet_bench.regimes.base import RegimeConfig
from autotunenet_bench.regimes.stationary import StationaryRegime


class NanFromStep(RegimeConfig):
    """From a step on, every loss that is differentiated is NaN, and so is every weight soon."""

    name: Literal["nan_from_step"] = "nan_from_step"
    first_step: int = Field(90, ge=1)

    def start(self, horizon, seed):
        return NanRegime(self.first_step, seed)


class NanRegime(StationaryRegime):
    def __init__(self, first_step, seed):
        super().__init__(seed)
        self._first_step = first_step

    def training_loss(self, loss, step):
        return loss * math.nan if step >= self._first_step else loss
