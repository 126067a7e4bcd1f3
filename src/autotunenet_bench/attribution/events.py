"""What goes wrong, and whose fault that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.optim import Optimizer

from autotunenet_bench.data import stream_seed
from autotunenet_bench.regimes.base import Onset
from autotunenet_bench.regimes.data_shift import DataShiftRegime
from autotunenet_bench.regimes.data_shift import KindName as ShiftName
from autotunenet_bench.regimes.loss_noise import KindName as NoiseName
from autotunenet_bench.regimes.loss_noise import LossNoiseRegime
from autotunenet_bench.regimes.optimizer_shift import STRONGEST_GAIN, OptimizerShiftRegime, multiply_lr
from autotunenet_bench.types import TaskData

TrueCause = Literal["knob", "data", "both", "noise", "null"]
CAUSES: tuple[TrueCause, ...] = ("knob", "data", "both", "noise", "null")


@dataclass(frozen=True, slots=True)
class Fault:
    """An event of a known cause. What is left at its default does not happen.

    Attributes:
        name: In tables.
        lr_factor: Factor that somebody writes into every param group's lr, once.
        gain: Factor on every update from then on, from 1 to 100.
        shift: Kind of `data_shift` that the live data go through.
        shift_severity: Its severity, in [0, 1].
        noise: Kind of `loss_noise` on the losses that the tuner is shown.
        noise_severity: Its severity, in [0, 1].
    """

    name: str
    lr_factor: float = 1.0
    gain: float = 1.0
    shift: ShiftName | None = None
    shift_severity: float = 0.0
    noise: NoiseName | None = None
    noise_severity: float = 0.0

    @property
    def has_knob(self) -> bool:
        """Whether the training's own steps change."""
        return self.lr_factor != 1 or self.gain != 1

    @property
    def cause(self) -> TrueCause:
        """Whose fault it is, by construction.

        >>> Fault("x", lr_factor=30, shift="inversion", shift_severity=1.0).cause
        'both'
        """
        if self.has_knob:
            return "both" if self.shift else "knob"
        return "data" if self.shift else "noise" if self.noise else "null"

    def without_knob(self) -> Fault:
        """Return what is left where the training's own steps stay as they were."""
        return Fault(f"{self.name}, no knob", 1.0, 1.0, self.shift, self.shift_severity)

    def strike(self, model: nn.Module, data: TaskData, optimizer: Optimizer, seed: int) -> None:
        """Let it happen, to live objects; for good."""
        multiply_lr(optimizer, self.lr_factor)
        if self.gain != 1:
            severity = math.log(self.gain) / math.log(STRONGEST_GAIN)
            OptimizerShiftRegime(Onset(1), severity, seed, "update_gain", 1).apply(1, model, data, optimizer)
        if self.shift:
            DataShiftRegime(Onset(1), self.shift_severity, seed, self.shift).apply(1, model, data, optimizer)

    def shown_loss(self, loss: float, step: int, seed: int) -> float:
        """Return what the tuner is shown of a step's loss from the event on."""
        if not self.noise:
            return loss
        # With epochs of one step, the regime's steps are the training's.
        regime = LossNoiseRegime(Onset(1), self.noise_severity, seed, self.noise, "controller", 1)
        return float(regime.shown_loss(loss, step))


def _label(severity: float) -> Fault:
    return Fault(f"label noise {severity:g}", shift="label_noise", shift_severity=severity)


_COMPANIONS: tuple[tuple[str, ShiftName, float], ...] = (
    ("label noise 0.4", "label_noise", 0.4),
    ("permutation", "pixel_permutation", 1.0),
)

FAULTS: tuple[Fault, ...] = (
    *(Fault(f"lr x{factor}", lr_factor=factor) for factor in (10, 30, 100)),
    *(Fault(f"update gain x{gain}", gain=gain) for gain in (10, 30)),
    _label(0.4),
    _label(0.8),
    Fault("permutation", shift="pixel_permutation", shift_severity=1.0),
    Fault("inversion", shift="inversion", shift_severity=1.0),
    *(
        Fault(f"lr x{factor} + {name}", lr_factor=factor, shift=shift, shift_severity=severity)
        for factor in (30, 100)
        for name, shift, severity in _COMPANIONS
    ),
    Fault("shown loss log-normal 0.5", noise="gaussian", noise_severity=0.5),
    Fault("shown loss outliers", noise="outliers", noise_severity=1.0),
    Fault("shown loss NaN bursts", noise="nan_bursts", noise_severity=1.0),
    Fault("nothing"),
)
"""The events of the suite, in the order of its tables."""


def fault_named(name: str) -> Fault:
    """Return an event of the suite by its name.

    Raises:
        KeyError: If there is none.
    """
    return {fault.name: fault for fault in FAULTS}[name]


def fault_seed(seed: int, name: str) -> int:
    """Return the seed of the random choices of an event: which labels, which pixels, which noise."""
    return stream_seed(seed, f"attribution/{name}")
