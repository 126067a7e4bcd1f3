"""Runs as tasks of a Ray cluster: one that exists, or one of this machine for as long as it is needed."""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from autotunenet.optional import import_optional
from autotunenet.processes import interrupts, summarize, variables_set
from autotunenet_bench.executors.base import (
    CellFailure,
    CellSpec,
    ExecutorError,
    Job,
    Left,
    Limits,
    UpdateSink,
    num_cores,
)
from autotunenet_bench.executors.cell import CellEnd, record_failure, record_interruption
from autotunenet_bench.executors.following import Follower
from autotunenet_bench.executors.sending import Parcel, StoreNotSharedError, marked, run_parcel

MAX_RETRIES = 2
"""How often Ray begins a task anew whose process or node was lost."""

LOOK_SECONDS = 0.25
STOP_SECONDS = 5.0
CONNECT_SECONDS = 5.0
OBJECT_STORE_BYTES = 100_000_000
"""Of a cluster of our own. Cells hand back a few words; Ray takes no less than 80 MB."""

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Ray otherwise sends usage statistics to a server of its makers, and warns of a change to come."""


class ClusterNotFoundError(ExecutorError):
    """There is no cluster at the address."""


class RayExecutor:
    """Tasks of a Ray cluster, one a run, which Ray begins anew on another node when a process or a node is lost.

    The folder of the results must be the same on all nodes, under the same path; a node that does not see it ends the
    call. Progress is read in that folder. Where this process has begun Ray already, that cluster is used and left as it
    is.

    Args:
        limits: `gpus` and `memory_bytes` are what Ray reserves for a run; it is Ray's memory monitor that ends
            processes when a node runs out of it. A run that takes longer than `timeout_seconds` is ended and has
            failed; its checkpoint stays.
        address: Of a cluster, as `ray.init` takes it; None: one on this machine, with its cores, until `close`.

    Raises:
        ImportError: If Ray is not installed.
    """

    def __init__(self, limits: Limits | None = None, *, address: str | None = None) -> None:
        self._ray = import_optional("ray", "the executor ray", "ray")
        self._limits = limits or Limits()
        self._address = address
        self._is_ours = False

    @property
    def is_remote(self) -> bool:
        """Whether the cluster is one that exists, on whatever machines."""
        return self._address is not None

    def default_workers(self, num_threads: int) -> int:
        """Return how many runs of so many threads the cluster has CPUs for, at least 1.

        Raises:
            ClusterNotFoundError: If there is no cluster at the address.
        """
        if self._address is None and not self._ray.is_initialized():
            return max(1, num_cores() // num_threads)
        self._connect()
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)) // num_threads)

    def run(self, specs: Sequence[CellSpec], job: Job, on_update: UpdateSink) -> Left:
        """Run every cell; see `autotunenet_bench.executors.base.Executor`.

        Raises:
            StoreNotSharedError: If a node does not see the folder of the results.
            ClusterNotFoundError: If there is no cluster at the address.
            KeyboardInterrupt: On Ctrl-C, after all tasks were cancelled.
        """
        self._connect(num_cpus=job.num_workers * job.num_threads)
        with interrupts() as interrupted, marked(job.root) as marker:
            return _Tasks(self._ray, job, self._limits, marker, Follower(job.root, specs, on_update)).run(
                specs, interrupted
            )

    def close(self) -> None:
        """Leave the cluster, or end it if it was begun here."""
        if self._is_ours:
            self._ray.shutdown()
            self._is_ours = False

    def _connect(self, num_cpus: int = 1) -> None:
        if self._ray.is_initialized():
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        with variables_set(QUIET):
            if self._address is None:
                self._ray.init(
                    address="local",  # or it would look for a cluster, such as one that a killed process has left
                    num_cpus=max(num_cores(), num_cpus),
                    object_store_memory=OBJECT_STORE_BYTES,
                    include_dashboard=False,
                    **quiet,
                )
            else:
                _check_address(self._address)
                try:
                    self._ray.init(address=self._address, **quiet)
                except ConnectionError as error:
                    raise _not_found(self._address, error) from error
        self._is_ours = True


class _Tasks:
    """The tasks of one call."""

    def __init__(self, ray: Any, job: Job, limits: Limits, marker: Path, follower: Follower) -> None:
        self._ray = ray
        self._job = job
        self._limits = limits
        self._marker = marker
        self._follower = follower
        self._running: dict[Any, CellSpec] = {}
        self._left = Left()
        options: dict[str, Any] = {"num_cpus": job.num_threads, "max_retries": MAX_RETRIES}
        if limits.gpus:
            options["num_gpus"] = limits.gpus
        if limits.memory_bytes:
            options["memory"] = limits.memory_bytes
        self._task = ray.remote(**options)(run_parcel)

    def run(self, specs: Sequence[CellSpec], interrupted: Connection) -> Left:
        waiting = deque(specs)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self._job.num_workers:
                    self._submit(waiting.popleft())
                ended, _ = self._ray.wait(list(self._running), timeout=LOOK_SECONDS)
                if interrupted.poll():
                    raise KeyboardInterrupt
                self._follower.look([spec.run_id for spec in self._running.values()])
                for task in ended:
                    self._finish(self._running.pop(task), task)
                self._enforce()
        except BaseException:
            self._stop()
            raise
        return self._left

    def _submit(self, spec: CellSpec) -> None:
        task = self._task.options(name=spec.run_id).remote(Parcel.packed(self._job, spec, self._marker))
        self._running[task] = spec

    def _finish(self, spec: CellSpec, task: Any) -> None:
        try:
            end: CellEnd = self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:  # not the cell has raised it, which would be an end
            if isinstance(error.cause, StoreNotSharedError):
                raise error.cause from None
            self._fail(spec, summarize(error.cause), str(error))
            return
        except self._ray.exceptions.RayError as error:
            self._fail(spec, f"the process was lost, in {MAX_RETRIES + 1} tries ({summarize(error)})")
            return
        if end.state == "done":
            self._follower.tell(spec.run_id, "done")
        elif end.state == "held":
            self._leave(spec, end.message)
        else:
            self._fail(spec, end.message, end.details)

    def _enforce(self) -> None:
        """End tasks that take too long, and those that Ray would begin anew for ever, as it does without memory."""
        limit = self._limits.timeout_seconds
        for task, spec in list(self._running.items()):
            sight = self._follower.sight(spec.run_id)
            if limit and sight.began is not None and time.monotonic() - sight.began > limit:
                why = f"the process was ended after {limit:g} s, which is all that a run may take; its checkpoint stays"
            elif sight.num_tries > MAX_RETRIES + 1:
                why = f"the process was lost, in {sight.num_tries - 1} tries"
            else:
                continue
            del self._running[task]
            self._ray.cancel(task, force=True)
            self._await_release([spec])
            self._fail(spec, why)

    def _fail(self, spec: CellSpec, message: str, details: str = "") -> None:
        if not record_failure(self._job.root, spec.run_id, message, details=details):
            self._leave(spec, "another process works on it")
            return
        self._left.failures.append(CellFailure(spec.run_id, message))
        self._follower.tell(spec.run_id, "failed", message)

    def _leave(self, spec: CellSpec, message: str) -> None:
        self._left.held.append(spec)
        self._follower.tell(spec.run_id, "held", message)

    def _stop(self) -> None:
        """Cancel all tasks, and mark what they were doing "interrupted", where that can be done soon."""
        for task in self._running:
            self._ray.cancel(task, force=True)
        begun = [spec for spec in self._running.values() if self._follower.sight(spec.run_id).num_tries]
        self._await_release(begun)
        for spec in begun:
            record_interruption(self._job.root, spec.run_id, self._follower.sight(spec.run_id).epoch)

    def _await_release(self, specs: Sequence[CellSpec]) -> None:
        """Wait a little until the processes of cancelled tasks are gone; those of other machines cannot be seen."""
        from autotunenet_bench.results.claims import Claims

        claims, deadline = Claims(self._job.root), time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            active = claims.active()
            held = [active[spec.run_id] for spec in specs if spec.run_id in active]
            if all(claim.is_abandoned for claim in held):
                return
            time.sleep(0.05)


def _check_address(address: str) -> None:
    """Look whether anybody listens: Ray itself would try for five minutes, and fill the screen with warnings.

    Raises:
        ClusterNotFoundError: If nobody does.
    """
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():  # "auto", "ray://host:port": Ray knows what to do
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise _not_found(address, error) from error


def _not_found(address: str, error: Exception) -> ClusterNotFoundError:
    return ClusterNotFoundError(
        f"there is no Ray cluster at {address} ({summarize(error)}); `ray start --head` begins one and names its "
        "address, and without --address one is made on this machine"
    )
