"""Run offline searches, and show their plan and their result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from autotunenet_bench.cli.ending import EXIT_FAILED, interruptible, refuse, system_errors
from autotunenet_bench.cli.saying import count, print_lines, say, telling

if TYPE_CHECKING:
    from autotunenet_bench.config.files import LoadedConfig
    from autotunenet_bench.data import DataSource
    from autotunenet_bench.hpo.reporting import HpoResult
    from autotunenet_bench.hpo.sets import SetResult
    from autotunenet_bench.hpo.suite import HpoPlan


def execute_hpo(
    name: str,
    overrides: list[str],
    out: Path,
    *,
    scale: str | None,
    workers: int | None,
    data: tuple[Path | None, bool, bool],
    fresh: bool,
) -> None:
    """Load, search, show; every way out has its exit code.

    `scale` is what --scale names, `data` is what --data-dir, --download and --full say.
    """
    place = [out]  # the folder below it, as soon as the config has told its name
    with interruptible(place):
        from autotunenet.files import FolderInUseError
        from autotunenet_bench.cli.executing import refuse_other_kind
        from autotunenet_bench.config import ConfigError, HpoSetConfig
        from autotunenet_bench.config.sets import load_members
        from autotunenet_bench.data import DataError, DataSource

        try:
            source = DataSource.from_environment(*data)
            loaded, members = load_members(name, overrides, full=data[2], scale=scale)
            refuse_other_kind("hpo", name, loaded)
            for member in members:
                refuse_other_kind("hpo", member.name if member.shipped else str(member.path), member)
            folder = place[0] = out / loaded.folder
            say(f"Config: {loaded.path}{' (shipped)' if loaded.shipped else ''}")
            with system_errors(folder, "name another folder with --out"), telling("autotunenet_bench.data"):
                if not isinstance(loaded.config, HpoSetConfig):
                    show_hpo_result(_search(loaded, folder, source, workers, fresh))
                    return
                _check(members, source)
                results = []
                for member in members:
                    say(f"\n{member.name}:")
                    results.append(_search(member, folder / member.name, source, workers, fresh))
                show_set_result(_summarize(loaded, members, folder), results)
        except ConfigError as error:
            refuse(f"{error}\n{count(len(error.problems), 'problem')}; nothing was run.")
        except (DataError, FolderInUseError) as error:
            refuse(str(error))


def _check(members: list[LoadedConfig], source: DataSource) -> None:
    """Look at all members before the first one runs: what the third lacks is to be known now, and not in hours."""
    from autotunenet_bench.config import HpoConfig
    from autotunenet_bench.hpo.suite import check_hpo

    for member in members:
        assert isinstance(member.config, HpoConfig)
        check_hpo(member.config, source)


def _search(loaded: LoadedConfig, folder: Path, source: DataSource, workers: int | None, fresh: bool) -> HpoResult:
    from autotunenet_bench.config import HpoConfig
    from autotunenet_bench.executors import ProgressDisplay
    from autotunenet_bench.hpo.suite import Stage, run_hpo

    assert isinstance(loaded.config, HpoConfig)
    with ProgressDisplay() as progress:

        def on_stage(stage: Stage) -> None:
            progress.note("")
            progress.begin(stage.specs, num_reused=stage.num_reused, num_workers=stage.num_workers)

        return run_hpo(
            loaded.config,
            folder,
            source,
            name=loaded.name,
            departure=loaded.departure,
            num_workers=workers,
            fresh=fresh,
            on_plan=show_plan,
            on_stage=on_stage,
            on_update=progress.update,
            on_best=progress.note,
        )


def _summarize(loaded: LoadedConfig, members: list[LoadedConfig], folder: Path) -> SetResult:
    from autotunenet_bench.config import HpoSetConfig
    from autotunenet_bench.hpo.sets import SetAbout, rebuild_set_report, write_set

    assert isinstance(loaded.config, HpoSetConfig)
    title, description = loaded.config.title or loaded.name, loaded.config.description or ""
    write_set(folder, SetAbout(title=title, description=description, members=tuple(one.name for one in members)))
    return rebuild_set_report(folder)


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


def list_configs() -> None:
    """Print the shipped configs of offline searches."""
    with interruptible():
        from autotunenet_bench.listing import describe_hpo_configs

        print_lines("configs of offline searches", describe_hpo_configs())
        say("Run one with --config NAME, or copy it to begin your own; --help says more.")


def _searches(number: int) -> str:
    return f"{number} search{'' if number == 1 else 'es'}"


def show_set_result(result: SetResult, members: list[HpoResult], page: Path | None = None) -> None:
    """Print what several searches came to together; exit with 1 if something of one failed."""
    from autotunenet_bench.cli.executing import console
    from autotunenet_bench.report.hpo.terminal import to_terminal

    console().print(to_terminal(result.table))
    for sentence in result.headline:
        say(sentence)
    say(f"Report: {page or result.html}")
    failed = [f"{member.folder}: {name}: {why}" for member in members for name, why in member.study.failures.items()]
    if failed:
        say("\nFailed:\n" + "\n".join(f"  {line}" for line in failed), err=True)
        raise typer.Exit(EXIT_FAILED)
