"""The command of offline search, its options and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autotunenet_bench.cli.commands import app
from autotunenet_bench.cli.options import DataDir, Download, Fresh, Full, Out, Overrides, Scale, Workers
from autotunenet_bench.cli.searching import execute_hpo, list_configs


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
      autotunenet-bench hpo -c surrogate_hpo --scale small --data-dir my_copies
      autotunenet-bench hpo -c hpo_digits --set num_trials=5 --set "seeds=[0, 1, 2]"
      autotunenet-bench hpo -c hpo_digits --set "space.task.lr={low: 1e-4, high: 1, log: true}" \\
          --set "searches=[random, surrogate]"

    \b
    A point that two searches ask for is trained once, and each of them is charged for it.
    Ctrl-C loses nothing: the same command goes on where it stopped. report.html compares
    the searches, `autotunenet-bench report DIR` makes it again.
    """  # noqa: D301
    if config is None:
        list_configs()
        return
    data = (data_dir, download, full)
    execute_hpo(config, overrides or [], out, scale=scale, workers=workers, data=data, fresh=fresh)
