"""Guards around single steps of the task's optimizer, at the task's lr: clip the gradient, or skip the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from autotunenet import SearchSpace
from autotunenet.controllers import Controller, Fixed
from autotunenet.state import check_keys
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.controllers.stepping import Stepping, gradient_norm, params_of, require
from autotunenet_bench.types import Horizon, Loss


class ClipConfig(ControllerConfig):
    """Clips the norm of the gradient at a fixed value.

    Pascanu, Mikolov and Bengio 2013, "On the difficulty of training Recurrent Neural Networks", arXiv 1211.5063.
    """

    name: Literal["clip"] = "clip"
    max_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return a controller that changes nothing."""
        return Fixed()

    def build_stepping(self, model: nn.Module, optimizer: Optimizer, horizon: Horizon) -> Stepping:
        """Return steps with a clipped gradient."""
        return ClipStepping(model, optimizer, self.max_norm)


class ClipStepping(Stepping):
    """Clips, then steps."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, max_norm: float) -> None:
        super().__init__(model, optimizer)
        self.max_norm = max_norm

    def step(self, objective: Tensor, shown: Loss) -> None:
        """Make a step that is no longer than the bound allows."""
        clip_grad_norm_(params_of(self.optimizer), self.max_norm)
        self.optimizer.step()


class ZClipConfig(ControllerConfig):
    """ZClip: clips a gradient whose norm stands out from those before.

    Kumar et al. 2025, "ZClip: Adaptive Spike Mitigation for LLM Pre-Training", arXiv 2504.02507; the package `zclip`
    with its defaults.
    """

    packages: ClassVar[tuple[str, ...]] = ("zclip",)

    name: Literal["zclip"] = "zclip"
    z_thresh: float = Field(2.5, gt=0, description="standard deviations above the mean that stand out")
    alpha: float = Field(0.97, gt=0, lt=1, description="memory of mean and variance")
    max_norm: float | None = Field(1.0, gt=0, description="largest norm of any gradient; null: no bound but the mean's")

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return a controller that changes nothing.

        Raises:
            ValueError: If the package is missing.
        """
        require("zclip", self.name)
        return Fixed()

    def build_stepping(self, model: nn.Module, optimizer: Optimizer, horizon: Horizon) -> Stepping:
        """Return steps with a clipped gradient."""
        package = require("zclip", self.name)
        clip = package.ZClip(alpha=self.alpha, z_thresh=self.z_thresh, max_grad_norm=self.max_norm)
        return ZClipStepping(model, optimizer, clip)


class ZClipStepping(Stepping):
    """Lets the package clip, then steps; saves what the package does not.

    Args:
        model: What is trained.
        optimizer: What trains it.
        clip: A `zclip.ZClip`.
    """

    _kept = ("initialized", "mean", "var")

    def __init__(self, model: nn.Module, optimizer: Optimizer, clip: Any) -> None:
        super().__init__(model, optimizer)
        self._clip = clip

    def step(self, objective: Tensor, shown: Loss) -> None:
        """Make a step with the clipped gradient."""
        self._clip.step(self.model)
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics of the norms."""
        return {**{key: getattr(self._clip, key) for key in self._kept}, "buffer": list(self._clip.buffer)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from saved statistics.

        Raises:
            ValueError: If they are no state of this class.
        """
        check_keys(type(self).__name__, state_dict, (*self._kept, "buffer"))
        for key in self._kept:
            setattr(self._clip, key, state_dict[key])
        self._clip.buffer = list(state_dict["buffer"])


class SigmaSkipConfig(ControllerConfig):
    """Skips a step whose loss or gradient norm stands out by six sigma.

    The rule of `SkipStepOptimizer` in OLMo-core (github.com/allenai/OLMo-core), one-sided: mean and standard deviation
    of the last 128 steps, in force from half of them on. A skipped step changes neither weights nor optimizer, but its
    loss counts for the steps to come. Other than there, what is not finite is always skipped and never counted: it
    would keep every later step of the window from being made.
    """

    name: Literal["sigma_skip"] = "sigma_skip"
    window: int = Field(128, ge=4, le=100_000, description="steps that a new one is compared with")
    sigmas: float = Field(6.0, gt=0, description="standard deviations above the mean that are let pass")

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return a controller that changes nothing."""
        return Fixed()

    def build_stepping(self, model: nn.Module, optimizer: Optimizer, horizon: Horizon) -> Stepping:
        """Return steps some of which are skipped."""
        return SigmaSkipStepping(model, optimizer, self.window, self.sigmas)


class SigmaSkipStepping(Stepping):
    """Steps unless the loss or the gradient stands out. See `SigmaSkipConfig`."""

    state_names = ("num_skipped", "_losses", "_norms")

    def __init__(self, model: nn.Module, optimizer: Optimizer, window: int, sigmas: float) -> None:
        super().__init__(model, optimizer)
        self.window, self.sigmas = window, sigmas
        self.num_skipped = 0
        self._losses: list[float] = []
        self._norms: list[float] = []

    def step(self, objective: Tensor, shown: Loss) -> None:
        """Make a step, or skip it."""
        seen = ((float(shown), self._losses), (gradient_norm(params_of(self.optimizer)), self._norms))
        is_odd = [self._stands_out(value, before) for value, before in seen]
        for value, before in seen:
            if math.isfinite(value):
                before.append(value)
                del before[: -self.window]
        if any(is_odd):
            self.num_skipped += 1
        else:
            self.optimizer.step()

    def _stands_out(self, value: float, before: Sequence[float]) -> bool:
        if not math.isfinite(value):
            return True
        if len(before) + 1 < max(3, self.window // 2):
            return False
        return value - fmean(before) > self.sigmas * stdev(before)
