"""The commands, their options and what their help says."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from autotunenet_bench.cli.checking import check_member
from autotunenet_bench.cli.ending import EXIT_FAILED, interruptible, refuse, system_errors
from autotunenet_bench.cli.executing import execute, show_result
from autotunenet_bench.cli.options import (
    Address,
    Backend,
    DataDir,
    Download,
    ExecutorName,
    Fresh,
    Full,
    GpusPerCell,
    Memory,
    Out,
    Overrides,
    Scale,
    Timeout,
    Topic,
    Workers,
)
from autotunenet_bench.cli.placing import Place
from autotunenet_bench.cli.saying import PROGRAM, count, print_lines, say

app = typer.Typer(
    name=PROGRAM,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain text keeps the examples' line breaks, and can be piped
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        argv: Arguments after the program's name; None: those of the process.

    Raises:
        SystemExit: Always; 0 done, 1 a run failed or a controller got worse, 2 a config, data or a folder were refused,
            130 interrupted.
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
    from autotunenet_bench.references import look_also_in

    look_also_in(Path.cwd())  # for modules of the user's own, as `python -m` does it


@app.command()
def run(
    *,
    config: Annotated[str, typer.Option("--config", "-c", metavar="FILE", help="A YAML file, or a shipped config.")],
    overrides: Overrides = None,
    out: Out = Path("results"),
    workers: Workers = None,
    executor: ExecutorName = Backend.LOCAL,
    address: Address = None,
    gpus_per_cell: GpusPerCell = 0.0,
    timeout_per_cell: Timeout = None,
    memory_per_cell: Memory = None,
    data_dir: DataDir = None,
    download: Download = False,
    full: Full = False,
    scale: Scale = None,
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
    data = (data_dir, download, full)
    place = Place(executor.value, address, workers, gpus_per_cell, timeout_per_cell, memory_per_cell)
    execute("run", config, overrides or [], out, scale=scale, place=place, data=data, fresh=fresh)


@app.command()
def suite(
    *,
    config: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A shipped suite, or a YAML file.")],
    overrides: Overrides = None,
    out: Out = Path("results"),
    workers: Workers = None,
    executor: ExecutorName = Backend.LOCAL,
    address: Address = None,
    gpus_per_cell: GpusPerCell = 0.0,
    timeout_per_cell: Timeout = None,
    memory_per_cell: Memory = None,
    data_dir: DataDir = None,
    download: Download = False,
    full: Full = False,
    scale: Scale = None,
    fresh: Fresh = False,
) -> None:
    """Run every combination that a suite names.

    \b
    Examples:
      autotunenet-bench suite smoke
      autotunenet-bench suite demo --workers 2 --out my_results
      autotunenet-bench suite demo --set "seeds=[0]" --set controllers.1.warmup=1
      autotunenet-bench suite trust --full --data-dir my_copies
      autotunenet-bench suite adaptive_lr --scale small --data-dir my_copies
      autotunenet-bench suite oha --executor ray --address auto --gpus-per-cell 0.5

    \b
    `autotunenet-bench list suites` names the shipped ones. The same command may be given
    several times at once, on any machines that see the same folder: they share the runs.
    """  # noqa: D301
    data = (data_dir, download, full)
    place = Place(executor.value, address, workers, gpus_per_cell, timeout_per_cell, memory_per_cell)
    execute("suite", config, overrides or [], out, scale=scale, place=place, data=data, fresh=fresh)


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
    with interruptible(), system_errors(out, "name another folder with --out"):
        from autotunenet_bench.listing import describe, describe_runs

        if topic is Topic.RUNS:
            print_lines("runs", describe_runs(out) or [(str(out), "no runs here")])
            return
        for one in [topic] if topic else [item for item in Topic if item is not Topic.RUNS]:
            print_lines(one.value, describe(one.value))


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="module:Class of your own, or a shipped name.")],
    overrides: Overrides = None,
    data_dir: DataDir = None,
    download: Download = False,
) -> None:
    """Check a controller, regime or task against the contract of its family.

    \b
    Examples:
      autotunenet-bench check my_methods:HalveOnRise
      autotunenet-bench check my_methods:HalveOnRise --set factor=0.7
      autotunenet-bench check data_shift

    \b
    One line a rule, which is kept or broken. The exit code is 0 where all are kept,
    1 where one is broken, 2 where there is no such member or key.
    """  # noqa: D301
    check_member(name, overrides or [], data_dir, download)


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it to FILE instead.")] = None,
) -> None:
    """Print the JSON schema of configs, for editors.

    \b
    Examples:
      autotunenet-bench schema
      autotunenet-bench schema --out config.schema.json

    \b
    An editor that knows YAML language servers completes and checks a config whose first
    line is `# yaml-language-server: $schema=config.schema.json`.
    """  # noqa: D301
    with interruptible():
        from autotunenet_bench.config.schema import schema_text

        if out is None:
            say(schema_text().rstrip("\n"))
            return
        with system_errors(out, "name another file with --out"):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(schema_text(), encoding="utf-8")
        say(f"Schema: {out}")


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
    report.html, report.md and the CSV files in the folder are replaced; --out copies the page.
    """  # noqa: D301
    with interruptible():
        from autotunenet_bench.hpo.folder import HpoFileError, is_hpo_folder
        from autotunenet_bench.hpo.reporting import rebuild_hpo_report
        from autotunenet_bench.hpo.sets import is_set_folder, rebuild_set_report
        from autotunenet_bench.results.suite_file import SuiteFileError
        from autotunenet_bench.suite import NoRunsError, rebuild_report

        try:
            with system_errors(folder, "make room there, or report a copy of the folder"):
                if is_set_folder(folder):
                    from autotunenet_bench.cli.searching import show_set_result

                    together = rebuild_set_report(folder)
                    _copy_page(together.html, out)
                    show_set_result(together, [], out)
                    return
                if is_hpo_folder(folder):
                    from autotunenet_bench.cli.searching import show_hpo_result

                    searched = rebuild_hpo_report(folder)
                    _copy_page(searched.report.html, out)
                    show_hpo_result(searched, out)
                    return
                result = rebuild_report(folder)
        except (HpoFileError, NoRunsError, SuiteFileError) as error:
            refuse(str(error))
        _copy_page(result.report.html, out)
        show_result(result, out)


