"""The command line, ``autotunenet-bench``.

Heavy imports stand inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import io
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

if TYPE_CHECKING:
    from autotunenet_bench.suite import Plan, SuiteResult

PROGRAM = "autotunenet-bench"
EXIT_FAILED, EXIT_REFUSED, EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name=PROGRAM,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain text keeps the examples' line breaks, and can be piped
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Put a value over the config; may be given many times."),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Results go to DIR/<name of the config>/.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, metavar="N", help="Processes; default: cores // num_threads, at most one a run."),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Your copies of the data sets; default: $AUTOTUNENET_DATA_DIR."),
]
Download = Annotated[bool, typer.Option("--download", help="Allow data sets to be fetched from the network.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Do finished runs again instead of reusing them.")]


class Topic(str, Enum):
    """What `list` can list."""

    TASKS = "tasks"
    REGIMES = "regimes"
    CONTROLLERS = "controllers"
    METRICS = "metrics"
    SUITES = "suites"
    CONFIGS = "configs"
    RUNS = "runs"


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        argv: Arguments after the program's name; None: those of the process.

    Raises:
        SystemExit: Always; 0 done, 1 a run failed, 2 a config, data or a folder were refused, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name that the terminal cannot show must not end a run
    app(args=sys.argv[1:] if argv is None else argv, prog_name=PROGRAM)


def _show_version(wanted: bool) -> None:
    if wanted:
        from autotunenet import __version__

        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Measure how well methods adapt hyperparameters while a model trains.

    \b
    A config names a task (what is trained), a regime (what changes while it trains),
    a controller (who changes the hyperparameters) and seeds. A suite is every
    combination of several of them.

    \b
    Begin with:
      autotunenet-bench run --config configs/digits_quick.yaml
      autotunenet-bench suite demo
      autotunenet-bench list controllers

    \b
    Results go to results/<name of the config>/: report.html, CSV files, and a folder
    for every run. Finished runs are reused, interrupted ones go on where they stopped.
    """  # noqa: D301


@app.command()
def run(
    *,
    config: Annotated[str, typer.Option("--config", "-c", metavar="FILE", help="A YAML file, or a shipped config.")],
    overrides: Overrides = None,
    out: Out = Path("results"),
    workers: Workers = None,
    data_dir: DataDir = None,
    download: Download = False,
    fresh: Fresh = False,
) -> None:
    """Run one config over its seeds.

    \b
    Examples:
      autotunenet-bench run --config configs/mnist_data_shift.yaml
      autotunenet-bench run -c digits_quick --set controller=cosine --set num_epochs=3
      autotunenet-bench run -c mnist_poor_init --set "seeds=[0, 1]" --set controller.max_delta=0.2

    \b
    A config that is no file of yours is looked up among the shipped ones:
    `autotunenet-bench list configs`. Copy one to begin your own.
    """  # noqa: D301
    _execute(config, overrides or [], out, workers=workers, data_dir=data_dir, download=download, fresh=fresh)


@app.command()
def suite(
    *,
    config: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A shipped suite, or a YAML file.")],
    overrides: Overrides = None,
    out: Out = Path("results"),
    workers: Workers = None,
    data_dir: DataDir = None,
    download: Download = False,
    fresh: Fresh = False,
) -> None:
    """Run every combination that a suite names.

    \b
    Examples:
      autotunenet-bench suite smoke
      autotunenet-bench suite demo --workers 2 --out my_results
      autotunenet-bench suite demo --set "seeds=[0]" --set controllers.1.warmup=1

    \b
    `autotunenet-bench list suites` names the shipped ones.
    """  # noqa: D301
    _execute(config, overrides or [], out, workers=workers, data_dir=data_dir, download=download, fresh=fresh)


