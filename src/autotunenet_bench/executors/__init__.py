"""Executors: how many runs become many processes, and what a person sees meanwhile."""

from autotunenet_bench.executors.base import CellFailure, CellUpdate
from autotunenet_bench.executors.local import run_cells
from autotunenet_bench.executors.progress import ProgressDisplay

__all__ = ["CellFailure", "CellUpdate", "ProgressDisplay", "run_cells"]
