"""IS IT HEALTHY: the monitor family's base."""

from __future__ import annotations

from abc import ABC, abstractmethod

from autotunenet.state import PlainState
from autotunenet.types import Health


class Monitor(PlainState, ABC):
    """Judges the training loss after every optimizer step, in constant time and memory.

    Non-finite losses are judged before anything is averaged: one NaN must not poison a smoother.
    """

    @abstractmethod
    def update(self, loss: float, step: int) -> Health:
        """Judge one step.

        Args:
            loss: Training loss of the step; lower is better; may be NaN or infinite.
            step: Optimizer steps so far, counted from 1.
        """

    @abstractmethod
    def reset(self, loss: float) -> None:
        """Re-anchor: from now on, `loss` is what the training is known to give.

        Called after a restore with what the restored state gave, and after a change of the world with the new level. A
        monitor that merely forgot would take whatever comes next for normal. A non-finite `loss` means "not known".
        """
