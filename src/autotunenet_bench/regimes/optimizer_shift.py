"""The optimizer changes at the trigger: what was a good hyperparameter is one no longer."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from autotunenet_bench.regimes.base import TriggeredConfig, TriggeredRegime
from autotunenet_bench.regimes.disturbances import Clipping, Disturbance, GradientNoise, OtherEntry, UpdateGain
from autotunenet_bench.types import Horizon, TaskData

KindName = Literal["update_gain", "gradient_noise", "weight_decay", "momentum", "clipping_removed", "lr_jump"]

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

STRONGEST_JUMP = 100.0
"""Factor on lr at severity 1."""

DEFAULT_MAX_NORM = 1.0
"""Norm that gradients are clipped to at severity 1, before clipping is removed, where the config gives no other."""


class OptimizerShift(TriggeredConfig):
    """From the trigger on, the optimizer's steps are others than they were."""

    name: Literal["optimizer_shift"] = "optimizer_shift"
    kind: KindName = Field(
        "update_gain",
        description="update_gain: every update times 100^severity; gradient_noise: Gaussian, 3 severity times the "
        "gradient's RMS; weight_decay: times 1000^severity; momentum: 1 - momentum divided by 100^severity; "
        "clipping_removed: gradients clipped to the norm max_norm / severity until the trigger; lr_jump: 100^severity "
        "times lr, written once",
    )
    max_norm: float | None = Field(
        None,
        gt=0,
        description="clipping_removed only: norm of all gradients together that they are clipped to at severity 1; "
        "null: 1. One that no gradient reaches has no effect",
    )

    @model_validator(mode="before")
    @classmethod
    def _resolve_max_norm(cls, values: Any) -> Any:
        """Resolve the default of the norm, and refuse one that nothing would read."""
        if not isinstance(values, Mapping):
            return values
        kind, is_given = values.get("kind", "update_gain"), values.get("max_norm") is not None
        if is_given and kind != "clipping_removed":
            raise ValueError(
                f"max_norm has no effect because kind is {kind}; remove it, or write kind: clipping_removed"
            )
        return {**values, "max_norm": DEFAULT_MAX_NORM} if kind == "clipping_removed" and not is_given else values

    @model_validator(mode="after")
    def _jumps_once(self) -> OptimizerShift:
        if self.kind == "lr_jump" and self.profile != "abrupt":
            raise ValueError(
                f"profile {self.profile} does not go with kind lr_jump, which is written once and is the controller's "
                f"from then on; remove it, or write kind: update_gain"
            )
        return self

    def unwritten(self) -> tuple[str, ...]:
        """Return the keys that are left out of the stored config because they stand for nothing here."""
        return (*super().unwritten(), *(("max_norm",) if self.max_norm is None else ()))

    @property
    def is_removal(self) -> bool:
        """Whether something is taken away at the trigger: clipping is."""
        return self.kind == "clipping_removed"

    @property
    def leaves_a_trace(self) -> bool:
        """Whether the trigger writes something into the optimizer that stays there: a jump of lr does."""
        return self.kind == "lr_jump"

    @property
    def what(self) -> str:
        """For example ``update gain 0.4``; with the norm where it is not the default."""
        norm = "" if self.max_norm in (None, DEFAULT_MAX_NORM) else f" (max norm {self.max_norm:g})"
        return super().what + norm

    def start(self, horizon: Horizon, seed: int) -> OptimizerShiftRegime:
        """Return a fresh regime for one run.

        Raises:
            ValueError: If the trigger lies beyond the end of the run, or where clipping would be removed before it
                was ever there.
        """
        onset, max_norm = self.onset(horizon, seed), self.max_norm or DEFAULT_MAX_NORM
        return OptimizerShiftRegime(onset, self.severity, seed, self.kind, horizon.steps_per_epoch, max_norm)

    def check_optimizer(self, make: Callable[[], Optimizer]) -> None:
        """Check that there is a momentum or weight decay where that is what changes.

        Raises:
            ValueError: If there is none.
        """
        if self.kind in ("momentum", "weight_decay"):
            for group in make().param_groups:
                other_entries(self.kind, group, 1.0)


