"""The inside of a worker process: it is handed one cell after another, and ends when its parent does.

Nothing here imports torch before the first cell runs, so that thread settings still count and toy cells start at once.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autotunenet.processes import obey_parent, summarize
from autotunenet_bench.executors.base import RunCell

if TYPE_CHECKING:
    from autotunenet_bench.config import RunSpec
    from autotunenet_bench.data import DataSource
    from autotunenet_bench.types import Event, EventSink

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
OUTPUT_FILE = "output.txt"
"""What a run prints, and its warnings: beside its results, because two processes cannot share a live display."""


@dataclass(frozen=True, slots=True)
class Order:
    """Parent to worker: do this run.

    Attributes:
        spec: Pickled, so that one which cannot be loaded fails its own run and not the worker.
        output: File that takes what the run prints.
    """

    spec: bytes
    output: Path


@dataclass(frozen=True, slots=True)
class Report:
    """Worker to parent. "failed" is the worker's last word: it ends after it."""

    kind: Literal["ready", "epoch", "note", "done", "failed"]
    epoch: int = 0
    message: str = ""
    details: str = ""


def run_bench_cell(spec: RunSpec, root: Path, source: DataSource, on_event: EventSink) -> None:
    """Run one benchmark cell; the default of `autotunenet_bench.executors.run_cells`.

    Threads are set from the spec, because another number of threads gives other weights.
    """
    import torch

    from autotunenet_bench.results.store import ResultStore
    from autotunenet_bench.runners import run

    torch.set_num_threads(spec.num_threads)
    run(spec, source, ResultStore(root).folder(spec), on_event)


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
            alive = _do(channel.recv(), channel, run_cell, root, source)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent has closed the channel, or is gone
        return


def _do(order: Order, channel: Connection, run_cell: RunCell, root: Path, source: Any) -> bool:
    """Do one run and report how it ended; return whether this worker may do another."""

    def on_event(event: Event) -> None:
        if event["event"] == "epoch":
            channel.send(Report("epoch", epoch=event["epoch"], message=_describe(event)))
        elif event["event"] == "note":
            channel.send(Report("note", message=_describe(event)))

    try:
        with _output_to(order.output):
            run_cell(pickle.loads(order.spec), root, source, on_event)
    except BaseException as error:  # SystemExit too: a run may not end a worker without a word
        channel.send(Report("failed", message=summarize(error), details=traceback.format_exc()))
        return False
    channel.send(Report("done"))
    return True


def _describe(event: Event) -> str:
    if "note" in event:
        return str(event["note"])
    loss = event.get("val", {}).get("loss")
    return "" if loss is None else f"val loss {loss:.4g}"


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send stdout and stderr, those of C code and of a crash too, to a file; remove it if it stays empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = os.dup(1), os.dup(2)
    with path.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        faulthandler.enable(file=2)
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            faulthandler.disable()
            for fd, original in zip((1, 2), saved, strict=True):
                os.dup2(original, fd)
                os.close(original)
    if path.stat().st_size == 0:
        path.unlink()
