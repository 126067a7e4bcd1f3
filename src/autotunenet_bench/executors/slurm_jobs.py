"""Runs as jobs of Slurm, by Submitit; or as processes of this machine in the same way, to try it."""

from __future__ import annotations

import logging
import math
import re
import shutil
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from autotunenet.optional import import_optional
from autotunenet.processes import interrupts, summarize
from autotunenet_bench.executors.base import (
    MAX_TRIES,
    CellFailure,
    CellSpec,
    Job,
    Left,
    Limits,
    UpdateSink,
)
from autotunenet_bench.executors.cell import CellEnd, record_failure, record_interruption
from autotunenet_bench.executors.following import Follower
from autotunenet_bench.executors.sending import Parcel, StoreNotSharedError, marked, run_parcel
from autotunenet_bench.types import Event

logger = logging.getLogger(__name__)

JOBS_FOLDER = ".jobs"
"""What Submitit writes: scripts, pickled cells, and what jobs print before and after their cell."""

DEFAULT_WORKERS = 64
DEFAULT_TIMEOUT_SECONDS = 24 * 3600.0
"""Slurm wants to know how long a job may take."""

LOOK_SECONDS = 0.5
RESULT_SECONDS = 5.0
"""How long the result of a job that has ended may take to come through a network file system."""


class SlurmExecutor:
    """Jobs of Slurm, one a run, as a job array of which so many run at a time.

    Account, partition and the like are those that ``sbatch`` reads in the environment: ``SBATCH_ACCOUNT``,
    ``SBATCH_PARTITION``, ... A job that is preempted, or reaches its time limit, is queued again and goes on from the
    checkpoint of its run; a job that has died is submitted once more.

    Args:
        limits: What Slurm gives a job; `timeout_seconds` is the limit of one job, after which it is queued again, at
            most `max_requeues` times; None: a day. GPUs are whole here.
        address: "slurm"; or "local": processes of this machine, begun and requeued as Slurm would.
        max_requeues: How often a job may reach its time limit.

    Raises:
        ImportError: If Submitit is not installed.
        ValueError: If a part of a GPU is asked for, or there is no such address.
    """

    def __init__(self, limits: Limits | None = None, *, address: str = "slurm", max_requeues: int = 3) -> None:
        self._submitit = import_optional("submitit", "the executor slurm", "slurm")
        self._limits = limits or Limits()
        self._address = address
        self._max_requeues = max_requeues
        if self._limits.gpus != int(self._limits.gpus):
            raise ValueError(f"gpus = {self._limits.gpus}, but Slurm gives whole ones; Ray can share them")
        if address not in ("slurm", "local"):
            raise ValueError(f'there is no {address!r} for Slurm jobs to go to; write "slurm" or "local"')

    @property
    def is_remote(self) -> bool:
        """Whether the jobs go to a cluster."""
        return self._address == "slurm"

    def default_workers(self, num_threads: int) -> int:
        """Return how many jobs run at a time: Slurm decides, within `DEFAULT_WORKERS`; one, if they run here."""
        return DEFAULT_WORKERS if self.is_remote else 1

    def run(self, specs: Sequence[CellSpec], job: Job, on_update: UpdateSink) -> Left:
        """Run every cell; see `autotunenet_bench.executors.base.Executor`.

        Raises:
            RuntimeError: If there is no Slurm here.
            StoreNotSharedError: If a node does not see the folder of the results.
            KeyboardInterrupt: On Ctrl-C, after all jobs were cancelled.
        """
        with interrupts() as interrupted, marked(job.root) as marker:
            follower = Follower(job.root, specs, on_update)
            jobs = _Jobs(
                self._submitit,
                self._scheduler(job),
                job,
                marker=marker,
                follower=follower,
                queues_by_itself=self.is_remote,
            )
            left = jobs.run(specs, interrupted)
        if not left.failures:  # else what the jobs have printed may tell more
            shutil.rmtree(job.root / JOBS_FOLDER, ignore_errors=True)
        return left

    def close(self) -> None:
        """Do nothing: no job outlives `run`."""

    def _scheduler(self, job: Job) -> Any:
        scheduler = self._submitit.AutoExecutor(
            folder=job.root / JOBS_FOLDER,
            cluster=self._address,
            **{f"{self._address}_max_num_timeout": self._max_requeues},
        )
        seconds = self._limits.timeout_seconds or DEFAULT_TIMEOUT_SECONDS
        scheduler.update_parameters(
            name="autotunenet",
            timeout_min=math.ceil(seconds / 60),
            cpus_per_task=job.num_threads,
            stderr_to_stdout=True,
        )
        if self._limits.gpus:
            scheduler.update_parameters(gpus_per_node=int(self._limits.gpus))
        if self._limits.memory_bytes:
            scheduler.update_parameters(mem_gb=self._limits.memory_bytes / 2**30)
        if self.is_remote:
            scheduler.update_parameters(slurm_array_parallelism=job.num_workers)
        return scheduler


