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
