"""Decoded arrays on disk, mapped into memory: made once, shared by every process, and never half written.

An entry is a folder ``<name>-<hash of the key>`` in `cache_dir`. In it lie the lock and, in ``arrays/``, one ``.npy``
file an array and a ``manifest.json`` with the size and the SHA-256 of each. The folder ``arrays/`` comes to its name by
one renaming when all of it is on disk, so it is there and whole, or it is not there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from autotunenet.files import LOCK_FILE, locked

Arrays = Mapping[str, NDArray[Any]]

CACHE_DIR_VARIABLE = "AUTOTUNENET_CACHE_DIR"
"""Environment variable with the folder of the cache, if it is not to be the platform's usual one."""

FORMAT_VERSION = 1
"""Of the files of an entry. Entries of another version are never looked at."""

_ARRAYS = "arrays"
_MANIFEST = "manifest.json"
_NAME = re.compile(r"[a-z0-9_][a-z0-9_-]*")

_log = logging.getLogger(__name__)
_verified: set[tuple[str, int, int, int]] = set()  # files whose content this process has read and found right
_warned: set[str] = set()  # caches that this process has found to be of no use, as the variable names them


class _BadEntryError(Exception):
    """An entry is there and is not what was written. The message says which file and how."""


def cache_dir() -> Path:
    """Return the folder of the cache, which need not exist.

    That is ``AUTOTUNENET_CACHE_DIR``, else ``autotunenet`` in ``XDG_CACHE_HOME``, else in the platform's usual place:
    ``~/.cache``, on macOS ``~/Library/Caches``, on Windows ``%LOCALAPPDATA%``.

    Raises:
        RuntimeError: If none of these is set and the user has no home.
    """
    if folder := os.environ.get(CACHE_DIR_VARIABLE, "").strip():
        return Path(folder).expanduser().absolute()
    if base := os.environ.get("XDG_CACHE_HOME", "").strip():
        return Path(base).expanduser().absolute() / "autotunenet"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "autotunenet"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA", "").strip()):
        return Path(local) / "autotunenet" / "Cache"
    return Path.home() / ".cache" / "autotunenet"


def cached_arrays(name: str, key: Mapping[str, Any], build: Callable[[], Arrays]) -> Arrays:
    """Return what `build` returns, from the cache if it has been built before.

    Processes that ask for the same entry at once build it once: one builds, the others wait for it. An entry that is
    damaged is built again, with a warning that names the file. Where the cache cannot be written, because the disk is
    full or the folder is read-only, the arrays are built in memory, with one warning in the process.

    Args:
        name: Of the entry, for whoever looks into the folder: lower-case letters, digits, ``-`` and ``_``.
        key: All that the arrays depend on, as JSON can hold it; hashes of the source files, not their paths.
        build: Makes the arrays, by name (as `name`); they may be of any type but object. It is called at most once.

    Returns:
        The arrays, read-only.

    Raises:
        ValueError: If a name does not fit, or an array holds Python objects.
        TypeError: If JSON cannot hold `key`.
    """
    _check_names(name)
    key = json.loads(json.dumps(dict(key), sort_keys=True))  # as it comes back from the manifest
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, name, key], sort_keys=True).encode()).hexdigest()
    with ExitStack() as stack:
        try:
            root = cache_dir()
            entry = root / f"{name}-{digest[:20]}"
            with suppress(OSError, _BadEntryError):  # looked at again under the lock, where nobody else is at work
                if (found := _open(entry, key)) is not None:
                    return found
            entry.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(entry, wait=True))
        except (OSError, RuntimeError) as error:
            _warn_of_no_cache(error)
            return _read_only(build())
        return _open_or_build(entry, key, build)


class _Writer:
    """Takes down the size and digest of what was to be written.

    numpy writes into a plain file past Python, and on a full disk it may cut the end off and not say so.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.size, self.digest = file, 0, hashlib.sha256()

    def write(self, block: bytes) -> int:
        self.size += len(block)
        self.digest.update(block)
        return self._file.write(block)


def _open_or_build(entry: Path, key: Mapping[str, Any], build: Callable[[], Arrays]) -> Arrays:
    """Do so as the only process that works in `entry`."""
    try:
        if (found := _open(entry, key)) is not None:
            return found
    except (OSError, _BadEntryError) as error:
        _log.warning("the cache entry %s is damaged and is built again: %s", entry, error)
    _log.info(
        "%s: decoded for the first time, and kept in %s; this may take a minute", entry.name.rpartition("-")[0], entry
    )
    arrays = build()
    _check_names(*arrays)
    try:
        _write(entry, key, arrays)
        found = _open(entry, key)
    except (OSError, _BadEntryError) as error:
        _warn_of_no_cache(error)
        return _read_only(arrays)
    return _read_only(arrays) if found is None else found  # None: somebody has cleared the cache just now


def _open(entry: Path, key: Mapping[str, Any]) -> Arrays | None:
    """Map the arrays of an entry; None if it has not been built."""
    folder = entry / _ARRAYS
    if not folder.is_dir():
        return None
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        files = {str(name): (int(file["size"]), str(file["sha256"])) for name, file in manifest["arrays"].items()}
        if manifest["key"] != key:
            raise _BadEntryError(f"{folder / _MANIFEST} is of another key")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _BadEntryError(f"{folder / _MANIFEST} cannot be read ({error!r})") from error
    return {name: _open_array(folder / f"{name}.npy", size, sha256) for name, (size, sha256) in files.items()}


def _open_array(path: Path, size: int, sha256: str) -> NDArray[Any]:
    status = path.stat()
    if status.st_size != size:
        raise _BadEntryError(f"{path} has {status.st_size} bytes instead of {size}")
    seen = (str(path), status.st_ino, status.st_mtime_ns, size)
    if seen not in _verified:
        if (found := _sha256(path)) != sha256:
            raise _BadEntryError(f"{path} has the SHA-256 {found} instead of {sha256}")
        _verified.add(seen)
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise _BadEntryError(f"{path} cannot be read ({error})") from error
    return array.view(np.ndarray)


def _write(entry: Path, key: Mapping[str, Any], arrays: Arrays) -> None:
    """Write an entry anew. What lies there, from a builder that was killed or as a damaged entry, is removed first."""
    for path in entry.iterdir():
        if path.name != LOCK_FILE:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    building = entry / f"building-{secrets.token_hex(4)}"
    building.mkdir()
    try:
        files = {}
        for name, array in arrays.items():
            with (building / f"{name}.npy").open("wb") as file:
                writer = _Writer(file)
                np.save(writer, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            files[name] = {"size": writer.size, "sha256": writer.digest.hexdigest()}
        with (building / _MANIFEST).open("w", encoding="utf-8") as text:
            json.dump({"format_version": FORMAT_VERSION, "key": key, "arrays": files}, text, indent=2)
            text.flush()
            os.fsync(text.fileno())
        _sync_folder(building)
        os.replace(building, entry / _ARRAYS)
        _sync_folder(entry)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk, where the system can do that: Windows and some network disks cannot."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_names(*names: str) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"a name in the cache is made of a-z, 0-9, - and _, got {name!r}")


def _read_only(arrays: Arrays) -> Arrays:
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def _warn_of_no_cache(error: Exception) -> None:
    place = os.environ.get(CACHE_DIR_VARIABLE, "")
    if place in _warned:
        return
    _warned.add(place)
    _log.warning(
        "decoded data cannot be kept in the cache (%s): every process decodes them anew and holds them in its memory; "
        "make room, make the folder writable, or name another one in %s",
        error,
        CACHE_DIR_VARIABLE,
    )
