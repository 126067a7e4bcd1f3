"""The best training so far, for whoever waits."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from autotunenet_bench.config import RunSpec
from autotunenet_bench.config.hpo import Objective
from autotunenet_bench.executors import CellUpdate
from autotunenet_bench.hpo.trainings import outcome_of
from autotunenet_bench.results import ResultStore


class BestSoFar:
    """Looks at every point whose trainings have all ended, and says so when it is better than all before it.

    Args:
        objective: What is searched for.
        specs: All trainings that will run, or have run.
        store: Where they lie.
        on_best: Told in a few words.
    """

    def __init__(
        self, objective: Objective, specs: Iterable[RunSpec], store: ResultStore, on_best: Callable[[str], None]
    ) -> None:
        self._objective, self._store, self._on_best = objective, store, on_best
        self._best = math.nan
        groups: defaultdict[str, list[RunSpec]] = defaultdict(list)
        for spec in specs:
            groups[_without_seed(spec)].append(spec)
        self._points = {spec.run_id: group for group in groups.values() for spec in group}
        for group in groups.values():
            self._look_at(group)

    def update(self, update: CellUpdate) -> None:
        """Take note of progress; made to be the `on_update` of an executor."""
        if update.state == "done":
            self._look_at(self._points[update.run_id])

    def _look_at(self, group: list[RunSpec]) -> None:
        folders = [self._store.folder(spec) for spec in group]
        if not all(folder.is_done() for folder in folders):
            return
        value = float(outcome_of([folder.trace() for folder in folders], self._objective).value)
        is_better = value > self._best if self._objective.direction == "maximize" else value < self._best
        if math.isfinite(value) and (is_better or math.isnan(self._best)):
            self._best = value
            self._on_best(f"best {self._objective.title} {value:.4g}")


def _without_seed(spec: RunSpec) -> str:
    values: dict[str, Any] = spec.model_dump(mode="json", exclude={"seed"})
    return repr(values)
