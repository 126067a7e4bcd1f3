"""The ways out: exit codes, Ctrl-C, and what the operating system refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer

from autotunenet_bench.cli.saying import command, continue_command, say

EXIT_FAILED, EXIT_REFUSED, EXIT_INTERRUPTED = 1, 2, 130


@contextmanager
def interruptible(place: list[Path] | None = None) -> Iterator[None]:
    """End in the right exit code at Ctrl-C, and say how to go on; `place` holds the folder of the runs, if any."""
    try:
        yield
    except KeyboardInterrupt:
        kept = " Finished runs are kept, the others go on where they stopped." if place else ""
        say(f"\nInterrupted.{kept} To continue:\n  {continue_command()}", err=True)
        if place and any(place[0].glob("*/events.jsonl")):
            say(f"To see what is there:\n  {command('report', str(place[0]))}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


@contextmanager
def system_errors(place: Path, mend: str) -> Iterator[None]:
    """Turn what the operating system refuses into a sentence; `place` is named where the error names no file."""
    try:
        yield
    except BrokenPipeError:  # whoever read our output has gone; no fault of any file
        raise
    except OSError as error:
        where = place if error.filename is None else error.filename
        refuse(f"{where}: no files can be read or written here: {error.strerror or error}; {mend}")


def refuse(text: str) -> NoReturn:
    """Say what is wrong, and end: nothing was run."""
    say(text, err=True)
    raise typer.Exit(EXIT_REFUSED)
