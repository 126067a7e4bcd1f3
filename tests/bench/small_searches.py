"""A small offline search, and an executor that runs it without other processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from autotunenet_bench.executors import CellFailure, CellUpdate

TEXT = """\
title: A small search
task: {name: digits_mlp, optimizer: sgd, data_fraction: 0.25, num_test: 100}
num_epochs: 2
space:
  task.lr: {values: [0.01, 0.1]}
  task.batch_size: {values: [16, 64]}
searches:
  - grid
  - {name: random, num_trials: 3}
  - {name: surrogate, num_initial: 2, num_trials: 4}
seeds: [0, 1]
"""
OnUpdate = Callable[[CellUpdate], None]


def run_inline(cells: Any, *, root: Path, source: Any, on_update: OnUpdate, run_cell: Any, **_: int) -> list[Any]:
    """Run cells as an executor does, in this process and one after the other."""
    failures = []
    for cell in cells:

        def tell(state: Any, epoch: int = 0, message: str = "", cell: Any = cell) -> None:
            on_update(CellUpdate(cell.run_id, state, epoch, cell.num_epochs, message))

        def on_event(event: Any, tell: Any = tell) -> None:
            if event["event"] in ("epoch", "note"):
                tell(event["event"], event.get("epoch", 0), event.get("note", ""))

        tell("started")
        try:
            run_cell(cell, root, source, on_event)
        except ValueError as error:
            failures.append(CellFailure(cell.run_id, str(error)))
        tell("failed" if failures and failures[-1].run_id == cell.run_id else "done")
    return failures
