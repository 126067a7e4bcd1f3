"""From the points of an offline search to ordinary runs, and from these back to what a search is told."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from autotunenet.files import locked
from autotunenet.hpo import Cost, Outcome
from autotunenet_bench.config import HpoConfig, RunSpec, expand
from autotunenet_bench.config.hpo import Objective
from autotunenet_bench.config.specs import run_id_of
from autotunenet_bench.data import DataSource
from autotunenet_bench.metrics.compute import total_flops
from autotunenet_bench.results import ResultStore, Trace
from autotunenet_bench.runners import run
from autotunenet_bench.tasks.base import Task
from autotunenet_bench.types import DataInfo, EventSink

NO_DATA_KEYS = ("lr", "momentum", "weight_decay", "optimizer", "label")
"""Keys of a task that its data do not depend on."""


class Points:
    """The runs of the points of a search.

    Args:
        config: What is searched.
        source: Where the data may come from.
        infos: What the data of tasks are, by `data_key`, as far as it is known; for others the data are read.
    """

    def __init__(self, config: HpoConfig, source: DataSource, infos: Mapping[str, DataInfo] | None = None) -> None:
        self.config = config
        self.infos = dict(infos or {})
        self._source = source

    def specs(self, params: Mapping[str, Any]) -> list[RunSpec]:
        """Return the runs of a point, one a training seed.

        Raises:
            ValidationError: If the point cannot be trained.
            DataError: If the data of its task cannot be had.
        """
        return [cell.resolve(self._info(cell.task)) for cell in expand(self.config.run_config(params))]

    def _info(self, task: Task) -> DataInfo:
        key = data_key(task)
        if key not in self.infos:
            _, self.infos[key] = task.load(self._source)
        return self.infos[key]


def data_key(task: Task) -> str:
    """Return what the data of a task depend on, as a text."""
    values = task.model_dump(mode="json")
    return json.dumps({key: value for key, value in values.items() if key not in NO_DATA_KEYS}, sort_keys=True)


def train(spec: RunSpec, store: ResultStore, source: DataSource, on_event: EventSink | None = None) -> Trace:
    """Return the run of a spec; it is trained unless it has been, by whoever: two never train the same at once.

    Raises:
        ValueError: As `autotunenet_bench.runners.run`.
    """
    folder = store.folder(spec)
    folder.path.mkdir(parents=True, exist_ok=True)
    with locked(folder.path, wait=True):
        if not folder.is_done():
            run(spec, source, folder, on_event)
    return folder.trace()


def outcome_of(traces: Sequence[Trace], objective: Objective) -> Outcome:
    """Return what a search is told of a point.

    The value is the mean over its runs of the objective after their last epoch; NaN, which makes the trial a failed
    one, where a run has diverged: its last validation loss or the objective is not finite. The cost is the sum over the
    runs of their steps, of the seconds that they trained and validated, and of their floating point operations.

    Args:
        traces: Finished runs of one point, one a training seed.
        objective: What is searched for.

    Raises:
        ValueError: If the task does not measure the objective.
    """
    lasts = [trace.epochs[-1].val for trace in traces]
    if any(objective.metric not in last for last in lasts):
        raise ValueError(f"the task measures {', '.join(lasts[0])}, no {objective.metric}; choose another objective")
    is_sound = all(math.isfinite(last["loss"]) and math.isfinite(last[objective.metric]) for last in lasts)
    metrics = {
        **means(lasts, "val_"),
        **means([trace.test for trace in traces], "test_"),
        "runs": [run_id_of(trace.spec) for trace in traces],
    }
    flops = math.fsum(map(total_flops, traces))
    cost = Cost(
        steps=sum(trace.epochs[-1].step for trace in traces),
        seconds=math.fsum(trace.wall_seconds for trace in traces),
        flops=flops if math.isfinite(flops) else None,
    )
    return Outcome(fmean(last[objective.metric] for last in lasts) if is_sound else math.nan, metrics, cost)


def means(rows: Iterable[Mapping[str, float]], prefix: str) -> dict[str, float]:
    """Return the mean of every key that all rows have.

    >>> means([{"loss": 1.0, "accuracy": 0.5}, {"loss": 2.0, "accuracy": 1.0}], "val_")
    {'val_loss': 1.5, 'val_accuracy': 0.75}
    """
    every = list(rows)
    shared = [key for key in every[0] if all(key in row for row in every)] if every else []
    return {f"{prefix}{key}": fmean(row[key] for row in every) for key in shared}
