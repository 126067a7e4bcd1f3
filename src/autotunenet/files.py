"""Writing a file so that a reader never sees half of it, and locks that end with the process that holds them."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

LOCK_FILE = ".lock"
"""Held open by the process that works in a folder. The file stays behind: removing it would race with the next one."""


class FolderInUseError(RuntimeError):
    """Another process is writing results into the same folder."""


def parse_json(text: str | bytes) -> Any:
    """Return the values of a JSON text, which may come from anywhere.

    Raises:
        ValueError: If it is none, is no UTF-8, or is nested too deep to be read.

    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: it is nested too deep
    """
    try:
        return json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def is_plain_name(name: Any) -> bool:
    r"""Return whether a name that a file holds is that of something in a folder, and no way out of it.

    >>> [is_plain_name(name) for name in ("run-1", "", ".", "..", "a/b", "/etc", "C:x", "a\0", 3)]
    [True, False, False, False, False, False, False, False, False]
    """
    return isinstance(name, str) and bool(name.strip(".")) and not set(name) & set("/\\:\0")


def write_atomically(path: Path, text: str | Iterable[str]) -> None:
    """Write `text` as UTF-8 under a temporary name in the same folder, then put it in the place of `path`.

    Line ends are written as they stand in `text`, which may come in pieces. Folders above `path` are made.

    Raises:
        OSError: If it cannot be written; its `filename` is `path`, and what stood there stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.writelines((text,) if isinstance(text, str) else text)
                file.flush()
                os.fsync(file.fileno())  # or a power cut after the replacing could leave an empty file under the name
            os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:  # nobody knows the temporary file, and a full disk names no file at all
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Work in `folder`, which must exist, as the only process that does.

    The operating system lets go of the lock when the process ends, however it ends. Processes that it has started do
    not get the lock: new programs do not inherit the file, and forks of Python close it.

    Args:
        folder: Its file `LOCK_FILE` is what is locked.
        wait: Whether to wait, for as long as it takes, where another one is at work there.

    Raises:
        FolderInUseError: If another process, or another call in this one, is at work there, and `wait` is off.
        OSError: If the lock file cannot be made.
    """
    descriptor = _open(folder / LOCK_FILE)
    try:
        while not _take(descriptor, wait):
            if wait:  # Windows gives up after ten seconds
                continue
            raise FolderInUseError(f"another process is working in {folder}; wait for it, or use another folder")
        yield
    finally:
        _close(descriptor)  # and with it goes the lock


class LifeLine:
    """A locked file that shows others that this process lives: the operating system unlocks it at its end.

    Nothing else tells as much. A process id may belong to another process by now, and a clock says nothing of one that
    is stopped.

    Args:
        path: The file, which is made; its name is this process's own.

    Raises:
        FolderInUseError: If somebody holds it already.
        OSError: If it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = _open(path)
        if not _take(self._descriptor, wait=False):
            _close(self._descriptor)
            raise FolderInUseError(f"{path} is held by another process, or by this one already")

    def cut(self) -> None:
        """Unlock and remove the file."""
        _close(self._descriptor)
        self.path.unlink(missing_ok=True)

    @staticmethod
    def is_held(path: Path) -> bool:
        """Whether the process whose file this is lives; a file that is not there is held by nobody."""
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            return not _take(descriptor, wait=False)
        finally:
            os.close(descriptor)


_descriptors: set[int] = set()
"""Of the files that this process holds locked, or waits for."""


def _open(path: Path) -> int:
    _close_after_forks()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    _descriptors.add(descriptor)
    return descriptor


def _close(descriptor: int) -> None:
    if descriptor in _descriptors:  # not so in a fork, which has closed it
        _descriptors.remove(descriptor)
        os.close(descriptor)


@cache
def _close_after_forks() -> None:
    """Have forks close the files: a lock lives as long as any process has its file open."""

    def close_all() -> None:
        for descriptor in _descriptors:
            os.close(descriptor)
        _descriptors.clear()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=close_all)


if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int, wait: bool) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _take(descriptor: int, wait: bool) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks, as some network ones are: better unguarded than not at all
            return True
        return True
