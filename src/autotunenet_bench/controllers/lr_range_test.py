"""A learning-rate range test inside the run, then a cosine from what it found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, SupportsFloat

import numpy as np
from pydantic import Field, model_validator

from autotunenet import Decision, Observation, SearchSpace, SnapshotBuffer, TrainingRun
from autotunenet.controllers import Controller, Schedule
from autotunenet.controllers import schedule as schedules
from autotunenet.state import PlainState, check_keys
from autotunenet.types import Action, Health
from autotunenet_bench.controllers.base import ControllerConfig, OnlineTuner
from autotunenet_bench.types import Horizon

SMOOTHING = 0.05
"""Weight of a new loss in the smoothed one, in a test of 100 steps.

In a shorter one it is larger in proportion: the smoothed loss lags behind by a share of the test, not by a number of
steps. With a fixed weight the lag in a test of 60 steps is that of a lr more than 100 times too high.
"""

DIVERGED = 5.0
"""The test ends when the smoothed loss exceeds this multiple of its smallest value."""

NUM_SKIPPED = (0.1, 0.05)
"""Shares of the test at its start and its end among which the steepest descent is not looked for."""


class LrRangeTestConfig(ControllerConfig):
    """Range test of lr in the first steps, then a cosine from what it found.

    Smith 2017, "Cyclical Learning Rates for Training Neural Networks", arXiv 1506.01186, in the form of fastai and of
    the package torch-lr-finder: lr rises exponentially, the losses are smoothed, and lr at the steepest descent is
    taken. Weights and optimizer are put back then. The steps are those of the run: they are charged to its budget.
    The range is narrower than the 1e-7 to 10 of fastai: over eight decades in a few dozen steps, the descent after a
    spike at a far too high lr often is the steepest.
    """

    name: Literal["lr_range_test"] = "lr_range_test"
    fraction: float = Field(0.1, gt=0, lt=1, description="share of the run's steps that the test takes")
    max_steps: int = Field(100, ge=3, description="most steps that the test takes")
    lowest: float = Field(1e-5, gt=0, description="lr of the first step")
    highest: float = Field(1.0, gt=0, description="lr of the last step")
    final: float = Field(0.0, ge=0, le=1, description="last factor of the cosine")

    @model_validator(mode="after")
    def _rises(self) -> LrRangeTestConfig:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest must lie below highest, got {self.lowest:g} and {self.highest:g}")
        return self

    @property
    def interval(self) -> int:
        """One control step per optimizer step."""
        return 1

    def idle_keys(self) -> dict[str, str]:
        """Return the keys that nothing reads in this configuration, each with the reason why."""
        return {**super().idle_keys(), "observe": "a schedule per step is never shown a validation metric"}

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return the cosine over `horizon`.

        Raises:
            ValueError: If the run is too short for a test.
        """
        self._num_steps(horizon)
        return Schedule(schedules.cosine(horizon.num_steps, self.final))

    def build_tuner(
        self, run: TrainingRun, horizon: Horizon, space: SearchSpace, seed: int, **options: Any
    ) -> OnlineTuner:
        """Return the test, and the tuner of the steps that are left after it.

        Raises:
            ValueError: If the run is too short for a test.
        """
        test = RangeTest(self._num_steps(horizon), self.lowest, self.highest)

        def tuner(num_used: int) -> OnlineTuner:
            left = Horizon(num_epochs=1, steps_per_epoch=horizon.num_steps - num_used)
            controller = Schedule(schedules.cosine(left.num_steps, self.final))
            return self._tuner_with(controller, run, space, **options)

        return RangeTestTuner(run, test, tuner)

    def _num_steps(self, horizon: Horizon) -> int:
        num_steps = min(self.max_steps, int(self.fraction * horizon.num_steps))
        if num_steps < 3:
            raise ValueError(
                f"lr_range_test takes at least 3 steps, and {self.fraction:g} of {horizon.num_steps} are {num_steps}; "
                "raise fraction or num_epochs, or lower the task's batch_size"
            )
        return num_steps


