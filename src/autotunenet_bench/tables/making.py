"""From the folder of a finished offline search to a table of outcomes."""

from __future__ import annotations

import hashlib
import math
import platform
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from typing import Any

import autotunenet_bench
from autotunenet.files import write_atomically
from autotunenet.hpo import Outcome, Trial, TrialState
from autotunenet_bench.config import Departure, HpoConfig
from autotunenet_bench.executors.base import num_cores
from autotunenet_bench.hpo.folder import HpoAbout, read_about
from autotunenet_bench.hpo.reporting import read_study
from autotunenet_bench.report.hpo.records import Study, point_key
from autotunenet_bench.results import Trace
from autotunenet_bench.tables.provenance import Provenance
from autotunenet_bench.tables.table import Point, TableError, to_text


@dataclass(frozen=True)
class TableFiles:
    """The files of a table, and how many points it has."""

    csv: Path
    json: Path
    num_points: int


def make_table(folder: Path, out: Path) -> TableFiles:
    """Write the table of a folder in which every point of a finite space was trained.

    Args:
        folder: As `autotunenet_bench.hpo.suite.run_hpo` left it.
        out: The CSV file; its provenance goes beside it, under the ending ``.json``.

    Raises:
        TableError: If the space has no end of points, or one of them has not been trained.
        HpoFileError: If it is no such folder.
        OSError: If a file cannot be written.
    """
    about, study = read_about(folder), read_study(folder)
    outcomes = _outcomes(study)
    text = to_text(study.space, outcomes)
    provenance = _provenance(about, study, hashlib.sha256(text.encode("utf-8")).hexdigest())
    files = TableFiles(out.with_suffix(".csv"), out.with_suffix(".json"), len(outcomes))
    write_atomically(files.csv, text)
    write_atomically(files.json, provenance.model_dump_json(indent=2, exclude_defaults=True) + "\n")
    return files


def _outcomes(study: Study) -> dict[Point, Outcome]:
    """Return the outcome of every point, in the order of the space."""
    if study.space.num_points is None:
        raise TableError("a table needs a space with finitely many points; give values or choices in place of ranges")
    ended = {point_key(trial.params): trial for run in study.runs for trial in run.trials}
    found: dict[Point, Outcome] = {}
    missing = 0
    for index in range(study.space.num_points):
        params = study.space.point_at(index)
        trial = ended.get(point_key(params))
        if trial is None or not trial.metrics:
            missing += 1
        else:
            found[tuple(params.values())] = _outcome(trial, study)
    if missing:
        raise TableError(
            f"{missing} of {study.space.num_points} points have not been trained to their end; a table needs all of "
            "them: run the config with the search grid"
        )
    return found


def _outcome(trial: Trial, study: Study) -> Outcome:
    metrics = {key: value for key, value in trial.metrics.items() if key != "runs"}
    values = [trace.epochs[-1].val[study.goal.metric] for trace in _traces(trial, study)]
    spread = {f"{study.goal.name}_std": stdev(values)} if len(values) > 1 else {}
    value = trial.value if trial.state is TrialState.DONE and trial.value is not None else math.nan
    return Outcome(value, {**metrics, **spread}, trial.cost)


def _traces(trial: Trial, study: Study) -> list[Trace]:
    return [study.traces[name] for name in trial.metrics["runs"]]


def _provenance(about: HpoAbout, study: Study, sha256: str) -> Provenance:
    config = about.resolved()
    traces = list(study.traces.values())
    first = traces[0].spec
    return Provenance(
        title=f"{about.title}, scale {scale.name}" if (scale := about.departure.scale) else about.title,
        task=_task(first["task"], config),
        regime=first["regime"],
        controller=first["controller"],
        num_epochs=config.num_epochs,
        space=config.space,
        objective=config.objective,
        direction=config.goal.direction,
        training_seeds=config.training_seeds,
        num_threads=config.num_threads,
        data=first["data"],
        protocol=first["protocol"],
        versions=_versions(traces),
        machine=f"{platform.system()}, {platform.machine()}, {num_cores()} cores",
        commit=source_commit(),
        command=_command(about.name, about.departure),
        sha256=sha256,
    )


def _task(task: Mapping[str, Any], config: HpoConfig) -> dict[str, Any]:
    """Return a task without the keys that are searched."""
    searched = {name.removeprefix("task.") for name in config.space if name.startswith("task.")}
    return {key: value for key, value in task.items() if key not in searched and value is not None}


def _versions(traces: list[Trace]) -> dict[str, str]:
    """Return the versions that all trainings have.

    Raises:
        TableError: If some were made with others: a table is of one kind.
    """
    versions = dict(traces[0].environment)
    if any(dict(trace.environment) != versions for trace in traces):
        raise TableError("the trainings were made with several versions of packages; train all with one (--fresh)")
    return versions


def _command(name: str, departure: Departure) -> str:
    """Return the command line that trained."""
    words = ["autotunenet-bench", "hpo", "--config", name]
    words += ["--scale", departure.scale.name] if departure.scale else []
    words += ["--full"] if departure.full else []
    words += [word for text in departure.overrides for word in ("--set", text)]
    return shlex.join(words)


def source_commit() -> str:
    """Return the commit of the source that runs; empty where it is no checkout, or git is not there."""
    here = Path(autotunenet_bench.__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
