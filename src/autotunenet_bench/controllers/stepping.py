"""How a training step is made, and at which weights the model is evaluated: what a method that is no schedule changes.

Most controllers leave both alone. Another optimizer, a guard around the optimizer's step or an average of the weights
is a `Stepping` of its own, returned by `ControllerConfig.build_stepping`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter
from torch.optim import Optimizer

from autotunenet.state import PlainState
from autotunenet_bench.types import Loss

PACKAGES = {
    "dadaptation": "dadaptation",
    "dog": "dog-optimizer",
    "momo": "momo-opt",
    "optuna": "optuna",
    "prodigyopt": "prodigyopt",
    "schedulefree": "schedulefree",
    "scipy": "scipy",
    "transformers.optimization": "transformers",
    "zclip": "zclip",
}
"""Modules of other methods, and the packages of the extra `peers` that they come in."""


class Stepping(PlainState):
    """The optimizer's own step, evaluated at the live weights: the null member.

    What a subclass remembers goes into its state, so that a run resumes bit for bit. The optimizer's state is saved
    beside it by the runner.

    Args:
        model: What is trained.
        optimizer: What trains it: the task's, or another one on the same parameters.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self.model, self.optimizer = model, optimizer

    def step(self, objective: Tensor, shown: Loss) -> None:
        """Make one step; the gradients are there.

        Args:
            objective: What was differentiated, a scalar.
            shown: The training loss as a tuner is shown it; a regime may have put noise on it.
        """
        self.optimizer.step()

    @contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """Give the model to be evaluated; afterwards the training is where it was, bit for bit."""
        yield self.model


def require(module: str, controller: str) -> Any:
    """Return a module of another method's package.

    Args:
        module: One of `PACKAGES`.
        controller: Who needs it.

    Raises:
        ValueError: If it is not installed.

    >>> require("zclip", "zclip").__name__
    'zclip'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"the controller {controller} needs the package {PACKAGES[module]}, which cannot be imported ({error}): "
            "pip install 'autotunenet[peers]', or leave this controller out"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Swallow what a package prints: a library prints nothing."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def params_of(optimizer: Optimizer) -> list[Parameter]:
    """Return the parameters of all groups."""
    return [param for group in optimizer.param_groups for param in group["params"]]


def momentum_of(optimizer: Optimizer) -> float:
    """Return SGD's momentum, or the first beta of Adam and AdamW.

    >>> weight = torch.nn.Linear(1, 1).weight
    >>> momentum_of(torch.optim.SGD([weight], momentum=0.8)), momentum_of(torch.optim.Adam([weight]))
    (0.8, 0.9)
    """
    group = optimizer.param_groups[0]
    return float(group["momentum"] if "momentum" in group else group["betas"][0])


def gradient_norm(params: list[Parameter]) -> float:
    """Return the Euclidean norm of all gradients together; 0.0 where there are none."""
    norms = [torch.linalg.vector_norm(param.grad) for param in params if param.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
