"""A file of rows that only grows: what was cut short at its end is left out, and put right by the next who appends."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from autotunenet.hpo.rows import Row, from_line, to_line

BINARY = getattr(os, "O_BINARY", 0)
"""Windows turns ends of lines into its own elsewhere."""


class JournalError(ValueError):
    """A journal cannot be read, or is that of another search."""


class RowFile:
    """Reads a file of rows bit by bit, and appends to it. Two may not append at once; see `Journal` for the lock.

    Args:
        path: The file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rewind()

    def rewind(self) -> None:
        """Read from the start next time."""
        self._offset = 0
        self._num_lines = 0

    @property
    def is_unread(self) -> bool:
        """Whether no row has been read or appended."""
        return self._num_lines == 0

    def read(self) -> list[tuple[int, Row]]:
        """Return the rows that were appended since the last call, each with the number of its line.

        Raises:
            JournalError: If a line is no row, or rows that were read are gone. A line without an end is none yet, and
                left for later.
        """
        if not self.path.exists() and self.is_unread:
            return []
        with self.path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < self._offset:
                raise JournalError(f"{self.path} is shorter than it was: somebody has changed it; start again")
            file.seek(self._offset)
            data = file.read()
        rows = []
        for line in data.split(b"\n")[:-1]:
            try:
                rows.append((self._num_lines + 1, from_line(line)))
            except ValueError as error:
                raise self.damage(self._num_lines + 1, str(error)) from error
            self._num_lines += 1
            self._offset += len(line) + 1
        return rows

    def append(self, rows: Iterable[Row]) -> list[tuple[int, Row]]:
        """Append rows behind the last one that was read, and wait until they are on the disk.

        A line that a kill has cut short goes away.

        Returns:
            What `read` will return of them elsewhere.

        Raises:
            OSError: If they cannot be written; the file then ends where it did.
        """
        data = b"".join(map(to_line, rows))
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | BINARY, 0o644)
            try:
                if os.lseek(descriptor, 0, os.SEEK_END) > self._offset:
                    os.ftruncate(descriptor, self._offset)
                os.lseek(descriptor, self._offset, os.SEEK_SET)
                _write(descriptor, data)
            except BaseException:
                os.ftruncate(descriptor, self._offset)
                raise
            finally:
                os.close(descriptor)
        except OSError as error:  # a full disk names no file
            raise OSError(error.errno, error.strerror or str(error), str(self.path)) from error
        return self.read()

    def damage(self, line: int, reason: str) -> JournalError:
        """Return the error for a line that is not as it should be."""
        return JournalError(
            f"{self.path}, line {line}: {reason}. Rows are never changed once they are written: bring the line back "
            f"from a copy, or remove it and all below it, and what they told is run again"
        )


def _write(descriptor: int, data: bytes) -> None:
    """Write all of `data`, and wait until it is on the disk."""
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)
