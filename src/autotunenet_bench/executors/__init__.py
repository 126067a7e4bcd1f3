"""Executors: how many runs become many processes, here or on other machines, and what a person sees meanwhile."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from autotunenet_bench.executors.base import CellFailure, CellUpdate, Executor, ExecutorError, Limits
from autotunenet_bench.executors.progress import ProgressDisplay
from autotunenet_bench.executors.running import run_cells

__all__ = [
    "EXECUTORS",
    "CellFailure",
    "CellUpdate",
    "Executor",
    "ExecutorError",
    "Limits",
    "ProgressDisplay",
    "make_executor",
    "run_cells",
]

EXECUTORS = {
    "local": "autotunenet_bench.executors.local:LocalExecutor",
    "ray": "autotunenet_bench.executors.ray_tasks:RayExecutor",
    "slurm": "autotunenet_bench.executors.slurm_jobs:SlurmExecutor",
}
"""Where each is: they are imported when one is made, because Ray and Submitit are extras."""


def make_executor(name: str, limits: Limits | None = None, **options: Any) -> Executor:
    """Return an executor.

    Args:
        name: Of `EXECUTORS`.
        limits: What one cell may use.
        options: Those of its own, such as `address`.

    Raises:
        ValueError: If there is none of this name, or it cannot keep a limit.
        ImportError: If its package is not installed; it says how to install it.

    >>> make_executor("local").default_workers(num_threads=1000)
    1
    """
    if name not in EXECUTORS:
        raise ValueError(f"there is no executor {name!r}; there are {', '.join(EXECUTORS)}")
    module, _, member = EXECUTORS[name].partition(":")
    executor: Executor = getattr(import_module(module), member)(limits, **options)
    return executor
