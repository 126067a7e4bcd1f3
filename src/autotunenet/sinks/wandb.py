"""Numbers and decisions in a run of Weights & Biases."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autotunenet.optional import import_optional
from autotunenet.sinks.telling import headline, is_alarm, is_news
from autotunenet.types import Decision

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)

_STEP = "autotunenet/step"
_MOST_ROWS = 10_000
"""Rows that a table of W&B shows."""


class WandbSink:
    """Logs numbers over a step axis of their own, ``autotunenet/step``, and decisions as text and as a table.

    The numbers ride on the rows that your own ``wandb.log`` makes (``commit=False``): W&B drops a row whose ``step=``
    is below the rows it has, so a sink that made rows would cost you yours wherever you count epochs. Of several
    decisions between two rows of yours the last one's numbers stand. The summary's ``autotunenet/decision`` is the last
    decision in a line, and the table ``autotunenet/decisions`` has all but the quiet ones; it is brought up to date at
    every alarm and when the tuner is closed, which has to be before ``wandb.finish()``. NaN and infinities are logged
    as they are.

    Args:
        run: Yours. None: the active run (``wandb.run``) at the first report.
        init: Arguments of ``wandb.init``, with which the sink starts a run of its own at the first report; it is
            finished with the tuner. None: no run is ever started here.
        commit: Whether every decision makes a row. Right where no ``wandb.log`` of yours gives ``step=``. None: only in
            a run that the sink has started.

    Raises:
        ImportError: If wandb is not installed.
        TypeError: If `run` is no run.
        ValueError: If both `run` and `init` are given.
    """

    def __init__(
        self, run: wandb.Run | None = None, *, init: Mapping[str, Any] | None = None, commit: bool | None = None
    ) -> None:
        self._wandb = import_optional("wandb", "WandbSink", "wandb")
        if run is not None and init is not None:
            raise ValueError("give a run, or init for one of the sink's own, and not both")
        if run is not None and not (hasattr(run, "log") and hasattr(run, "define_metric")):
            raise TypeError(f"run must be what wandb.init returns, got {run!r}")
        self._run: Any = None
        self._users, self._init = run, init
        self._commit = init is not None if commit is None else commit
        self._rows: deque[Decision] = deque(maxlen=_MOST_ROWS)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers."""
        numbers = {name: float(value) for name, value in values.items()}
        self._ready().log({**numbers, _STEP: step}, commit=self._commit)

    def event(self, decision: Decision) -> None:
        """Put the decision into the summary as a line of text; at an alarm log the table, too."""
        if is_news(decision):
            self._rows.append(decision)
            self._ready().summary["autotunenet/decision"] = headline(decision)
            if is_alarm(decision):
                self._log_table()

    def resumed(self, step: int, num_reports: int) -> None:
        """Leave what the branch that was given up has decided out of the table."""
        self._rows = deque((row for row in self._rows if row.observation.step <= step), maxlen=_MOST_ROWS)

    def close(self) -> None:
        """Log the table. Finish the run, if it is the sink's own."""
        if self._run is None:
            return
        try:
            if self._rows:
                self._log_table()
            if self._init is not None:
                self._run.finish()
        except self._wandb.errors.UsageError as error:  # finished before the tuner was closed
            logger.warning("the table of decisions in W&B ends at the last alarm: %s", error)
        self._run = None
        self._rows.clear()

    def _ready(self) -> Any:
        if self._run is None:
            self._run = self._find_run()
            self._run.define_metric(_STEP, hidden=True)
            self._run.define_metric("autotunenet/*", step_metric=_STEP)
        return self._run

    def _find_run(self) -> Any:
        if self._init is not None:
            return self._wandb.init(**self._init)
        run = self._wandb.run if self._users is None else self._users
        if run is None:
            raise RuntimeError(
                "there is no active W&B run: call wandb.init() before the training begins, or give WandbSink(run), "
                "or WandbSink(init={...}) for a run of the sink's own"
            )
        return run

    def _log_table(self) -> None:
        names = list(dict.fromkeys(name for row in self._rows for name in row.applied))
        columns = ["step", "action", "cause", "health", "metric", "discarded_steps", *names, "reason"]
        table = self._wandb.Table(columns=columns, data=[_to_row(row, names) for row in self._rows])
        self._ready().log({"autotunenet/decisions": table}, commit=False)


def _to_row(decision: Decision, names: list[str]) -> list[Any]:
    seen, cause = decision.observation, decision.cause.value if decision.cause else ""
    values = [decision.applied.get(name) for name in names]
    judged = [decision.action.value, cause, decision.health.value]
    return [seen.step, *judged, seen.metric, decision.discarded_steps, *values, decision.reason]
