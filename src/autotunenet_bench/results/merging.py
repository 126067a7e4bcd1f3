"""One folder of results from several, as when a suite was shared out to several machines.

Equal specs must give equal numbers, whoever ran them. So a run that two folders have is taken once where its rows are
equal, apart from clocks and the machine; where they are not, nothing is merged until somebody says whose to take.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotunenet.files import locked
from autotunenet_bench.results.claims import Claims
from autotunenet_bench.results.store import ResultStore, RunFolder
from autotunenet_bench.results.suite_file import CHECKSUMS, note_checksums, read_suite_file, write_suite_file
from autotunenet_bench.results.verifying import Soundness, verify_folder

COPIED = ("spec.json", "events.jsonl", "status.json", "checkpoint.pt", "error.txt", "output.txt")
"""Files of a run that are taken along."""

NUM_TOLD = 5
"""Runs that a message names before it counts the rest."""

_ORDER = {"missing": 0, "running": 1, "interrupted": 1, "failed": 2, "done": 3}
"""Which of two states of one run is kept: the one that got farther."""


class MergeError(ValueError):
    """Folders cannot be merged; the message says why, and names the runs."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What was merged.

    Attributes:
        folder: The new folder.
        num_runs: Runs in it.
        num_same: Runs that more than one folder had.
        preferred: Runs whose numbers differed, and of which one was taken because it was said whose.
        remarks: What is to be known, a sentence each.
    """

    folder: Path
    num_runs: int
    num_same: int
    preferred: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())


def merge_folders(sources: Sequence[Path], out: Path, *, prefer: Path | None = None) -> Merged:
    """Copy the runs of several folders into a new one; the sources stay as they are.

    Args:
        sources: At least two folders, as suites left them.
        out: The new folder. It appears when it is whole.
        prefer: The one of `sources` whose run is taken where numbers differ; None: that is refused.

    Raises:
        MergeError: If a source has no runs or broken ones; if one run has different numbers in two of them; if `out`
            is there already; or if `prefer` is no source.
        SuiteFileError: If a ``suite.json`` is damaged.
        FolderInUseError: If another process is working in a source.
        OSError: If something cannot be read or written.
    """
    _check_places(sources, out, prefer)
    with ExitStack() as stack:
        for source in sources:
            Claims(source).check_idle()
            if os.access(source, os.W_OK):  # nobody works in a folder that cannot be written to
                stack.enter_context(locked(source))
        abouts = [read_suite_file(source) for source in sources]
        _check_sound(sources)
        runs = {source: _runs_of(source, about) for source, about in zip(sources, abouts, strict=True)}
        chosen, same, preferred = _choose(runs, prefer)
        about, remarks = _merged_about(runs, abouts)
        _build(chosen, about, out)
    return Merged(out, len(chosen), same, tuple(preferred), tuple(remarks))


def _check_places(sources: Sequence[Path], out: Path, prefer: Path | None) -> None:
    places = [source.resolve() for source in sources]
    if len(places) < 2 or len(set(places)) < len(places):
        raise MergeError("name at least two folders, each once")
    if prefer is not None and prefer.resolve() not in places:
        raise MergeError(
            f"{prefer}: the folder to prefer is none of those to merge; name one of {', '.join(map(str, sources))}"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MergeError(f"{out}: this is there already; name a folder that is not")
    for source, place in zip(sources, places, strict=True):
        if place == out.resolve() or place in out.resolve().parents:
            raise MergeError(f"{out}: the new folder would lie in {source}; name one beside it")
        if not ResultStore(source).folders():
            raise MergeError(
                f"{source}: there are no runs in this folder; name one such as results/<name of the config>"
            )


def _check_sound(sources: Sequence[Path]) -> None:
    """Refuse files that are not what they were, and links, which could lead to anything."""
    faults = []
    for source in sources:
        found = verify_folder(source)
        faults += [*found.faults, *(fault for one in found.of(Soundness.BROKEN) for fault in one.faults)]
        for run in ResultStore(source).folders():
            faults += [f"{path}: this is a link; put what it leads to in its place" for path in _links(run)]
    if faults:
        more = f"\nand {len(faults) - NUM_TOLD} more" if faults[NUM_TOLD:] else ""
        raise MergeError("\n".join(faults[:NUM_TOLD]) + more)


def _links(run: RunFolder) -> Iterator[Path]:
    for path in (run.path, *(run.path / name for name in COPIED)):
        if path.is_symlink():
            yield path


def _runs_of(source: Path, about: Mapping[str, Any]) -> list[RunFolder]:
    """Return the runs of a folder: those that its ``suite.json`` names, all where there is none."""
    named = set(about.get("runs", []))
    return [run for run in ResultStore(source).folders() if not about or run.path.name in named]


def _choose(
    runs: Mapping[Path, Sequence[RunFolder]], prefer: Path | None
) -> tuple[dict[str, RunFolder], int, list[str]]:
    """Return the runs to take by id; how many more than one source had; those that only `prefer` has decided."""
    ranked = sorted(runs, key=lambda source: prefer is None or source.resolve() != prefer.resolve())
    chosen: dict[str, RunFolder] = {}
    same: set[str] = set()
    different: dict[str, str] = {}
    for source in ranked:
        for run in runs[source]:
            name = run.path.name
            if name not in chosen:
                chosen[name] = run
                continue
            same.add(name)
            before = chosen[name]
            if run.is_done() and before.is_done():
                if _numbers(before) != _numbers(run):
                    different.setdefault(name, _what_differs(before, run))
            elif _ORDER[run.status()] > _ORDER[before.status()]:
                chosen[name] = run
    if different and prefer is None:
        told = [f"{name}: {words}" for name, words in list(different.items())[:NUM_TOLD]]
        more = f"\nand {len(different) - NUM_TOLD} more" if len(different) > NUM_TOLD else ""
        raise MergeError(
            f"{len(different)} runs of equal specs have different numbers, which must not be:\n"
            + "\n".join(told)
            + f"{more}\nFind out why (other versions, another processor); or say whose to take with --prefer DIR"
        )
    order = {run.path.name: None for some in runs.values() for run in some}
    return {name: chosen[name] for name in order}, len(same), list(different)


def _numbers(run: RunFolder) -> list[dict[str, Any]]:
    """Return the rows without what clocks and machines have touched, written so that NaN is equal to itself."""
    rows = [{key: row[key] for key in row.keys() - {"clock", "environment", "device"}} for row in run.events()]
    return [json.loads(json.dumps(row), parse_constant=str) for row in rows]


def _what_differs(one: RunFolder, other: RunFolder) -> str:
    """Return in words where two runs part, and what of their machines does."""
    rows = zip(_numbers(one), _numbers(other), strict=False)
    number = next((number for number, (a, b) in enumerate(rows, start=1) if a != b), None)
    where = f"from row {number} of events.jsonl on" if number else "in the number of their rows"
    first, second = (next(run.events(), {}).get("environment") or {} for run in (one, other))
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    machines = f"; {', '.join(f'{n} {first.get(n)} and {second.get(n)}' for n in names)}" if names else ""
    return f"{one.path.parent} and {other.path.parent} differ {where}{machines}"


def _merged_about(
    runs: Mapping[Path, Sequence[RunFolder]], abouts: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], list[str]]:
    """Return the ``suite.json`` of the whole, and remarks."""
    known = [about for about in abouts if about]
    about: dict[str, Any] = {key: value for key, value in (known[0] if known else {}).items() if key != CHECKSUMS}
    about.setdefault("title", next(iter(runs)).name)
    remarks = []
    for key in ("title", "description", "experiment", "departure"):
        if any(one.get(key) != known[0].get(key) for one in known[1:]):
            remarks.append(f"The folders differ in the {key} of their suites; that of the first is kept")
    configs = [one.get("config") for one in known]
    about.pop("config", None)
    if (config := _joined_config(configs)) is not None and len(known) == len(abouts):
        about["config"] = config
    else:
        about["no_config"] = "it was merged from folders of more than one config"
        remarks.append("The folders are of more than one config, so the new one cannot be resumed; resume them instead")
    # Those of a suite that have not begun are runs of the whole too.
    named = [
        about.get("runs") or [run.path.name for run in some] for about, some in zip(abouts, runs.values(), strict=True)
    ]
    about["runs"] = list(dict.fromkeys(name for names in named for name in names))
    return about, remarks


def _joined_config(configs: Sequence[Any]) -> dict[str, Any] | None:
    """Return the config that asks for all that the others ask for, if they differ in their seeds at most."""
    if not configs or not all(isinstance(config, dict) and isinstance(config.get("seeds"), list) for config in configs):
        return None
    rests = [{key: value for key, value in config.items() if key != "seeds"} for config in configs]
    if any(rest != rests[0] for rest in rests[1:]):
        return None
    seeds = dict.fromkeys(seed for config in configs for seed in config["seeds"])
    return {**configs[0], "seeds": list(seeds)}


def _build(chosen: Mapping[str, RunFolder], about: Mapping[str, Any], out: Path) -> None:
    """Copy everything beside `out`, then put it in its place, so that nobody sees half of it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        for name, run in chosen.items():
            (place / name).mkdir()
            for file in COPIED:
                if (run.path / file).exists():
                    shutil.copyfile(run.path / file, place / name / file)
        write_suite_file(place, about)
        note_checksums(place)
        place.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        if out.exists():
            out.rmdir()  # it is empty
        place.rename(out)
    except BaseException:
        shutil.rmtree(place)
        raise
