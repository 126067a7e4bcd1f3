"""Runs on the cores of this machine: a small supervised pool of worker processes.

A worker that dies takes nothing with it but its own run, which is tried once more from its checkpoint. (The pool of
`concurrent.futures` gives up every pending run when one worker dies.)
"""

from __future__ import annotations

import logging
import pickle
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autotunenet.processes import Starter, describe_exit, end_processes, interrupts, refers_to_main
from autotunenet_bench.executors.base import CellFailure, CellSpec, CellState, CellUpdate, RunCell, UpdateSink
from autotunenet_bench.executors.worker import (
    OUTPUT_FILE,
    THREAD_VARIABLES,
    Order,
    Report,
    run_bench_cell,
    worker_main,
)

if TYPE_CHECKING:
    from autotunenet_bench.results.store import RunFolder

logger = logging.getLogger(__name__)

BENCH_MODULES = ("autotunenet_bench.results.store", "autotunenet_bench.runners", "torch._dynamo")
"""What runs of this package need, so that workers do not import it one by one; torch imports the last with the first
optimizer, which takes as long as torch itself."""

MAX_TRIES = 2
MAX_FAILED_STARTS = 3
GRACE_SECONDS = 2.0


def run_cells(
    specs: Sequence[CellSpec],
    *,
    root: Path,
    source: Any,
    num_workers: int,
    num_threads: int = 1,
    on_update: UpdateSink = lambda update: None,
    run_cell: RunCell = run_bench_cell,
) -> list[CellFailure]:
    """Run cells in worker processes; return those that failed.

    An exception in a run fails that run: ``error.txt`` in its folder gets the traceback, its status the reason. What
    runs print lands in their ``output.txt``.

    Args:
        specs: What to run, started in this order.
        root: Folder of the results, as `ResultStore` takes it.
        source: Handed to `run_cell`; picklable.
        num_workers: Processes at a time.
        num_threads: For the numerical libraries of each worker. The default `run_cell` also sets torch's threads, from
            the spec.
        on_update: Called in this process whenever a run makes progress.
        run_cell: What to do with a spec; an importable function.

    Raises:
        KeyboardInterrupt: On Ctrl-C, after all workers have stopped and their runs were marked "interrupted".
        RuntimeError: If worker processes cannot start.
        ValueError: If `num_workers` or `num_threads` is less than 1.
    """
    for name, value in (("num_workers", num_workers), ("num_threads", num_threads)):
        if value < 1:
            raise ValueError(f"{name} = {value}, but must be at least 1")
    if not specs:
        return []
    starter = Starter(
        dict.fromkeys(THREAD_VARIABLES, str(num_threads)),
        preload=["autotunenet_bench.executors.worker", *(BENCH_MODULES if _is_ours(run_cell) else ())],
        needs_main=refers_to_main(run_cell, source, list(specs)),
    )
    with interrupts() as interrupted:
        pool = _Pool(starter, (run_cell, root.resolve(), source, num_threads), num_workers, on_update, interrupted)
        return pool.run(specs)


def _is_ours(run_cell: RunCell) -> bool:
    return (run_cell.__module__ or "").startswith("autotunenet_bench.")


@dataclass(slots=True)
class _Cell:
    spec: CellSpec
    folder: RunFolder
    epoch: int = 0
    num_tries: int = 0
    note: str = ""


@dataclass(slots=True)
class _Worker:
    """A process and what it is doing: `cell` is None before it is ready, between runs, and after a failed one."""

    process: BaseProcess
    channel: Connection
    state: Literal["starting", "idle", "busy", "leaving"] = "starting"
    cell: _Cell | None = None


