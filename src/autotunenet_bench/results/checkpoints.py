"""The file of a checkpoint: replaced as a whole, read without pickle, and refused by its name where it is damaged."""

from __future__ import annotations

import errno
import os
import zipfile
from pathlib import Path
from typing import Any


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Replace a checkpoint, and wait until it is on the disk.

    Raises:
        OSError: If it cannot be written; its `filename` is `path`, and what stood there stays as it was.
    """
    import torch

    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave half a file under the good name
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        # Torch tells of a full disk as of an unexpected position in a file; and there is no space for half of one.
        temporary.unlink(missing_ok=True)
        raise OSError(cause.errno, cause.strerror or str(cause), str(path)) from None


def read_checkpoint(path: Path) -> tuple[int, str | None, dict[str, Any]]:
    """Return length and SHA-256 of the events at the time of a checkpoint, the latter None in older ones; its state.

    Raises:
        ValueError: If it is damaged.
        OSError: If it cannot be read, which says nothing about its content.
    """
    import torch

    try:
        _check_sums(path)
        saved = torch.load(path, weights_only=True, map_location="cpu")
        sha256 = saved.get("events_sha256")
        return int(saved["num_event_bytes"]), None if sha256 is None else str(sha256), dict(saved["state"])
    except MemoryError:
        raise
    except Exception as error:  # torch raises many kinds, by where the damage is
        # EINVAL: torch looks for the end of a file that was cut before its beginning.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path}: this checkpoint is broken ({reason}); remove it to begin this run anew") from error


def _check_sums(path: Path) -> None:
    """Check the checksums of the parts of a checkpoint, which torch writes and does not look at."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if name := archive.testzip():
                raise ValueError(f"the checksum of its part {name} is wrong")