@app.command("list")
def list_topic(
    topic: Annotated[Topic | None, typer.Argument(help="What to list; default: all but the runs.")] = None,
    out: Out = Path("results"),
) -> None:
    """List plug-ins, metrics, shipped configs, or the runs so far.

    \b
    Examples:
      autotunenet-bench list
      autotunenet-bench list regimes
      autotunenet-bench list runs --out my_results
    """  # noqa: D301
    with _interruptible(), _system_errors(out, "name another folder with --out"):
        from autotunenet_bench.listing import describe, describe_runs

        if topic is Topic.RUNS:
            _print_lines("runs", describe_runs(out) or [(str(out), "no runs here")])
            return
        for one in [topic] if topic else [item for item in Topic if item is not Topic.RUNS]:
            _print_lines(one.value, describe(one.value))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of results, such as results/demo.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also put the page here.")] = None,
) -> None:
    """Make the report of a results folder again.

    \b
    Examples:
      autotunenet-bench report results/demo
      autotunenet-bench report results/demo --out pages/demo.html

    \b
    report.html and the CSV files in the folder are replaced; --out copies the page.
    """  # noqa: D301
    with _interruptible():
        from autotunenet_bench.suite import NoRunsError, SuiteFileError, rebuild_report

        try:
            with _system_errors(folder, "make room there, or report a copy of the folder"):
                result = rebuild_report(folder)
        except (NoRunsError, SuiteFileError) as error:
            _refuse(str(error))
        if out:
            with _system_errors(out, "name another file with --out"):
                out.parent.mkdir(parents=True, exist_ok=True)
                if out.resolve() != result.report.html.resolve():
                    shutil.copyfile(result.report.html, out)
        _show_result(result, out)


@app.command()
def attribution(
    *,
    seeds: Annotated[int, typer.Option("--seeds", min=1, metavar="N", help="Seeds of every task and optimizer.")] = 2,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", metavar="NAME", help="Only this task; many times.")
    ] = None,
    optimizers: Annotated[
        list[str] | None, typer.Option("--optimizer", metavar="NAME", help="Only this optimizer; many times.")
    ] = None,
    launch: Annotated[bool, typer.Option("--launch", help="Let the tuner find its own lr first.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Let the tuner train on stored batches again.")] = False,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the results.")] = Path(
        "results/attribution"
    ),
    workers: Workers = None,
    data_dir: DataDir = None,
    download: Download = False,
) -> None:
    """Break trainings in known ways, and see whose fault the tuner says it was.

    \b
    Examples:
      autotunenet-bench attribution
      autotunenet-bench attribution --task digits_mlp --optimizer sgd --seeds 1
      autotunenet-bench attribution --replay --out results/attribution_replay
    """  # noqa: D301
    with _interruptible(), _system_errors(out, "name another folder with --out"):
        from autotunenet_bench.attribution.command import RefusedError, run_command

        try:
            page, num_failed = run_command(
                out,
                tasks=tasks,
                optimizers=optimizers,
                num_seeds=seeds,
                launch=launch,
                replay=replay,
                num_workers=workers,
                data=(data_dir, download),
            )
        except RefusedError as error:
            _refuse(str(error))
        _say(page)
        _say(f"Files: {out}")
        if num_failed:
            _say(f"{_count(num_failed, 'training')} failed; their folders hold error.txt", err=True)
            raise typer.Exit(EXIT_FAILED)


def _execute(
    name: str,
    overrides: list[str],
    out: Path,
    *,
    workers: int | None,
    data_dir: Path | None,
    download: bool,
    fresh: bool,
) -> None:
    """Load, run, show; every way out has its exit code."""
    place = [out]  # the folder below it, as soon as the config has told its name
    with _interruptible(place):
        # Inside, because importing torch takes seconds, in which Ctrl-C must not end in a traceback.
        from autotunenet_bench.config import ConfigError, load_config
        from autotunenet_bench.data import DataError, DataSource
        from autotunenet_bench.executors import ProgressDisplay
        from autotunenet_bench.files import FolderInUseError
        from autotunenet_bench.suite import run_suite

        try:
            loaded = load_config(name, overrides)
            folder = place[0] = out / loaded.name
            _say(f"Config: {loaded.path}{' (shipped)' if loaded.shipped else ''}")
            with _system_errors(folder, "name another folder with --out"), ProgressDisplay() as progress:

                def on_plan(plan: Plan) -> None:
                    _show_plan(plan)
                    progress.begin(plan.pending, num_reused=plan.num_reused, num_workers=plan.num_workers)

                result = run_suite(
                    loaded.config,
                    folder,
                    DataSource.from_environment(data_dir, download),
                    name=loaded.name,
                    num_workers=workers,
                    fresh=fresh,
                    on_plan=on_plan,
                    on_update=progress.update,
                )
        except ConfigError as error:
            _refuse(f"{error}\n{_count(len(error.problems), 'problem')}; nothing was run.")
        except (DataError, FolderInUseError) as error:
            _refuse(str(error))
        _show_result(result)


