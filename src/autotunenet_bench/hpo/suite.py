"""A whole offline search, from its config to its report. The command line calls `run_hpo`, and so can your own code.

First the trainings that are known before any result: the points of searches that do not look at results, as many side
by side as there are workers. Then the searches, each with one trial at a time, as many searches side by side. So what a
search asks does not depend on the number of workers, and equal configs give equal trials.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from autotunenet.files import locked
from autotunenet_bench.config import Departure, HpoConfig, RunSpec
from autotunenet_bench.data import DataSource
from autotunenet_bench.executors import CellUpdate, run_cells
from autotunenet_bench.executors.base import CellSpec, num_cores
from autotunenet_bench.hpo.best import BestSoFar
from autotunenet_bench.hpo.cells import SearchCell, known_points, run_search_cell, run_training_cell
from autotunenet_bench.hpo.folder import (
    SEARCHES_FOLDER,
    HpoAbout,
    HpoFileError,
    SearchEntry,
    is_hpo_folder,
    write_about,
)
from autotunenet_bench.hpo.reporting import HpoResult, read_study, rebuild_hpo_report
from autotunenet_bench.hpo.trainings import Points, data_key
from autotunenet_bench.results import ResultStore, RunFolder
from autotunenet_bench.suite import check_compute, check_specs


@dataclass(frozen=True)
class HpoPlan:
    """What an offline search is about to do.

    Attributes:
        cells: Every search, once a seed.
        known: The trainings that are known before any result, in the order in which they are asked for.
        pending: Those of them that are not finished yet.
        num_resumed: How many of these go on from where they were interrupted.
        num_workers: Processes that share the work.
        num_threads: Threads of each of them.
    """

    cells: Sequence[SearchCell]
    known: Sequence[RunSpec]
    pending: Sequence[RunSpec]
    num_resumed: int
    num_workers: int
    num_threads: int

    @property
    def num_trials(self) -> int:
        """Trials of all searches."""
        return sum(cell.num_trials for cell in self.cells)

    @property
    def num_reused(self) -> int:
        """How many of the known trainings are finished already."""
        return len(self.known) - len(self.pending)

    @property
    def is_crowded(self) -> bool:
        """Whether the runs will have more threads than there are cores, and so wait for each other."""
        return self.num_workers * self.num_threads > num_cores()


@dataclass(frozen=True)
class Stage:
    """A part of the work that is about to begin, for a progress display.

    Attributes:
        name: "trainings" or "searches".
        specs: What will run.
        num_reused: How many are finished already.
        num_workers: Processes that share the work.
    """

    name: str
    specs: Sequence[CellSpec]
    num_reused: int
    num_workers: int


def run_hpo(
    config: HpoConfig,
    folder: Path,
    source: DataSource,
    *,
    name: str = "search",
    departure: Departure | None = None,
    num_workers: int | None = None,
    fresh: bool = False,
    on_plan: Callable[[HpoPlan], None] = lambda plan: None,
    on_stage: Callable[[Stage], None] = lambda stage: None,
    on_update: Callable[[CellUpdate], None] = lambda update: None,
    on_best: Callable[[str], None] = lambda words: None,
) -> HpoResult:
    """Do what a config asks for and is not finished yet, and write the report.

    Args:
        config: From `load_config`, or made in Python.
        folder: Where a folder a training, the searches, ``report.html`` and the files beside it go.
        source: Where data may come from.
        name: Heading of the report when the config has no title.
        departure: What a command line has put over the config, for the report to tell.
        num_workers: Processes; None: as many as the cores allow.
        fresh: Whether to throw the trainings and searches of this folder away and do them again.
        on_plan: Called once, before the first training starts.
        on_stage: Called before the trainings and before the searches.
        on_update: Called whenever a training or a search makes progress.
        on_best: Called with a few words whenever a training is better than all before it.

    Raises:
        DataError: If the data of a task cannot be had.
        ConfigError: If a regime or controller does not fit the length of a training.
        FolderInUseError: If another process is working in `folder`.
        OSError: If `folder` cannot be made, or the disk is full.
        KeyboardInterrupt: After the workers have stopped; what is finished is kept, and the rest goes on the next time.
    """
    check_compute(config.compute)
    points = Points(config, source)
    known = known_trainings(points)
    check_trainings(known or points.specs(config.first_point()), source)
    cells = make_cells(points)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if fresh:
            _clear(folder, known)
        plan = make_plan(cells, known, ResultStore(folder), num_workers)
        on_plan(plan)
        write_about(folder, _about(config, plan, name, departure))
        best = BestSoFar(config.goal, known, ResultStore(folder), on_best)

        def on_training(update: CellUpdate) -> None:
            on_update(update)
            best.update(update)

        workers: dict[str, Any] = {"num_workers": plan.num_workers, "num_threads": plan.num_threads}
        on_stage(Stage("trainings", plan.pending, plan.num_reused, plan.num_workers))
        failed = run_cells(
            plan.pending, root=folder, source=source, on_update=on_training, run_cell=run_training_cell, **workers
        )
        failures = {failure.run_id: failure.message for failure in failed}
        searches = [replace(cell, failures=failures) for cell in plan.cells]
        on_stage(Stage("searches", searches, 0, plan.num_workers))
        root = folder / SEARCHES_FOLDER
        failed += run_cells(
            searches, root=root, source=source, on_update=on_update, run_cell=run_search_cell, **workers
        )
        return rebuild_hpo_report(folder, {failure.run_id: failure.message for failure in failed})


def check_hpo(config: HpoConfig, source: DataSource) -> None:
    """Check all that can be checked of a config before anything runs, its data included.

    Raises:
        DataError: If the data of a task cannot be had.
        ConfigError: If a regime or controller does not fit the length of a training, or there is no such device here.
    """
    check_compute(config.compute)
    points = Points(config, source)
    check_trainings(known_trainings(points) or points.specs(config.first_point()), source)


def known_trainings(points: Points) -> list[RunSpec]:
    """Return the runs that are known before any result, each once.

    Raises:
        DataError: If the data of a task cannot be had.
    """
    asked = [params for index, seed in _searches(points.config) for params in known_points(points.config, index, seed)]
    specs = {spec.run_id: spec for params in asked for spec in points.specs(params)}
    return list(specs.values())


def make_cells(points: Points) -> list[SearchCell]:
    """Return every search, once a seed, in the config's order, with what `points` knows of the data."""
    data = points.specs(points.config.first_point())[0].data
    return [SearchCell(points.config, index, seed, data, points.infos) for index, seed in _searches(points.config)]


