"""What every executor speaks: the cells it is given, the updates it sends, the failures it hands back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

CellState = Literal["started", "epoch", "note", "done", "failed"]


class CellSpec(Protocol):
    """What an executor needs of a run spec. It must also be picklable."""

    @property
    def run_id(self) -> str:
        """A file name that no other spec has."""
        ...

    @property
    def num_epochs(self) -> int:
        """Epochs from the start to the end of the run."""
        ...


@dataclass(frozen=True, slots=True)
class CellUpdate:
    """A run has made progress.

    Attributes:
        run_id: Which run.
        state: "started" comes again when a run is tried again; "note" brings a message and nothing else.
        epoch: The last finished one, 0 before the first.
        num_epochs: Epochs of the whole run.
        message: A few words for a person: the validation loss after an epoch, the error after a failure, why a run is
            tried again; may be empty.
    """

    run_id: str
    state: CellState
    epoch: int
    num_epochs: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class CellFailure:
    """A run that could not be finished. Its folder holds ``error.txt``.

    Attributes:
        run_id: Which run.
        message: The exception in one line, or how the process died.
    """

    run_id: str
    message: str


UpdateSink = Callable[[CellUpdate], None]
RunCell = Callable[[Any, Path, Any, Callable[[dict[str, Any]], None]], None]
"""``run_cell(spec, root, source, on_event)``: does one run, in a worker process. It must be picklable by reference."""
