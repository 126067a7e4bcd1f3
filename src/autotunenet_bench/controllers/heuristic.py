"""The rule-based adaptive learning rate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autotunenet import SearchSpace
from autotunenet.controllers import Controller, Heuristic
from autotunenet_bench.controllers.base import SafeControllerConfig
from autotunenet_bench.types import Horizon


class HeuristicConfig(SafeControllerConfig):
    """Raises lr a little while the metric falls consistently, cuts it when it stalls or rises."""

    name: Literal["heuristic"] = "heuristic"
    max_delta: float | None = Field(
        1.0, gt=0, le=10, description="largest relative change per control step; 1.0 lets `cut_factor` 0.5 through"
    )
    raise_factor: float = Field(1.05, ge=1, le=10, description="factor of a raise")
    cut_factor: float = Field(0.5, gt=0, lt=1, description="factor of a cut")
    raise_patience: int = Field(2, ge=1, description="falls of the metric in a row before lr is raised")
    rise_patience: int = Field(1, ge=1, description="rises of the metric in a row before lr is cut")
    stall_patience: int = Field(2, ge=1, description="stalls or rises in a row before lr is cut")
    rtol: float = Field(0.01, ge=0, lt=1, description="smallest relative change of the metric that counts")
    min_ratio: float = Field(1e-3, gt=0, le=1, description="lr stays above this multiple of the initial lr")
    max_ratio: float = Field(10.0, ge=1, description="lr stays below this multiple of the initial lr")

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return the controller."""
        rules = self.model_dump(include=set(HeuristicConfig.__annotations__) - {"name", "max_delta"})
        return Heuristic(**rules)
