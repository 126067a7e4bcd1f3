"""The commands of tabular benchmarks: make a table, and race searches on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from autotunenet_bench.cli.commands import app
from autotunenet_bench.cli.ending import interruptible, refuse, system_errors
from autotunenet_bench.cli.options import Workers
from autotunenet_bench.cli.saying import say

DEFAULT_SEARCHES = (
    "random",
    "{name: surrogate, surrogate: gp}",
    "{name: surrogate, surrogate: random_forest}",
    "{name: surrogate, acquisition: mean, num_initial: 6, batch_size: 4, label: top predictions}",
    "{name: optuna, sampler: tpe, num_initial: 4}",
)


@app.command("hpo-table")
def hpo_table(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of `hpo` whose grid is finished.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The CSV file; a JSON file goes beside it.")],
) -> None:
    """Make a table of the outcomes of all points of a finished search.

    \b
    Examples:
      autotunenet-bench hpo-table results/hpo_digits --out my_table.csv

    \b
    A row a point, with the objective, all metrics and the cost; the JSON file beside it tells
    task, data, versions and machine. `autotunenet-bench race` races searches on it.
    """  # noqa: D301
    with interruptible(), system_errors(out, "name another file with --out"):
        from autotunenet_bench.hpo.folder import HpoFileError
        from autotunenet_bench.tables import TableError
        from autotunenet_bench.tables.making import make_table

        try:
            files = make_table(folder, out)
        except (HpoFileError, TableError) as error:
            refuse(str(error))
        say(f"Table:  {files.csv}, {files.num_points} points")
        say(f"Origin: {files.json}")


@app.command()
def race(
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="A CSV file, or a shipped table; none: list these.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, metavar="N", help="Seeds of every search.")] = 200,
    trials: Annotated[int, typer.Option("--trials", min=1, metavar="N", help="Trials of every search.")] = 10,
    searches: Annotated[
        list[str] | None,
        typer.Option("--search", metavar="NAME|{...}", help="A search, as configs say it; many times."),
    ] = None,
    workers: Workers = None,
) -> None:
    """Race searches on a table of outcomes: nothing is trained, so hundreds of seeds take seconds.

    \b
    Examples:
      autotunenet-bench race
      autotunenet-bench race digits_mlp
      autotunenet-bench race digits_mlp --seeds 500 --trials 8
      autotunenet-bench race my_table.csv --search random --search "{name: surrogate, acquisition: ei}"
    """  # noqa: D301
    with interruptible():
        from autotunenet_bench.config.files import parse_search
        from autotunenet_bench.executors.base import num_cores
        from autotunenet_bench.tables import TableError, load_table, shipped_tables
        from autotunenet_bench.tables import race as racing
        from autotunenet_bench.tables.race_table import race_table

        if table is None:
            say("tables:\n" + "\n".join(f"  {name}" for name in shipped_tables()))
            return
        try:
            loaded = load_table(table)
            chosen = [parse_search(text, f"--search {text}") for text in searches or DEFAULT_SEARCHES]
            with _progress() as on_progress:
                rows = racing.race(
                    loaded,
                    chosen,
                    num_seeds=seeds,
                    num_trials=trials,
                    num_workers=workers or num_cores(),
                    on_progress=on_progress,
                )
        except (TableError, ValueError) as error:
            refuse(str(error))
        for sentence in (loaded.provenance.title, f"{loaded.space.num_points} points, {trials} trials, {seeds} seeds"):
            say(sentence)
        from autotunenet_bench.cli.executing import console

        console().print(race_table(loaded, rows))


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar in a terminal, and nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("searches", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
