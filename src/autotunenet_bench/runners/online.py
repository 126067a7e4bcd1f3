"""One online run: a single training, with a controller inside it and no restart."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from autotunenet import Decision
from autotunenet_bench.config import RunSpec
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.controllers.stepping import Stepping
from autotunenet_bench.data import DataSource, stream_seed
from autotunenet_bench.device import CPU, Device
from autotunenet_bench.results import RunFolder
from autotunenet_bench.runners.base import BaseTraining, run_training
from autotunenet_bench.types import EventSink, Loss, TaskData

HISTORY_SIZE = 1_000
"""Decisions that the tuner itself remembers; every one of them stands in the event file."""


def run_online(spec: RunSpec, source: DataSource, folder: RunFolder, on_event: EventSink | None = None) -> None:
    """Run the spec of an online method; the arguments are those of `autotunenet_bench.runners.run`.

    Raises:
        ValueError: As `autotunenet_bench.runners.run`, and if the spec's method is no online one.
    """
    run_training(Training, spec, source, folder, on_event)


class Training(BaseTraining):
    """A training with a tuner in it.

    Args:
        spec: What to run; its controller is an online one.
        data: The task's data, untouched by any regime.
        device: What it is computed on.
    """

    def __init__(self, spec: RunSpec, data: TaskData, device: Device = CPU) -> None:
        if not isinstance(spec.controller, ControllerConfig):
            raise ValueError(
                f"{spec.controller.name} is no online method; autotunenet_bench.runners.run picks the runner"
            )
        self._config = spec.controller
        super().__init__(spec, data, device)
        self._tuner = self._config.build_tuner(
            self._run, self._horizon, self._space, stream_seed(spec.seed, "controller"), history_size=HISTORY_SIZE
        )

    def _make_stepping(self, model: nn.Module, optimizer: Optimizer) -> Stepping:
        return self._config.build_stepping(model, optimizer, self._horizon)

    def _after_step(self, shown: Loss) -> Decision | None:
        return self._tuner.step(shown)

    def _after_epoch(self, shown: float) -> Decision | None:
        return self._tuner.observe(shown)

    def _own_state(self) -> dict[str, Any]:
        return {"tuner": self._tuner.state_dict()}

    def _load_own_state(self, state_dict: dict[str, Any]) -> None:
        self._tuner.load_state_dict(state_dict["tuner"])
