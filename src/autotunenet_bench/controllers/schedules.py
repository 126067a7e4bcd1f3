"""The classic learning-rate schedules. Each knows the length of the run and starts from the task's lr."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from autotunenet import SearchSpace
from autotunenet.controllers import Controller, Schedule
from autotunenet.controllers import schedule as schedules
from autotunenet.controllers.schedule import Factor
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.types import Horizon


class ScheduleConfig(ControllerConfig):
    """A schedule, played per optimizer step or per epoch."""

    min_units: ClassVar[int] = 1
    """Units of time that the shape needs."""

    per: Literal["step", "epoch"] = Field("step", description="the unit of time in which lr changes")

    @property
    def interval(self) -> int | None:
        """One control step per unit of time."""
        return 1 if self.per == "step" else None

    def idle_keys(self) -> dict[str, str]:
        """Return the keys that nothing reads in this configuration, each with the reason why."""
        if self.interval is None:
            return super().idle_keys()
        return {**super().idle_keys(), "observe": "a schedule per step is never shown a validation metric"}

    def check_length(self, num_epochs: int) -> None:
        """Check that the shape fits into the run.

        Raises:
            ValueError: If it is played per epoch and there are too few.
        """
        if self.per == "epoch" and num_epochs < self.min_units:
            raise ValueError(
                f"{self.name} per epoch goes up and down, which takes num_epochs >= {self.min_units}, got "
                f"num_epochs={num_epochs}; train longer, or write per: step"
            )

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return the controller.

        Raises:
            ValueError: If the run is too short for the shape.
        """
        self.check_length(horizon.num_epochs)
        if self.per == "step" and horizon.num_steps < self.min_units:
            raise ValueError(
                f"{self.name} per step goes up and down, which takes {self.min_units} steps, got "
                f"{horizon.num_steps}; raise num_epochs, or lower the task's batch_size"
            )
        if self.per == "step":
            return Schedule(self.factor(horizon.num_steps))
        return Schedule(self.factor(horizon.num_epochs), steps_per_unit=horizon.steps_per_epoch)

    @abstractmethod
    def factor(self, total: int) -> Factor:
        """Return the factor on lr over a run of `total` units."""


class ConstantConfig(ScheduleConfig):
    """The initial lr at every step, as a schedule."""

    name: Literal["constant"] = "constant"

    def factor(self, total: int) -> Factor:
        """Return the factor on lr."""
        return schedules.constant()


class StepDecayConfig(ScheduleConfig):
    """lr times `gamma` every `period` epochs (or steps)."""

    name: Literal["step_decay"] = "step_decay"
    per: Literal["step", "epoch"] = Field("epoch", description="the unit of time in which lr changes")
    period: int = Field(10, ge=1, description="units of time between two cuts")
    gamma: float = Field(0.1, gt=0, le=1, description="factor of a cut")

    def factor(self, total: int) -> Factor:
        """Return the factor on lr."""
        return schedules.step_decay(self.period, self.gamma)


class ExponentialDecayConfig(ScheduleConfig):
    """lr times `gamma` per `decay_units` epochs (or steps), smoothly or in steps."""

    name: Literal["exponential_decay"] = "exponential_decay"
    per: Literal["step", "epoch"] = Field("epoch", description="the unit of time in which lr changes")
    gamma: float = Field(0.96, gt=0, le=1, description="factor per `decay_units`")
    decay_units: int = Field(1, ge=1, description="units of time in which the factor is reached")
    staircase: bool = Field(False, description="whether to cut only at whole multiples of `decay_units`")

    def factor(self, total: int) -> Factor:
        """Return the factor on lr."""
        return schedules.exponential_decay(self.gamma, self.decay_units, self.staircase)


class CosineConfig(ScheduleConfig):
    """Half a cosine from lr down to `final` times lr at the end of the run."""

    name: Literal["cosine"] = "cosine"
    final: float = Field(0.0, ge=0, le=1, description="last factor on lr")

    def factor(self, total: int) -> Factor:
        """Return the factor on lr."""
        return schedules.cosine(total, self.final)


class OneCycleConfig(ScheduleConfig):
    """Cosine up to lr and down again, far below where it began."""

    min_units: ClassVar[int] = 2

    name: Literal["one_cycle"] = "one_cycle"
    warmup_fraction: float = Field(0.3, gt=0, lt=1, description="share of the run on the way up")
    start: float = Field(1 / 25, gt=0, le=1, description="first factor on lr")
    final: float = Field(1 / 25 / 1e4, ge=0, le=1, description="last factor on lr")

    def factor(self, total: int) -> Factor:
        """Return the factor on lr."""
        return schedules.one_cycle(total, self.warmup_fraction, self.start, self.final)


class WarmupStableDecayConfig(ScheduleConfig):
    """Linear up to lr, hold, linear down at the end."""

    # With one unit there is no way up and none down: lr would stay where it is, under the name of a schedule.
    min_units: ClassVar[int] = 2

    name: Literal["warmup_stable_decay"] = "warmup_stable_decay"
    warmup_fraction: float = Field(0.05, ge=0, le=1, description="share of the run on the way up")
    decay_fraction: float = Field(0.2, ge=0, le=1, description="share of the run on the way down")
    start: float = Field(0.01, gt=0, le=1, description="first factor on lr")
    final: float = Field(0.0, ge=0, le=1, description="last factor on lr")

    @model_validator(mode="after")
    def _shares_fit(self) -> WarmupStableDecayConfig:
        if self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                "warmup_fraction and decay_fraction are shares of one run and add up to at most 1, "
                f"got {self.warmup_fraction} + {self.decay_fraction}"
            )
        return self

    def factor(self, total: int) -> Factor:
        """Return the factor on lr."""
        return schedules.warmup_stable_decay(total, self.warmup_fraction, self.decay_fraction, self.start, self.final)
