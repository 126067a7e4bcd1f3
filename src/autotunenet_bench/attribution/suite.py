"""The whole suite, from its plan to its files. The command line calls `run_attribution`, and so can your own code."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from autotunenet.files import locked
from autotunenet_bench.attribution.report import write_files
from autotunenet_bench.attribution.tasks import SUITE_TASKS
from autotunenet_bench.attribution.trajectory import Row, TrajectorySpec, can_replay, run_trajectory
from autotunenet_bench.data import DataSource
from autotunenet_bench.executors import CellFailure, CellUpdate, run_cells
from autotunenet_bench.types import EventSink

OPTIMIZERS = ("sgd", "adam", "adamw")

NUM_STEPS = {"mnist_cnn": 400}
_USUAL_STEPS = 600

_ROWS_FILE = "rows.jsonl"
_RUNS_FOLDER = "trajectories"


class PlanError(ValueError):
    """What was asked for cannot be run."""


@dataclass(frozen=True)
class AttributionResult:
    """What the suite came to.

    Attributes:
        folder: Where its files lie.
        rows: A row a case and one a trajectory, in the order of the plan.
        page: The summary, in Markdown.
        failures: Trajectories that could not be finished; their cases are missing.
    """

    folder: Path
    rows: Sequence[Row]
    page: str
    failures: Sequence[CellFailure]


def plan(
    *,
    tasks: Sequence[str] = tuple(SUITE_TASKS),
    optimizers: Sequence[str] = OPTIMIZERS,
    num_seeds: int = 2,
    launch: bool = False,
    replay: bool = False,
) -> list[TrajectorySpec]:
    """Return the trajectories of a suite, the long ones first.

    Args:
        tasks: Names in `SUITE_TASKS`.
        optimizers: Of `OPTIMIZERS`.
        num_seeds: Seeds of every task and optimizer, at least 1: 0, 1, ...; the MNIST network, which takes longest,
            gets half of them, rounded up.
        launch: Whether the tuner finds its own lr.
        replay: Whether the tuner may train on stored batches again.

    Raises:
        PlanError: If a name is not known, or this tuner cannot replay.

    >>> len(plan(tasks=["digits_mlp", "mnist_cnn"], num_seeds=2))
    9
    """
    for kind, names, known in (("task", tasks, tuple(SUITE_TASKS)), ("optimizer", optimizers, OPTIMIZERS)):
        if unknown := [name for name in names if name not in known]:
            raise PlanError(f"there is no {kind} {', '.join(unknown)} in this suite; it has {', '.join(known)}")
    if num_seeds < 1:
        raise PlanError(f"a suite needs at least 1 seed, got {num_seeds}")
    if replay and not can_replay():
        raise PlanError("this tuner takes no `replay`; leave the option out, or install a version that has it")
    specs = [
        TrajectorySpec(task, optimizer, seed, NUM_STEPS.get(task, _USUAL_STEPS), launch=launch, replay=replay)
        for task in tasks
        for seed in range((num_seeds + 1) // 2 if task == "mnist_cnn" else num_seeds)
        for optimizer in optimizers
    ]
    return sorted(specs, key=lambda spec: spec.task != "mnist_cnn")


def run_attribution(
    specs: Sequence[TrajectorySpec],
    folder: Path,
    source: DataSource,
    *,
    num_workers: int = 1,
    on_update: Callable[[CellUpdate], None] = lambda update: None,
) -> AttributionResult:
    """Run all trajectories and write ``cases.jsonl``, ``summary.csv`` and ``summary.md``.

    Args:
        specs: As from `plan`.
        folder: Where the files go; those of a suite before are replaced.
        source: Where data may come from.
        num_workers: Processes, at least 1.
        on_update: Called whenever a trajectory makes progress.

    Raises:
        DataError: If the data of a task cannot be had.
        FolderInUseError: If another process is working in `folder`.
        OSError: If something cannot be written.
        KeyboardInterrupt: After the workers have stopped; nothing is kept of it.
    """
    for task in {spec.task: spec.build_task() for spec in specs}.values():
        task.load(source)  # here and not in a worker, so that missing data stop the suite before its first run
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        root = folder / _RUNS_FOLDER
        for spec in specs:
            (root / spec.run_id / _ROWS_FILE).unlink(missing_ok=True)
        failures = run_cells(
            specs, root=root, source=source, num_workers=num_workers, on_update=on_update, run_cell=run_trajectory_cell
        )
        rows = [row for spec in specs for row in _read(root / spec.run_id / _ROWS_FILE)]
        return AttributionResult(folder, rows, write_files(rows, folder, _about(specs)), failures)


def run_trajectory_cell(spec: TrajectorySpec, root: Path, source: DataSource, on_event: EventSink) -> None:
    """Run one trajectory in a worker process, and write its rows where `run_attribution` looks for them."""
    torch.set_num_threads(1)
    num_done = 0

    def on_case() -> None:
        nonlocal num_done
        num_done += 1
        on_event({"event": "epoch", "epoch": num_done})

    data, _ = spec.build_task().load(source)
    path = root / spec.run_id / _ROWS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in run_trajectory(spec, data, on_case))
    path.write_text(text, encoding="utf-8")


def _read(path: Path) -> list[Row]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def _about(specs: Sequence[TrajectorySpec]) -> str:
    tasks, optimizers = (list(dict.fromkeys(getattr(spec, key) for spec in specs)) for key in ("task", "optimizer"))
    flags = [name for name in ("launch", "replay") if specs and getattr(specs[0], name)]
    num_cases = sum(len(spec.faults) for spec in specs)
    return (
        f"{len(specs)} trainings ({', '.join(tasks)}; {', '.join(optimizers)}), {num_cases} cases, each an event of "
        f"known cause in a copy of a training{''.join(f', with {flag}' for flag in flags)}."
    )
