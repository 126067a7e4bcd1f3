"""The inside of a worker process: it is handed one cell after another, and ends when its parent does.

Nothing here imports torch before the first cell runs, so that thread settings still count and toy cells start at once.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autotunenet.processes import obey_parent, summarize
from autotunenet_bench.executors.base import RunCell
from autotunenet_bench.executors.cell import CellEnd, do_cell

if TYPE_CHECKING:
    from autotunenet_bench.types import Event

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class Order:
    """Parent to worker: do this run.

    Attributes:
        spec: Pickled, so that one which cannot be loaded fails its own run and not the worker.
    """

    spec: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """Worker to parent. "failed" is the worker's last word: it ends after it."""

    kind: Literal["ready", "epoch", "note", "done", "failed", "held"]
    epoch: int = 0
    message: str = ""
    details: str = ""


def worker_main(channel: Connection, run_cell: RunCell, root: Path, source: Any, num_threads: int) -> None:
    """Do what comes through the channel until it closes; the target of a worker process.

    A worker that has failed ends and is replaced by a fresh one: an error that sticks to a process, as those of CUDA
    do, would otherwise fail every later run.
    """
    obey_parent()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(num_threads)))
    try:
        channel.send(Report("ready"))
        alive = True
        while alive:
            end = _do(channel.recv(), channel, run_cell, root, source)
            channel.send(Report(end.state, message=end.message, details=end.details))
            alive = end.state != "failed"
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent has closed the channel, or is gone
        return


def _do(order: Order, channel: Connection, run_cell: RunCell, root: Path, source: Any) -> CellEnd:
    def on_event(event: Event) -> None:
        if event["event"] == "epoch":
            channel.send(Report("epoch", epoch=event["epoch"], message=describe(event)))
        elif event["event"] == "note":
            channel.send(Report("note", message=describe(event)))

    try:
        spec = pickle.loads(order.spec)
    except Exception as error:
        return CellEnd("failed", summarize(error))
    return do_cell(run_cell, spec, root, source, on_event)


def describe(event: Event) -> str:
    """Return a few words for a person about an event.

    >>> describe({"event": "epoch", "epoch": 1, "val": {"loss": 0.51234}})
    'val loss 0.5123'
    """
    if "note" in event:
        return str(event["note"])
    loss = event.get("val", {}).get("loss")
    return "" if loss is None else f"val loss {loss:.4g}"
