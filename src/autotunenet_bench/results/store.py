"""Results on disk: one folder a run, written so that a kill at any moment loses at most the epoch in progress.

<root>/<run id>/spec.json       what was run, down to the last default; written once
                events.jsonl    one row an event, appended at the end of every epoch
                checkpoint.pt   everything needed to go on, and how long events.jsonl was then; gone when done
                status.json     running, done, failed or interrupted; replaced atomically. Of a run that is done also
                                sizes and SHA-256 of spec.json and events.jsonl
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
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol, get_args

from autotunenet.files import parse_json, write_atomically
from autotunenet_bench.results.checkpoints import read_checkpoint, write_checkpoint
from autotunenet_bench.results.sealing import SEALED, content_fault, has_sealed_sizes, seal_of, seals_in
from autotunenet_bench.results.trace import Trace

if TYPE_CHECKING:  # with torch; listing runs needs none, and importing it takes seconds
    from autotunenet_bench.types import Event

State = Literal["missing", "running", "done", "failed", "interrupted"]

CUT_OFF = "its status is done, but its events are not complete; run it again"
"""What is said of a run whose files contradict each other, as after a copy that was cut short."""


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
        """Make the folder and write ``spec.json``, unless it is there already.

        Raises:
            ValueError: If the spec that is there is another one, so that the rows below it would be of two settings.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / "spec.json"
        if not path.exists():
            write_atomically(path, spec.model_dump_json(indent=2) + "\n")
        elif self.spec() != (wanted := json.loads(spec.model_dump_json())):
            found = self.spec()
            keys = [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
            raise ValueError(
                f"{path}: this is not the spec of the run {spec.run_id}, it differs in {', '.join(keys)}; "
                "remove the folder to run it anew"
            )

    def clear(self) -> None:
        """Remove the run and everything in its folder."""
        if self.path.exists():
            shutil.rmtree(self.path)

    # -- status ------------------------------------------------------------------------------------------------------

    def status(self, details: Mapping[str, Any] | None = None) -> State:
        """Return the state that was last written; "missing" where none was, or none that can be read.

        Args:
            details: What `details` has returned a moment ago; None: it is read.
        """
        state: State = (self.details() if details is None else details).get("state", "missing")
        return state if state in get_args(State) else "missing"

    def is_done(self, details: Mapping[str, Any] | None = None) -> bool:
        """Return whether the run came to its end: its status says so, and its files have the sizes that they had then.

        Of a run of before sizes were kept, the first and the last row of the events must be there.

        Args:
            details: What `details` has returned a moment ago; None: it is read.
        """
        details = self.details() if details is None else details
        if details.get("state") != "done":
            return False
        seals = seals_in(details)
        return has_sealed_sizes(self.path, seals) if seals else _ends(self.events_path) == ("start", "end")

    def finish(self, num_epochs: int) -> None:
        """Write that the run is done, with the sizes and SHA-256 of its files, and free the space of its checkpoint.

        Args:
            num_epochs: Epochs that it had, so that a list of runs need not look into their specs.
        """
        seals = {name: seal_of(self.path / name) for name in SEALED}
        self.set_status("done", num_epochs=num_epochs, files=seals)
        self.remove_checkpoint()

    def set_status(self, state: State, **details: Any) -> None:
        """Replace ``status.json``. `details` are plain values that help a person, for example ``error="..."``."""
        write_atomically(self.path / "status.json", json.dumps({"state": state, **details}) + "\n")

    def details(self) -> dict[str, Any]:
        """Return what `set_status` wrote; empty where nothing was, or nothing that can be read."""
        try:
            return self._read_json("status.json")
        except (FileNotFoundError, ValueError):  # a broken file costs nothing: the checkpoint knows how far the run is
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
        with self.events_path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):  # torn
                    return
                try:
                    yield parse_values(line)
                except ValueError as error:
                    raise ValueError(
                        f"{self.events_path}:{number}: this row is damaged ({error}); remove the folder to run it again"
                    ) from error

    # -- checkpoint --------------------------------------------------------------------------------------------------

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint. Append this epoch's events first: their length and SHA-256 are stored with it.

        Raises:
            OSError: If it cannot be written; its `filename` is the checkpoint, and the one before stays.
        """
        events = seal_of(self.events_path)
        content = {"num_event_bytes": events["bytes"], "events_sha256": events["sha256"], "state": state}
        write_checkpoint(self.path / "checkpoint.pt", content)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Return the state of the last checkpoint, and cut the event file to what had been written by then.

        Without a checkpoint the event file is emptied, and None is returned: the run begins anew.

        Raises:
            ValueError: If the checkpoint cannot be read, or the rows that were there when it was written are not there
                any more, or are others.
        """
        path = self.path / "checkpoint.pt"
        num_bytes, sha256, state = read_checkpoint(path) if path.exists() else (0, None, None)
        self._check_rows_of_checkpoint(num_bytes, sha256)
        if self.events_path.exists():
            os.truncate(self.events_path, num_bytes)
        return state

    def check_checkpoint(self) -> None:
        """Check the checkpoint, if there is one, and the rows that it knows of; nothing is changed.

        Raises:
            ValueError: As `load_checkpoint`.
        """
        path = self.path / "checkpoint.pt"
        if path.exists():
            num_bytes, sha256, _ = read_checkpoint(path)
            self._check_rows_of_checkpoint(num_bytes, sha256)

    def _check_rows_of_checkpoint(self, num_bytes: int, sha256: str | None) -> None:
        path, mend = self.path / "checkpoint.pt", "remove the checkpoint to begin this run anew"
        found = self.events_path.stat().st_size if self.events_path.exists() else 0
        if found < num_bytes:  # truncating would fill it up with zeros
            name = self.events_path.name
            raise ValueError(f"{path}: {name} had {num_bytes} bytes when it was written and has {found} now; {mend}")
        if sha256 is not None and seal_of(self.events_path, num_bytes)["sha256"] != sha256:
            raise ValueError(f"{self.events_path}: this file was edited after {path.name} was written; {mend}")

    def remove_checkpoint(self) -> None:
        """Free the disk space of a run that is done."""
        (self.path / "checkpoint.pt").unlink(missing_ok=True)

    # -- reading -----------------------------------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        """Return ``spec.json`` as plain values.

        Raises:
            ValueError: If it is damaged; the message names the file.
            FileNotFoundError: If there is no such run.
        """
        return self._read_json("spec.json")

    def trace(self, details: Mapping[str, Any] | None = None) -> Trace:
        """Return the run as far as it got.

        Args:
            details: What `details` has returned a moment ago; None: it is read.

        Raises:
            ValueError: If there are no events, or damaged ones; or if a file of a finished run is another than at its
                end.
            FileNotFoundError: If there is no such run.
        """
        seals = seals_in(self.details() if details is None else details)
        try:
            if not seals:
                return Trace.from_events(self.spec(), self.events())
            _, events = (self._sealed(name, seal) for name, seal in seals.items())
            # The rows are as they were written, so they can be read all at once, in half the time of one by one.
            rows = parse_values(b"[" + events.rstrip(b"\n").replace(b"\n", b",") + b"]")
            return Trace.from_events(self.spec(), rows)
        except ValueError as error:
            words = str(error)
            raise error if words.startswith(str(self.path)) else ValueError(f"{self.events_path}: {words}") from error

    def _sealed(self, name: str, seal: Mapping[str, Any]) -> bytes:
        """Return the content of a file of a finished run, if it is what it was."""
        path = self.path / name
        content = path.read_bytes() if path.exists() else None
        if fault := "it is missing" if content is None else content_fault(content, seal):
            raise ValueError(f"{path}: {fault}; restore the file, or remove the folder to run it again")
        return content or b""

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            values = parse_json(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: this file is damaged ({error}); remove the folder to run it again") from error
        if not isinstance(values, dict):
            raise ValueError(f"{path}: this file must hold an object; remove the folder to run it again")
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
        if not self.root.is_dir():
            return []
        with os.scandir(self.root) as entries:  # many times faster than a glob, which counts for thousands of runs
            names = sorted(entry.name for entry in entries if not entry.is_file())
        return [RunFolder(self.root / name) for name in names if (self.root / name / "spec.json").exists()]

    def __iter__(self) -> Iterator[Trace]:
        """Yield the runs that have begun, by name; those that were cut off too, as far as they got."""
        for folder in self.folders():
            if any(True for _ in folder.events()):
                yield folder.trace()


def _ends(path: Path) -> tuple[Any, Any]:
    """Return what the first and the last whole row of an event file say they are."""
    try:
        with path.open("rb") as file:
            first = file.readline()
            file.seek(0, os.SEEK_END)
            last = _last_line(file)
    except FileNotFoundError:
        return None, None
    return _kind(first), _kind(last)


def _last_line(file: BinaryIO) -> bytes:
    """Return the last line that ends in a newline, of a file that stands at its end, without reading all of it."""
    place, tail = file.tell(), b""
    while place > 0 and tail.count(b"\n") < 2:
        step = min(place, _STEP)
        place -= step
        file.seek(place)
        tail = file.read(step) + tail
    return tail[: tail.rfind(b"\n") + 1].rstrip(b"\n").rpartition(b"\n")[2]


_STEP = 1 << 16


def _kind(line: bytes) -> Any:
    """Return what a row says it is; None where it cannot be read."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row.get("event") if isinstance(row, dict) else None


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


def parse_values(text: bytes) -> Any:
    """Return the value of JSON text that `RunFolder.append` wrote, such as a row, with NaN and infinities as numbers.

    Raises:
        ValueError: If it is no JSON.

    >>> parse_values(b'{"loss": "nan"}')
    {'loss': nan}
    """
    values = parse_json(text)
    # Looking through every value takes longer than reading the text, and few runs have such numbers.
    return _decode(values) if b'nan"' in text or b'inf"' in text else values


def _decode(value: Any) -> Any:
    if isinstance(value, str):
        return _NON_FINITE.get(value, value)
    if isinstance(value, dict):
        return {key: _decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value
