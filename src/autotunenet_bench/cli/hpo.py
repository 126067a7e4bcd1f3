"""The commands of offline search: `hpo`, and what goes with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotunenet.files import FolderInUseError
from autotunenet_bench.cli.commands import app
from autotunenet_bench.cli.ending import EXIT_FAILED, interruptible, refuse, system_errors
from autotunenet_bench.cli.options import DataDir, Download, Fresh, Full, Out, Overrides, Scale, Workers
from autotunenet_bench.cli.saying import count, print_lines, say, telling

if TYPE_CHECKING:
    from autotunenet_bench.hpo.reporting import HpoResult
    from autotunenet_bench.hpo.suite import HpoPlan


@app.command()
def hpo(
    *,
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", metavar="FILE|NAME", help="A YAML file, or a shipped config; none: list these."),
    ] = None,
    overrides: Overrides = None,
    out: Out = Path("results"),
    workers: Workers = None,
    data_dir: DataDir = None,
    download: Download = False,
    full: Full = False,
    scale: Scale = None,
    fresh: Fresh = False,
) -> None:
    """Search for hyperparameters by training again and again, and compare searches at equal cost.

    \b
    A config names a task, a space over keys of its training (task.lr, task.batch_size,
    num_epochs, ...), what is searched for, and searches: a grid, random points, a
    surrogate that is trained on the results so far, a sampler of Optuna.

    \b
    Examples:
      autotunenet-bench hpo
      autotunenet-bench hpo --config hpo_digits
      autotunenet-bench hpo -c hpo_sst2 --scale small --data-dir my_copies
      autotunenet-bench hpo -c hpo_digits --set num_trials=5 --set "seeds=[0, 1, 2]"
      autotunenet-bench hpo -c hpo_digits --set "space.task.lr={low: 1e-4, high: 1, log: true}" \\
          --set "searches=[random, surrogate]"

    \b
    A point that two searches ask for is trained once, and each of them is charged for it.
    Ctrl-C loses nothing: the same command goes on where it stopped. report.html compares
    the searches, `autotunenet-bench report DIR` makes it again.
    """  # noqa: D301
    if config is None:
        _list_configs()
        return
    place = [out]
    with interruptible(place):
        from autotunenet_bench.cli.executing import load_kind
        from autotunenet_bench.config import ConfigError, HpoConfig
        from autotunenet_bench.data import DataError, DataSource
        from autotunenet_bench.executors import ProgressDisplay
        from autotunenet_bench.hpo.suite import Stage, run_hpo

        try:
            loaded = load_kind("hpo", config, overrides or [], full=full, scale=scale)
            assert isinstance(loaded.config, HpoConfig)
            folder = place[0] = out / loaded.folder
            say(f"Config: {loaded.path}{' (shipped)' if loaded.shipped else ''}")
            with (
                system_errors(folder, "name another folder with --out"),
                telling("autotunenet_bench.data"),
                ProgressDisplay() as progress,
            ):

                def on_stage(stage: Stage) -> None:
                    progress.note("")
                    progress.begin(stage.specs, num_reused=stage.num_reused, num_workers=stage.num_workers)

                result = run_hpo(
                    loaded.config,
                    folder,
                    DataSource.from_environment(data_dir, download, full),
                    name=loaded.name,
                    departure=loaded.departure,
                    num_workers=workers,
                    fresh=fresh,
                    on_plan=show_plan,
                    on_stage=on_stage,
                    on_update=progress.update,
                    on_best=progress.note,
                )
        except ConfigError as error:
            refuse(f"{error}\n{count(len(error.problems), 'problem')}; nothing was run.")
        except (DataError, FolderInUseError) as error:
            refuse(str(error))
        show_hpo_result(result)


def show_plan(plan: HpoPlan) -> None:
    """Print how many searches and trials there are, and what is known or done of the trainings already."""
    parts = [f"{_searches(len(plan.cells))}, {count(plan.num_trials, 'trial')} in all"]
    if plan.known:
        parts.append(f"{count(len(plan.known), 'training')} known from the start")
    if plan.num_reused:
        parts.append(f"{plan.num_reused} of them finished and reused; --fresh trains them again")
    if plan.num_resumed:
        parts.append(f"{count(plan.num_resumed, 'interrupted training')} continued")
    say("; ".join([*parts, count(plan.num_workers, "worker")]))
    if plan.is_crowded:
        have = f"{count(plan.num_workers, 'worker')} x {count(plan.num_threads, 'thread')}"
        say(f"{have}: more than there are cores here, so the trainings slow each other down", err=True)


def show_hpo_result(result: HpoResult, page: Path | None = None) -> None:
    """Print the table, what failed, and where everything lies; exit with 1 if a search could not be finished."""
    from autotunenet_bench.cli.executing import console
    from autotunenet_bench.report.hpo.terminal import terminal_table

    if result.study.searches:
        console().print(terminal_table(result.report.page))
    for sentence in result.report.page.headline:
        say(sentence)
    say(f"Report: {page or result.report.html}")
    say(f"Beside it: {', '.join(path.name for path in result.report.beside)}")
    if result.num_unfinished:
        say(f"{result.num_unfinished} of {len(result.study.runs)} searches are not finished")
    failures = result.study.failures
    if not failures:
        return
    say("\nFailed:", err=True)
    for name, message in failures.items():
        say(f"  {name}: {message}", err=True)
        say(f"    see {result.folder / name}", err=True)
    raise typer.Exit(EXIT_FAILED)


def _list_configs() -> None:
    with interruptible():
        from autotunenet_bench.listing import describe_hpo_configs

        print_lines("configs of offline searches", describe_hpo_configs())
        say("Run one with --config NAME, or copy it to begin your own; --help says more.")


def _searches(number: int) -> str:
    return f"{number} search{'' if number == 1 else 'es'}"
