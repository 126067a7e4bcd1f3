"""A whole suite, from its config to its report. The command line calls `run_suite`, and so can your own code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch.optim import Optimizer

from autotunenet_bench.config import (
    ConfigError,
    Departure,
    Experiment,
    Problem,
    RunConfig,
    RunSpec,
    SuiteConfig,
    expand,
)
from autotunenet_bench.config.compute import Compute
from autotunenet_bench.config.stored import stored_config
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.data import DataSource
from autotunenet_bench.environment import is_other
from autotunenet_bench.executors import CellUpdate, Executor, run_cells
from autotunenet_bench.executors.base import num_cores
from autotunenet_bench.report import ReportPaths, write_report
from autotunenet_bench.results import ResultStore, RunFolder, Trace
from autotunenet_bench.results.checks import check_spec
from autotunenet_bench.results.claims import Claims
from autotunenet_bench.results.clearing import clear_runs
from autotunenet_bench.results.collecting import collector_paused
from autotunenet_bench.results.store import CUT_OFF
from autotunenet_bench.results.suite_file import (
    CHECKSUMS,
    SUITE_FILE,
    damaged,
    kept_checksums,
    note_checksums,
    read_suite_file,
    write_suite_file,
)
from autotunenet_bench.types import DataInfo, Horizon, TaskData


class NoRunsError(ValueError):
    """A report was asked for where there are no runs."""


@dataclass(frozen=True)
class Plan:
    """What a suite is about to do.

    Attributes:
        specs: Every run of the suite, in the config's order.
        pending: Those that are not finished yet.
        num_resumed: How many of the pending runs go on from where they were interrupted.
        num_other_environment: How many of the finished runs were made with other versions than are installed now.
        num_workers: Processes that share the work.
        num_threads: Threads of each of them.
        is_remote: Whether they are on other machines.
    """

    specs: Sequence[RunSpec]
    pending: Sequence[RunSpec]
    num_resumed: int
    num_other_environment: int
    num_workers: int
    num_threads: int
    is_remote: bool = False

    @property
    def num_reused(self) -> int:
        """How many runs are finished already."""
        return len(self.specs) - len(self.pending)

    @property
    def is_crowded(self) -> bool:
        """Whether the runs will have more threads than there are cores, and so wait for each other."""
        return bool(self.pending) and not self.is_remote and self.num_workers * self.num_threads > num_cores()


@dataclass(frozen=True)
class SuiteResult:
    """What a suite came to.

    Attributes:
        folder: Where everything lies.
        traces: The runs that can be read, in the config's order; failed ones too, as far as they came.
        failures: By run id, the last line of what went wrong.
        missing: By run id, why a run of the suite has left nothing to read without having failed: "not started",
            "interrupted". No fault, but the report must not be silent about it.
        num_runs: Runs of the suite, those that failed or are missing included.
        report: The files that were written.
    """

    folder: Path
    traces: Sequence[Trace]
    failures: Mapping[str, str]
    missing: Mapping[str, str]
    num_runs: int
    report: ReportPaths


def run_suite(
    config: RunConfig | SuiteConfig,
    folder: Path,
    source: DataSource,
    *,
    name: str = "suite",
    departure: Departure | None = None,
    num_workers: int | None = None,
    executor: Executor | None = None,
    fresh: bool = False,
    on_plan: Callable[[Plan], None] = lambda plan: None,
    on_update: Callable[[CellUpdate], None] = lambda update: None,
) -> SuiteResult:
    """Run what a config asks for and is not finished yet, and write the report.

    Any number of calls, in processes of any machines that see the same folder, share the work: none does a run that
    another one is doing, and each ends when all runs are finished, with the whole report.

    Args:
        config: From `load_config`, or made in Python.
        folder: Where a folder a run, ``report.html``, ``report.md`` and the CSV files go.
        source: Where data may come from.
        name: Heading of the report when the config has no title.
        departure: What a command line has put over the config, for the report to tell.
        num_workers: Processes; None: as many as the cores allow.
        executor: What the runs are done with, from `make_executor`; None: processes of this machine.
        fresh: Whether to throw finished runs of this config away and do them again.
        on_plan: Called once, before the first run starts.
        on_update: Called whenever a run makes progress.

    Raises:
        DataError: If the data of a task cannot be had.
        ConfigError: If a regime or controller does not fit the length of the runs.
        RunsInUseError: If `fresh` is asked for and another process works on one of the runs.
        OSError: If `folder` cannot be made, or the disk is full.
        KeyboardInterrupt: After the workers have stopped; finished runs stay and are reused the next time.
    """
    specs = resolve(config, source)
    folder.mkdir(parents=True, exist_ok=True)
    claims = Claims(folder)
    if fresh:
        clear_runs(ResultStore(folder), specs)
    plan = make_plan(specs, ResultStore(folder), num_workers, executor)
    on_plan(plan)
    about = _about(config, name, departure, specs)
    with claims.hold_soon(SUITE_FILE):
        pending = {spec.run_id for spec in plan.pending}
        _write_suite_file(folder, about, (run_id for run_id in about["runs"] if run_id not in pending))
    failed = run_cells(
        plan.pending,
        root=folder,
        source=source,
        num_workers=plan.num_workers,
        num_threads=config.num_threads,
        on_update=on_update,
        executor=executor,
    )
    with claims.hold_soon(SUITE_FILE):
        # Again: another suite may have been begun in this folder meanwhile.
        _write_suite_file(folder, about, about["runs"])
        note_checksums(folder)
        return rebuild_report(folder, {failure.run_id: failure.message for failure in failed})


def rebuild_report(folder: Path, known_failures: Mapping[str, str] | None = None) -> SuiteResult:
    """Write the report of a folder of results from the runs that lie in it.

    Args:
        folder: As `run_suite` left it. Without its ``suite.json``, every run below it is reported.
        known_failures: Messages by run id, over those that the folder tells.

    Raises:
        NoRunsError: If there is nothing to report.
        SuiteFileError: If ``suite.json`` is damaged.
        OSError: If the report cannot be written.
    """
    with collector_paused():
        return _write_report(folder, read_results(folder, known_failures))


def _write_report(folder: Path, found: Results) -> SuiteResult:
    report = write_report(
        list(found.traces.values()),
        folder,
        found.about.get("title", folder.name),
        found.about.get("description", ""),
        failures=found.failures,
        missing=found.missing,
        experiment=found.about.get("experiment"),
        departure=found.about.get("departure"),
    )
    num_runs = len(found.names)
    return SuiteResult(folder, list(found.traces.values()), found.failures, found.missing, num_runs, report)


@dataclass(frozen=True)
class Results:
    """What lies in a folder of results.

    Attributes:
        about: What its ``suite.json`` says; empty without one.
        names: Ids of the runs that it is about.
        traces: By run id, those that can be read; failed ones too, as far as they came.
        failures: See `SuiteResult`.
        missing: See `SuiteResult`.
    """

    about: Mapping[str, Any]
    names: Sequence[str]
    traces: Mapping[str, Trace]
    failures: Mapping[str, str]
    missing: Mapping[str, str]


def read_results(folder: Path, known_failures: Mapping[str, str] | None = None) -> Results:
    """Read the runs that lie in a folder; nothing is written.

    Args:
        folder: As `run_suite` left it. Without its ``suite.json``, every run below it counts.
        known_failures: Messages by run id, over those that the folder tells.

    Raises:
        NoRunsError: If there are none.
        SuiteFileError: If ``suite.json`` is damaged.
    """
    about = _read_suite_file(folder)
    names = about.get("runs") or [run.path.name for run in ResultStore(folder).folders()]
    if not names:
        raise NoRunsError(f"{folder}: there are no runs in this folder; name one such as results/<name of the config>")
    known = known_failures or {}
    traces: dict[str, Trace] = {}
    failures: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name in names:
        run = RunFolder(folder / name)
        try:
            details = run.details()  # read once: a file costs more than what is in it
            state, has_begun = run.status(details), any(True for _ in run.events())
            if has_begun:
                traces[name] = reportable(run, details)
            if name in known or state == "failed":
                failures[name] = known.get(name) or str(details.get("error", "no reason was stored"))
            elif state == "done" and not run.is_done(details):
                failures[name] = CUT_OFF
            elif not has_begun:
                missing[name] = "interrupted" if state == "interrupted" else "not started"
        except (OSError, ValueError) as error:  # damaged by hand, or by a full disk: the other runs still count
            failures[name] = str(error)
    return Results(about, names, traces, failures, missing)


def reportable(run: RunFolder, details: Mapping[str, Any] | None = None) -> Trace:
    """Return a run that a report can name, which takes a little more than events.

    Args:
        run: Its folder.
        details: What its status file says, where that has been read already.

    Raises:
        ValueError: If its rows or its spec are damaged.
        FileNotFoundError: If there is no such run.
    """
    trace = run.trace(details)
    try:
        check_spec(trace.spec)
        return trace
    except (KeyError, TypeError) as error:
        fault = f"no key {error}" if isinstance(error, KeyError) else str(error)
    raise ValueError(f"{run.path / 'spec.json'}: this is no spec of a run ({fault}); remove the folder to run it again")


def resolve(config: RunConfig | SuiteConfig, source: DataSource) -> list[RunSpec]:
    """Return the complete spec of every run; the data of each task are read once.

    Every regime and controller is built once too, so that one which cannot be built stops the suite before its first
    run and not hours later; and the optimizer of a controller, where a regime has to look at it.

    Raises:
        DataError: If the data of a task cannot be had.
        ConfigError: If a regime or controller does not fit the length of the runs, or one does not fit the other, or
            there is no such device here.
    """
    check_compute(config.compute)
    loaded: dict[str, TaskData] = {}
    infos: dict[str, DataInfo] = {}
    for task in config.tasks:
        loaded[task.display], infos[task.display] = task.load(source)
    specs = [cell.resolve(infos[cell.task.display]) for cell in expand(config)]
    check_specs(specs, loaded)
    return specs


def check_compute(compute: Compute) -> None:
    """Check that there is such a device here.

    Raises:
        ConfigError: If not.
    """
    try:
        compute.resolved()
    except ValueError as error:
        raise ConfigError([Problem("compute.device", str(error))]) from error


def check_specs(specs: Sequence[RunSpec], loaded: Mapping[str, TaskData]) -> None:
    """Build every regime and controller once, and the optimizer where a regime has to look at it.

    Args:
        specs: Runs.
        loaded: Their data, by the display name of the task.

    Raises:
        ConfigError: If a regime or controller does not fit the length of the runs, or one does not fit the other.
    """
    problems = {str(problem): problem for spec in specs for problem in _misfits(spec, loaded[spec.task.display])}
    problems = problems or {str(problem): problem for problem in _mismatches(specs, loaded)}
    if problems:
        raise ConfigError(list(problems.values()))


def _misfits(spec: RunSpec, data: TaskData) -> Iterator[Problem]:
    horizon = _horizon(spec, data)
    try:
        spec.regime.start(horizon, spec.seed)
    except ValueError as error:
        yield Problem(f"regime {spec.regime.display}", str(error))
    try:
        spec.controller.check_run(horizon, spec.search_space(), spec.seed)
    except ValueError as error:
        yield Problem(f"controller {spec.controller.display}", str(error))


def _mismatches(specs: Sequence[RunSpec], loaded: Mapping[str, TaskData]) -> Iterator[Problem]:
    """Yield what a regime would change and the optimizer of a controller does not have."""
    for spec in {tuple(spec.labels.values()): spec for spec in specs}.values():  # one of its seeds tells
        try:
            spec.regime.check_optimizer(partial(_make_optimizer, spec, loaded[spec.task.display]))
        except ValueError as error:
            where = f"regime {spec.regime.display}, controller {spec.controller.display}, task {spec.task.display}"
            yield Problem(where, str(error))


def _make_optimizer(spec: RunSpec, data: TaskData) -> Optimizer:
    with torch.random.fork_rng(devices=[]):
        workload = spec.task.build(spec.task.defaults, spec.seed, data)
        if not isinstance(spec.controller, ControllerConfig):
            return workload.optimizer
        return spec.controller.build_stepping(workload.model, workload.optimizer, _horizon(spec, data)).optimizer


def _horizon(spec: RunSpec, data: TaskData) -> Horizon:
    return Horizon(num_epochs=spec.num_epochs, steps_per_epoch=len(data.train))


def make_plan(
    specs: Sequence[RunSpec], store: ResultStore, num_workers: int | None = None, executor: Executor | None = None
) -> Plan:
    """Return what is left to do, and by how many processes."""
    done = {spec.run_id for spec in specs if store.folder(spec).is_done()}
    pending = [spec for spec in specs if spec.run_id not in done]
    num_resumed = sum(store.folder(spec).status() in ("running", "interrupted") for spec in pending)
    begun = [(spec, next(store.folder(spec).events(), {})) for spec in specs if spec.run_id in done]
    num_other = sum(is_other(event.get("environment"), spec.packages) for spec, event in begun)
    threads = max((spec.num_threads for spec in pending), default=1)
    workers = num_workers or (executor.default_workers(threads) if executor else max(1, num_cores() // threads))
    workers = max(1, min(workers, len(pending)))
    return Plan(specs, pending, num_resumed, num_other, workers, threads, executor is not None and executor.is_remote)


def _about(
    config: RunConfig | SuiteConfig, name: str, departure: Departure | None, specs: Sequence[RunSpec]
) -> dict[str, Any]:
    """Return what ``suite.json`` says."""
    about: dict[str, Any] = {"title": config.title or name, "description": config.description or ""}
    if experiment := getattr(config, "experiment", None):
        about["experiment"] = experiment.model_dump(mode="json")
    if departure and departure != Departure():
        about["departure"] = departure.model_dump(mode="json", exclude_defaults=True)
    return about | {"config": stored_config(config), "runs": [spec.run_id for spec in specs]}


def _write_suite_file(folder: Path, about: Mapping[str, Any], checked: Iterable[str]) -> None:
    """Write ``suite.json``, with the checksums that the one in its place has of some runs."""
    write_suite_file(folder, {**about, CHECKSUMS: kept_checksums(folder, checked)})


def _read_suite_file(folder: Path) -> dict[str, Any]:
    about = read_suite_file(folder)
    try:
        return about | _read_models(about)
    except ValidationError as error:
        fault = f"its {error.title.lower()} has {error.error_count()} wrong or missing keys"
        raise damaged(folder / SUITE_FILE, fault) from error


def _read_models(about: dict[str, Any]) -> dict[str, BaseModel]:
    models: dict[str, type[BaseModel]] = {"experiment": Experiment, "departure": Departure}
    return {
        key: model.model_validate_json(json.dumps(about[key]), strict=True)
        for key, model in models.items()
        if about.get(key) is not None
    }
