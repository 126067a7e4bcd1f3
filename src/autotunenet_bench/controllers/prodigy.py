"""Optimizers that estimate the distance to the solution, and their lr from it: Prodigy and D-Adaptation."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import nn
from torch.optim import AdamW, Optimizer

from autotunenet import SearchSpace
from autotunenet.controllers import Controller
from autotunenet.controllers import schedule as schedules
from autotunenet.controllers.schedule import Factor
from autotunenet_bench.controllers.schedules import ScheduleConfig
from autotunenet_bench.controllers.stepping import Stepping, momentum_of, params_of, quiet, require
from autotunenet_bench.types import Horizon


class DistanceConfig(ScheduleConfig):
    """An optimizer whose lr is 1 times its own estimate, with the cosine over the run that the authors recommend.

    Momentum and weight decay are the task's: decoupled where the task has adamw and the optimizer can, else added to
    the gradient. All else is the package's default. The task's lr is not used.
    """

    module: ClassVar[str]

    name: str
    final: float = Field(0.0, ge=0, le=1, description="last factor of the cosine")

    def factor(self, total: int) -> Factor:
        """Return the factor on the optimizer's own estimate."""
        return schedules.cosine(total, self.final)

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return the cosine.

        Raises:
            ValueError: If the package is missing.
        """
        require(self.module, self.name)
        return super().build(horizon, space, seed)

    def build_stepping(self, model: nn.Module, optimizer: Optimizer, horizon: Horizon) -> Stepping:
        """Return the steps of the optimizer that takes the place of the task's."""
        make, options = self.optimizer_of(require(self.module, self.name)), self.options_from(optimizer)
        with quiet():
            other = make(
                params_of(optimizer), lr=1.0, weight_decay=optimizer.param_groups[0]["weight_decay"], **options
            )
        return Stepping(model, other)

    def options_from(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return what else of the task's optimizer goes over: Adam's momentum, and where its weight decay acts."""
        return {"betas": (momentum_of(optimizer), 0.999), "decouple": isinstance(optimizer, AdamW)}

    @abstractmethod
    def optimizer_of(self, module: Any) -> Any:
        """Return the class of the optimizer."""


class ProdigyConfig(DistanceConfig):
    """Prodigy: Adam that estimates its own lr, with a cosine.

    Mishchenko and Defazio 2023, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", arXiv 2306.06101; the
    package `prodigyopt`, whose authors recommend lr 1 and a cosine without restarts.
    """

    module: ClassVar[str] = "prodigyopt"
    packages: ClassVar[tuple[str, ...]] = ("prodigyopt",)

    name: Literal["prodigy"] = "prodigy"

    def optimizer_of(self, module: Any) -> Any:
        """Return the class of the optimizer."""
        return module.Prodigy


class DAdaptAdamConfig(DistanceConfig):
    """D-Adapted Adam: the forerunner of Prodigy, with a cosine.

    Defazio and Mishchenko 2023, "Learning-Rate-Free Learning by D-Adaptation", arXiv 2301.07733; the package
    `dadaptation`, whose authors recommend lr 1 and the schedule that one would use anyway.
    """

    module: ClassVar[str] = "dadaptation"
    packages: ClassVar[tuple[str, ...]] = ("dadaptation",)

    name: Literal["dadapt_adam"] = "dadapt_adam"

    def optimizer_of(self, module: Any) -> Any:
        """Return the class of the optimizer."""
        return module.DAdaptAdam


class DAdaptSGDConfig(DistanceConfig):
    """D-Adapted SGD with the task's momentum, with a cosine.

    The SGD of the same paper and package, in the form of primal averaging. It has no decoupled weight decay: the task's
    is added to the gradient, also where the task has adamw.
    """

    module: ClassVar[str] = "dadaptation"
    packages: ClassVar[tuple[str, ...]] = ("dadaptation",)

    name: Literal["dadapt_sgd"] = "dadapt_sgd"

    def optimizer_of(self, module: Any) -> Any:
        """Return the class of the optimizer."""
        return module.DAdaptSGD

    def options_from(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the momentum, which is the first beta where the task has an Adam."""
        return {"momentum": momentum_of(optimizer)}
