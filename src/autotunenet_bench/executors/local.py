"""Runs on the cores of this machine: a small supervised pool of worker processes.

A worker that dies takes nothing with it but its own run, which is tried once more from its checkpoint. (The pool of
`concurrent.futures` gives up every pending run when one worker dies.)
"""

from __future__ import annotations

import logging
import pickle
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from autotunenet.processes import Starter, describe_exit, end_processes, hear, interrupts, receive, refers_to_main
from autotunenet_bench.executors.base import (
    MAX_TRIES,
    CellFailure,
    CellSpec,
    CellState,
    CellUpdate,
    Job,
    Left,
    Limits,
    RunCell,
    UpdateSink,
    num_cores,
)
from autotunenet_bench.executors.cell import record_failure, record_interruption
from autotunenet_bench.executors.memory import can_measure, format_bytes, resident_bytes
from autotunenet_bench.executors.worker import THREAD_VARIABLES, Order, Report, worker_main

logger = logging.getLogger(__name__)

BENCH_MODULES = ("autotunenet_bench.results.store", "autotunenet_bench.runners", "torch._dynamo")
"""What runs of this package need, so that workers do not import it one by one; torch imports the last with the first
optimizer, which takes as long as torch itself."""

MAX_FAILED_STARTS = 3
GRACE_SECONDS = 2.0
LOOK_SECONDS = 0.5
"""How often time and memory of the runs are looked at, where they are limited."""


