"""The base of the benchmark's controllers: what a config says about one, and how it is built."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, Protocol, SupportsFloat

from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.optim import Optimizer

from autotunenet import Decision, SearchSpace, SnapshotBuffer, TrainingRun, Tuner
from autotunenet.controllers import Controller
from autotunenet.guards import Guard, chain, cooldown, max_delta, warmup, within
from autotunenet_bench.controllers.stepping import Stepping
from autotunenet_bench.types import Horizon

Observable = Literal["val_loss", "val_accuracy", "train_loss"]

DIRECTIONS: dict[Observable, Literal["min", "max"]] = {"val_loss": "min", "val_accuracy": "max", "train_loss": "min"}
"""Which way each metric that a controller can be shown is better."""


class OnlineTuner(Protocol):
    """What the runner asks of a tuner; `autotunenet.Tuner` is one."""

    def step(self, loss: SupportsFloat, batch: Any = None) -> Decision | None:
        """Take note of one optimizer step, and of what its loss was computed from."""
        ...

    def observe(self, metric: SupportsFloat) -> Decision | None:
        """Take note of a validation metric."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on bit for bit."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state; model and optimizer are loaded already."""
        ...


class MethodConfig(BaseModel, ABC):
    """A method as it stands in a config: what online methods and offline searches have in common.

    `ControllerConfig` is the base of those that act inside one training,
    `autotunenet_bench.controllers.offline.OfflineConfig` of those that train again and again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    runner: ClassVar[str]
    """Who trains: a key of `autotunenet_bench.runners.RUNNERS`."""

    packages: ClassVar[tuple[str, ...]] = ()
    """Packages beside numpy and torch that decide about its numbers; a run stores their versions."""

    name: str
    observe: Observable = Field("val_loss", description="the metric that the controller sees after every epoch")
    label: str | None = Field(None, min_length=1, max_length=60, description="name in tables; default: made from name")

    @property
    def display(self) -> str:
        """The name in tables and plots."""
        return self.label or self.name

    def idle_keys(self) -> dict[str, str]:
        """Return the keys that nothing reads in this configuration, each with the reason why."""
        return {}

    def check_length(self, num_epochs: int) -> None:
        """Check that a run of this length is long enough; how many steps an epoch has is not known yet.

        Raises:
            ValueError: If it is too short.
        """

    @abstractmethod
    def check_run(self, horizon: Horizon, space: SearchSpace, seed: int) -> None:
        """Build what decides once, so that what cannot be built is refused before anything runs.

        Raises:
            ValueError: If it cannot be built: the run is too short, or a package is missing.
        """


class ControllerConfig(MethodConfig):
    """A controller as it stands in a config, with the safeguards around it.

    Baselines run bare (unbounded, no rollback), as their users run them today; `SafeControllerConfig` is the base of
    the online methods, which have the safeguards on. Either can be set the other way.
    """

    runner: ClassVar[str] = "online"

    max_delta: float | None = Field(
        None, gt=0, le=10, description="largest relative change of a value per control step; null: unbounded"
    )
    within_space: bool = Field(False, description="whether values are kept inside the task's search space")
    warmup: int = Field(0, ge=0, description="control steps at the start in which nothing is changed")
    cooldown: int = Field(0, ge=0, description="control steps after each permitted one in which nothing is changed")
    rollback: Literal["none", "hyperparameters", "full"] = Field(
        "none", description="what is restored when the run becomes unstable"
    )
    backoff: float = Field(0.5, gt=0, lt=1, description="factor on lr after a rollback; compounds")

    @property
    def interval(self) -> int | None:
        """Control interval in optimizer steps; None: one control step at the end of every epoch."""
        return None

    def idle_keys(self) -> dict[str, str]:
        """Return the keys that nothing reads in this configuration, each with the reason why."""
        if self.rollback == "none":
            return {"backoff": "rollback is none, and lr is cut only after a rollback"}
        return {}

    def check_run(self, horizon: Horizon, space: SearchSpace, seed: int) -> None:
        """Build the controller once.

        Raises:
            ValueError: If it cannot be built.
        """
        self.build(horizon, space, seed)

    @abstractmethod
    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return a fresh controller for one run. `seed` is that of its own random stream."""

    def build_stepping(self, model: nn.Module, optimizer: Optimizer, horizon: Horizon) -> Stepping:
        """Return how a step is made, and at which weights the model is evaluated.

        The default is the task's optimizer at the live weights. Called before `build_tuner`, whose run is that of the
        stepping's optimizer.

        Args:
            model: What is trained.
            optimizer: The task's, fresh.
            horizon: How long the run will be.
        """
        return Stepping(model, optimizer)

    def build_tuner(
        self, run: TrainingRun, horizon: Horizon, space: SearchSpace, seed: int, **options: Any
    ) -> OnlineTuner:
        """Return the tuner of one run, with this controller in it.

        Args:
            run: The training.
            horizon: How long it will be.
            space: What may be tuned.
            seed: Seed of the controller's own random stream.
            **options: Further arguments of `autotunenet.Tuner`.
        """
        return self._tuner_with(self.build(horizon, space, seed), run, space, **options)

    def _tuner_with(self, controller: Controller, run: TrainingRun, space: SearchSpace, **options: Any) -> Tuner:
        return Tuner(
            run,
            space,
            controller=controller,
            guard=self.build_guard(space),
            snapshots=SnapshotBuffer(run, self.rollback),
            interval=self.interval,
            backoff=self.backoff,
            mode=DIRECTIONS[self.observe],
            **options,
        )

    def build_guard(self, space: SearchSpace) -> Guard:
        """Return the guard that the config asks for, the box last."""
        guards = [warmup(self.warmup), cooldown(self.cooldown)]
        if self.max_delta is not None:
            guards.append(max_delta(self.max_delta))
        if self.within_space:
            guards.append(within(space))
        return chain(*guards)


class SafeControllerConfig(ControllerConfig):
    """An online method, with guard and rollback on."""

    max_delta: float | None = Field(
        0.5, gt=0, le=10, description="largest relative change of a value per control step; null: unbounded"
    )
    within_space: bool = Field(True, description="whether values are kept inside the task's search space")
    rollback: Literal["none", "hyperparameters", "full"] = Field(
        "full", description="what is restored when the run becomes unstable"
    )
