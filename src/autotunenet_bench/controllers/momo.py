"""Model-based momentum: lr is capped by what the loss allows."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from autotunenet import SearchSpace
from autotunenet.controllers import Controller, Fixed
from autotunenet.state import check_keys
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.controllers.stepping import Stepping, momentum_of, params_of, require
from autotunenet_bench.types import Horizon, Loss


class MomoConfig(ControllerConfig):
    """MoMo or MoMo-Adam: the task's lr, capped by loss over gradient.

    Schaipp et al. 2023, "MoMo: Momentum Models for Adaptive Learning Rates", arXiv 2305.07583; the package `momo-opt`,
    with 0 as the lower bound of the loss. The task's adam and adamw become MomoAdam at the task's lr. Its sgd becomes
    Momo at lr / (1 - momentum): Momo averages gradients where SGD sums them up, so these steps are as long. The task's
    weight decay is decoupled in both.
    """

    packages: ClassVar[tuple[str, ...]] = ("momo-opt",)

    name: Literal["momo"] = "momo"

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return a controller that changes nothing.

        Raises:
            ValueError: If the package is missing.
        """
        require("momo", self.name)
        return Fixed()

    def build_stepping(self, model: nn.Module, optimizer: Optimizer, horizon: Horizon) -> Stepping:
        """Return MoMo's steps."""
        package, momentum, group = require("momo", self.name), momentum_of(optimizer), optimizer.param_groups[0]
        params, decay = params_of(optimizer), group["weight_decay"]
        if isinstance(optimizer, SGD):
            lr = group["lr"] / (1 - momentum)
            return MomoStepping(model, package.Momo(params, lr=lr, beta=momentum, weight_decay=decay))
        betas = (momentum, 0.999)
        return MomoStepping(model, package.MomoAdam(params, lr=group["lr"], betas=betas, weight_decay=decay))


class MomoStepping(Stepping):
    """Gives MoMo the loss that its gradients belong to, and saves what its own state leaves out.

    Args:
        model: What is trained.
        optimizer: Momo or MomoAdam.
    """

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        super().__init__(model, optimizer)
        self._momo = optimizer
        optimizer.loss_avg = 0.0  # Momo has none before its first step

    def step(self, objective: Tensor, shown: Loss) -> None:
        """Make a step with the loss."""
        self._momo.step(loss=objective.detach())

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps and the average of the losses."""
        average = self._momo.loss_avg
        average = average.clone() if isinstance(average, Tensor) else average
        return {"num_steps": self._momo._number_steps, "loss_average": average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ValueError: If it is no state of this class.
        """
        check_keys(type(self).__name__, state_dict, ("num_steps", "loss_average"))
        average = state_dict["loss_average"]
        self._momo._number_steps = state_dict["num_steps"]
        self._momo.loss_avg = average.clone() if isinstance(average, Tensor) else average
