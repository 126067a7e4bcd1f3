"""A regime of my own: its keys are the fields of its config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.optim import Optimizer

from autotunenet_bench.data import as_tensor_batches
from autotunenet_bench.regimes.base import TriggeredConfig, TriggeredRegime
from autotunenet_bench.types import Horizon, TaskData


class Fading(TriggeredConfig):
    """From the trigger on, all inputs are scaled by 1 - severity / 2."""

    name: Literal["fading"] = "fading"

    def start(self, horizon: Horizon, seed: int) -> FadingRegime:
        """Return a fresh regime for one run."""
        return FadingRegime(self.onset(horizon, seed), self.severity, seed)


@dataclass
class FadingRegime(TriggeredRegime):
    """Scales the inputs from `trigger_epoch` on."""

    @property
    def description(self) -> str:
        """What changes at the trigger."""
        return f"inputs scaled by {1 - self.severity / 2:g}{self.onset.words}"

    def apply(self, epoch: int, model: nn.Module, data: TaskData, optimizer: Optimizer) -> None:
        """Put the inputs of `epoch` in place, each time from the untouched ones."""
        scale = 1 - self.strength(epoch) / 2
        train, val = (as_tensor_batches(part, "fading").pristine for part in (data.train, data.val))
        data.train = train.with_tensors(inputs=train.inputs * scale) if scale < 1 else train
        data.val = val.with_tensors(inputs=val.inputs * scale) if scale < 1 else val
