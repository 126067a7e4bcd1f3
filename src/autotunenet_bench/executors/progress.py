"""What a person sees while a suite runs: a live display in a terminal, plain lines everywhere else."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autotunenet_bench.executors.base import CellSpec, CellUpdate
from autotunenet_bench.executors.eta import Cell, Tracker, format_duration, format_seconds_left, make_cells

HEARTBEAT_SECONDS = 15.0


class ProgressDisplay:
    """Shows how far a suite is. A context manager; silent until `begin`.

    In a terminal: a bar over all cells and a line for every running one. Elsewhere (a file, a pipe, a dumb terminal,
    ``CI`` in the environment): a line for every finished cell, and one every `heartbeat_seconds`.

    Args:
        console: Where to; default: stderr.
        heartbeat_seconds: Between two plain lines, at most, while nothing finishes.
        clock: Gives the time in seconds.

    Example::

        with ProgressDisplay() as progress:
            progress.begin(specs, num_reused=0, num_workers=2)
            run_cells(specs, ..., num_workers=2, on_update=progress.update)
    """

    def __init__(
        self,
        *,
        console: Console | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._heartbeat_seconds = heartbeat_seconds
        self._clock = clock
        self._lock = threading.RLock()  # the display is drawn in a thread of its own
        self._tracker: Tracker | None = None
        self._live: Live | None = None
        self._note = ""
        self._ended = threading.Event()
        self._heart: threading.Thread | None = None
        self._last_line = 0.0

    def __enter__(self) -> ProgressDisplay:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Draw the last picture and leave the terminal as it was."""
        self._end()

    def begin(self, specs: Sequence[CellSpec], *, num_reused: int, num_workers: int) -> None:
        """Show what is about to run. What was shown before is ended.

        Args:
            specs: Cells that will run, in their order. With `labels` and a `seed` they are named by these.
            num_reused: Cells that had been finished before and count as done.
            num_workers: Cells that run at a time.
        """
        self._end()
        self._tracker = Tracker(make_cells(specs), num_reused, num_workers, started=self._clock())
        self._last_line = self._clock()
        if not specs:
            return
        if self._is_live():
            self._live = Live(console=self._console, get_renderable=self._picture, refresh_per_second=4)
            self._live.start()
        else:
            self._heart = threading.Thread(target=self._beat, name="progress heartbeat", daemon=True)
            self._heart.start()

    def note(self, words: str) -> None:
        """Show a few words beside the bar, from now on."""
        with self._lock:
            self._note = words

    def update(self, update: CellUpdate) -> None:
        """Take note of progress; made to be the `on_update` of an executor.

        Raises:
            RuntimeError: Before `begin`.
        """
        if self._tracker is None:
            raise RuntimeError("ProgressDisplay.update came before ProgressDisplay.begin; call `begin` with the specs")
        with self._lock:
            cell = self._tracker.update(update, self._clock())
            if update.state == "started" and update.message:
                self._print(f"{cell.name}: {update.message}", style="yellow")
            elif update.state == "failed" or (update.state == "done" and self._live is None):
                self._print(self._finished_line(cell, update), style="red" if update.state == "failed" else "")

    def _end(self) -> None:
        self._ended.set()
        if self._heart:
            self._heart.join()
        if self._live:
            self._live.stop()
        self._live = self._heart = None
        self._ended = threading.Event()

    # -- lines -------------------------------------------------------------------------------------------------------

    def _finished_line(self, cell: Cell, update: CellUpdate) -> str:
        assert self._tracker is not None
        finished = self._tracker.count("done") + self._tracker.count("failed")
        message = update.message or cell.message
        parts = [f"{update.state} {cell.name}", f"{self._clock() - cell.started:.1f} s", message]
        rest = "" if self._live else f"({self._counts(('running', 'failed'))}, {self._left()})  {self._note}".rstrip()
        return f"[{finished}/{self._tracker.total}] " + "  ".join(filter(None, [*parts, rest]))

    def _heartbeat_line(self) -> str:
        assert self._tracker is not None
        finished = self._tracker.count("done") + self._tracker.count("failed")
        running = "; ".join(f"{cell.name} {_epochs(cell)}" for cell in self._tracker.running[:4])
        line = f"[{finished}/{self._tracker.total}] {self._counts(('running', 'failed'))}, {self._left()}"
        return f"{line}  {running}".rstrip()

    def _counts(self, states: Sequence[str]) -> str:
        assert self._tracker is not None
        return ", ".join(f"{self._tracker.count(state)} {state}" for state in states)

    def _left(self) -> str:
        assert self._tracker is not None
        return format_seconds_left(self._tracker.seconds_left(self._clock()))

    def _print(self, line: str, style: str = "") -> None:
        self._last_line = self._clock()
        # A log file has no width to wrap at. Text: names may hold [brackets], which are markup in a plain string.
        self._console.print(Text(line, style=style), soft_wrap=self._live is None)

    def _beat(self) -> None:
        while not self._ended.wait(min(1.0, self._heartbeat_seconds / 4)):
            with self._lock:
                if self._clock() - self._last_line >= self._heartbeat_seconds:
                    self._print(self._heartbeat_line())

    # -- the live display --------------------------------------------------------------------------------------------

    def _is_live(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal and "CI" not in os.environ

    def _picture(self) -> RenderableType:
        assert self._tracker is not None
        with self._lock:
            running = self._tracker.running
            num_lines = max(1, self._console.height - 3)
            shown = running if len(running) <= num_lines else running[: num_lines - 1]
            parts: list[RenderableType] = [self._overall()]
            if shown:
                parts.append(self._cell_table(shown))
            if len(shown) < len(running):
                parts.append(Text(f"  and {len(running) - len(shown)} more", style="dim"))
            return Group(*parts)

    def _overall(self) -> Table:
        assert self._tracker is not None
        tracker, now = self._tracker, self._clock()
        is_finished = tracker.cells_done == tracker.total
        line = Text(f"{tracker.count('done')}/{tracker.total} done, {tracker.count('running')} running, ")
        num_failed = tracker.count("failed")
        line.append(f"{num_failed} failed", style="red" if num_failed else "")
        line.append(f"  {format_duration(now - tracker.started)}")
        line.append("" if is_finished else f", {self._left()}")
        line.append(f"  {self._note}" if self._note else "")
        grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        grid.add_row(ProgressBar(total=tracker.total, completed=tracker.cells_done), line)
        return grid

    def _cell_table(self, cells: Sequence[Cell]) -> Table:
        now = self._clock()
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(ratio=1)
        for _ in range(3):
            table.add_column(justify="right", no_wrap=True)
        for cell in cells:
            seconds = format_duration(now - cell.started)
            table.add_row(_Name(cell.name), Text(_epochs(cell)), Text(cell.message), Text(seconds))
        return table


def shorten(name: str, width: int) -> str:
    """Cut the longest of the parts of a name until all fit, so that none of them is lost.

    >>> shorten("mnist_cnn / label noise 0.4 @ epoch 4 / cosine / seed 1", 45)
    'mnist_cnn / label noise 0.… / cosine / seed 1'
    """
    parts = name.split(" / ")
    while len(" / ".join(parts)) > width and max(map(len, parts)) > 2:
        longest = max(range(len(parts)), key=lambda index: len(parts[index]))
        parts[longest] = parts[longest].rstrip("…")[:-1].rstrip() + "…"
    return " / ".join(parts)


@dataclass(frozen=True)
class _Name:
    """A cell's name, in whatever width the table has left for it."""

    name: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        yield Text("  " + shorten(self.name, options.max_width - 2), no_wrap=True, overflow="crop")


def _epochs(cell: Cell) -> str:
    return f"{cell.unit} {cell.epoch}/{cell.num_epochs}"