@dataclass
class OptimizerShiftRegime(TriggeredRegime):
    """Hangs a disturbance on the optimizer's steps while it is in force, and takes it off again.

    `apply` puts at most one on the optimizer however often it is called. Nothing of it is saved with the optimizer: a
    run that resumes puts its own on.

    A jump of lr is no such disturbance but a slip of somebody's hand: it is written into the param groups as the epoch
    of the trigger begins, and what a controller writes afterwards holds. It goes on in the optimizer's own state, so a
    run that resumes in a later epoch has it already, and one that resumes at the trigger's epoch makes it there.
    """

    kind: KindName
    steps_per_epoch: int
    max_norm: float = DEFAULT_MAX_NORM
    _handles: list[RemovableHandle] = field(default_factory=list, init=False, repr=False)
    # The optimizer and the epoch of the last call: a second call for the same ones is no second jump.
    _last: tuple[weakref.ref[Optimizer], int] | None = field(default=None, init=False, repr=False)

    def apply(self, epoch: int, model: nn.Module, data: TaskData, optimizer: Optimizer) -> None:
        """Put the disturbance of `epoch` on the optimizer.

        Raises:
            ValueError: If the optimizer has no momentum or weight decay that could change.
        """
        for group in optimizer.param_groups:  # at the first epoch, and not when the trigger comes
            other_entries(self.kind, group, 1.0)
        while self._handles:
            self._handles.pop().remove()
        strength = self.strength(epoch)
        if self.kind == "lr_jump":
            self._jump(epoch, optimizer)
        elif strength > 0:
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
            "clipping_removed": f"gradients, which were {self._clipped_words}, clipped no longer",
            "lr_jump": f"lr multiplied by {STRONGEST_JUMP**self.severity:.3g}, once, as if by somebody's slip",
        }
        return words[self.kind] + self.onset.words

    def _disturbance(self, strength: float, num_steps: int) -> Disturbance:
        if self.kind == "update_gain":
            return UpdateGain(STRONGEST_GAIN**strength)
        if self.kind == "gradient_noise":
            return GradientNoise(STRONGEST_NOISE * strength, self.seed, num_steps)
        if self.kind == "clipping_removed":
            return Clipping(self.max_norm / strength)
        return OtherEntry(lambda group: other_entries(self.kind, group, strength))

    def _jump(self, epoch: int, optimizer: Optimizer) -> None:
        is_again = self._last is not None and self._last[0]() is optimizer and self._last[1] == epoch
        self._last = weakref.ref(optimizer), epoch
        if epoch == self.trigger_epoch and not is_again:
            multiply_lr(optimizer, STRONGEST_JUMP**self.severity)

    @property
    def _clipped_words(self) -> str:
        return f"clipped to the norm {self.max_norm / self.severity:.3g}" if self.severity else "not clipped either"


def other_entries(kind: KindName, group: dict[str, Any], strength: float) -> dict[str, Any]:
    """Return the entries of a param group that are others while a kind is in force, with their values.

    Raises:
        ValueError: If the group has no momentum or weight decay that could change.

    >>> other_entries("momentum", {"betas": (0.9, 0.999)}, 0.0), other_entries("update_gain", {}, 1.0)
    ({'betas': (0.9, 0.999)}, {})
    """
    if kind == "weight_decay":
        return {"weight_decay": more_decay(_entry(group, "weight_decay"), strength)}
    if kind != "momentum":
        return {}
    if "momentum" not in group and "betas" in group:
        first, *others = group["betas"]
        return {"betas": (more_momentum(first, strength), *others)}
    return {"momentum": more_momentum(_entry(group, "momentum"), strength)}


def multiply_lr(optimizer: Optimizer, factor: float) -> None:
    """Multiply the lr of every param group, for good."""
    for group in optimizer.param_groups:
        group["lr"] *= factor


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