def make_plan(
    cells: Sequence[SearchCell], known: Sequence[RunSpec], store: ResultStore, num_workers: int | None = None
) -> HpoPlan:
    """Return what is left to do, and by how many processes."""
    pending = [spec for spec in known if not store.folder(spec).is_done()]
    num_resumed = sum(store.folder(spec).status() in ("running", "interrupted") for spec in pending)
    threads = cells[0].config.num_threads
    workers = num_workers or max(1, num_cores() // threads)
    return HpoPlan(cells, known, pending, num_resumed, max(1, min(workers, max(len(pending), len(cells)))), threads)


def check_trainings(specs: Iterable[RunSpec], source: DataSource) -> None:
    """Build every regime and controller once, with the data of one task at a time.

    Raises:
        ConfigError: If one does not fit the length of a run, or one does not fit the other.
    """
    groups: defaultdict[str, list[RunSpec]] = defaultdict(list)
    for spec in specs:
        groups[data_key(spec.task)].append(spec)
    for group in groups.values():
        data, _ = group[0].task.load(source)
        check_specs(group, {spec.task.display: data for spec in group})


def _searches(config: HpoConfig) -> list[tuple[int, int]]:
    return [(index, seed) for index in range(len(config.searches)) for seed in config.seeds]


def _about(config: HpoConfig, plan: HpoPlan, name: str, departure: Departure | None) -> HpoAbout:
    return HpoAbout(
        name=name,
        title=config.title or name,
        description=config.description or "",
        config=config.as_written(),
        searches=tuple(
            SearchEntry(
                id=cell.run_id,
                index=cell.index,
                label=cell.search.display,
                seed=cell.seed,
                num_trials=cell.num_trials,
                looks_at_results=cell.search.looks_at_results,
                packages={name: version(name) for name in cell.search.packages},
            )
            for cell in plan.cells
        ),
        departure=departure or Departure(),
    )


def _clear(folder: Path, known: Sequence[RunSpec]) -> None:
    """Remove the searches of a folder, the trainings that they asked for, and those that are known to come."""
    try:
        asked = set(read_study(folder).traces) if is_hpo_folder(folder) else set()
    except HpoFileError:  # what cannot be read names no trainings
        asked = set()
    for run_id in asked | {spec.run_id for spec in known}:
        RunFolder(folder / run_id).clear()
    if (folder / SEARCHES_FOLDER).exists():
        shutil.rmtree(folder / SEARCHES_FOLDER)