class _Pool:
    def __init__(
        self, starter: Starter, job: tuple[Any, ...], num_workers: int, on_update: UpdateSink, interrupts: Connection
    ) -> None:
        self._starter = starter
        self._job = job
        self._num_workers = num_workers
        self._on_update = on_update
        self._interrupts = interrupts
        self._root: Path = job[1]
        self._waiting: deque[_Cell] = deque()
        self._workers: list[_Worker] = []
        self._failures: list[CellFailure] = []
        self._num_failed_starts = 0

    def run(self, specs: Sequence[CellSpec]) -> list[CellFailure]:
        """Run everything; no worker outlives this call."""
        from autotunenet_bench.results.store import ResultStore  # torch comes with it

        store = ResultStore(self._root)
        self._waiting.extend(_Cell(spec, store.folder(spec)) for spec in specs)  # type: ignore[arg-type]
        try:
            while self._waiting or any(worker.cell for worker in self._workers):
                self._staff()
                self._assign()
                self._listen()
        except BaseException:
            self._stop()
            raise
        self._dismiss()
        return self._failures

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _staff(self) -> None:
        """Start as many workers as there is work for."""
        num_busy = sum(worker.state == "busy" for worker in self._workers)
        num_useful = min(self._num_workers, num_busy + len(self._waiting))
        while sum(worker.state != "leaving" for worker in self._workers) < num_useful:
            ours, theirs = self._starter.pipe()
            try:
                process = self._starter.start(worker_main, (theirs, *self._job))
            finally:
                theirs.close()  # or we would never see the end of a worker that has died
            self._workers.append(_Worker(process, ours))

    def _assign(self) -> None:
        for worker in self._workers:
            if worker.state != "idle" or not self._waiting:
                continue
            cell = self._waiting.popleft()
            (cell.folder.path / "error.txt").unlink(missing_ok=True)
            worker.cell, worker.state = cell, "busy"
            cell.num_tries += 1
            try:
                worker.channel.send(Order(pickle.dumps(cell.spec), cell.folder.path / OUTPUT_FILE))
            except OSError:  # it has died while idle: `_listen` will find it, and the run is tried again
                cell.num_tries -= 1
            self._tell(cell, "started", cell.note)

    def _listen(self) -> None:
        """Wait until something happens, and deal with it."""
        channels: list[Any] = [worker.channel for worker in self._workers]
        sentinels = [worker.process.sentinel for worker in self._workers]
        ready = connection.wait([*channels, *sentinels, self._interrupts])
        if self._interrupts in ready:
            raise KeyboardInterrupt
        for worker in list(self._workers):
            has_ended = worker.process.sentinel in ready  # looked at first: what it had sent before is still read
            if self._hear(worker) or has_ended:
                self._bury(worker)

    def _hear(self, worker: _Worker) -> bool:
        """Deal with all that a worker has sent; return whether its channel has ended."""
        try:
            while worker.channel.poll():
                self._handle(worker, worker.channel.recv())
        except (EOFError, OSError):
            return True
        return False

    def _handle(self, worker: _Worker, report: Report) -> None:
        cell = worker.cell
        if report.kind == "ready" or cell is None:
            worker.state = "idle"
            self._num_failed_starts = 0
        elif report.kind == "epoch":
            cell.epoch = report.epoch
            self._tell(cell, "epoch", report.message)
        elif report.kind == "note":
            self._tell(cell, "note", report.message)
        else:
            worker.cell = None
            worker.state = "idle" if report.kind == "done" else "leaving"
            if report.kind == "done":
                self._tell(cell, "done")
            else:
                self._fail(cell, report.message, report.details)

    # -- ends --------------------------------------------------------------------------------------------------------

    def _bury(self, worker: _Worker) -> None:
        """Take leave of a worker that has ended, and decide what becomes of its run."""
        worker.channel.close()
        end_processes([worker.process], GRACE_SECONDS)
        self._workers.remove(worker)
        how = describe_exit(worker.process.exitcode)
        worker.process.close()  # should only its fork server have died, it takes this for the end of its parent
        if worker.state == "starting":
            self._num_failed_starts += 1
            if self._num_failed_starts >= MAX_FAILED_STARTS:
                raise RuntimeError(
                    f"worker processes cannot start: {MAX_FAILED_STARTS} in a row failed before their first run, the "
                    f"last {how}; what they wrote to stderr tells why. A script that defines the run function or a "
                    'plug-in itself needs an `if __name__ == "__main__":` guard around the rest'
                )
        cell = worker.cell
        if cell is None:
            return
        if cell.folder.is_done():  # it died between its last act and telling so
            self._tell(cell, "done")
        elif cell.num_tries < MAX_TRIES:
            cell.note = f"again: the process {how}"
            logger.info("%s: its process %s; trying again from the checkpoint", cell.spec.run_id, how)
            self._waiting.appendleft(cell)
        else:
            self._fail(cell, f"the process {how}, in {MAX_TRIES} tries out of {MAX_TRIES}")

    def _fail(self, cell: _Cell, message: str, details: str = "") -> None:
        self._failures.append(CellFailure(cell.spec.run_id, message))
        output = cell.folder.path / OUTPUT_FILE
        try:
            text = details or f"{message}\n"
            if not details and output.exists():
                text += f"What it wrote last ({OUTPUT_FILE}):\n" + output.read_text("utf-8", "replace")[-10_000:]
            cell.folder.path.mkdir(parents=True, exist_ok=True)
            (cell.folder.path / "error.txt").write_text(text, encoding="utf-8")
            cell.folder.set_status("failed", error=message)
        except OSError as error:  # a full disk, perhaps; the caller still hears of the failure
            logger.warning("%s: its failure could not be written down (%s)", cell.spec.run_id, error)
        self._tell(cell, "failed", message)

    def _dismiss(self) -> None:
        """Let idle workers end by themselves."""
        for worker in self._workers:
            worker.channel.close()
        end_processes([worker.process for worker in self._workers], GRACE_SECONDS)

    def _stop(self) -> None:
        """End all workers now, and mark what they were doing "interrupted"."""
        for worker in self._workers:
            worker.process.terminate()
        end_processes([worker.process for worker in self._workers], GRACE_SECONDS)
        self._on_update = lambda update: None  # it may be what has failed
        for worker in self._workers:
            self._hear(worker)  # a run that has come to its end in time is not interrupted
            worker.channel.close()
            cell = worker.cell
            if cell is not None and not cell.folder.is_done():
                try:
                    cell.folder.path.mkdir(parents=True, exist_ok=True)
                    cell.folder.set_status("interrupted", epoch=cell.epoch)
                except OSError as error:  # a full disk must not hide why everything stops
                    logger.warning("%s: that it was interrupted was not written down (%s)", cell.spec.run_id, error)

    def _tell(self, cell: _Cell, state: CellState, message: str = "") -> None:
        self._on_update(CellUpdate(cell.spec.run_id, state, cell.epoch, cell.spec.num_epochs, message))
