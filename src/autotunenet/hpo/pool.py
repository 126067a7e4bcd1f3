"""Worker processes that share a journal: started, replaced when they die, and stopped."""

from __future__ import annotations

import logging
import pickle
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from autotunenet.hpo.journal import Journal
from autotunenet.hpo.trial import TrialState
from autotunenet.hpo.worker import Job, Report, worker_main
from autotunenet.processes import Starter, describe_exit, end_processes, hear, interrupts, refers_to_main

logger = logging.getLogger(__name__)

MAX_FAILED_STARTS = 3
GRACE_SECONDS = 2.0
LOOK_SECONDS = 1.0
"""How often the journal is looked into for what others than these workers have done."""


class WorkerTraceback(Exception):  # noqa: N818 - it is no error of its own, but what an error of a worker comes from
    """The traceback of a worker, which an exception loses on its way to the parent."""


@dataclass(slots=True)
class _Worker:
    """A process; `has_started` once it has asked for work, whether there was any or not."""

    name: str
    process: BaseProcess
    channel: Connection
    has_started: bool = False


class Pool:
    """Runs the trials of one journal in worker processes.

    Every worker claims trials from the journal by itself; the pool hands out nothing.

    Args:
        job: What the workers are given.
        num_workers: Processes at a time.

    Raises:
        TypeError: If the job cannot be handed to another process.
    """

    def __init__(self, job: Job, num_workers: int) -> None:
        self._pickled_job, needs_main = _pickle(job)
        self._starter = Starter({}, preload=["autotunenet.hpo.worker"], needs_main=needs_main)
        self._budget = job.budget
        self._num_workers = min(num_workers, job.budget.trials or num_workers)
        self._workers: list[_Worker] = []
        self._names: set[str] = set()
        self._num_failed_starts = 0
        self._is_over = False

    def run(self, journal: Journal, on_change: Callable[[], None]) -> None:
        """Run until nothing is left to do; no worker outlives this call.

        Args:
            journal: Of the job's folder; not of a worker.
            on_change: Called when the journal may have changed.

        Raises:
            BaseException: What an objective raised that was not to be caught, and Ctrl-C, after all workers have
                stopped and what they had not finished was given back.
            RuntimeError: If worker processes cannot start.
        """
        trials = journal.search.trials
        is_pending = any(trial.state is TrialState.PENDING for trial in trials)
        self._is_over = not is_pending and not self._budget.may_start(trials)
        with interrupts() as interrupted:
            try:
                while self._workers or not self._is_over:
                    self._staff(journal.folder)
                    self._listen(interrupted)
                    journal.refresh()
                    on_change()
            except BaseException:
                self._stop()
                journal.give_back(self._names)
                raise

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _staff(self, folder: Path) -> None:
        while not self._is_over and len(self._workers) < self._num_workers:
            name = uuid.uuid4().hex
            self._names.add(name)
            ours, theirs = self._starter.pipe()
            try:
                process = self._starter.start(worker_main, (theirs, self._pickled_job, folder, name))
            finally:
                theirs.close()  # or we would never see the end of a worker that has died
            self._workers.append(_Worker(name, process, ours))

    def _listen(self, interrupted: Connection) -> None:
        """Wait until something happens, and deal with it."""
        for worker, reports, has_ended in hear(self._workers, interrupted, LOOK_SECONDS):
            for report in reports:
                self._handle(worker, report)
            if has_ended:
                self._bury(worker)

    def _handle(self, worker: _Worker, report: Report) -> None:
        if report.kind == "failed":
            raise pickle.loads(report.error) from WorkerTraceback(f"\n{report.details}")
        worker.has_started = True
        self._num_failed_starts = 0
        self._is_over |= report.kind == "over"

    # -- ends --------------------------------------------------------------------------------------------------------

    def _bury(self, worker: _Worker) -> None:
        """Take leave of a worker that has ended; what it left unfinished, the others find in the journal."""
        worker.channel.close()
        end_processes([worker.process], GRACE_SECONDS)
        self._workers.remove(worker)
        how = describe_exit(worker.process.exitcode)
        worker.process.close()  # should only its fork server have died, it takes this for the end of its parent
        if self._is_over:
            return
        logger.info("a worker %s; another one takes its place", how)
        if not worker.has_started:
            self._num_failed_starts += 1
            if self._num_failed_starts >= MAX_FAILED_STARTS:
                raise RuntimeError(
                    f"worker processes cannot start: {MAX_FAILED_STARTS} in a row failed before their first trial, the "
                    f"last {how}; what they wrote to stderr tells why. A script that defines the objective itself "
                    'needs an `if __name__ == "__main__":` guard around the rest'
                )

    def _stop(self) -> None:
        """End all workers now."""
        for worker in self._workers:
            worker.process.terminate()
        end_processes([worker.process for worker in self._workers], GRACE_SECONDS)
        for worker in self._workers:
            worker.channel.close()


def _pickle(job: Job) -> tuple[bytes, bool]:
    """Return the pickled job, and whether it can only be loaded where the caller's main module is.

    Raises:
        TypeError: If it cannot be loaded elsewhere.
    """
    advice = "with num_workers > 1 it must be found in a module: define it there, at the top level"
    for name, value in (("objective", job.objective), ("search", job.search), ("catch", job.catch)):
        try:
            needs_main = refers_to_main(value)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(f"{name} = {value!r} cannot be handed to another process ({error}); {advice}") from error
        if needs_main and not hasattr(sys.modules["__main__"], "__file__"):
            raise TypeError(f"{name} = {value!r} is of an interactive session, which no other process has; {advice}")
    return pickle.dumps(job), refers_to_main(job)
