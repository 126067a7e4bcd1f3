"""``suite.json``: which runs a folder of results is about, and what they were when the suite ended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from autotunenet.files import parse_json, write_atomically
from autotunenet_bench.results.sealing import seals_in
from autotunenet_bench.results.store import RunFolder

SUITE_FILE = "suite.json"
"""Names the runs that a folder's report is about; older runs of other settings may lie beside them."""

CHECKSUMS = "checksums"
"""Key of the SHA-256 of the events of every finished run, by run id."""


class SuiteFileError(ValueError):
    """A folder's ``suite.json`` cannot be read."""


def read_suite_file(folder: Path) -> dict[str, Any]:
    """Return what ``suite.json`` says; empty where there is none.

    Raises:
        SuiteFileError: If it is damaged, or names a run that could not be a folder in this one.
    """
    path = folder / SUITE_FILE
    if not path.exists():
        return {}
    try:
        about = parse_json(path.read_bytes())
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if not (isinstance(about, dict) and _is_sound(about)):
        raise damaged(path, "it must hold an object with texts and a list of run ids")
    return about


def damaged(path: Path, fault: str) -> SuiteFileError:
    """Return the error that says what is wrong with a ``suite.json``, and what to do about it."""
    mend = "run the config again, which writes it anew, or remove it to report every run in the folder"
    return SuiteFileError(f"{path}: this file is damaged ({fault}); {mend}")


def write_suite_file(folder: Path, about: Mapping[str, Any]) -> None:
    """Replace ``suite.json``."""
    write_atomically(folder / SUITE_FILE, json.dumps(about, indent=2) + "\n")


def kept_checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return what ``suite.json`` knows of some runs, for the file that takes its place; a damaged one knows nothing."""
    try:
        known = read_suite_file(folder).get(CHECKSUMS, {})
    except SuiteFileError:
        return {}
    return {name: known[name] for name in names if name in known}


def note_checksums(folder: Path) -> None:
    """Write the checksums of all finished runs into ``suite.json``, so that one that goes missing later is missed.

    What is noted already stays: a run that is done stays as it is.

    Raises:
        SuiteFileError: If the file is damaged.
        OSError: If it cannot be written.
    """
    about = read_suite_file(folder)
    noted = about.get(CHECKSUMS, {})
    for name in about.get("runs", []):
        seals = {} if name in noted else seals_in(RunFolder(folder / name).details())
        noted |= {name: seals["events.jsonl"]["sha256"]} if seals else {}
    write_suite_file(folder, about | {CHECKSUMS: noted})


def is_folder_name(name: str) -> bool:
    """Return whether a name is that of a folder in this one, and no path that leads elsewhere.

    >>> [is_folder_name(name) for name in ("digits-s0-ab12", "..", "a/b", "", "C:x")]
    [True, False, False, False, False]
    """
    return bool(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name))


def _is_sound(about: Mapping[str, Any]) -> bool:
    runs, checksums = about.get("runs", []), about.get(CHECKSUMS, {})
    texts = [about.get("title", ""), about.get("description", "")]
    return (
        isinstance(runs, list)
        and isinstance(checksums, dict)
        and all(isinstance(text, str) for text in [*texts, *runs, *checksums.values()])
        and all(map(is_folder_name, (*runs, *checksums)))
    )
