"""A run as its event file tells it: read at once, or bit by bit while it is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from autotunenet.sinks.benchmark import from_benchmark
from autotunenet.sinks.jsonl import DEFAULT_NAME
from autotunenet.sinks.rows import Row, from_line, number, numbers, to_decision
from autotunenet.types import Decision

_VALIDATION, _LR = "autotunenet/validation", "autotunenet/lr"


class Point(NamedTuple):
    """A value at an optimizer step, counted from 1."""

    step: int
    value: float


class RunLog:
    """What the rows of an event file say, without those that a resume has dropped.

    Rows are those of `autotunenet.sinks.JsonlSink`, or of a run of AutoTuneNet-Bench; other kinds are left alone.

    Attributes:
        decisions: In order.
        losses: The training loss: of every step where the file has them, else as the decisions saw it.
        lrs: The lr that steps used from there on, a scheduler's factor included; empty where lr is not tuned.
        validation: Validation metrics, as they were measured.
        changes: Steps before which a benchmark has changed the world, and how.
        resumed: Steps after which the training went on from a saved state.
        values: The last number under each name of `autotunenet.Tuner.metrics`.
        step: Optimizer steps so far.
        is_ended: Whether nothing follows, as the last row says.
        last_time: When the last row was written, in seconds since 1970; None where rows have no time.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[int, Row]] = []  # each with the number of its report
        self._report = 0
        self.resumed: list[int] = []
        self._clear()

    def _clear(self) -> None:
        self.decisions: list[Decision] = []
        self._seen: list[Point] = []
        self._every: list[Point] = []
        self.lrs: list[Point] = []
        self.validation: list[Point] = []
        self.changes: list[tuple[int, str]] = []
        self.values: dict[str, float] = {}
        self.step = 0
        self.is_ended = False
        self.last_time: float | None = None

    @property
    def losses(self) -> list[Point]:
        """The training loss: of every step where the file has them, else as the decisions saw it."""
        return self._every or self._seen

    def add(self, row: Row) -> None:
        """Take note of the next row.

        Raises:
            ValueError: If it lacks what its kind has, or has it of a wrong type; nothing is noted then.
        """
        kind = row["event"]
        try:
            for each in from_benchmark(row):
                if each["event"] == "begin":
                    self._begin(each)
                else:
                    report = int(each.get("report", self._report))
                    self._take(each)
                    self._report = report
                    self._kept.append((report, each))
        except KeyError as error:
            raise ValueError(f"a {kind!r} row needs {error}") from error
        except (AttributeError, TypeError) as error:
            raise ValueError(f"a {kind!r} row is malformed: {error}") from error

    def _begin(self, row: Row) -> None:
        """Drop what was reported behind the point after which the training goes on."""
        step, report = int(row["step"]), int(row["report"])
        kept = [(at, old) for at, old in self._kept if at <= report and old["event"] != "end"]
        self._clear()
        for _, old in kept:
            self._take(old)
        self._kept, self._report = kept, report
        self.resumed = [*(at for at in self.resumed if at < step), step] if report else []
        self.step = max(self.step, step)
        self._note_time(row)

    def _take(self, row: Row) -> None:
        match row["event"]:
            case "metrics":
                self._take_values(int(row["step"]), numbers(row["values"]))
            case "decision":
                self._take_decision(to_decision(row))
            case "losses":
                losses, step = [number(value) for value in row["losses"]], int(row["step"])
                self._every += [Point(step - len(losses) + i, loss) for i, loss in enumerate(losses, start=1)]
            case "change":
                self.changes.append((int(row["step"]), str(row["description"])))
        self.is_ended = row["event"] == "end"
        self._note_time(row)

    def _take_values(self, step: int, values: dict[str, float]) -> None:
        self.values.update(values)
        self.step = max(self.step, step)
        if _LR in values:
            self.lrs.append(Point(step, values[_LR]))
        if _VALIDATION in values and "autotunenet/health" not in values:  # else it is the last one once more
            self.validation.append(Point(step, values[_VALIDATION]))

    def _take_decision(self, decision: Decision) -> None:
        seen = decision.observation
        if not self.decisions and "lr" in seen.hyperparams:
            self.lrs.insert(0, Point(1, seen.hyperparams["lr"]))  # what the first steps used
        self.decisions.append(decision)
        self._seen.append(Point(seen.step, seen.metric))
        self.step = max(self.step, seen.step)

    def _note_time(self, row: Row) -> None:
        if "time" in row:
            self.last_time = number(row["time"])


class EventFile:
    """An event file that may still be written, cut, or made anew.

    Args:
        path: The file; it need not exist yet.

    Attributes:
        log: What has been read of it.
        damage: What was wrong with the first line that could not be read; empty where all could. It is left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start_over()

    def _start_over(self) -> None:
        self.log, self.damage = RunLog(), ""
        self._offset, self._num_lines, self._last = 0, 0, b""

    def read(self) -> bool:
        """Read what has come since; return whether anything has. A line without an end is left for later.

        Raises:
            OSError: If the file is there and cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset - len(self._last))
                has_changed = file.read(len(self._last)) != self._last
                if has_changed:  # another file, or one that was cut: a resumed run of the benchmark does that
                    file.seek(0)
                data = file.read()
        except FileNotFoundError:
            has_changed, data = bool(self._offset), b""
        if has_changed:
            self._start_over()
        lines = data.split(b"\n")[:-1]
        for line in lines:
            self._add(line)
        return bool(lines) or has_changed

    def _add(self, line: bytes) -> None:
        self._num_lines += 1
        self._last = line + b"\n"
        self._offset += len(self._last)
        try:
            self.log.add(from_line(line))
        except ValueError as error:
            self.damage = self.damage or f"{self.path}, line {self._num_lines}: {error}"


def read_run(path: str | os.PathLike[str]) -> RunLog:
    """Read a run, finished or not, as far as it got. A last line that is cut short is left out.

    Args:
        path: The file of a `autotunenet.sinks.JsonlSink`, or a folder that holds one; or the folder of a run of
            AutoTuneNet-Bench.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a line is damaged, or the folder holds several; the message says which.
    """
    file = EventFile(find_events(Path(path)))
    if not file.path.exists():
        raise FileNotFoundError(f"there is no event file {file.path}; JsonlSink(path) writes one")
    file.read()
    if file.damage:
        raise ValueError(f"{file.damage}; remove the line, or read a copy that is whole")
    return file.log


def find_events(path: Path) -> Path:
    """Return the event file of a run: `path` itself, or the one in it where it is a folder.

    Raises:
        ValueError: If the folder has several and none is called ``events.jsonl``.
    """
    if not path.is_dir() or (path / DEFAULT_NAME).exists():
        return path / DEFAULT_NAME if path.is_dir() else path
    found = sorted([*path.glob("*.jsonl"), *path.glob(f"*/{DEFAULT_NAME}")])
    if len(found) > 1:
        names = ", ".join(str(each.relative_to(path)) for each in found[:5]) + (", ..." if len(found) > 5 else "")
        raise ValueError(f"{path} holds {len(found)} event files: {names}; name one of them")
    return found[0] if found else path / DEFAULT_NAME
