"""Distance over gradients, evaluated at averaged weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from autotunenet import SearchSpace
from autotunenet.controllers import Controller, Fixed
from autotunenet.state import check_keys
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.controllers.stepping import Stepping, params_of, require
from autotunenet_bench.types import Horizon, Loss


class DogConfig(ControllerConfig):
    """DoG: SGD whose lr is distance over gradients, with averaged weights.

    Ivgi, Hinder and Carmon 2023, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule",
    arXiv 2302.12022; the package `dog-optimizer`. No momentum; the task's weight decay is added to the gradient. The
    task's lr is not used. The model is evaluated at the polynomial decay average (Shamir and Zhang 2013), without which
    the authors do not want DoG to be used.
    """

    packages: ClassVar[tuple[str, ...]] = ("dog-optimizer",)

    name: Literal["dog"] = "dog"
    reps_rel: float | None = Field(
        None, gt=0, le=1, description="first movement, relative; null: 1e-6, or 1e-4 where there is batch normalisation"
    )
    gamma: float = Field(8.0, ge=0, description="how fast the average forgets; more is faster")

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return a controller that changes nothing.

        Raises:
            ValueError: If the package is missing.
        """
        require("dog", self.name)
        return Fixed()

    def build_stepping(self, model: nn.Module, optimizer: Optimizer, horizon: Horizon) -> Stepping:
        """Return DoG's steps and the average."""
        dog = require("dog", self.name)
        has_norm = any(isinstance(module, _BatchNorm) for module in model.modules())
        reps_rel = self.reps_rel or (1e-4 if has_norm else 1e-6)
        decay = optimizer.param_groups[0]["weight_decay"]
        other = dog.DoG(params_of(optimizer), reps_rel=reps_rel, weight_decay=decay)
        return AveragedStepping(model, other, dog.PolynomialDecayAverager(model, self.gamma))


class AveragedStepping(Stepping):
    """Averages the weights after every step; the average is what is evaluated.

    Args:
        model: What is trained.
        optimizer: What trains it.
        averager: The package's, with `step`, `averaged_model` and a state.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, averager: Any) -> None:
        super().__init__(model, optimizer)
        self._averager = averager

    def step(self, objective: Tensor, shown: Loss) -> None:
        """Make a step, and take it into the average."""
        self.optimizer.step()
        self._averager.step()

    @contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """Give the averaged model; before the first step that is the live one's copy."""
        yield self._averager.averaged_model

    def state_dict(self) -> dict[str, Any]:
        """Return the average, and how many steps are in it."""
        state = self._averager.state_dict()
        return {"t": state["t"], "average": {name: tensor.clone() for name, tensor in state["av_model"].items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved average.

        Raises:
            ValueError: If it is no state of this class.
        """
        check_keys(type(self).__name__, state_dict, ("t", "average"))
        self._averager.load_state_dict({"t": state_dict["t"], "av_model": state_dict["average"]})
