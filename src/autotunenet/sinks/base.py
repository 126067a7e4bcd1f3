"""What a sink is, and how one hears that a training was resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from autotunenet.types import Decision


@runtime_checkable
class Sink(Protocol):
    """Takes what a tuner reports, and writes it somewhere.

    A tuner calls `log` and then `event` at every decision: at each move of a launch, at the end of each control
    interval, at every alarm and verdict; and `log` alone at every validation metric. Steps never run backwards, except
    that a training that was resumed begins again at the step of its checkpoint.

    A sink that raises is left out from then on, and the traceback goes to the log: no training ends because a log
    cannot be written.
    """

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take numbers by name, ``"autotunenet/lr"`` for example; they may be NaN or infinite.

        Args:
            values: The numbers, as `autotunenet.Tuner.metrics` has them.
            step: Optimizer steps so far, counted from 1.
        """
        ...

    def event(self, decision: Decision) -> None:
        """Take a decision: `decision.reason` is its sentence, `decision.to_record()` makes plain values of it."""
        ...

    def close(self) -> None:
        """Write what is still held back. Called when the tuner is closed; a second call does nothing."""
        ...


@runtime_checkable
class ResumableSink(Protocol):
    """A sink that wants to know when a training goes on from a saved state.

    What it had been told after that state was saved belongs to a branch that was given up.
    """

    def resumed(self, step: int, num_reports: int) -> None:
        """Take note that what comes next follows a saved state. Called by `autotunenet.Tuner.load_state_dict`.

        Args:
            step: Optimizer steps that the state has seen.
            num_reports: Calls of `Sink.log` that it had seen, whether or not there was a sink then.
        """
        ...
