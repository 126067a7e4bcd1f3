"""Decisions and numbers as lines of JSON in a file that only grows."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from autotunenet.sinks.rows import Row, from_line, to_line
from autotunenet.types import Decision

DEFAULT_NAME = "events.jsonl"
"""The name of the file where only a folder is given."""

FORMAT = 1
"""Version of the rows."""

_OURS = ("begin", "metrics", "decision", "end")


class JsonlSink:
    """Appends every report to a file, one JSON object a line.

    Each line is handed to the operating system at once, so that ``autotunenet watch`` sees it live and a kill of the
    training loses none. Numbers that are not finite are the strings ``"nan"``, ``"inf"`` and ``"-inf"``. The rows are
    described in ``docs/logging.md``; `autotunenet.sinks.read_run` reads them.

    A training that was resumed goes on in the same file: a ``begin`` row says after which report it does, and readers
    drop the reports behind that, of the branch that was given up. A training that starts over does so after report 0. A
    last line that a kill has cut short is taken away when the next row is written.

    Args:
        path: The file, or a folder, in which it is called ``events.jsonl``. Folders above it are made. One training
            writes into it at a time.

    Raises:
        ValueError: If there is a file by that name which no JsonlSink has written.
        OSError: If it cannot be written.

    >>> import tempfile
    >>> from autotunenet.sinks import read_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sink = JsonlSink(folder)
    ...     sink.log({"autotunenet/lr": 0.1, "autotunenet/loss": float("inf")}, step=20)
    ...     sink.close()
    ...     read_run(sink.path).values
    {'autotunenet/lr': 0.1, 'autotunenet/loss': inf}
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            self.path /= DEFAULT_NAME
        self._check_ours()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab"):  # what cannot be written is told now, and not in the middle of a training
            pass
        self._is_open = False  # whether a begin row stands before what comes next
        self._step = self._report = 0

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Append a ``metrics`` row."""
        self._begin_once()
        self._step, self._report = step, self._report + 1
        self._append({"event": "metrics", "step": step, "report": self._report, "values": dict(values)})

    def event(self, decision: Decision) -> None:
        """Append a ``decision`` row: `Decision.to_record`."""
        self._begin_once()
        self._step = decision.observation.step
        self._append({"event": "decision", **decision.to_record(), "report": self._report})

    def resumed(self, step: int, num_reports: int) -> None:
        """Begin again after that report, with the next row."""
        self._is_open, self._step, self._report = False, step, num_reports

    def close(self) -> None:
        """Append an ``end`` row. What is reported afterwards is another training."""
        if self._is_open:
            self._append({"event": "end", "step": self._step})
        self._is_open, self._step, self._report = False, 0, 0

    def _begin_once(self) -> None:
        # With the first row and not before: of several processes that make the sink only the one that reports writes.
        if not self._is_open:
            self._cut_torn_line()
            self._append({"event": "begin", "step": self._step, "report": self._report, "format": FORMAT})
            self._is_open = True

    def _append(self, row: Row) -> None:
        line = to_line({**row, "time": round(time.time(), 3)})
        # Opened anew for every row: the sink can be copied and pickled, and a fork holds nothing of it.
        with self.path.open("ab") as file:
            file.write(line)

    def _check_ours(self) -> None:
        """Refuse to append to a file of somebody else's."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            head = file.readline(1 << 20)
        try:
            is_ours = from_line(head)["event"] in _OURS
        except ValueError:
            start = to_line({"event": "begin"})[:-2]
            is_ours = not head.endswith(b"\n") and head[: len(start)] == start[: len(head)]  # cut short, or empty
        if not is_ours:
            raise ValueError(
                f"{self.path} is there already and no JsonlSink has written it; it begins with {head[:40]!r}. "
                "Nothing is appended to it: give another path"
            )

    def _cut_torn_line(self) -> None:
        data = self.path.read_bytes() if self.path.exists() else b""
        if data and not data.endswith(b"\n"):
            os.truncate(self.path, data.rfind(b"\n") + 1)
