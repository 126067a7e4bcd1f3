"""One cell in the process that runs it, the same for every executor; and how its failure is written down."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autotunenet.processes import summarize, trim_memory
from autotunenet_bench.executors.base import RunCell

if TYPE_CHECKING:
    from autotunenet_bench.config import RunSpec
    from autotunenet_bench.data import DataSource
    from autotunenet_bench.types import EventSink

logger = logging.getLogger(__name__)

OUTPUT_FILE = "output.txt"
"""What a run prints, and its warnings: beside its results, because two processes cannot share a live display."""

ERROR_FILE = "error.txt"

MAX_OUTPUT_SHOWN = 10_000


@dataclass(frozen=True, slots=True)
class CellEnd:
    """How a cell has ended, where it ran.

    Attributes:
        state: "held": another process works on it, or has taken it over.
        message: The error in one line.
        details: Its traceback.
    """

    state: Literal["done", "failed", "held"]
    message: str = ""
    details: str = ""


def run_bench_cell(spec: RunSpec, root: Path, source: DataSource, on_event: EventSink) -> None:
    """Run one benchmark cell, if nobody else does and nobody has; the default of `run_cells`.

    Threads are set from the spec, because another number of threads gives other weights.

    Raises:
        ClaimedElsewhereError: If another process works on it.
    """
    import torch

    from autotunenet_bench.results.claims import ClaimedFolder, Claims
    from autotunenet_bench.runners import run

    with Claims(root).hold(spec.run_id) as claim:
        folder = ClaimedFolder(root / spec.run_id, claim)
        if not folder.is_done():
            torch.set_num_threads(spec.num_threads)
            run(spec, source, folder, on_event)


def do_cell(
    run_cell: RunCell,
    spec: Any,
    root: Path,
    source: Any,
    on_event: EventSink,
    *,
    is_stopped: Callable[[], bool] = lambda: False,
) -> CellEnd:
    """Run a cell, whatever it raises; what it prints goes to its folder.

    Args:
        run_cell: What to do.
        spec: The spec.
        root: Folder of the results.
        source: Handed to `run_cell`.
        on_event: Told of its events.
        is_stopped: Whether this process is being ended from outside: then what is raised is passed on, for it is no
            failure of the cell.
    """
    from autotunenet_bench.results.claims import ClaimedElsewhereError

    folder = root / spec.run_id
    gc.freeze()  # the libraries hold no garbage, and looking through them after every cell takes 0.3 s
    try:
        with output_to(folder / OUTPUT_FILE):
            run_cell(spec, root, source, on_event)
        (folder / ERROR_FILE).unlink(missing_ok=True)  # of a try before
        end = CellEnd("done")
    except ClaimedElsewhereError as error:
        return CellEnd("held", str(error))  # and its files are another's
    except BaseException as error:  # SystemExit too: a run may not end its process without a word
        if is_stopped():
            raise
        end = CellEnd("failed", summarize(error), traceback.format_exc())
    finally:
        trim_memory()  # or the next process that wants it finds none
    _remove_if_empty(folder / OUTPUT_FILE)
    return end


def record_failure(root: Path, run_id: str, message: str, *, details: str = "", tries: Sequence[str] = ()) -> bool:
    """Write down that a cell has failed; return False if another process has it, so that it is not ours to say.

    Args:
        root: Folder of the results.
        run_id: Which cell.
        message: The error in one line, for ``status.json``.
        details: Its traceback; empty where the process has died, whose last output then says what is known.
        tries: Why each try before had ended.
    """
    from autotunenet_bench.results.claims import ClaimedElsewhereError, ClaimedFolder, Claims

    try:
        with Claims(root).hold(run_id) as claim:
            folder = ClaimedFolder(root / run_id, claim)
            if folder.is_done():
                return False
            folder.path.mkdir(parents=True, exist_ok=True)
            text = "".join(f"Try {number}: {why}\n" for number, why in enumerate(tries, start=1))
            text += details or f"{message}\n{_last_output(folder.path)}"
            (folder.path / ERROR_FILE).write_text(text, encoding="utf-8")
            folder.set_status("failed", error=message, **({"tries": list(tries)} if tries else {}))
    except ClaimedElsewhereError:
        return False
    except OSError as error:  # a full disk, perhaps; the caller still hears of the failure
        logger.warning("%s: its failure could not be written down (%s)", run_id, error)
    return True


def record_interruption(root: Path, run_id: str, epoch: int) -> None:
    """Write down that a cell was stopped, unless another process has it or it is finished."""
    from autotunenet_bench.results.claims import ClaimedElsewhereError, ClaimedFolder, Claims

    try:
        with Claims(root).hold(run_id) as claim:
            folder = ClaimedFolder(root / run_id, claim)
            if not folder.is_done():
                folder.path.mkdir(parents=True, exist_ok=True)
                folder.set_status("interrupted", epoch=epoch)
    except ClaimedElsewhereError:
        return
    except OSError as error:  # a full disk must not hide why everything stops
        logger.warning("%s: that it was interrupted was not written down (%s)", run_id, error)


def _last_output(folder: Path) -> str:
    path = folder / OUTPUT_FILE
    if not path.exists():
        return ""
    return f"What it wrote last ({OUTPUT_FILE}):\n" + path.read_text("utf-8", "replace")[-MAX_OUTPUT_SHOWN:]


def _remove_if_empty(path: Path) -> None:
    try:
        if path.stat().st_size == 0:
            path.unlink()
    except OSError as error:  # it is gone, or its file system read-only: neither may hide how the cell has ended
        logger.debug("%s was not removed (%s)", path, error)


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Append stdout and stderr, those of C code and of a crash too, to a file."""
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
