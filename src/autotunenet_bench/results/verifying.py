"""Is a folder of results what it was when its runs ended? Finds truncated, edited and missing files, and names them.

What can be found: a run id is a hash of ``spec.json``, ``status.json`` has the checksums of the files of a finished
run, ``suite.json`` those of all runs. What cannot: an edit by somebody who works out all of these anew. Against that
there is `Verification.digest`, one number for the whole folder, which can be kept where nobody else can write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from autotunenet_bench.results.run_id import run_id_of
from autotunenet_bench.results.sealing import seal_fault, seals_in
from autotunenet_bench.results.store import CUT_OFF, ResultStore, RunFolder
from autotunenet_bench.results.suite_file import CHECKSUMS, SUITE_FILE, SuiteFileError, read_suite_file

RESTORE = "restore the file from a copy, or remove the folder and resume, which runs it again"
NO_CHECKSUMS = "it was made before checksums were kept, so an edit of it cannot be found"


class Soundness(Enum):
    """What can be said of a run."""

    INTACT = "intact"
    UNFINISHED = "unfinished"
    NOT_CHECKABLE = "not checkable"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one run.

    Attributes:
        run_id: Name of its folder.
        soundness: What can be said of it.
        faults: What is wrong, a sentence each: which file, what, and what to do. Of one that is not checkable: why.
        sha256: Of its events as they are now, if it is finished and has checksums; else empty.
    """

    run_id: str
    soundness: Soundness
    faults: tuple[str, ...] = ()
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found in a folder.

    Attributes:
        folder: Which.
        findings: One a run: those that ``suite.json`` names, in its order, then the others.
        faults: What is wrong with the folder itself.
        unnamed: Runs that lie there and that ``suite.json`` does not name; no fault.
    """

    folder: Path
    findings: tuple[Finding, ...]
    faults: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()

    def of(self, soundness: Soundness) -> list[Finding]:
        """Return the findings of one kind."""
        return [finding for finding in self.findings if finding.soundness is soundness]

    @property
    def num_not_checkable(self) -> int:
        """Runs of which nothing is known but that their rows are whole."""
        return len(self.of(Soundness.NOT_CHECKABLE))

    @property
    def is_sound(self) -> bool:
        """Whether nothing is broken."""
        return not self.faults and not self.of(Soundness.BROKEN)

    @property
    def digest(self) -> str:
        """SHA-256 over ids and events of all finished runs with checksums: another number, other results."""
        lines = sorted(f"{one.run_id} {one.sha256}\n" for one in self.findings if one.sha256)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def verify_folder(folder: Path) -> Verification:
    """Look at every file of every run of a folder; nothing is changed.

    Args:
        folder: As a suite left it. Another process may be at work in it.

    Raises:
        OSError: If a file is there and cannot be read.
    """
    about, faults = _about(folder)
    named: list[str] = about.get("runs", [])
    checksums: Mapping[str, str] = about.get(CHECKSUMS, {})
    found = [run.path.name for run in ResultStore(folder).folders()]
    findings = [_verify(folder, name, checksums.get(name, "")) for name in dict.fromkeys([*named, *checksums, *found])]
    known = set(named)
    unnamed = tuple(name for name in found if name not in known) if about else ()
    return Verification(folder, tuple(findings), tuple(faults), unnamed)


def _about(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return what ``suite.json`` says, and what is wrong with it."""
    try:
        about = read_suite_file(folder)
    except SuiteFileError as error:
        return {}, [str(error)]
    lost = sorted(about.get(CHECKSUMS, {}).keys() - set(about.get("runs", [])))
    mend = "restore the file from a copy, or run the config again, which writes it anew"
    path = folder / SUITE_FILE
    return about, [f"{path}: it has a checksum of {name} and does not name it: it was edited; {mend}" for name in lost]


