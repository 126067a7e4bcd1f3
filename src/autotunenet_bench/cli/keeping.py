"""The commands that keep a folder of results: is it whole, go on with it, tidy it up, take it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotunenet_bench.cli.commands import app
from autotunenet_bench.cli.ending import EXIT_FAILED, interruptible, refuse, system_errors
from autotunenet_bench.cli.options import DataDir, Download, Workers
from autotunenet_bench.cli.saying import command, count, say, telling

if TYPE_CHECKING:
    from autotunenet_bench.results.verifying import Verification
    from autotunenet_bench.suite import Plan

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of results, such as results/demo.")]

READABLE = "mend its permissions, or take a copy of the folder"


@app.command()
def verify(
    folder: Folder,
    strict: Annotated[
        bool, typer.Option("--strict", help="End in 1 also where runs cannot be checked, being from before checksums.")
    ] = False,
    digest: Annotated[
        str | None, typer.Option("--digest", metavar="HEX", help="End in 1 unless this is the digest of the folder.")
    ] = None,
) -> None:
    """Find truncated, edited and missing files in a results folder, and name them.

    \b
    Examples:
      autotunenet-bench verify results/demo
      autotunenet-bench verify results/demo --strict
      autotunenet-bench verify results/demo --digest 5f0c...

    \b
    A finished run keeps the SHA-256 of its files in status.json, the folder those of its
    runs in suite.json. They find mishaps and careless edits. Whoever can write there can
    make them anew: keep the printed digest where others cannot write, and name it with
    --digest later. Nothing is changed; the exit code is 0 where nothing is broken.
    """  # noqa: D301
    with interruptible(), system_errors(folder, READABLE):
        from autotunenet_bench.results.verifying import verify_folder

        found = verify_folder(folder)
        if not found.findings and not found.faults:
            refuse(f"{folder}: there are no runs in this folder; name one such as results/<name of the config>")
        _show_verification(found)
        is_other = digest is not None and digest.strip().lower() != found.digest
        if is_other:
            say(f"The digest is not {digest}: runs were added, removed or changed since then", err=True)
        if is_other or not found.is_sound or (strict and found.num_not_checkable):
            raise typer.Exit(EXIT_FAILED)


def _show_verification(found: Verification) -> None:
    from autotunenet_bench.results.verifying import Soundness

    for fault in (*found.faults, *(fault for one in found.of(Soundness.BROKEN) for fault in one.faults)):
        say(fault, err=True)
    numbers = [f"{len(found.of(kind))} {kind.value}" for kind in Soundness if found.of(kind)]
    say(f"{count(len(found.findings), 'run')}: {', '.join(numbers) or 'none'}")
    if found.num_not_checkable:
        say("Not checkable are runs of before checksums were kept: their rows are whole, but an edit cannot be found")
    if found.unnamed:
        say(
            f"{count(len(found.unnamed), 'run')} not named by suite.json: {command('gc', str(found.folder))} lists them"
        )
    say(f"Digest: {found.digest}")


@app.command()
def resume(
    folder: Folder,
    workers: Workers = None,
    data_dir: DataDir = None,
    download: Download = False,
    own_classes: Annotated[
        bool, typer.Option("--own-classes", help="Import the classes of your own that the folder names.")
    ] = False,
) -> None:
    """Go on with the runs of a results folder that are not finished, without its config file.

    \b
    Examples:
      autotunenet-bench resume results/demo
      autotunenet-bench resume results/demo --workers 2 --data-dir my_copies

    \b
    Finished runs stay as they are, interrupted ones go on from their checkpoint, failed
    and missing ones are run. The config stands in suite.json, as it was when the folder
    was begun, with --scale and --set in it. Other data than then are refused.
    """  # noqa: D301
    with interruptible([folder]):
        from autotunenet_bench.cli.executing import show_plan, show_result
        from autotunenet_bench.config import ConfigError
        from autotunenet_bench.data import DataError, DataSource
        from autotunenet_bench.executors import ExecutorError, ProgressDisplay
        from autotunenet_bench.hpo.folder import is_hpo_folder
        from autotunenet_bench.hpo.sets import is_set_folder
        from autotunenet_bench.results.suite_file import SuiteFileError
        from autotunenet_bench.resuming import ResumeError, resume_folder

        if is_hpo_folder(folder) or is_set_folder(folder):
            refuse(
                f"{folder}: an offline search goes on when its own command is given again: {command('hpo', '--help')}"
            )
        try:
            with (
                system_errors(folder, "make room there, or resume a copy of the folder"),
                telling("autotunenet_bench.data"),
                ProgressDisplay() as progress,
            ):

                def on_plan(plan: Plan) -> None:
                    show_plan(plan)
                    progress.begin(plan.pending, num_reused=plan.num_reused, num_workers=plan.num_workers)

                result = resume_folder(
                    folder,
                    DataSource.from_environment(data_dir, download),
                    allow_own=own_classes,
                    num_workers=workers,
                    on_plan=on_plan,
                    on_update=progress.update,
                )
        except (ConfigError, DataError, ExecutorError, ResumeError, SuiteFileError) as error:
            refuse(str(error))
        show_result(result)


@app.command()
def gc(
    folder: Folder,
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is listed; without it nothing is.")] = False,
    finished: Annotated[
        bool, typer.Option("--finished", help="Also remove finished runs that suite.json does not name.")
    ] = False,
) -> None:
    """List what a results folder has no use for, and remove it with --yes.

    \b
    Examples:
      autotunenet-bench gc results/demo
      autotunenet-bench gc results/demo --yes
      autotunenet-bench gc results/demo --finished --yes

    \b
    That is: unfinished runs that suite.json does not name, left by other settings;
    checkpoints of finished runs; files that a kill left half written. A finished run is
    kept, named or not, unless --finished says otherwise.
    """  # noqa: D301
    with interruptible(), system_errors(folder, READABLE):
        from autotunenet.files import FolderInUseError
        from autotunenet_bench.results.suite_file import SuiteFileError
        from autotunenet_bench.results.tidying import Kind, find_waste, remove_waste

        if not folder.is_dir():
            refuse(f"{folder}: there is no such folder; name one such as results/<name of the config>")
        try:
            waste = remove_waste(folder, finished=finished) if yes else find_waste(folder)
        except (FolderInUseError, SuiteFileError) as error:
            refuse(str(error))
        gone = [one for one in waste if finished or one.kind is not Kind.FINISHED]
        for one in waste:
            kept = "" if one in gone else "; kept without --finished"
            say(f"{one.path}: {one.kind.value}, {one.num_bytes / 1e6:.1f} MB{kept}")
        megabytes = f"{sum(one.num_bytes for one in gone) / 1e6:.1f} MB"
        if yes or not gone:
            say(f"{count(len(gone), 'thing')} removed, {megabytes}" if yes else "Nothing to remove")
        else:
            say(f"{count(len(gone), 'thing')} to remove, {megabytes}; nothing was removed, --yes does it")


@app.command()
def export(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="FILE.parquet or FILE.csv; it is replaced.")],
) -> None:
    """Write all runs of a results folder into one table, for DuckDB, pandas or a spreadsheet.

    \b
    Examples:
      autotunenet-bench export results/demo --out demo.parquet
      duckdb -c "select controller, avg(metric_final_val_loss) from 'demo.parquet'
                 where event = 'run' group by controller"
      autotunenet-bench export results/demo --out demo.csv

    \b
    One row a run (event = 'run', with its metrics and its spec) and one for each of its
    events, every row with the run's id, names and seed. Numbers are columns of numbers.
    """  # noqa: D301
    with interruptible(), system_errors(out, "name another file with --out"):
        from autotunenet_bench.results.exporting import begun_runs, export_runs

        try:
            runs = begun_runs(folder)
            num_rows = export_runs(runs, out)
        except ValueError as error:  # a damaged file too: a table must not be silent about a run
            refuse(str(error))
        say(f"{count(num_rows, 'row')} of {count(len(runs), 'run')}: {out}")


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR DIR ...", help="Folders of results, two or more.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The new folder.")],
    prefer: Annotated[
        Path | None, typer.Option("--prefer", metavar="DIR", help="Whose run to take where numbers differ.")
    ] = None,
) -> None:
    """Make one results folder of several, such as those of several machines.

    \b
    Examples:
      autotunenet-bench merge one/demo two/demo --out results/demo
      autotunenet-bench merge one/demo two/demo --out results/demo --prefer one/demo

    \b
    A run that two folders have is taken once. If its numbers differ, the computations
    were not repeatable: nothing is merged, and the runs are named, with what differs in
    versions and machines. Sources are verified before and stay as they are.
    """  # noqa: D301
    with interruptible(), system_errors(out, "name another folder with --out"):
        from autotunenet.files import FolderInUseError
        from autotunenet_bench.results.merging import MergeError, merge_folders
        from autotunenet_bench.results.suite_file import SuiteFileError

        try:
            merged = merge_folders(folders, out, prefer=prefer)
        except (FolderInUseError, MergeError, SuiteFileError) as error:
            refuse(str(error))
        for remark in merged.remarks:
            say(remark, err=True)
        for name in merged.preferred:
            say(f"{name}: its numbers differ; that of {prefer} was taken", err=True)
        say(f"{count(merged.num_runs, 'run')}, {merged.num_same} of them in more than one folder: {out}")
        say(f"Its report: {command('report', str(out))}")