def _copy_page(page: Path, out: Path | None) -> None:
    if out is None:
        return
    with system_errors(out, "name another file with --out"):
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.resolve() != page.resolve():
            shutil.copyfile(page, out)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A folder of results to compare with.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The folder in question, of the same config.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page; default: compare.html in B.")
    ] = None,
    fail_on_regression: Annotated[
        bool,
        typer.Option(
            "--fail-on-regression",
            help="End in 1 if a controller is worse in B by the rule, or a run that A finished is not finished in B.",
        ),
    ] = False,
) -> None:
    """Compare two folders of results run by run: which is better, and what else differs?

    \b
    Examples:
      autotunenet-bench compare results/demo new_results/demo
      autotunenet-bench compare before/shifts after/shifts --out shifts.html
      autotunenet-bench compare baseline/demo results/demo --fail-on-regression

    \b
    Runs with the same task, regime, controller and seed are pairs. Nothing is run
    again. What may be claimed of few seeds is little; the page says what.
    """  # noqa: D301
    with interruptible():
        from autotunenet_bench.cli.executing import refuse_regressions, show_comparison
        from autotunenet_bench.comparing import compare_folders
        from autotunenet_bench.report.comparison import ComparisonError
        from autotunenet_bench.results.suite_file import SuiteFileError
        from autotunenet_bench.suite import NoRunsError

        try:
            with system_errors(out or b, "name another file with --out"):
                found, paths = compare_folders(a, b, out)
        except (ComparisonError, NoRunsError, SuiteFileError) as error:
            refuse(str(error))
        show_comparison(found, paths)
        if fail_on_regression:
            refuse_regressions(found)


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
    with interruptible(), system_errors(out, "name another folder with --out"):
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
            refuse(str(error))
        say(page)
        say(f"Files: {out}")
        if num_failed:
            say(f"{count(num_failed, 'training')} failed; their folders hold error.txt", err=True)
            raise typer.Exit(EXIT_FAILED)
