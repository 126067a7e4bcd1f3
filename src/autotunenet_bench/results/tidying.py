"""What lies in a folder of results and is of no use any more: runs nobody names, old checkpoints, torn temporaries."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from autotunenet.files import locked
from autotunenet_bench.results.claims import Claims
from autotunenet_bench.results.store import ResultStore
from autotunenet_bench.results.suite_file import SUITE_FILE, read_suite_file

_TEMPORARY = re.compile(r"\.(?:[\w.-]+\.(?:json|html|md|csv|tex|parquet))\.[\w]+|checkpoint\.pt\.tmp")
"""Names that `autotunenet.files.write_atomically` and checkpoints have before they are whole."""


class Kind(Enum):
    """Why something is of no use."""

    TEMPORARY = "torn temporary file"
    CHECKPOINT = "checkpoint of a finished run"
    UNFINISHED = "unfinished run that suite.json does not name"
    FINISHED = "finished run that suite.json does not name"


@dataclass(frozen=True, slots=True)
class Waste:
    """Something that may go.

    Attributes:
        path: A file, or the folder of a run.
        kind: Why.
        num_bytes: What would be free.
    """

    path: Path
    kind: Kind
    num_bytes: int


def find_waste(folder: Path) -> list[Waste]:
    """Return what may go; nothing is changed. Links are never followed, and never waste.

    Args:
        folder: As a suite left it. Without a ``suite.json`` no run is one that nobody names.

    Raises:
        SuiteFileError: If ``suite.json`` is damaged.
    """
    about = read_suite_file(folder)
    named = set(about.get("runs", []))
    found = [_waste(path, Kind.TEMPORARY) for path in _temporaries(folder)]
    for run in ResultStore(folder).folders():
        if run.path.is_symlink():
            continue
        if about and run.path.name not in named:
            found.append(_waste(run.path, Kind.FINISHED if run.is_done() else Kind.UNFINISHED))
            continue
        found += [_waste(path, Kind.TEMPORARY) for path in _temporaries(run.path)]
        if (run.path / "checkpoint.pt").exists() and run.is_done():
            found.append(_waste(run.path / "checkpoint.pt", Kind.CHECKPOINT))
    return found


def remove_waste(folder: Path, *, finished: bool = False) -> list[Waste]:
    """Remove what `find_waste` finds; return what was removed.

    Args:
        folder: As a suite left it.
        finished: Whether finished runs that nobody names go too.

    Raises:
        FolderInUseError: If another process is working there: what it is writing looks torn too.
        SuiteFileError: If ``suite.json`` is damaged.
        OSError: If something cannot be removed.
    """
    claims = Claims(folder)
    claims.check_idle()
    # A suite may begin in this very moment: it waits for the first claim, and keeps off runs that are claimed.
    with locked(folder), claims.hold_soon(SUITE_FILE):
        waste = [one for one in find_waste(folder) if finished or one.kind is not Kind.FINISHED]
        for one in waste:
            _remove(one, folder, claims)
    return waste


def _remove(one: Waste, folder: Path, claims: Claims) -> None:
    with claims.hold_soon(one.path.relative_to(folder).parts[0]):
        if one.path.is_dir():
            shutil.rmtree(one.path)
        else:
            one.path.unlink(missing_ok=True)


def _temporaries(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if _TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            yield path


def _waste(path: Path, kind: Kind) -> Waste:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return Waste(path, kind, sum(file.lstat().st_size for file in files))
