"""Claims: who works on a run. So processes, on any machines that see the same folder, never do the same one at once.

<root>/.claims/<run id>.<generation>    its owner as a line of JSON, then a byte a heartbeat; gone when released

A claim is a file that only one process can have made (``O_CREAT | O_EXCL``), and beats by growing: no lock of the file
system is needed, no clock, and no database, so that it works on network file systems. Its owner appends a byte every
few seconds. Who wants it and sees that it has not grown for long enough, by the monotonic clock of the one who looks,
makes the file of the next generation, which again only one can, and removes the old one. The old owner, should it still
live (a suspended machine, a network that was away), finds its file gone, and may not write any more.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autotunenet.files import FolderInUseError
from autotunenet_bench.results.owners import Owner
from autotunenet_bench.results.store import RunFolder, Spec, State

if TYPE_CHECKING:  # with torch, which takes seconds to import
    from autotunenet_bench.types import Event

logger = logging.getLogger(__name__)

CLAIMS_FOLDER = ".claims"

BEAT_SECONDS = 5.0
"""Between two heartbeats of a claim."""

STALE_SECONDS = 60.0
"""A claim that has not grown for so long, seen by one observer, belongs to nobody any more."""


class ClaimedElsewhereError(RuntimeError):
    """Another process works on a run."""


class ClaimLostError(ClaimedElsewhereError):
    """This process was silent for so long that another one has taken its claim over; it must not write any more."""


@dataclass(frozen=True, slots=True)
class Found:
    """A claim as it stands on the disk.

    Attributes:
        path: Its file.
        generation: How many claims of the same name were taken over before it, and one.
        owner: None where its file does not say, as after a kill between its making and its first line.
        num_bytes: Grows with every heartbeat.
    """

    path: Path
    generation: int
    owner: Owner | None
    num_bytes: int

    @property
    def is_abandoned(self) -> bool:
        """Whether its owner is known to have ended without releasing it."""
        return self.owner is not None and self.owner.is_gone()

    def __str__(self) -> str:
        return str(self.owner or "an unknown process")


class Claims:
    """The claims of one store.

    Args:
        root: Folder of the results, as `ResultStore` takes it.
        beat_seconds: Between two heartbeats; well below the `stale_seconds` of every `Watch` of the same store.

    >>> import tempfile
    >>> claims = Claims(Path(tempfile.mkdtemp()))
    >>> with claims.hold("a run"):
    ...     print(claims.find("a run").owner.pid == os.getpid())
    True
    >>> claims.find("a run") is None
    True
    """

    def __init__(self, root: Path, *, beat_seconds: float = BEAT_SECONDS) -> None:
        self.folder = root / CLAIMS_FOLDER
        self._beat_seconds = beat_seconds

    def find(self, name: str) -> Found | None:
        """Return the claim that holds for a name; None if it is free."""
        return self._newest(name).get(name)

    def active(self) -> dict[str, Found]:
        """Return all claims, by name; abandoned ones too."""
        return self._newest()

    def check_idle(self) -> None:
        """Check that no process works in the store, as far as can be told.

        Raises:
            FolderInUseError: If one does, or one whose end cannot be told has left its claim.
        """
        for name, found in self.active().items():
            if not found.is_abandoned:
                raise FolderInUseError(
                    f"{self.folder.parent}: {found} works on {name} here; wait for it, or stop it first"
                )

    def take(self, name: str, over: Found | None = None) -> Claim:
        """Claim a name until the claim is released.

        Args:
            name: A file name, such as a run id.
            over: A claim that was seen to be stale, to be taken over if it still stands as it was seen. One whose owner
                is known to have ended needs no telling.

        Raises:
            ClaimedElsewhereError: If another process holds it, or this one does already.
            OSError: If no file can be made.
        """
        found = self.find(name)
        if found and found != over and not found.is_abandoned:
            raise ClaimedElsewhereError(f"{name}: {found} works on it")
        claim = Claim(self.folder, name, found.generation + 1 if found else 1, self._beat_seconds)
        if not claim.make():
            raise ClaimedElsewhereError(f"{name}: another process was faster to claim it")
        # Between the look and the making the old claim may have been released and its name claimed anew.
        newest = self.find(name)
        replaced = _read(found) if found else None
        if newest is None or newest.path != claim.path or (replaced and found and replaced.owner != found.owner):
            claim.release()
            raise ClaimedElsewhereError(f"{name}: another process was faster to claim it")
        if found:
            found.path.unlink(missing_ok=True)
            logger.info("%s: taken over from %s", name, found)
        claim.begin_to_beat()
        return claim

    @contextmanager
    def hold(self, name: str) -> Iterator[Claim]:
        """Hold a claim; errors as `take`."""
        claim = self.take(name)
        try:
            yield claim
        finally:
            claim.release()

    @contextmanager
    def hold_soon(self, name: str, pause_seconds: float = 0.1) -> Iterator[Claim]:
        """Hold a claim as soon as the others have released it, however long that takes."""
        watch = Watch(self)
        while True:
            if watch.look(name) != "held":
                with suppress(ClaimedElsewhereError):
                    claim = self.take(name)
                    break
            time.sleep(pause_seconds)
        try:
            yield claim
        finally:
            claim.release()

    def _newest(self, only: str | None = None) -> dict[str, Found]:
        newest: dict[str, Found] = {}
        for file_name in _names_in(self.folder):
            name, _, number = file_name.rpartition(".")
            if (only is not None and name != only) or not number.isdecimal():
                continue
            found = _read(Found(self.folder / file_name, int(number), None, 0))
            if found and (name not in newest or newest[name].generation < found.generation):
                newest[name] = found
        return newest


class Claim:
    """A name that this process holds, from `Claims.take` on until `release`. A thread of it beats meanwhile."""

    def __init__(self, folder: Path, name: str, generation: int, beat_seconds: float) -> None:
        self.path = folder / f"{name}.{generation}"
        self._name = name
        self._next = folder / f"{name}.{generation + 1}"
        self._owner = Owner.of_this_process()
        self._beat_seconds = beat_seconds
        self._is_over = threading.Event()

    def make(self) -> bool:
        """Make the file; return False if another process has it, or had it first.

        Raises:
            OSError: If it cannot be made, or not be written; then there is none.
        """
        while True:
            with suppress(FileExistsError):  # with exist_ok=True too, where it is removed a moment later
                self.path.parent.mkdir(parents=True)
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                return False
            except FileNotFoundError:  # the folder was empty for a moment, and somebody has removed it
                continue
            break
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(self._owner.to_json() + "\n")
        except OSError:  # a full disk: a claim that names no owner would be waited for
            self.path.unlink(missing_ok=True)
            raise
        return True

    def check(self) -> None:
        """Check that this process still holds the claim; what it does before it writes anything.

        Raises:
            ClaimLostError: If not.
        """
        found = _read(Found(self.path, 0, None, 0))
        if found is None or found.owner != self._owner or self._next.exists():
            raise ClaimLostError(
                f"{self._name}: this process was silent for so long that another one has taken the run over; "
                "it goes on there"
            )

    def begin_to_beat(self) -> None:
        """Show from now on that this process lives."""
        threading.Thread(target=self._beat, name=f"claim of {self._name}", daemon=True).start()

    def release(self) -> None:
        """Let others have the name. A claim that was lost is another's, and stays."""
        self._is_over.set()
        found = _read(Found(self.path, 0, None, 0))
        if found is not None and found.owner == self._owner:
            self.path.unlink(missing_ok=True)
        with suppress(OSError):  # other claims are in there
            self.path.parent.rmdir()

    def _beat(self) -> None:
        while not self._is_over.wait(self._beat_seconds):
            try:
                self.check()
                with open(os.open(self.path, os.O_WRONLY | os.O_APPEND), "wb") as file:
                    file.write(b".")
            except (ClaimLostError, FileNotFoundError):
                return
            except OSError as error:  # a full disk, or a network that is away: others may take over, see `check`
                logger.warning("%s: the claim cannot beat (%s)", self._name, error)


