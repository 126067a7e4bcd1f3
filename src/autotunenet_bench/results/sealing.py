"""Checksums of the files of a finished run, by which a later change of them is found.

They are no signature: whoever can write into the folder can also work them out anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

SEALED = ("spec.json", "events.jsonl")
"""Files of a run that never change after its end."""

_CHUNK = 1 << 20


def seal_of(path: Path, num_bytes: int | None = None) -> dict[str, Any]:
    """Return the size of a file in bytes and its SHA-256, as ``status.json`` keeps them.

    Args:
        path: The file.
        num_bytes: Only so much of its beginning; None: all of it.

    Raises:
        OSError: If it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size if num_bytes is None else num_bytes
        num_bytes = 0
        while chunk := file.read(min(left, _CHUNK)):
            digest.update(chunk)
            num_bytes += len(chunk)
            left -= len(chunk)
    return {"bytes": num_bytes, "sha256": digest.hexdigest()}


def seals_in(details: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the seals that a ``status.json`` holds, by file; empty for a run of before there were any.

    >>> seals_in({"state": "done"})
    {}
    >>> seals_in({"state": "done", "files": {"spec.json": {"bytes": 2, "sha256": "ab"}, "events.jsonl": None}})
    {}
    """
    files = details.get("files")
    if not isinstance(files, Mapping):
        return {}
    seals = {name: dict(seal) for name in SEALED if _is_seal(seal := files.get(name))}
    return seals if len(seals) == len(SEALED) else {}


def seal_fault(path: Path, seal: Mapping[str, Any]) -> str:
    """Return what is wrong with a file, in words; empty where it is as it was sealed.

    Raises:
        OSError: If it is there and cannot be read.
    """
    return _difference(seal_of(path), seal) if path.exists() else "it is missing"


def content_fault(content: bytes, seal: Mapping[str, Any]) -> str:
    """Return what is wrong with the content of a file, as `seal_fault`.

    >>> content_fault(b"{", {"bytes": 2, "sha256": "ab"})
    'it was truncated: it had 2 bytes at the end of the run and has 1'
    """
    return _difference({"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}, seal)


def _difference(found: Mapping[str, Any], seal: Mapping[str, Any]) -> str:
    if found["bytes"] < seal["bytes"]:
        return f"it was truncated: it had {seal['bytes']} bytes at the end of the run and has {found['bytes']}"
    if found["bytes"] > seal["bytes"]:
        return f"it was written to after the end of the run: it had {seal['bytes']} bytes and has {found['bytes']}"
    if found["sha256"] != seal["sha256"]:
        return "it was edited, or bits of it were lost: its SHA-256 is another than at the end of the run"
    return ""


def has_sealed_sizes(folder: Path, seals: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether all sealed files are there in their sizes; nothing is read, so it costs next to nothing."""
    try:
        return all((folder / name).stat().st_size == seal["bytes"] for name, seal in seals.items())
    except FileNotFoundError:
        return False


def _is_seal(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and isinstance(value.get("bytes"), int) and isinstance(value.get("sha256"), str)
