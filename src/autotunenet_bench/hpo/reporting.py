"""From a folder of an offline search to its report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from autotunenet.hpo import JournalError, Trial
from autotunenet_bench.config import HpoConfig
from autotunenet_bench.hpo.folder import HPO_FILE, HpoAbout, HpoFileError, SearchEntry, read_about, read_trials
from autotunenet_bench.references import importing_nothing
from autotunenet_bench.report.departure import departure_words
from autotunenet_bench.report.hpo import Goal, HpoReportPaths, SearchRun, Study, write_hpo_report
from autotunenet_bench.results import RunFolder, Trace
from autotunenet_bench.results.suite_file import is_folder_name
from autotunenet_bench.suite import reportable


@dataclass(frozen=True)
class HpoResult:
    """What an offline search came to.

    Attributes:
        folder: Where everything lies.
        study: The searches and their trainings.
        report: The files that were written.
    """

    folder: Path
    study: Study
    report: HpoReportPaths

    @property
    def num_unfinished(self) -> int:
        """How many searches have had fewer trials than they were to have, and not for want of points."""
        num_points = self.study.space.num_points
        wanted = [min(run.num_trials, num_points or run.num_trials) for run in self.study.runs]
        return sum(len(run.trials) < number for run, number in zip(self.study.runs, wanted, strict=True))


def rebuild_hpo_report(folder: Path, failures: Mapping[str, str] | None = None) -> HpoResult:
    """Write the report of a folder from the searches and trainings that lie in it.

    Args:
        folder: As `autotunenet_bench.hpo.suite.run_hpo` left it, finished or not.
        failures: What failed just now, by the name of a folder.

    Raises:
        HpoFileError: If ``hpo.json`` is missing or damaged.
        OSError: If the report cannot be written.
    """
    study = read_study(folder, failures)
    return HpoResult(folder, study, write_hpo_report(study, folder))


def read_study(folder: Path, failures: Mapping[str, str] | None = None) -> Study:
    """Read the searches and trainings of a folder; no module is imported for what it names.

    Raises:
        HpoFileError: If ``hpo.json`` is missing or damaged, or names a class of a module that is not imported yet.
    """
    about = read_about(folder)
    try:
        with importing_nothing():
            config = about.resolved()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]["msg"]
        rule = f"its config cannot be used here ({error.error_count()} faults, the first: {first})"
        raise HpoFileError(f"{folder / HPO_FILE}: {rule}; run the config again, which writes it anew") from error
    faults = dict(failures or {})
    runs = tuple(_search_run(folder, entry, config, faults) for entry in about.searches)
    return Study(
        title=about.title,
        description=about.description,
        goal=goal_of(config),
        space=config.search_space(),
        runs=runs,
        traces=_traces(folder, runs, faults),
        settings={search.display: _settings(search.model_dump(mode="json")) for search in config.searches},
        departure=departure_words(about.departure),
        versions=_versions(about),
        failures=faults,
    )


def goal_of(config: HpoConfig) -> Goal:
    """Return the objective of a config as reports have it."""
    goal = config.goal
    is_share = goal.metric != "loss"
    return Goal(
        name=config.objective, metric=goal.metric, title=goal.title, direction=goal.direction, is_share=is_share
    )


def _search_run(folder: Path, entry: SearchEntry, config: HpoConfig, faults: dict[str, str]) -> SearchRun:
    trials: tuple[Trial, ...] = ()
    try:
        trials = read_trials(folder, entry, config.build_search(entry.index, entry.seed))
    except (JournalError, ValueError) as error:  # one search that cannot be read hides no other
        faults.setdefault(f"searches/{entry.id}", str(error))
    return SearchRun(search=entry.label, seed=entry.seed, num_trials=entry.num_trials, trials=trials)


def _traces(folder: Path, runs: tuple[SearchRun, ...], faults: dict[str, str]) -> dict[str, Trace]:
    lists = [trial.metrics.get("runs", ()) for run in runs for trial in run.trials]
    names = dict.fromkeys(str(name) for names in lists if isinstance(names, list | tuple) for name in names)
    found: dict[str, Trace] = {}
    for name in names:
        try:
            if not is_folder_name(name):
                raise ValueError("this is no name of a run")
            found[name] = reportable(RunFolder(folder / name))
        except (OSError, ValueError) as error:
            faults.setdefault(name, str(error))
    return found


def _settings(values: dict[str, object]) -> str:
    """Return what a config says of a search, but for its name in tables."""
    told = {key: value for key, value in values.items() if key != "label" and value is not None}
    return ", ".join(
        f"{key} {value if isinstance(value, str) else json.dumps(value)}" if key != "name" else str(value)
        for key, value in told.items()
    )


def _versions(about: HpoAbout) -> dict[str, str]:
    return {name: version for entry in about.searches for name, version in entry.packages.items()}
