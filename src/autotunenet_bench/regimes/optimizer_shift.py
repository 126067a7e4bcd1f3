"""The optimizer changes at the trigger: what was a good hyperparameter is one no longer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from autotunenet_bench.data import stream_seed
from autotunenet_bench.regimes.base import TriggeredConfig, TriggeredRegime
from autotunenet_bench.types import Horizon, TaskData

KindName = Literal["update_gain", "gradient_noise", "weight_decay", "momentum"]

STRONGEST_GAIN = 100.0
"""Factor on every update at severity 1."""

STRONGEST_NOISE = 3.0
"""Standard deviation of the gradient noise at severity 1, in root mean squares of each tensor's gradient."""

STRONGEST_DECAY = 1000.0
"""Factor on the weight decay at severity 1."""

LEAST_DECAY = 1e-4
"""What the factor multiplies where the weight decay is smaller: zero times anything is zero."""

STRONGEST_MOMENTUM = 100.0
"""Factor on the memory of the momentum, ``1 / (1 - momentum)`` steps, at severity 1."""


class OptimizerShift(TriggeredConfig):
    """From the trigger on, the optimizer's steps are others than they were."""

    name: Literal["optimizer_shift"] = "optimizer_shift"
    kind: KindName = Field(
        "update_gain",
        description="update_gain: every update times 100^severity; gradient_noise: Gaussian, 3 severity times the "
        "gradient's RMS; weight_decay: times 1000^severity; momentum: 1 - momentum divided by 100^severity",
    )

    @property
    def display(self) -> str:
        """The label, or for example ``update gain 0.4 @ 50 %``."""
        return self.label or f"{self.kind.replace('_', ' ')} {self.severity:g} @ {self.when}"

    def start(self, horizon: Horizon, seed: int) -> OptimizerShiftRegime:
        """Return a fresh regime for one run.

        Raises:
            ValueError: If the trigger lies beyond the end of the run.
        """
        return OptimizerShiftRegime(self.onset(horizon), self.severity, seed, self.kind, horizon.steps_per_epoch)


class Disturbance:
    """Something that happens around every step of an optimizer; here, nothing."""

    def before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Act on what the step is about to read."""

    def after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Act on what the step has done."""


class UpdateGain(Disturbance):
    """Makes every update `gain` times as long: ``p <- before + gain * (after - before)``.

    Weight decay is part of an update; the optimizer's own state is not touched.
    """

    def __init__(self, gain: float) -> None:
        self.gain = gain
        self._kept: list[Tensor] = []

    @torch.no_grad()
    def before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Keep a copy of the weights."""
        self._kept = [param.detach().clone() for param in params_of(optimizer)]

    @torch.no_grad()
    def after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Stretch the way that the weights have gone."""
        for param, kept in zip(params_of(optimizer), self._kept, strict=True):
            param.sub_(kept).mul_(self.gain).add_(kept)
        self._kept = []


