"""The null member: the world stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.optim import Optimizer

from autotunenet_bench.regimes.base import NEVER, RegimeConfig
from autotunenet_bench.types import Horizon, Regime, TaskData


@dataclass
class StationaryRegime(Regime):
    """Changes nothing. Its trigger epoch is 0, which no epoch is."""

    seed: int
    trigger_epoch: int = NEVER
    severity: float = 0.0
    description: str = "nothing changes"

    def apply(self, epoch: int, model: nn.Module, data: TaskData, optimizer: Optimizer) -> None:
        """Leave everything as it is."""


class Stationary(RegimeConfig):
    """Nothing changes; the control condition."""

    name: Literal["stationary"] = "stationary"

    def start(self, horizon: Horizon, seed: int) -> StationaryRegime:
        """Return the regime; it has nothing to be configured."""
        return StationaryRegime(seed)
