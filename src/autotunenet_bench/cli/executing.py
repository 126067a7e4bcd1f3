"""Run a config, and show its plan and its result."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from autotunenet_bench.cli.ending import EXIT_FAILED, interruptible, refuse, system_errors
from autotunenet_bench.cli.placing import Place
from autotunenet_bench.cli.saying import command, count, say, telling

if TYPE_CHECKING:
    from autotunenet_bench.comparing import ComparisonPaths
    from autotunenet_bench.config.files import LoadedConfig
    from autotunenet_bench.report.comparison import FolderComparison
    from autotunenet_bench.suite import Plan, SuiteResult


def execute(
    kind: str,
    name: str,
    overrides: list[str],
    out: Path,
    *,
    scale: str | None,
    place: Place,
    data: tuple[Path | None, bool, bool],
    fresh: bool,
) -> None:
    """Load, run, show; every way out has its exit code.

    `kind` is the command, "run" or "suite"; `scale` is what --scale names, `place` where the runs go, `data` is what
    --data-dir, --download and --full say.
    """
    where = [out]  # the folder below it, as soon as the config has told its name
    with interruptible(where):
        # Inside, because importing torch takes seconds, in which Ctrl-C must not end in a traceback.
        from autotunenet_bench.config import ConfigError, HpoConfig, HpoSetConfig
        from autotunenet_bench.data import DataError, DataSource
        from autotunenet_bench.executors import ExecutorError, ProgressDisplay
        from autotunenet_bench.results.clearing import RunsInUseError
        from autotunenet_bench.suite import run_suite

        try:
            loaded = load_kind(kind, name, overrides, full=data[2], scale=scale)
            assert not isinstance(loaded.config, HpoConfig | HpoSetConfig)
            folder = where[0] = out / loaded.folder
            say(f"Config: {loaded.path}{' (shipped)' if loaded.shipped else ''}")
            with (
                system_errors(folder, "name another folder with --out"),
                telling("autotunenet_bench.data"),
                place.opened() as executor,
                ProgressDisplay() as progress,
            ):

                def on_plan(plan: Plan) -> None:
                    show_plan(plan)
                    progress.begin(plan.pending, num_reused=plan.num_reused, num_workers=plan.num_workers)

                result = run_suite(
                    loaded.config,
                    folder,
                    DataSource.from_environment(*data),
                    name=loaded.name,
                    departure=loaded.departure,
                    num_workers=place.workers,
                    executor=executor,
                    fresh=fresh,
                    on_plan=on_plan,
                    on_update=progress.update,
                )
        except ConfigError as error:
            refuse(f"{error}\n{count(len(error.problems), 'problem')}; nothing was run.")
        except (DataError, ExecutorError, RunsInUseError) as error:
            refuse(str(error))
        show_result(result)


def load_kind(kind: str, name: str, overrides: list[str], *, full: bool, scale: str | None) -> LoadedConfig:
    """Load a config; refuse one that is for another command than `kind`: "run", "suite" or "hpo".

    Raises:
        ConfigError: As `autotunenet_bench.config.load_config`.
    """
    from autotunenet_bench.config import load_config

    loaded = load_config(name, overrides, full=full, scale=scale)
    refuse_other_kind(kind, name, loaded)
    return loaded


def refuse_other_kind(kind: str, name: str, loaded: LoadedConfig) -> None:
    """End where a config is for another command than `kind`, and say for which."""
    from autotunenet_bench.config import HpoConfig, HpoSetConfig, SuiteConfig

    kinds = {
        SuiteConfig: ("suite", "a suite"),
        HpoConfig: ("hpo", "an offline search"),
        HpoSetConfig: ("hpo", "a set of offline searches"),
    }
    found, words = kinds.get(type(loaded.config), ("run", "a config of one run"))
    if found != kind:
        known = loaded.name if loaded.shipped else name
        right = command("suite", known) if found == "suite" else command(found, "--config", known)
        refuse(f"{name} is {words}: {right}")


def show_plan(plan: Plan) -> None:
    """Print how many runs there are, what is reused of them, and on how many workers they go."""
    parts = [f"{count(len(plan.specs), 'run')} in all"]
    if plan.num_reused:
        parts.append(f"{count(plan.num_reused, 'finished run')} reused; --fresh runs them again")
    if plan.num_resumed:
        parts.append(f"{count(plan.num_resumed, 'interrupted run')} continued")
    if plan.pending:
        parts.append(count(plan.num_workers, "worker"))
    say("; ".join(parts))
    if plan.num_other_environment:
        say(f"{count(plan.num_other_environment, 'reused run')} made with other versions than are installed now")
    if plan.is_crowded:
        have = f"{count(plan.num_workers, 'worker')} x {count(plan.num_threads, 'thread')}"
        say(f"{have}: more than there are cores here, so the runs slow each other down", err=True)


def show_result(result: SuiteResult, page: Path | None = None) -> None:
    """Print the table, what failed, and where everything lies; exit with 1 if something failed."""
    from autotunenet_bench.report import summary_table

    console().print(summary_table(result.traces, result.report.groups))
    files = result.report
    for sentence in files.departure:
        say(sentence)
    if files.answer:
        say(f"Answer: {files.answer}")
    say(f"Report: {page or files.html}")
    # The first with its folder, the others by name: nine paths would fill the screen.
    others = files.curves_csv, files.decisions_csv, files.overall_csv, files.score_csv, files.claims_csv
    beside = files.markdown, files.summary_csv, *others, files.convergence_csv, files.tables_tex
    names = ", ".join(path.name for path in beside if path)
    say(f"Beside it: {names}")
    num_finished = sum(trace.finished for trace in result.traces)
    if num_finished < result.num_runs:
        states = [f"{number} {state}" for state, number in Counter(result.missing.values()).items()]
        say(f"Runs:   {'; '.join([f'{num_finished} of {result.num_runs} finished', *states])}")
    if not result.failures:
        return
    say(f"\n{len(result.failures)} of {count(result.num_runs, 'run')} failed:", err=True)
    for run_id, message in result.failures.items():
        say(f"  {run_id}: {message}", err=True)
        details = result.folder / run_id / "error.txt"
        say(f"    see {details if details.exists() else details.parent}", err=True)
    raise typer.Exit(EXIT_FAILED)


def show_comparison(found: FolderComparison, paths: ComparisonPaths) -> None:
    """Print what was found of two folders, and where it lies."""
    from autotunenet_bench.report.comparison_page import ComparisonTable

    console().print(ComparisonTable(found))
    say(f"Report: {paths.html}")
    say(f"Pairs:  {paths.pairs_csv}")


def refuse_regressions(found: FolderComparison) -> None:
    """Exit with 1, and name them, if controllers are worse in B, or have not finished there what they did in A."""
    if found.worse:
        say(f"\nWorse in B: {', '.join(found.worse)}", err=True)
    if found.unfinished:
        told = [f"{controller} ({lost} of {count(num, 'run')})" for controller, (lost, num) in found.unfinished.items()]
        say(f"\nNot finished in B: {', '.join(told)}", err=True)
    if found.worse or found.unfinished:
        raise typer.Exit(EXIT_FAILED)


def console() -> Console:
    """Return the console that tables are printed to."""
    # A log file has no width of its own; the default of 80 columns would fold the table.
    return Console() if sys.stdout.isatty() else Console(width=110)
