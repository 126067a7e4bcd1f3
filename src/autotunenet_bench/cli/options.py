"""The options that more than one command has."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Backend(str, Enum):
    """What runs can go on; the names are those of `autotunenet_bench.executors.EXECUTORS`."""

    LOCAL = "local"
    RAY = "ray"
    SLURM = "slurm"


Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Put a value over the config; may be given many times."),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Results go to DIR/<name of the config>/.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, metavar="N", help="Processes; default: cores // num_threads, at most one a run."),
]
ExecutorName = Annotated[
    Backend, typer.Option("--executor", help="What runs go on: this machine, a Ray cluster, or Slurm.")
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="ray: of a cluster, such as auto or host:6379; default: one on this machine, for this command only. "
        "slurm: local, to try it without Slurm.",
    ),
]
GpusPerCell = Annotated[
    float,
    typer.Option("--gpus-per-cell", min=0, metavar="X", help="GPUs of each run; a fraction where several share one."),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout-per-cell", min=0.001, metavar="SECONDS", help="How long a run may take; default: no limit."
    ),
]
Memory = Annotated[
    str | None,
    typer.Option("--memory-per-cell", metavar="SIZE", help="Memory that a run may hold, such as 4GB; default: all."),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Your copies of the data sets; default: $AUTOTUNENET_DATA_DIR."),
]
Download = Annotated[
    bool, typer.Option("--download", help="Allow data and pretrained models to be fetched from the network.")
]
Full = Annotated[
    bool,
    typer.Option(
        "--full", help="Take the whole of the data, never the part that is installed; see `full:` in configs."
    ),
]
Scale = Annotated[
    str | None,
    typer.Option("--scale", metavar="NAME", help="Run it at another size, one of the config's `scales:`."),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Do finished runs again instead of reusing them.")]


class Topic(str, Enum):
    """What `list` can list."""

    TASKS = "tasks"
    REGIMES = "regimes"
    CONTROLLERS = "controllers"
    SEARCHES = "searches"
    METRICS = "metrics"
    SUITES = "suites"
    CONFIGS = "configs"
    RUNS = "runs"
