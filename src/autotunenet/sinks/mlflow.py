"""Numbers as MLflow metrics, decisions as a tag and an artifact."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from autotunenet.optional import import_optional
from autotunenet.sinks.rows import to_line
from autotunenet.sinks.telling import headline, is_alarm, is_news
from autotunenet.types import Decision

ARTIFACT = "autotunenet/decisions.jsonl"
TAG = "autotunenet/decision"
_MOST_LINES = 10_000
_LONGEST_TAG = 5_000
"""Characters that every MLflow server takes."""


class MlflowSink:
    """Logs metrics ``autotunenet/lr`` and so on, the last decision as a tag, and all but the quiet ones as an artifact.

    The artifact ``autotunenet/decisions.jsonl`` has a line of JSON for each decision, in the form of
    `autotunenet.sinks.JsonlSink`; it is brought up to date at every alarm and when the tuner is closed. Infinities are
    logged as NaN, because databases of MLflow keep plus and minus 1.8e308 for them, which no chart survives; the
    decision has them as they were.

    Args:
        run_id: The run. None: the active run (``mlflow.active_run``) at the first report; none is started.
        experiment: Name of the experiment in which the sink makes a run of its own, without making it the active one;
            it is ended with the tuner. The experiment is made if it is not there.

    Raises:
        ImportError: If MLflow is not installed.
        ValueError: If both `run_id` and `experiment` are given.
    """

    def __init__(self, run_id: str | None = None, *, experiment: str | None = None) -> None:
        self._mlflow = import_optional("mlflow", "MlflowSink", "mlflow")
        if run_id is not None and experiment is not None:
            raise ValueError("give a run_id, or an experiment for a run of the sink's own, and not both")
        self._users, self._experiment = run_id, experiment
        self._client: Any = None
        self._run_id = ""
        self._lines: deque[tuple[int, bytes]] = deque(maxlen=_MOST_LINES)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers, in one call."""
        client, now = self._ready(), int(time.time() * 1000)
        metric = self._mlflow.entities.Metric
        finite = {name: float(value) if math.isfinite(value) else math.nan for name, value in values.items()}
        client.log_batch(self._run_id, [metric(name, value, now, step) for name, value in finite.items()])

    def event(self, decision: Decision) -> None:
        """Set the tag; at an alarm write the artifact, too."""
        if is_news(decision):
            client = self._ready()
            line = to_line({"event": "decision", **decision.to_record()})
            self._lines.append((decision.observation.step, line))
            client.set_tag(self._run_id, TAG, headline(decision)[:_LONGEST_TAG])
            if is_alarm(decision):
                self._write_artifact()

    def resumed(self, step: int, num_reports: int) -> None:
        """Leave what the branch that was given up has decided out of the artifact."""
        self._lines = deque((row for row in self._lines if row[0] <= step), maxlen=_MOST_LINES)

    def close(self) -> None:
        """Write the artifact. End the run, if it is the sink's own."""
        if self._client is None:
            return
        if self._lines:
            self._write_artifact()
        if self._experiment is not None:
            self._client.set_terminated(self._run_id)
        self._client, self._run_id = None, ""
        self._lines.clear()

    def _ready(self) -> Any:
        if self._client is None:
            client = self._mlflow.MlflowClient()
            self._run_id = self._make_run(client) if self._experiment is not None else self._users or self._active_run()
            self._client = client
        return self._client

    def _active_run(self) -> str:
        run = self._mlflow.active_run()
        if run is None:  # MLflow's own functions would start one here
            raise RuntimeError(
                "there is no active MLflow run: call mlflow.start_run() before the training begins, or give "
                "MlflowSink(run_id), or MlflowSink(experiment='...') for a run of the sink's own"
            )
        return str(run.info.run_id)

    def _make_run(self, client: Any) -> str:
        found = client.get_experiment_by_name(self._experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(self._experiment)
        return str(client.create_run(experiment_id).info.run_id)

    def _write_artifact(self) -> None:
        text = b"".join(line for _, line in self._lines).decode("ascii")
        self._client.log_text(self._run_id, text, ARTIFACT)
