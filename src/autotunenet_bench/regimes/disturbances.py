"""What an optimizer shift does around every step: hooks that leave nothing behind in the optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from autotunenet_bench.data import stream_seed


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


class Clipping(Disturbance):
    """Scales the gradients down, all of them by one factor, where their common norm is larger than `max_norm`.

    Args:
        max_norm: Of all gradients together, above 0.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Clip the gradients of the step that is about to be made."""
        clip_grad_norm_(params_of(optimizer), self.max_norm)


def params_of(optimizer: Optimizer) -> list[Tensor]:
    """Return what an optimizer trains, in the order of its groups."""
    return [param for group in optimizer.param_groups for param in group["params"]]
