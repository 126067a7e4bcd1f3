"""How far runs are that go on elsewhere, read in the store: claims say who is at work, events how far it is.

So no second channel is needed between machines, which could be lost or lie.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from autotunenet_bench.executors.base import CellSpec, CellState, CellUpdate, UpdateSink
from autotunenet_bench.executors.worker import describe
from autotunenet_bench.results.claims import Claims
from autotunenet_bench.results.store import RunFolder, parse_values
from autotunenet_bench.types import Event


@dataclass(slots=True)
class Sight:
    """What was seen of a run.

    Attributes:
        num_tries: Processes that were seen to begin it.
        began: When the last of them was seen first, by the monotonic clock; None before any was.
        epoch: The last finished one.
    """

    spec: CellSpec
    num_tries: int = 0
    began: float | None = None
    epoch: int = 0
    claimed_by: str = ""
    num_bytes: int = 0


class Follower:
    """Tells what runs do that other processes do.

    Args:
        root: Folder of the results.
        specs: The runs.
        on_update: Told of every one that starts, of every epoch, and of what `tell` is called with.
    """

    def __init__(self, root: Path, specs: Sequence[CellSpec], on_update: UpdateSink) -> None:
        self._root, self._claims, self._on_update = root, Claims(root), on_update
        self._sights = {spec.run_id: Sight(spec) for spec in specs}

    def sight(self, run_id: str) -> Sight:
        """Return what was seen of a run so far."""
        return self._sights[run_id]

    def look(self, run_ids: Collection[str]) -> None:
        """Look at the store, and tell what is new of these runs."""
        active = self._claims.active()
        for run_id in run_ids:
            if run_id not in active or (owner := active[run_id].owner) is None:
                continue
            sight = self._sights[run_id]
            if owner.token != sight.claimed_by:
                again = f"again, by {owner}" if sight.num_tries else ""
                sight.claimed_by, sight.began, sight.num_tries = owner.token, time.monotonic(), sight.num_tries + 1
                sight.num_bytes = 0  # rows without a checkpoint are cut off and written anew
                self.tell(run_id, "started", again)
            self._read(sight)

    def tell(self, run_id: str, state: CellState, message: str = "") -> None:
        """Pass an update on; before a run is told to be done, its last epochs are."""
        sight = self._sights[run_id]
        if state == "done":
            self._read(sight)
        self._on_update(CellUpdate(run_id, state, sight.epoch, sight.spec.num_epochs, message))

    def _read(self, sight: Sight) -> None:
        """Read the rows that were appended since the last time, up to the last whole one."""
        path = RunFolder(self._root / sight.spec.run_id).events_path
        try:
            with path.open("rb") as file:
                file.seek(sight.num_bytes)
                new = file.read()
        except FileNotFoundError:
            return
        whole = new[: new.rfind(b"\n") + 1]
        sight.num_bytes += len(whole)
        for event in map(_row, whole.splitlines()):
            if event.get("event") == "epoch" and event["epoch"] > sight.epoch:
                sight.epoch = event["epoch"]
                self.tell(sight.spec.run_id, "epoch", describe(event))


def _row(line: bytes) -> Event:
    try:
        row = parse_values(line)
    except ValueError:  # read while it was cut and written anew; who reads the results will judge it
        return {}
    return row if isinstance(row, dict) else {}
