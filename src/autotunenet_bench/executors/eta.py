"""How far a suite is and how long it will still take: counting and arithmetic, without a clock and without a screen."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from autotunenet_bench.executors.base import CellSpec, CellUpdate


def makespan(running: Sequence[float], waiting: Iterable[float], num_workers: int) -> float:
    """Return the seconds until all is done when each free worker takes the next cell.

    Args:
        running: Seconds that each running cell still needs.
        waiting: Seconds that each waiting cell will need, in the order in which they start.
        num_workers: Cells that run at a time.

    >>> makespan([5.0, 20.0], [10.0, 10.0], num_workers=2)
    25.0
    >>> makespan([], [], num_workers=2)
    0.0
    """
    busy_until = [*running, *[0.0] * (num_workers - len(running))]
    heapq.heapify(busy_until)
    for seconds in waiting:
        heapq.heapreplace(busy_until, busy_until[0] + seconds)
    return max(busy_until)


def seconds_left_in_cell(pace: float, epochs_left: int, seconds_since_epoch: float) -> float:
    """Return the seconds that a running cell still needs; it falls steadily, and waits where an epoch takes too long.

    Args:
        pace: Seconds per epoch.
        epochs_left: The one in progress included.
        seconds_since_epoch: Since the last finished epoch, or since the start.

    >>> [seconds_left_in_cell(2.0, 3, seconds) for seconds in (0.0, 0.5, 9.0)]
    [6.0, 5.5, 4.0]
    """
    return max(0.0, pace * epochs_left - min(seconds_since_epoch, pace))


def format_duration(seconds: float) -> str:
    """Return a duration as people write it.

    >>> [format_duration(seconds) for seconds in (8.4, 80, 3723)]
    ['8 s', '1:20', '1:02:03']
    """
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    hours, rest = divmod(total, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def format_seconds_left(seconds: float | None) -> str:
    """Return an estimate in words, rounded up to steps that do not pretend to know more than it does.

    >>> [format_seconds_left(seconds) for seconds in (None, 7.2, 33.0, 78.0, 1501.0)]
    ['time left unknown yet', 'about 8 s left', 'about 35 s left', 'about 1:20 left', 'about 25:30 left']
    """
    if seconds is None:
        return "time left unknown yet"
    step = next(step for limit, step in ((20, 1), (60, 5), (600, 10), (math.inf, 30)) if seconds < limit)
    return f"about {format_duration(math.ceil(seconds / step) * step)} left"


@dataclass
class Cell:
    """One run as it is followed here. Times are in seconds of the caller's clock.

    Attributes:
        name: For a person.
        kind: Cells of one kind need about as long for an epoch.
        epoch: The last finished one.
        started: When the present try began.
        marked: When the last epoch ended, or the present try began.
        message: The last one that came with an epoch, or as a note.
        unit: What its epochs are called.
    """

    name: str
    kind: str
    num_epochs: int
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    epoch: int = 0
    started: float = 0.0
    marked: float = 0.0
    message: str = ""
    unit: str = "epoch"


@dataclass
class _Pace:
    """Mean seconds of an epoch. First epochs carry the loading of libraries and data: they count until others come."""

    first: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        epochs = self.later or self.first
        return sum(epochs) / len(epochs)


@dataclass
class Tracker:
    """Follows the updates of a suite.

    Args:
        cells: What will run, by run id, in the order in which it starts.
        num_reused: Cells that had been finished before.
        num_workers: Cells that run at a time.
        started: The time now, in seconds.
    """

    cells: Mapping[str, Cell]
    num_reused: int
    num_workers: int
    started: float
    _paces: defaultdict[str, _Pace] = field(default_factory=lambda: defaultdict(_Pace))
    _overall: _Pace = field(default_factory=_Pace)

    def update(self, update: CellUpdate, now: float) -> Cell:
        """Take note of an update; return its cell."""
        cell = self.cells[update.run_id]
        if update.state == "started":
            cell.state, cell.started, cell.marked, cell.epoch = "running", now, now, update.epoch
        elif update.state == "epoch":
            for pace in (self._paces[cell.kind], self._overall):
                (pace.first if cell.marked == cell.started else pace.later).append(now - cell.marked)
            cell.epoch, cell.marked, cell.message = update.epoch, now, update.message
        elif update.state == "note":
            cell.message = update.message
        elif update.state == "held":
            cell.state, cell.message = "waiting", update.message
        else:
            if cell.state == "waiting":  # another process has done it, and nobody knows here for how long
                cell.started = now
            cell.state = update.state
        return cell

    def count(self, state: str) -> int:
        """Return how many cells are in a state; reused ones are done."""
        return sum(cell.state == state for cell in self.cells.values()) + (self.num_reused if state == "done" else 0)

    @property
    def total(self) -> int:
        """All cells, reused ones included."""
        return len(self.cells) + self.num_reused

    @property
    def running(self) -> list[Cell]:
        """Running cells, the longest running first."""
        return sorted((cell for cell in self.cells.values() if cell.state == "running"), key=lambda cell: cell.started)

    @property
    def cells_done(self) -> float:
        """Finished cells and the finished parts of running ones; failed ones are finished."""
        parts = sum(cell.epoch / cell.num_epochs for cell in self.running)
        return self.count("done") + self.count("failed") + parts

    def seconds_left(self, now: float) -> float | None:
        """Estimate the rest from the mean pace of each kind of cell; None before the first epoch has ended.

        The mean over all epochs so far moves little with each new one, so the estimate does not jump.
        """
        if not self._overall.first:
            return None
        running = [
            seconds_left_in_cell(self._pace(cell), cell.num_epochs - cell.epoch, now - cell.marked)
            for cell in self.running
        ]
        waiting = (self._pace(cell) * cell.num_epochs for cell in self.cells.values() if cell.state == "waiting")
        return makespan(running, waiting, max(self.num_workers, len(running)))

    def _pace(self, cell: Cell) -> float:
        return self._paces.get(cell.kind, self._overall).mean


def make_cells(specs: Iterable[CellSpec]) -> dict[str, Cell]:
    """Return the cells of specs, named by their labels where they have some, else by their run ids."""
    cells = {}
    for spec in specs:
        labels: Mapping[str, str] = getattr(spec, "labels", {})
        parts = [labels[key] for key in ("task", "regime", "controller") if key in labels]
        if parts and hasattr(spec, "seed"):
            parts.append(f"seed {spec.seed}")
        name, unit = " / ".join(parts) or spec.run_id, getattr(spec, "unit", "epoch")
        cells[spec.run_id] = Cell(name, labels.get("task", ""), spec.num_epochs, unit=unit)
    return cells