class Watch:
    """Looks at claims again and again, to tell those that beat from those that have stopped.

    Only the observer's own monotonic clock counts, and only that a claim has changed, not how: a machine whose clock is
    wrong, or jumps, makes no claim old.

    Args:
        claims: Of the store.
        stale_seconds: How long a claim must stand still, while it is being watched.
        clock: Gives the time in seconds, and never goes back.
    """

    def __init__(
        self, claims: Claims, *, stale_seconds: float = STALE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._claims = claims
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._seen: dict[str, tuple[Found, float]] = {}

    def look(self, name: str) -> Literal["held", "released", "abandoned"]:
        """Return how a claim stands. One that has stopped is taken from its owner here, and anybody may have it."""
        found = self._claims.find(name)
        if found is None:
            self._seen.pop(name, None)
            return "released"
        if found.is_abandoned:
            return "abandoned"
        before, since = self._seen.get(name, (None, 0.0))
        if found != before:
            self._seen[name] = found, self._clock()
            return "held"
        if self._clock() - since < self._stale_seconds:
            return "held"
        try:
            self._claims.take(name, over=found).release()
        except ClaimedElsewhereError:  # it has moved after all, or another observer was faster
            return "held"
        return "abandoned"


class ClaimedFolder(RunFolder):
    """The files of a run that this process has claimed: it looks before it writes whether it still has.

    So a process that was suspended, and whose run another one has taken over meanwhile, cannot write into that one's
    files when it wakes up. Methods and errors are those of `RunFolder`; all that write raise `ClaimLostError` too.

    Args:
        path: The folder; it need not exist yet.
        claim: Of the run.
    """

    def __init__(self, path: Path, claim: Claim) -> None:
        super().__init__(path)
        self._claim = claim

    def create(self, spec: Spec) -> None:
        """See `RunFolder.create`."""
        self._claim.check()
        super().create(spec)

    def clear(self) -> None:
        """See `RunFolder.clear`."""
        self._claim.check()
        super().clear()

    def set_status(self, state: State, **details: Any) -> None:
        """See `RunFolder.set_status`."""
        self._claim.check()
        super().set_status(state, **details)

    def finish(self, num_epochs: int) -> None:
        """See `RunFolder.finish`."""
        self._claim.check()
        super().finish(num_epochs)

    def append(self, events: Iterable[Event]) -> None:
        """See `RunFolder.append`."""
        self._claim.check()
        super().append(events)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """See `RunFolder.save_checkpoint`."""
        self._claim.check()
        super().save_checkpoint(state)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """See `RunFolder.load_checkpoint`, which cuts the events."""
        self._claim.check()
        return super().load_checkpoint()

    def remove_checkpoint(self) -> None:
        """See `RunFolder.remove_checkpoint`."""
        self._claim.check()
        super().remove_checkpoint()


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _read(found: Found) -> Found | None:
    """Return a claim as it stands now; None if its file is gone."""
    try:
        content = found.path.read_bytes()
    except FileNotFoundError:
        return None
    line, has_end, _ = content.partition(b"\n")
    owner = Owner.from_json(line) if has_end else None
    return Found(found.path, found.generation, owner, len(content))