class ResumableCell:
    """What a job does. Submitit asks for its `checkpoint` when the job is to end, queues that again, and exits."""

    def __init__(self) -> None:
        self._is_stopped = False

    def __call__(self, parcel: Parcel) -> CellEnd:
        """Run the cell, from its checkpoint if it has one.

        Raises:
            SystemExit: If the job is to end, and is queued again.
        """
        try:
            return run_parcel(parcel, is_stopped=lambda: self._is_stopped, on_event=self._end_if_stopped)
        except BaseException:
            self._end_if_stopped({})
            raise

    def checkpoint(self, parcel: Parcel) -> Any:
        """Return what goes on in a new job: the same, since the run keeps its own checkpoint after every epoch."""
        from submitit.helpers import DelayedSubmission

        self._is_stopped = True
        return DelayedSubmission(ResumableCell(), parcel)

    def _end_if_stopped(self, event: Event) -> None:
        """End the process after `checkpoint`.

        Submitit does so itself, at an arbitrary line: its exit is lost in code that lets no exception out, and another
        exception takes its place where a file is half written.
        """
        from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

        if self._is_stopped:
            raise SystemExit(LOCAL_REQUEUE_RETURN_CODE)  # Slurm, which has its order to requeue already, takes any


class _Jobs:
    """The jobs of one call."""

    def __init__(
        self, submitit: Any, scheduler: Any, job: Job, *, marker: Path, follower: Follower, queues_by_itself: bool
    ) -> None:
        self._submitit = submitit
        self._scheduler = scheduler
        self._job = job
        self._marker = marker
        self._follower = follower
        self._queues_by_itself = queues_by_itself
        self._waiting: deque[CellSpec] = deque()
        self._running: list[tuple[CellSpec, Any]] = []
        self._ended: dict[str, float] = {}
        self._causes: dict[str, list[str]] = {}
        self._left = Left()

    def run(self, specs: Sequence[CellSpec], interrupted: Connection) -> Left:
        self._waiting.extend(specs)
        try:
            while self._waiting or self._running:
                self._submit()
                if interrupted.poll(LOOK_SECONDS):
                    raise KeyboardInterrupt
                self._follower.look([spec.run_id for spec, _ in self._running])
                for one in [one for one in self._running if self._has_ended(one[1])]:
                    self._running.remove(one)
                    self._finish(*one)
        except BaseException:
            self._stop()
            raise
        return self._left

    def _submit(self) -> None:
        """Submit all that wait, as an array; where nothing queues them, no more than may run."""
        num_free = len(self._waiting) if self._queues_by_itself else self._job.num_workers - len(self._running)
        batch = [self._waiting.popleft() for _ in range(min(num_free, len(self._waiting)))]
        if batch:
            parcels = [Parcel.packed(self._job, spec, self._marker) for spec in batch]
            self._running += zip(batch, self._scheduler.map_array(ResumableCell(), parcels), strict=True)

    def _has_ended(self, submitted: Any) -> bool:
        """Return whether a job is over and its result is here, or will not come any more."""
        if not submitted.done():
            return False
        since = self._ended.setdefault(submitted.job_id, time.monotonic())
        return submitted.paths.result_pickle.exists() or time.monotonic() - since > RESULT_SECONDS

    def _finish(self, spec: CellSpec, submitted: Any) -> None:
        if not submitted.paths.result_pickle.exists():  # Submitit would wait for it, and everything with it
            self._try_again(spec, f"the job {submitted.job_id} ended without a result ({submitted.state})")
            return
        try:
            end: CellEnd = submitted.result()
        except self._submitit.core.utils.FailedJobError as error:  # an error that is not the cell's
            if told := re.search(rf"{StoreNotSharedError.__name__}: (.*)", str(error)):
                raise StoreNotSharedError(told[1]) from None
            self._fail(spec, f"the job failed ({summarize(error)})", str(error))
        else:
            if end.state == "done":
                self._follower.tell(spec.run_id, "done")
            elif end.state == "held":
                self._leave(spec, end.message)
            else:
                self._fail(spec, end.message, end.details)

    def _try_again(self, spec: CellSpec, why: str) -> None:
        causes = self._causes.setdefault(spec.run_id, [])
        causes.append(why)
        if len(causes) < MAX_TRIES:
            logger.info("%s: %s; trying again from the checkpoint", spec.run_id, why)
            self._waiting.appendleft(spec)
        else:
            self._fail(spec, f"{why}, in {MAX_TRIES} tries out of {MAX_TRIES}")

    def _fail(self, spec: CellSpec, message: str, details: str = "") -> None:
        tries = self._causes.get(spec.run_id, ())
        if not record_failure(self._job.root, spec.run_id, message, details=details, tries=tries):
            self._leave(spec, "another process works on it")
            return
        self._left.failures.append(CellFailure(spec.run_id, message))
        self._follower.tell(spec.run_id, "failed", message)

    def _leave(self, spec: CellSpec, message: str) -> None:
        self._left.held.append(spec)
        self._follower.tell(spec.run_id, "held", message)

    def _stop(self) -> None:
        """Cancel all jobs, and mark what they were doing "interrupted", where that can be done at once."""
        for _, submitted in self._running:
            submitted.cancel(check=False)
        time.sleep(LOOK_SECONDS)
        for spec, _ in self._running:
            if self._follower.sight(spec.run_id).num_tries:
                record_interruption(self._job.root, spec.run_id, self._follower.sight(spec.run_id).epoch)
