"""All cells of a call, by whatever executor, shared with every other call that works on the same store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotunenet_bench.executors.base import (
    CellFailure,
    CellSpec,
    CellUpdate,
    Executor,
    Job,
    RunCell,
    UpdateSink,
)
from autotunenet_bench.executors.cell import run_bench_cell
from autotunenet_bench.executors.local import LocalExecutor

PAUSE_SECONDS = 0.5
"""Between two looks at runs that other processes do."""


def run_cells(
    specs: Sequence[CellSpec],
    *,
    root: Path,
    source: Any,
    num_workers: int,
    num_threads: int = 1,
    on_update: UpdateSink = lambda update: None,
    run_cell: RunCell = run_bench_cell,
    executor: Executor | None = None,
) -> list[CellFailure]:
    """Run cells in worker processes; return those that failed.

    An exception in a run fails that run: ``error.txt`` in its folder gets the traceback, its status the reason. What
    runs print lands in their ``output.txt``. A run that another process works on is waited for; should that process
    end, or be silent for too long, the run goes on here.

    Args:
        specs: What to run, started in this order.
        root: Folder of the results, as `ResultStore` takes it.
        source: Handed to `run_cell`; picklable.
        num_workers: Processes at a time.
        num_threads: For the numerical libraries of each worker. The default `run_cell` also sets torch's threads, from
            the spec.
        on_update: Called in this process whenever a run makes progress.
        run_cell: What to do with a spec; an importable function.
        executor: What to run them with; default: processes of this machine.

    Raises:
        KeyboardInterrupt: On Ctrl-C, after all workers have stopped and their runs were marked "interrupted".
        RuntimeError: If worker processes cannot start.
        ValueError: If `num_workers` or `num_threads` is less than 1.
    """
    job = Job(root=root.resolve(), source=source, num_workers=num_workers, num_threads=num_threads, run_cell=run_cell)
    executor = executor or LocalExecutor()
    failures: list[CellFailure] = []
    todo = specs
    while todo:
        left = executor.run(todo, job, on_update)
        others = _await_others(left.held, job.root, on_update)
        failures += [*left.failures, *others.failures]
        todo = others.again
    return failures


@dataclass(slots=True)
class _Others:
    """What has become of the cells that other processes had: those that have failed, and those to be run here."""

    failures: list[CellFailure] = field(default_factory=list)
    again: list[CellSpec] = field(default_factory=list)


def _await_others(specs: Sequence[CellSpec], root: Path, on_update: UpdateSink) -> _Others:
    """Wait until every cell has ended elsewhere, or one of them can be run here."""
    if not specs:
        return _Others()
    from autotunenet_bench.results.claims import Claims, Watch
    from autotunenet_bench.results.store import RunFolder

    others, watch = _Others(), Watch(Claims(root))
    waiting = list(specs)
    while waiting and not others.again:
        for spec in list(waiting):
            standing = watch.look(spec.run_id)
            if standing == "held":
                continue
            waiting.remove(spec)
            folder = RunFolder(root / spec.run_id)
            if folder.is_done():
                on_update(CellUpdate(spec.run_id, "done", spec.num_epochs, spec.num_epochs, "by another process"))
            elif standing == "released" and folder.status() == "failed":
                message = str(folder.details().get("error", "no reason was stored"))
                others.failures.append(CellFailure(spec.run_id, message))
                on_update(CellUpdate(spec.run_id, "failed", 0, spec.num_epochs, message))
            else:
                others.again.append(spec)
        if waiting and not others.again:
            time.sleep(PAUSE_SECONDS)
    others.again += waiting if others.again else []
    return others
