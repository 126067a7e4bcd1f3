"""Results on disk: one folder a run, written so that a kill at any moment loses at most the epoch in progress.

<root>/<run id>/spec.json       what was run, down to the last default; written once
                events.jsonl    one row an event, appended at the end of every epoch
                checkpoint.pt   everything needed to go on, and how long events.jsonl was then; gone when done
                status.json     running, done, failed or interrupted; replaced atomically
                error.txt       traceback of a failed run
                output.txt      what the run printed, if anything
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from autotunenet_bench.files import write_atomically
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.types import Event

State = Literal["missing", "running", "done", "failed", "interrupted"]


class Spec(Protocol):
    """What the store needs of a run spec."""

    @property
    def run_id(self) -> str:
        """A file name that no other spec has."""
        ...

    def model_dump_json(self, *, indent: int | None = None) -> str:
        """The spec as JSON."""
        ...


class RunFolder:
    """The files of one run.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def events_path(self) -> Path:
        """The event file."""
        return self.path / "events.jsonl"

    def create(self, spec: Spec) -> None:
        """Make the folder and write ``spec.json``, unless a spec is there already."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / "spec.json").exists():
            write_atomically(self.path / "spec.json", spec.model_dump_json(indent=2) + "\n")

    def clear(self) -> None:
        """Remove the run and everything in its folder."""
        if self.path.exists():
            shutil.rmtree(self.path)

    # -- status ------------------------------------------------------------------------------------------------------

    def status(self) -> State:
        """Return the state that was last written; "missing" where none was."""
        try:
            state: State = self._read_json("status.json")["state"]
        except FileNotFoundError:
            return "missing"
        return state

    def set_status(self, state: State, **details: Any) -> None:
        """Replace ``status.json``. `details` are plain values that help a person, for example ``error="..."``."""
        write_atomically(self.path / "status.json", json.dumps({"state": state, **details}) + "\n")

    def details(self) -> dict[str, Any]:
        """Return what `set_status` wrote; empty where nothing was."""
        try:
            return self._read_json("status.json")
        except FileNotFoundError:
            return {}

    # -- events ------------------------------------------------------------------------------------------------------

    def append(self, events: Iterable[Event]) -> None:
        """Append rows and wait until they are on the disk."""
        rows = "".join(json.dumps(_encode(event), separators=(",", ":")) + "\n" for event in events)
        with self.events_path.open("a", encoding="utf-8") as file:
            file.write(rows)
            file.flush()
            os.fsync(file.fileno())

    def events(self) -> Iterator[Event]:
        """Yield the rows. A last line that a kill tore is left out.

        Raises:
            ValueError: If another line is damaged; the message names file and line.
        """
        if not self.events_path.exists():
            return
        lines = self.events_path.read_bytes().split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is a torn row, or nothing
            try:
                yield _decode(json.loads(line))
            except ValueError as error:
                raise ValueError(
                    f"{self.events_path}:{number}: this row is damaged ({error}); remove the folder to run it again"
                ) from error

    # -- checkpoint --------------------------------------------------------------------------------------------------

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint. Append this epoch's events first: their length is stored with it."""
        temporary = self.path / "checkpoint.pt.tmp"
        torch.save({"num_event_bytes": self.events_path.stat().st_size, "state": state}, temporary)
        os.replace(temporary, self.path / "checkpoint.pt")

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Return the state of the last checkpoint, and cut the event file to what had been written by then.

        Without a checkpoint the event file is emptied, and None is returned: the run begins anew.
        """
        path = self.path / "checkpoint.pt"
        saved = torch.load(path, weights_only=True, map_location="cpu") if path.exists() else None
        if self.events_path.exists():
            os.truncate(self.events_path, saved["num_event_bytes"] if saved else 0)
        return saved["state"] if saved else None

    def remove_checkpoint(self) -> None:
        """Free the disk space of a run that is done."""
        (self.path / "checkpoint.pt").unlink(missing_ok=True)

    # -- reading -----------------------------------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        """Return ``spec.json`` as plain values."""
        return self._read_json("spec.json")

    def trace(self) -> Trace:
        """Return the run as far as it got.

        Raises:
            ValueError: If there are no events, or damaged ones.
            FileNotFoundError: If there is no such run.
        """
        return Trace.from_events(self.spec(), self.events())

    def _read_json(self, name: str) -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        return values


class ResultStore:
    """All runs below one folder.

    Args:
        root: The folder; it need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, spec: Spec) -> RunFolder:
        """Return the folder of a spec's run, whether or not it exists."""
        return RunFolder(self.root / spec.run_id)

    def folders(self) -> list[RunFolder]:
        """Return the folders of all runs, by name."""
        return [RunFolder(path.parent) for path in sorted(self.root.glob("*/spec.json"))]

    def __iter__(self) -> Iterator[Trace]:
        """Yield the runs that have begun, by name; those that were cut off too, as far as they got."""
        for folder in self.folders():
            if any(True for _ in folder.events()):
                yield folder.trace()


# JSON has no NaN and no infinity; rows carry them as the texts "nan", "inf" and "-inf".
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def _encode(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, str):
        return _NON_FINITE.get(value, value)
    if isinstance(value, dict):
        return {key: _decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value
