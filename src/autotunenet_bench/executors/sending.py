"""A cell on its way to another machine, and there."""

from __future__ import annotations

import pickle
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autotunenet_bench.executors.base import CellSpec, ExecutorError, Job
from autotunenet_bench.executors.cell import CellEnd, do_cell
from autotunenet_bench.types import EventSink

MARKER_SECONDS = 5.0
"""How long a machine looks for the results; the folders of network file systems come late."""


class StoreNotSharedError(ExecutorError):
    """A machine that was to do a run does not see the folder of the results."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A cell as it is sent.

    Attributes:
        paths: Where modules are looked for here, and so are there: those of the user's own classes may be in a folder.
        content: The job and the spec, pickled, because they may be of such modules.
        marker: A file in the folder of the results, by which the other machine knows that it sees the same one.
    """

    paths: tuple[str, ...]
    content: bytes
    marker: Path

    @classmethod
    def packed(cls, job: Job, spec: CellSpec, marker: Path) -> Parcel:
        """Return a cell of a job, ready to be sent."""
        return cls(tuple(filter(None, sys.path)), pickle.dumps((job, spec)), marker)


def run_parcel(
    parcel: Parcel,
    *,
    is_stopped: Callable[[], bool] = lambda: False,
    on_event: EventSink = lambda event: None,
) -> CellEnd:
    """Run a cell where it was sent to; `is_stopped` and `on_event` as for `do_cell`.

    Raises:
        StoreNotSharedError: If the folder of the results is not seen here.
    """
    from threadpoolctl import threadpool_limits

    sys.path += [path for path in parcel.paths if path not in sys.path]
    _await(parcel.marker)
    job, spec = pickle.loads(parcel.content)
    with threadpool_limits(job.num_threads):
        return do_cell(job.run_cell, spec, job.root, job.source, on_event, is_stopped=is_stopped)


@contextmanager
def marked(root: Path) -> Iterator[Path]:
    """Make a file in the folder of the results, for as long as parcels are on their way."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / f".seen-{uuid.uuid4().hex}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _await(marker: Path) -> None:
    deadline = time.monotonic() + MARKER_SECONDS
    while not marker.exists():
        if time.monotonic() > deadline:
            raise StoreNotSharedError(
                f"{socket.gethostname()} does not see {marker.parent} as the machine does that began this; results "
                "must go to a folder that all machines share under the same path, which --out can name"
            )
        time.sleep(0.1)