def verify_run(run: RunFolder, noted: str = "") -> Finding:
    """Look at every file of one run; nothing is changed.

    Args:
        run: Its folder.
        noted: SHA-256 of its events when the suite ended; empty where that is not known.

    Raises:
        OSError: If a file is there and cannot be read.
    """
    name, details = run.path.name, run.details()
    if not run.path.exists():
        words = "it was finished when the suite ended, and is gone; restore it from a copy, or resume to run it again"
        gone = (f"{run.path}: this folder is missing: {words}",)
        return Finding(name, Soundness.BROKEN, gone) if noted else Finding(name, Soundness.UNFINISHED)
    faults = [*_faults_of_spec(run), *_faults_of_status(run, details, noted)]
    seals = seals_in(details) if details.get("state") == "done" else {}
    if seals:
        sealed = {file: seal_fault(run.path / file, seal) for file, seal in seals.items()}
        faults += [f"{run.path / file}: {fault}; {RESTORE}" for file, fault in sealed.items() if fault]
        soundness = Soundness.BROKEN if faults else Soundness.INTACT
        return Finding(name, soundness, tuple(dict.fromkeys(faults)), "" if faults else seals["events.jsonl"]["sha256"])
    faults += _faults_of_rows(run, details)
    if faults:
        return Finding(name, Soundness.BROKEN, tuple(faults))
    if details.get("state") == "done":
        return Finding(name, Soundness.NOT_CHECKABLE, (f"{run.path}: {NO_CHECKSUMS}",))
    return Finding(name, Soundness.UNFINISHED)


def _verify(folder: Path, name: str, noted: str) -> Finding:
    """Verify a run; once more if it has gone on meanwhile, as in a folder where another process is at work."""
    run = RunFolder(folder / name)
    before = run.details()
    finding = verify_run(run, noted)
    if finding.soundness is Soundness.BROKEN and run.details() != before:
        return verify_run(run, noted)
    return finding


def _faults_of_spec(run: RunFolder) -> Iterator[str]:
    path = run.path / "spec.json"
    try:
        spec = run.spec()
    except FileNotFoundError:
        yield f"{path}: this file is missing; {RESTORE}"
        return
    except ValueError as error:
        yield str(error)
        return
    try:
        found = run_id_of(spec)
    except (KeyError, TypeError):
        found = ""
    if found != run.path.name:
        other = f"its values are those of the run {found}" if found else "it is no spec of a run"
        yield f"{path}: this file was edited, or its folder renamed: {other}; {RESTORE}"


def _faults_of_status(run: RunFolder, details: Mapping[str, Any], noted: str) -> Iterator[str]:
    path, state = run.path / "status.json", run.status()
    if state == "missing" and (path.exists() or _has_ended(run)):
        yield f"{path}: this file is {'damaged' if path.exists() else 'missing'}; {RESTORE}"
    if not noted:
        return
    if state != "done":
        yield f"{path}: the run was finished when the suite ended, and is {state} by this file; {RESTORE}"
    elif (sha256 := seals_in(details).get("events.jsonl", {}).get("sha256")) != noted:
        how = "has another checksum of the events than" if sha256 else "has no checksums, unlike"
        yield f"{path}: this file {how} suite.json: it was edited, or the run was done again elsewhere; {RESTORE}"


def _has_ended(run: RunFolder) -> bool:
    try:
        return any(event.get("event") == "end" for event in run.events())
    except ValueError:
        return False


def _faults_of_rows(run: RunFolder, details: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with rows and checkpoint, which is all that can be looked at without checksums."""
    try:
        for event in run.events():
            json.dumps(event)
        if details.get("state") == "done":
            run.trace()
            if not run.is_done():
                yield f"{run.path}: {CUT_OFF}"
        else:
            run.check_checkpoint()
    except (AttributeError, ValueError) as error:
        yield str(error) if str(run.path) in str(error) else f"{run.events_path}: {error}"
    except FileNotFoundError:
        return  # its spec is not there, which is said already
