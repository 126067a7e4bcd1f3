"""One search with one seed: what an executor runs, and how."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import ValidationError

from autotunenet.hpo import Budget, Outcome, RunningTrial, Search, TuneUpdate, tune
from autotunenet_bench.config import HpoConfig, RunSpec
from autotunenet_bench.data import DataSource
from autotunenet_bench.hpo.trainings import Points, outcome_of, train
from autotunenet_bench.protocol import PROTOCOL_VERSION
from autotunenet_bench.results import ResultStore, Trace
from autotunenet_bench.searches import SearchConfig
from autotunenet_bench.types import DataInfo, Event, EventSink


class TrainingFailedError(RuntimeError):
    """A point cannot be trained, or its training has failed before."""


FAULTS_OF_A_POINT = (RuntimeError, ArithmeticError, MemoryError)
"""What makes a trial a failed one. Anything else, such as a full disk, is no fault of the point and ends the search."""


@dataclass(frozen=True)
class SearchCell:
    """A search with a seed.

    Attributes:
        config: The config that asks for it.
        index: Which of its searches.
        seed: The search's.
        data: What the data of the first point of the space are.
        infos: What is known of the data of all tasks; see `Points`.
        failures: By run id, why trainings failed that were tried just before.
        unit: What a progress display counts.
    """

    config: HpoConfig
    index: int
    seed: int
    data: DataInfo
    infos: Mapping[str, DataInfo] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    unit: ClassVar[str] = "trial"

    @property
    def search(self) -> SearchConfig:
        """The search as the config says it."""
        return self.config.searches[self.index]

    @property
    def num_trials(self) -> int:
        """How many trials it gets; a finite space may have fewer points."""
        return self.search.trials_of(self.config.search_space(), self.config.num_trials)

    @property
    def num_epochs(self) -> int:
        """The trials, as an executor counts its progress."""
        return self.num_trials

    @property
    def labels(self) -> dict[str, str]:
        """What a progress display calls it."""
        return {"task": self.search.display}

    @cached_property
    def run_id(self) -> str:
        """A folder's name, of all that decides what is asked and told but the number of trials: there may be more."""
        search = self.search.model_dump(mode="json", exclude={"label", "num_trials"})
        keys = {"task", "regime", "controller", "num_epochs", "space", "objective", "training_seeds", "num_threads"}
        told = self.config.model_dump(mode="json", include={*keys, "compute"})
        plain = json.dumps([PROTOCOL_VERSION, search, self.seed, told, asdict(self.data)], sort_keys=True)
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", self.search.display)
        return f"{name}-s{self.seed}-{hashlib.sha256(plain.encode()).hexdigest()[:10]}"

    def build(self) -> Search:
        """Return the search, fresh."""
        return self.config.build_search(self.index, self.seed)


def known_points(config: HpoConfig, index: int, seed: int) -> list[dict[str, Any]]:
    """Return the points that a search asks for whatever it is told; empty for one that looks at results."""
    search = config.searches[index]
    if search.looks_at_results:
        return []
    built = config.build_search(index, seed)
    asked = [built.ask() for _ in range(search.trials_of(config.search_space(), config.num_trials))]
    return [dict(trial.params) for trial in asked if trial is not None]


def run_search_cell(cell: SearchCell, root: Path, source: DataSource, on_event: EventSink) -> None:
    """Do a search in a worker process, one trial at a time, or go on with it; for `autotunenet_bench.executors`.

    Args:
        cell: Which.
        root: The folder of the searches; the trainings lie in the one above.
        source: Where the data may come from.
        on_event: Told of every trial that has ended, as if it were an epoch, and of every epoch as a note.
    """
    torch.set_num_threads(cell.config.num_threads)
    objective = _Training(cell, root.parent, source, on_event)
    num_told = 0

    def on_update(update: TuneUpdate) -> None:
        nonlocal num_told
        objective.best = update.best.value if update.best else None
        if update.kind == "told":
            num_told = update.num_done + update.num_failed
            on_event({"event": "epoch", "epoch": num_told, "note": objective.told()})

    tune(
        objective,
        cell.config.search_space(),
        cell.build(),
        Budget(trials=cell.num_trials),
        folder=root / cell.run_id,
        on_update=on_update,
        catch=FAULTS_OF_A_POINT,
    )
    ResultStore(root).folder(cell).set_status("done")  # type: ignore[arg-type]


def run_training_cell(spec: RunSpec, root: Path, source: DataSource, on_event: EventSink) -> None:
    """Do a training in a worker process, as `autotunenet_bench.executors.cell.run_bench_cell`, and nobody's twice."""
    torch.set_num_threads(spec.num_threads)
    train(spec, ResultStore(root), source, on_event)


class _Training:
    """Trains a point, or reads what was trained before."""

    def __init__(self, cell: SearchCell, root: Path, source: DataSource, on_event: EventSink) -> None:
        self.best: float | None = None
        self._cell, self._source, self._on_event = cell, source, on_event
        self._points = Points(cell.config, source, cell.infos)
        self._store = ResultStore(root)

    def __call__(self, trial: RunningTrial) -> Outcome:
        try:
            specs = self._points.specs(trial.params)
        except ValidationError as error:
            problems = self._cell.config.point_problems(trial.params)
            raise TrainingFailedError("; ".join(map(str, problems))) from error
        traces = [self._train(spec, trial.params) for spec in specs]
        return outcome_of(traces, self._cell.config.goal)

    def told(self) -> str:
        """Return the best so far in words."""
        return "no result yet" if self.best is None else f"best {self.best:.4g}"

    def _train(self, spec: RunSpec, params: Mapping[str, Any]) -> Trace:
        if spec.run_id in self._cell.failures:
            raise TrainingFailedError(f"{spec.run_id}: {self._cell.failures[spec.run_id]}")

        def on_event(event: Event) -> None:
            if event["event"] == "epoch":
                far = f"{in_words(params)}, epoch {event['epoch']}/{spec.num_epochs}"
                self._on_event({"event": "note", "note": f"{self.told()}; trains {far}"})

        return train(spec, self._store, self._source, on_event)


def in_words(params: Mapping[str, Any]) -> str:
    """Return a point as people read it.

    >>> in_words({"task.lr": 2e-5, "num_epochs": 3})
    'lr 2e-05, num_epochs 3'
    """
    return ", ".join(
        f"{name.rpartition('.')[2]} {value:.4g}" if isinstance(value, float) else f"{name.rpartition('.')[2]} {value}"
        for name, value in params.items()
    )
