"""What every executor speaks: the cells it is given, what they may use, the updates it sends, what it leaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

CellState = Literal["started", "epoch", "note", "held", "done", "failed"]

MAX_TRIES = 2
"""How often a cell is begun whose process dies under it."""


class ExecutorError(RuntimeError):
    """An executor cannot do what it is for; no fault of a cell."""


class CellSpec(Protocol):
    """What an executor needs of a run spec. It must also be picklable."""

    @property
    def run_id(self) -> str:
        """A file name that no other spec has."""
        ...

    @property
    def num_epochs(self) -> int:
        """Epochs from the start to the end of the run."""
        ...


@dataclass(frozen=True, slots=True)
class CellUpdate:
    """A run has made progress.

    Attributes:
        run_id: Which run.
        state: "started" comes again when a run is tried again; "note" brings a message and nothing else; "held" says
            that another process works on it, which is waited for; "done" also comes for a run that this one finished.
        epoch: The last finished one, 0 before the first.
        num_epochs: Epochs of the whole run.
        message: A few words for a person: the validation loss after an epoch, the error after a failure, why a run is
            tried again; may be empty.
    """

    run_id: str
    state: CellState
    epoch: int
    num_epochs: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class CellFailure:
    """A run that could not be finished. Its folder holds ``error.txt``.

    Attributes:
        run_id: Which run.
        message: The exception in one line, or how the process died.
    """

    run_id: str
    message: str


UpdateSink = Callable[[CellUpdate], None]
RunCell = Callable[[Any, Path, Any, Callable[[dict[str, Any]], None]], None]
"""``run_cell(spec, root, source, on_event)``: does one run, in a worker process. It must be picklable by reference.

It must be idempotent: executors call it again for a run that was cut off, and for one that is finished already.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one cell may use.

    Attributes:
        gpus: GPUs that a cell is given, a fraction where several share one; 0: none is asked for.
        timeout_seconds: How long one try of a cell may take; None: as long as it takes.
        memory_bytes: How much memory the process of a cell may hold; None: as much as there is.

    Raises:
        ValueError: If a number is out of its range.
    """

    gpus: float = 0.0
    timeout_seconds: float | None = None
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.gpus < float("inf"):
            raise ValueError(f"gpus = {self.gpus}, but must be a number of at least 0")
        for name in ("timeout_seconds", "memory_bytes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} = {value}, but must be a number above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all cells of one call share.

    Attributes:
        root: Folder of the results, as `ResultStore` takes it; absolute.
        source: Handed to `run_cell`; picklable.
        num_workers: Cells that run at a time.
        num_threads: For the numerical libraries of each. The usual `run_cell` also sets torch's threads, from the spec.
        run_cell: What to do with a spec.
    """

    root: Path
    source: Any
    num_workers: int
    num_threads: int
    run_cell: RunCell

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("num_workers", "num_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, but must be at least 1")


@dataclass(slots=True)
class Left:
    """What an executor leaves when every cell has ended.

    Attributes:
        failures: Cells that have failed.
        held: Cells that it found in the hands of other processes. It has not waited for them.
    """

    failures: list[CellFailure] = field(default_factory=list)
    held: list[CellSpec] = field(default_factory=list)


class Executor(Protocol):
    """Runs cells in processes, here or elsewhere.

    The store is the only truth: an executor knows nothing that is not in it, what it hands back only saves a look. So a
    cell may be run anywhere and twice, and a call that was killed is continued by the next one.
    """

    is_remote: bool
    """Whether its processes are on other machines, whose cores are not those of this one."""

    def default_workers(self, num_threads: int) -> int:
        """Return how many cells of so many threads it would run at a time."""
        ...

    def run(self, specs: Sequence[CellSpec], job: Job, on_update: UpdateSink) -> Left:
        """Run every cell once, or until it is known to fail.

        Raises:
            KeyboardInterrupt: On Ctrl-C, after all processes have stopped.
            RuntimeError: If processes cannot be started.
        """
        ...

    def close(self) -> None:
        """Let go of what it has started."""
        ...


def num_cores() -> int:
    """Return how many cores this process may run on, by its affinity where the system tells that.

    A share of CPU time that a container is held to (a cgroup quota) is not looked at.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