class GradientNoise(Disturbance):
    """Adds Gaussian noise to every gradient, `scale` times the root mean square of that tensor's own gradient.

    The noise of a step is drawn from a generator of its own, so that it depends on the number of the step alone and
    not on what was drawn before.

    Args:
        scale: Standard deviation of the noise, in root mean squares.
        seed: Of the regime.
        num_steps: Steps of the run before the next one.
    """

    def __init__(self, scale: float, seed: int, num_steps: int) -> None:
        self.scale, self.seed = scale, seed
        self._num_steps = num_steps

    @torch.no_grad()
    def before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Put noise on the gradients of the step that is about to be made."""
        self._num_steps += 1
        # On the CPU, whatever the gradients lie on: another device would draw another noise.
        generator = torch.Generator().manual_seed(stream_seed(self.seed, "gradient_noise", self._num_steps))
        for param in params_of(optimizer):
            if param.grad is not None:
                noise = torch.randn(param.grad.shape, generator=generator).to(param.grad)
                param.grad.add_(noise.mul_(self.scale * param.grad.square().mean().sqrt()))


class OtherEntry(Disturbance):
    """Lets the optimizer read other values in its param groups, for the duration of a step.

    Between the steps they are what they were: in checkpoints and snapshots, and for a controller that tunes them. So
    nothing compounds, and what a controller asks for is changed in the same way as what the user had set.

    Args:
        change: From a group to its entries that are other ones.
    """

    def __init__(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.change = change
        self._kept: list[dict[str, Any]] = []

    def before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Write the other values."""
        changes = [self.change(group) for group in optimizer.param_groups]
        self._kept = [
            {key: group[key] for key in entries} for group, entries in zip(optimizer.param_groups, changes, strict=True)
        ]
        for group, entries in zip(optimizer.param_groups, changes, strict=True):
            group.update(entries)

    def after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Put the true values back."""
        for group, entries in zip(optimizer.param_groups, self._kept, strict=True):
            group.update(entries)
        self._kept = []


@dataclass
class OptimizerShiftRegime(TriggeredRegime):
    """Hangs a disturbance on the optimizer's steps while it is in force, and takes it off again.

    `apply` puts at most one on the optimizer however often it is called. Nothing of it is saved with the optimizer: a
    run that resumes puts its own on.
    """

    kind: KindName
    steps_per_epoch: int
    _handles: list[RemovableHandle] = field(default_factory=list, init=False, repr=False)

    def apply(self, epoch: int, model: nn.Module, data: TaskData, optimizer: Optimizer) -> None:
        """Put the disturbance of `epoch` on the optimizer.

        Raises:
            ValueError: If the optimizer has no momentum or weight decay that could change.
        """
        for group in optimizer.param_groups:  # at the first epoch, and not when the trigger comes
            self._other_entries(group, 1.0)
        while self._handles:
            self._handles.pop().remove()
        strength = self.strength(epoch)
        if strength > 0:
            disturbance = self._disturbance(strength, num_steps=(epoch - 1) * self.steps_per_epoch)
            self._handles = [
                optimizer.register_step_pre_hook(disturbance.before),
                optimizer.register_step_post_hook(disturbance.after),
            ]

    @property
    def description(self) -> str:
        """What changes at the trigger."""
        words = {
            "update_gain": f"every update of the weights multiplied by {STRONGEST_GAIN**self.severity:.3g}",
            "gradient_noise": f"Gaussian noise of {STRONGEST_NOISE * self.severity:g} times its root mean square on "
            "every gradient",
            "weight_decay": f"weight decay multiplied by {STRONGEST_DECAY**self.severity:.3g}, at least from "
            f"{LEAST_DECAY:g}",
            "momentum": f"memory of the momentum {STRONGEST_MOMENTUM**self.severity:.3g} times as long",
        }
        return words[self.kind] + self.onset.words

    def _disturbance(self, strength: float, num_steps: int) -> Disturbance:
        if self.kind == "update_gain":
            return UpdateGain(STRONGEST_GAIN**strength)
        if self.kind == "gradient_noise":
            return GradientNoise(STRONGEST_NOISE * strength, self.seed, num_steps)
        return OtherEntry(lambda group: self._other_entries(group, strength))

    def _other_entries(self, group: dict[str, Any], strength: float) -> dict[str, Any]:
        if self.kind == "weight_decay":
            return {"weight_decay": more_decay(_entry(group, "weight_decay"), strength)}
        if self.kind != "momentum":
            return {}
        if "momentum" not in group and "betas" in group:
            first, *others = group["betas"]
            return {"betas": (more_momentum(first, strength), *others)}
        return {"momentum": more_momentum(_entry(group, "momentum"), strength)}


def params_of(optimizer: Optimizer) -> list[Tensor]:
    """Return what an optimizer trains, in the order of its groups."""
    return [param for group in optimizer.param_groups for param in group["params"]]


def more_decay(decay: float, severity: float) -> float:
    """Return ``1000 ** severity`` times the weight decay; what is below 1e-4 rises as much as 1e-4 does.

    >>> [round(more_decay(0.01, severity), 3) for severity in (0, 0.5, 1)], round(more_decay(0.0, 1), 3)
    ([0.01, 0.316, 10.0], 0.1)
    """
    factor: float = STRONGEST_DECAY**severity
    return decay + (factor - 1) * max(decay, LEAST_DECAY)


def more_momentum(momentum: float, severity: float) -> float:
    """Return a momentum that remembers ``100 ** severity`` times as many steps, ``1 / (1 - momentum)``.

    >>> [round(more_momentum(0.9, severity), 4) for severity in (0, 0.5, 1)]
    [0.9, 0.99, 0.999]
    """
    factor: float = STRONGEST_MOMENTUM**severity
    return 1 - (1 - momentum) / factor


def _entry(group: dict[str, Any], name: str) -> Any:
    if name not in group:
        raise ValueError(
            f"this optimizer has no {name.replace('_', ' ')} that could change (its groups have "
            f"{', '.join(sorted(group.keys() - {'params'}))}); use another kind, or another optimizer"
        )
    return group[name]