class LocalExecutor:
    """Worker processes on this machine.

    A run that takes longer than it may has failed; its checkpoint stays, so that the next call goes on with it. A
    worker that holds more memory than it may is killed, and its run tried once more, in a fresh process: some of the
    memory may have been that of runs before. Both are looked at from outside, twice a second: a limit that the system
    enforces (``RLIMIT_AS``) would count the address space, of which torch reserves many times what it uses.

    Args:
        limits: `gpus` has no meaning here: the processes share what there is.

    Raises:
        ValueError: If a limit is set that cannot be kept here: memory on a system without ``/proc``, or GPUs.
    """

    is_remote = False

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        if self._limits.gpus:
            raise ValueError("the local executor hands out no GPUs, its processes share them; take ray or slurm")
        if self._limits.memory_bytes is not None and not can_measure():
            raise ValueError("memory cannot be limited here: this system has no /proc that tells what a process holds")

    def default_workers(self, num_threads: int) -> int:
        """Return how many processes of so many threads the cores of this machine have room for, at least 1."""
        return max(1, num_cores() // num_threads)

    def run(self, specs: Sequence[CellSpec], job: Job, on_update: UpdateSink) -> Left:
        """Run every cell; see `autotunenet_bench.executors.base.Executor`.

        Raises:
            KeyboardInterrupt: On Ctrl-C, after all workers have stopped and their runs were marked "interrupted".
            RuntimeError: If worker processes cannot start.
        """
        starter = Starter(
            dict.fromkeys(THREAD_VARIABLES, str(job.num_threads)),
            preload=["autotunenet_bench.executors.worker", *(BENCH_MODULES if _is_ours(job.run_cell) else ())],
            needs_main=refers_to_main(job.run_cell, job.source, list(specs)),
        )
        with interrupts() as interrupted:
            return _Pool(starter, job, self._limits, on_update, interrupted).run(specs)

    def close(self) -> None:
        """Do nothing: no process outlives `run`."""


def _is_ours(run_cell: RunCell) -> bool:
    return (run_cell.__module__ or "").startswith("autotunenet_bench.")


@dataclass(slots=True)
class _Cell:
    spec: CellSpec
    epoch: int = 0
    num_tries: int = 0
    causes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Worker:
    """A process and what it is doing.

    Attributes:
        cell: None before it is ready, between runs, and after a failed one.
        began: When it was given the cell, by the monotonic clock.
        verdict: Why it was killed by us, if it was.
    """

    process: BaseProcess
    channel: Connection
    state: Literal["starting", "idle", "busy", "leaving"] = "starting"
    cell: _Cell | None = None
    began: float = 0.0
    verdict: str = ""


class _Pool:
    def __init__(
        self, starter: Starter, job: Job, limits: Limits, on_update: UpdateSink, interrupts: Connection
    ) -> None:
        self._starter = starter
        self._job = job
        self._limits = limits
        self._on_update = on_update
        self._interrupts = interrupts
        self._root: Path = job.root
        self._waiting: deque[_Cell] = deque()
        self._workers: list[_Worker] = []
        self._left = Left()
        self._num_failed_starts = 0
        self._look_seconds = LOOK_SECONDS if limits.timeout_seconds or limits.memory_bytes else None

    def run(self, specs: Sequence[CellSpec]) -> Left:
        """Run everything; no worker outlives this call."""
        self._waiting.extend(_Cell(spec) for spec in specs)
        try:
            while self._waiting or any(worker.cell for worker in self._workers):
                self._staff()
                self._assign()
                self._listen()
                self._enforce()
        except BaseException:
            self._stop()
            raise
        self._dismiss()
        return self._left

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _staff(self) -> None:
        """Start as many workers as there is work for."""
        num_busy = sum(worker.state == "busy" for worker in self._workers)
        num_useful = min(self._job.num_workers, num_busy + len(self._waiting))
        while sum(worker.state != "leaving" for worker in self._workers) < num_useful:
            job = self._job
            ours, theirs = self._starter.pipe()
            try:
                arguments = theirs, job.run_cell, job.root, job.source, job.num_threads
                process = self._starter.start(worker_main, arguments)
            finally:
                theirs.close()  # or we would never see the end of a worker that has died
            self._workers.append(_Worker(process, ours))

    def _assign(self) -> None:
        for worker in self._workers:
            if worker.state != "idle" or not self._waiting:
                continue
            cell = self._waiting.popleft()
            worker.cell, worker.state, worker.began = cell, "busy", time.monotonic()
            cell.num_tries += 1
            try:
                worker.channel.send(Order(pickle.dumps(cell.spec)))
            except OSError:  # it has died while idle: `_listen` will find it, and the run is tried again
                cell.num_tries -= 1
            self._tell(cell, "started", f"again: {cell.causes[-1]}" if cell.causes else "")

    def _listen(self) -> None:
        """Wait until something happens, and deal with it."""
        for worker, reports, has_ended in hear(self._workers, self._interrupts, self._look_seconds):
            for report in reports:
                self._handle(worker, report)
            if has_ended:
                self._bury(worker)

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
            worker.state = "leaving" if report.kind == "failed" else "idle"
            if report.kind == "done":
                self._tell(cell, "done")
            elif report.kind == "held":
                self._leave(cell, report.message)
            else:
                self._fail(cell, report.message, report.details)

    def _enforce(self) -> None:
        """Kill workers whose run takes more time or memory than it may."""
        limits = self._limits
        for worker in self._workers:
            if worker.cell is None or worker.verdict:
                continue
            if limits.timeout_seconds and time.monotonic() - worker.began > limits.timeout_seconds:
                worker.verdict = f"was ended after {limits.timeout_seconds:g} s, which is all that a run may take"
                cell, worker.cell, worker.state = worker.cell, None, "leaving"
                worker.process.kill()
                end_processes([worker.process], GRACE_SECONDS)  # or its claim would still stand
                self._fail(cell, f"the process {worker.verdict}; its checkpoint stays")
            elif limits.memory_bytes and (held := resident_bytes(worker.process.pid or 0)) > limits.memory_bytes:
                allowed = format_bytes(limits.memory_bytes)
                worker.verdict = f"was ended because it held {format_bytes(held)} of memory, of the {allowed} it may"
                worker.process.kill()

    # -- ends --------------------------------------------------------------------------------------------------------

    def _bury(self, worker: _Worker) -> None:
        """Take leave of a worker that has ended, and decide what becomes of its run."""
        worker.channel.close()
        end_processes([worker.process], GRACE_SECONDS)
        self._workers.remove(worker)
        how = worker.verdict or describe_exit(worker.process.exitcode)
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
        cell.causes.append(f"the process {how}")
        if self._is_done(cell):  # it died between its last act and telling so
            self._tell(cell, "done")
        elif cell.num_tries < MAX_TRIES:
            logger.info("%s: its process %s; trying again from the checkpoint", cell.spec.run_id, how)
            self._waiting.appendleft(cell)
        else:
            self._fail(cell, f"the process {how}, in {MAX_TRIES} tries out of {MAX_TRIES}")

    def _is_done(self, cell: _Cell) -> bool:
        from autotunenet_bench.results.store import RunFolder  # torch comes with it

        return RunFolder(self._root / cell.spec.run_id).is_done()

    def _fail(self, cell: _Cell, message: str, details: str = "") -> None:
        run_id = cell.spec.run_id
        if not record_failure(self._root, run_id, message, details=details, tries=cell.causes):
            self._leave(cell, "another process works on it")
            return
        self._left.failures.append(CellFailure(run_id, message))
        self._tell(cell, "failed", message)

    def _leave(self, cell: _Cell, message: str) -> None:
        self._left.held.append(cell.spec)
        self._tell(cell, "held", message)

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
            for report in receive(worker.channel)[0]:  # a run that has come to its end in time is not interrupted
                self._handle(worker, report)
            worker.channel.close()
            if worker.cell is not None:
                record_interruption(self._root, worker.cell.spec.run_id, worker.cell.epoch)

    def _tell(self, cell: _Cell, state: CellState, message: str = "") -> None:
        self._on_update(CellUpdate(cell.spec.run_id, state, cell.epoch, cell.spec.num_epochs, message))
