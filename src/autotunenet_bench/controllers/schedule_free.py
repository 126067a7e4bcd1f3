"""Schedule-free optimizers, evaluated at their own average."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.optim import SGD, Optimizer

from autotunenet import SearchSpace
from autotunenet.controllers import Controller, Fixed
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.controllers.stepping import Stepping, momentum_of, params_of, require
from autotunenet_bench.types import Horizon


class ScheduleFreeConfig(ControllerConfig):
    """Schedule-Free SGD or AdamW at the task's lr: no horizon, no schedule.

    Defazio et al. 2024, "The Road Less Scheduled", arXiv 2405.15682; the package `schedulefree`. The task's sgd becomes
    SGDScheduleFree, adam and adamw AdamWScheduleFree, with the task's lr, momentum and weight decay. The warm-up is the
    one that its authors recommend. Statistics of batch normalisation are left as the training made them.
    """

    packages: ClassVar[tuple[str, ...]] = ("schedulefree",)

    name: Literal["schedule_free"] = "schedule_free"
    warmup_fraction: float = Field(0.05, ge=0, le=1, description="share of the run on the way up to lr")

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return a controller that changes nothing.

        Raises:
            ValueError: If the package is missing.
        """
        require("schedulefree", self.name)
        return Fixed()

    def build_stepping(self, model: nn.Module, optimizer: Optimizer, horizon: Horizon) -> Stepping:
        """Return the steps of the schedule-free sister of the task's optimizer.

        Raises:
            ValueError: If the task's momentum is zero: the average is made with it.
        """
        package, momentum, group = require("schedulefree", self.name), momentum_of(optimizer), optimizer.param_groups[0]
        if momentum <= 0:
            raise ValueError(f"schedule_free needs a momentum above 0, got {momentum:g}; set the task's momentum")
        options: dict[str, Any] = {
            "lr": group["lr"],
            "weight_decay": group["weight_decay"],
            "warmup_steps": round(self.warmup_fraction * horizon.num_steps),
        }
        if isinstance(optimizer, SGD):
            other = package.SGDScheduleFree(params_of(optimizer), momentum=momentum, **options)
        else:
            other = package.AdamWScheduleFree(params_of(optimizer), betas=(momentum, 0.999), **options)
        return ScheduleFreeStepping(model, other)


class ScheduleFreeStepping(Stepping):
    """Keeps a schedule-free optimizer in train mode, and takes it to its average to be evaluated.

    Args:
        model: What is trained.
        optimizer: One with `train` and `eval`.
    """

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        super().__init__(model, optimizer)
        optimizer.train()

    @contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """Give the model at the average."""
        optimizer: Any = self.optimizer
        params = params_of(optimizer)
        kept = [param.detach().clone() for param in params]
        optimizer.eval()
        try:
            yield self.model
        finally:
            optimizer.train()
            with torch.no_grad():  # there and back again is exact to rounding only
                for param, before in zip(params, kept, strict=True):
                    param.copy_(before)
