"""What a tuner tells the world while it works: numbers to plot, and its decisions, to every sink."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from autotunenet.sinks import ResumableSink, Sink
from autotunenet.state import PlainState
from autotunenet.types import Action, Decision, Health, RatedRun, TrainingRun

logger = logging.getLogger(__name__)

LEVELS = {Health.STABLE.value: 0.0, Health.SUSPECT.value: 1.0, Health.UNSTABLE.value: 2.0}
"""A health as a number that can be plotted."""


class Reporter(PlainState):
    """Counts what was decided, and passes it on.

    Args:
        run: Whose values are reported.
        sinks: Where to.

    Raises:
        TypeError: If one of `sinks` is none.
    """

    state_names = ("_health", "_num_rollbacks", "_num_discarded", "_num_reports", "_loss", "_validation")

    def __init__(self, run: TrainingRun, sinks: Sequence[Sink] = ()) -> None:
        for sink in sinks:
            if isinstance(sink, type) or not isinstance(sink, Sink):
                raise TypeError(f"sinks need log(), event() and close(), as autotunenet.sinks.Sink says; got {sink!r}")
        self._run, self._sinks = run, list(sinks)
        self._health = Health.STABLE.value
        self._num_rollbacks = self._num_discarded = 0
        self._num_reports = 0  # whatever a sink is told counts, also where there is none
        self._loss = self._validation = math.nan

    def decided(self, decision: Decision) -> None:
        """Count a decision and report it."""
        self._health = decision.health.value
        self._loss = decision.observation.metric
        self._num_rollbacks += decision.action is Action.ROLLBACK
        self._num_discarded += decision.discarded_steps
        self._num_reports += 1
        if self._sinks:
            values, step = self.metrics(), decision.observation.step
            self._tell(lambda sink: sink.log(values, step))
            self._tell(lambda sink: sink.event(decision))

    def measured(self, metric: float, step: int) -> None:
        """Report a validation metric, as the user gave it."""
        self._validation = metric
        self._num_reports += 1
        self._tell(lambda sink: sink.log({"autotunenet/validation": metric}, step))

    def resumed(self, step: int) -> None:
        """Report that a saved state was loaded, which had seen so many optimizer steps."""
        reports = self._num_reports
        self._tell(lambda sink: sink.resumed(step, reports) if isinstance(sink, ResumableSink) else None)

    def metrics(self) -> dict[str, float]:
        """Return what `autotunenet.Tuner.metrics` describes."""
        values = self._run.get_hyperparams()
        ratio: dict[str, float] = {}
        if isinstance(self._run, RatedRun) and "lr" in values:
            users = self._run.users_lr
            ratio = {"multiplier": values["lr"] / users} if users > 0 else {}
            values["lr"] = self._run.effective_lr
        counts = {"rollbacks": float(self._num_rollbacks), "discarded_steps": float(self._num_discarded)}
        seen = {"loss": self._loss, "validation": self._validation}
        measured = {name: value for name, value in seen.items() if not math.isnan(value)}
        numbers = {**values, **ratio, "health": LEVELS[self._health], **counts, **measured}
        return {f"autotunenet/{name}": value for name, value in numbers.items()}

    def close(self) -> None:
        """Close the sinks."""
        self._tell(lambda sink: sink.close())
        self._sinks.clear()

    def _tell(self, call: Callable[[Sink], None]) -> None:
        for sink in list(self._sinks):
            try:
                call(sink)
            except Exception:  # a log that cannot be written is no reason to end a training
                logger.exception("%s has failed and is left out from now on", type(sink).__name__)
                self._sinks.remove(sink)
