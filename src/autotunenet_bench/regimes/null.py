"""A trigger at which nothing happens: what is done about it is done for nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.optim import Optimizer

from autotunenet_bench.regimes.base import Onset, TimedConfig
from autotunenet_bench.types import Horizon, Regime, TaskData


@dataclass
class NullRegime(Regime):
    """Changes nothing, in no epoch. Its trigger stands in the record, and is shown to nobody else."""

    trigger_epoch: int
    seed: int
    words: str = ""
    severity: float = 0.0

    @property
    def description(self) -> str:
        """What changes at the trigger."""
        return f"nothing changes; the trigger marks where a change would have come{self.words}"

    def apply(self, epoch: int, model: nn.Module, data: TaskData, optimizer: Optimizer) -> None:
        """Leave everything as it is."""


class Null(TimedConfig):
    """Nothing changes, but there is a trigger in the record: around it a reaction is a false alarm.

    Bit for bit the run of `stationary`, which has no trigger.
    """

    name: Literal["null"] = "null"

    @property
    def display(self) -> str:
        """The label, or for example ``null @ 50 %``."""
        return self.label or f"null @ {self.when}"

    def start(self, horizon: Horizon, seed: int) -> NullRegime:
        """Return a fresh regime for one run.

        Raises:
            ValueError: If the trigger lies beyond the end of the run.
        """
        trigger_epoch = self.first_epoch(horizon, seed)
        drawn_from = self.trigger_range(horizon) if self.trigger_jitter else None
        return NullRegime(trigger_epoch, seed, Onset(trigger_epoch, drawn_from=drawn_from).words)