@contextmanager
def _interruptible(place: list[Path] | None = None) -> Iterator[None]:
    """End in the right exit code at Ctrl-C, and say how to go on; `place` holds the folder of the runs, if any."""
    try:
        yield
    except KeyboardInterrupt:
        kept = " Finished runs are kept, the others go on where they stopped." if place else ""
        _say(f"\nInterrupted.{kept} To continue:\n  {continue_command()}", err=True)
        if place and any(place[0].glob("*/events.jsonl")):
            _say(f"To see what is there:\n  {_command('report', str(place[0]))}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


@contextmanager
def _system_errors(place: Path, mend: str) -> Iterator[None]:
    """Turn what the operating system refuses into a sentence; `place` is named where the error names no file."""
    try:
        yield
    except BrokenPipeError:  # whoever read our output has gone; no fault of any file
        raise
    except OSError as error:
        where = place if error.filename is None else error.filename
        _refuse(f"{where}: no files can be read or written here: {error.strerror or error}; {mend}")


def _show_plan(plan: Plan) -> None:
    parts = [f"{_count(len(plan.specs), 'run')} in all"]
    if plan.num_reused:
        parts.append(f"{_count(plan.num_reused, 'finished run')} reused; --fresh runs them again")
    if plan.num_resumed:
        parts.append(f"{_count(plan.num_resumed, 'interrupted run')} continued")
    if plan.pending:
        parts.append(_count(plan.num_workers, "worker"))
    _say("; ".join(parts))
    if plan.num_other_environment:
        _say(f"{_count(plan.num_other_environment, 'reused run')} made with other versions than are installed now")
    if plan.is_crowded:
        have = f"{_count(plan.num_workers, 'worker')} x {_count(plan.num_threads, 'thread')}"
        _say(f"{have}: more than there are cores here, so the runs slow each other down", err=True)


def _show_result(result: SuiteResult, page: Path | None = None) -> None:
    """Print the table, what failed, and where everything lies; exit with 1 if something failed."""
    from autotunenet_bench.report import summary_table

    # A log file has no width of its own; the default of 80 columns would fold the table.
    console = Console() if sys.stdout.isatty() else Console(width=110)
    console.print(summary_table(result.traces))
    files = result.report
    _say(f"Report: {page or files.html}")
    _say(f"CSV:    {', '.join(str(path) for path in (files.summary_csv, files.curves_csv, files.decisions_csv))}")
    num_finished = sum(trace.finished for trace in result.traces)
    if num_finished < result.num_runs:
        states = [f"{number} {state}" for state, number in Counter(result.missing.values()).items()]
        _say(f"Runs:   {'; '.join([f'{num_finished} of {result.num_runs} finished', *states])}")
    if not result.failures:
        return
    _say(f"\n{len(result.failures)} of {_count(result.num_runs, 'run')} failed:", err=True)
    for run_id, message in result.failures.items():
        _say(f"  {run_id}: {message}", err=True)
        details = result.folder / run_id / "error.txt"
        _say(f"    see {details if details.exists() else details.parent}", err=True)
    raise typer.Exit(EXIT_FAILED)


def continue_command() -> str:
    """Return the command line of this process, quoted for a shell and without ``--fresh``.

    >>> continue_command().startswith("autotunenet-bench") or " " in continue_command()
    True
    """
    program, *arguments = sys.orig_argv
    if _is_console_script():
        program, *arguments = [PROGRAM, *arguments[1:]]  # its user did not type the interpreter
    return shlex.join([program, *(argument for argument in arguments if argument != "--fresh")])


def _command(*arguments: str) -> str:
    """Return another command of this program, quoted so that it runs as printed."""
    program = [PROGRAM] if _is_console_script() else [sys.orig_argv[0], "-m", "autotunenet_bench"]
    return shlex.join([*program, *arguments])


def _is_console_script() -> bool:
    """Return whether this process is the console script that the shell finds under its name."""
    script, found = sys.orig_argv[1:2], shutil.which(PROGRAM)
    return bool(script and found) and Path(script[0]).resolve() == Path(str(found)).resolve()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _say(text: str, *, err: bool = False) -> None:
    # As it is: rich would fold paths at the width of the terminal, and take [...] for markup.
    typer.echo(text, err=err)


def _refuse(text: str) -> NoReturn:
    _say(text, err=True)
    raise typer.Exit(EXIT_REFUSED)


def _print_lines(heading: str, lines: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in lines)
    _say(f"{heading}:")
    for name, words in lines:
        _say(f"  {name:<{width}}  {words}".rstrip())
    _say("")