class RangeTest(PlainState):
    """Exponentially rising lr, smoothed losses, and the lr at their steepest descent.

    Args:
        num_steps: Steps from `lowest` to `highest`, at least 2.
        lowest: lr of the first step.
        highest: lr of the last step.

    >>> test = RangeTest(num_steps=3, lowest=0.01, highest=1.0)
    >>> test.lr, test.update(2.0), round(test.lr, 12), test.update(math.inf)
    (0.01, False, 0.1, True)
    """

    state_names = ("num_done", "is_over", "_losses")

    def __init__(self, num_steps: int, lowest: float, highest: float) -> None:
        self.num_steps, self.lowest, self.highest = num_steps, lowest, highest
        self._weight = min(1.0, SMOOTHING * 100 / num_steps)
        self.num_done = 0
        self.is_over = False
        self._losses: list[float] = []  # smoothed

    @property
    def lr(self) -> float:
        """The lr for the next step."""
        return self._lr(self.num_done)

    def update(self, loss: float) -> bool:
        """Take note of the loss of a step made at `lr`; return whether the test is over."""
        self.num_done += 1
        if math.isfinite(loss):
            before = self._losses[-1] if self._losses else loss
            self._losses.append(self._weight * loss + (1 - self._weight) * before)
        diverged = not math.isfinite(loss) or self._losses[-1] > DIVERGED * min(self._losses)
        self.is_over = diverged or self.num_done >= self.num_steps
        return self.is_over

    def steepest(self) -> float | None:
        """Return lr where the smoothed loss falls fastest; None where there are too few losses to tell."""
        first, last = (round(share * self.num_steps) for share in NUM_SKIPPED)
        losses = self._losses[first : len(self._losses) - last]
        if len(losses) < 2:
            return None
        return self._lr(first + int(np.gradient(np.array(losses)).argmin()))

    def _lr(self, index: int) -> float:
        return float(self.lowest * (self.highest / self.lowest) ** (index / (self.num_steps - 1)))


class RangeTestTuner:
    """Makes the test with the first steps, goes back to the start, and hands over to another tuner.

    Args:
        run: The training.
        test: Which lr is tried when.
        make_tuner: From the number of steps that the test took to the tuner of those that are left.
    """

    def __init__(self, run: TrainingRun, test: RangeTest, make_tuner: Callable[[int], OnlineTuner]) -> None:
        self._run, self._test, self._make_tuner = run, test, make_tuner
        self._tuner: OnlineTuner | None = None
        self._snapshots = SnapshotBuffer(run)
        self._snapshots.capture(0, "start")
        run.set_hyperparams({"lr": test.lr})

    def step(self, loss: SupportsFloat, batch: Any = None) -> Decision | None:
        """Take note of one optimizer step."""
        if self._tuner is not None:
            return self._dated(self._tuner.step(loss, batch))
        if self._test.update(float(loss)):
            return self._hand_over(float(loss))
        self._run.set_hyperparams({"lr": self._test.lr})
        return None

    def observe(self, metric: SupportsFloat) -> Decision | None:
        """Take note of a validation metric."""
        return self._dated(self._tuner.observe(metric)) if self._tuner is not None else None

    def _hand_over(self, loss: float) -> Decision:
        num_steps, tried = self._test.num_done, self._run.get_hyperparams()
        start, found = self._snapshots.restore_from("start"), self._test.steepest()
        self._snapshots.discard("start")
        self._snapshots.release()
        lr = start.hyperparams["lr"] if found is None else found
        self._run.set_hyperparams({"lr": lr})
        self._tuner = self._make_tuner(num_steps)
        reason = f"range test: the loss fell fastest at lr {lr:.3g}; back to the start"
        if found is None:
            reason = f"range test: it ended after {num_steps} steps and shows nothing; back to the start and its lr"
        seen, applied = Observation(num_steps, loss, tried), self._run.get_hyperparams()
        return Decision(seen, Health.STABLE, Action.PROBE, {**tried, "lr": lr}, applied, num_steps, reason)

    def _dated(self, decision: Decision | None) -> Decision | None:
        """Count the steps of the test too."""
        if decision is None:
            return None
        seen = decision.observation
        return replace(decision, observation=replace(seen, step=seen.step + self._test.num_done))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on bit for bit."""
        return {
            "test": self._test.state_dict(),
            "snapshots": self._snapshots.state_dict(),
            "tuner": self._tuner.state_dict() if self._tuner is not None else None,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state; load model and optimizer first.

        Raises:
            ValueError: If it is no state of this class.
        """
        check_keys(type(self).__name__, state_dict, ("test", "snapshots", "tuner"))
        self._test.load_state_dict(state_dict["test"])
        self._snapshots.load_state_dict(state_dict["snapshots"])
        self._tuner = None
        if state_dict["tuner"] is not None:
            self._tuner = self._make_tuner(self._test.num_done)
            self._tuner.load_state_dict(state_dict["tuner"])
