"""Writing a file so that a reader never sees half of it, and a folder so that only one process does."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = ".lock"
"""Held open by the process that works in a folder. The file stays behind: removing it would race with the next one."""


class FolderInUseError(RuntimeError):
    """Another process is writing results into the same folder."""


def write_atomically(path: Path, text: str) -> None:
    """Write `text` as UTF-8 under a temporary name in the same folder, then put it in the place of `path`.

    Line ends are written as they stand in `text`. Folders above `path` are made.

    Raises:
        OSError: If it cannot be written; its `filename` is `path`, and what stood there stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(text)
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

    The operating system lets go of the lock when the process ends, however it ends. Worker processes do not get the
    file (Python opens files so that a new program does not inherit them), so none of them can hold it any longer.

    Args:
        folder: Its file `LOCK_FILE` is what is locked.
        wait: Whether to wait, for as long as it takes, where another one is at work there.

    Raises:
        FolderInUseError: If another process, or another call in this one, is at work there, and `wait` is off.
        OSError: If the lock file cannot be made.
    """
    path = folder / LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not _take(descriptor, wait):
            if wait:  # Windows gives up after ten seconds
                continue
            raise FolderInUseError(f"another process is working in {folder}; wait for it, or use another folder")
        yield
    finally:
        os.close(descriptor)  # and with it goes the lock


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
