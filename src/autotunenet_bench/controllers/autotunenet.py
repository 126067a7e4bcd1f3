"""AutoTuneNet itself, and what is left of it where a part is taken out."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from autotunenet import SearchSpace, TrainingRun, Tuner, make_tuner
from autotunenet.autotune import make_controller
from autotunenet.controllers import Controller
from autotunenet_bench.controllers.base import DIRECTIONS, SafeControllerConfig
from autotunenet_bench.types import Horizon


class AutoTuneNetConfig(SafeControllerConfig):
    """Launch, Bayesian cruise and landing, with guard, attribution and rollback."""

    name: Literal["autotunenet"] = "autotunenet"
    max_delta: float | None = Field(1.0, gt=0, le=10, description="largest relative change per control step")
    backoff: float = Field(0.25, gt=0, lt=1, description="factor on lr after a rollback; compounds")
    launch: bool = Field(True, description="whether to find the lr in the first steps; only where rollback is full")
    bayesian: bool = Field(True, description="whether to move away from the plan on evidence")
    attribution: bool = Field(
        True, description="whether to find out whose fault an alarm was; only where rollback is full"
    )
    land: bool = Field(True, description="whether lr comes down at the end")
    rewarm: bool = Field(True, description="whether lr warms up again after a change of the data")
    horizon: bool = Field(True, description="whether the controller is told how long the run will be")

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return the controller that cruises and lands."""
        return make_controller(
            space,
            self._total_steps(horizon),
            bayesian=self.bayesian,
            land=self.land,
            rewarm=self.rewarm,
            seed=seed,
        )

    def build_tuner(self, run: TrainingRun, horizon: Horizon, space: SearchSpace, seed: int, **options: Any) -> Tuner:
        """Return the tuner with all its parts, or those that are switched on."""
        return make_tuner(
            run,
            space,
            self._total_steps(horizon),
            scope=self.rollback,
            launch=self.launch,
            bayesian=self.bayesian,
            attribution=self.attribution,
            land=self.land,
            rewarm=self.rewarm,
            seed=seed,
            guard=self.build_guard(space),
            backoff=self.backoff,
            mode=DIRECTIONS[self.observe],
            **options,
        )

    def _total_steps(self, horizon: Horizon) -> int | None:
        return horizon.num_steps if self.horizon else None
