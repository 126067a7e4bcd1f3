"""What is printed as it is, and command lines that can be run as printed."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

PROGRAM = "autotunenet-bench"


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count(1, "run"), count(2, "run")
    ('1 run', '2 runs')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def say(text: str, *, err: bool = False) -> None:
    """Print a text as it is."""
    # Rich would fold paths at the width of the terminal, and take [...] for markup.
    typer.echo(text, err=err)


@contextmanager
def telling(logger: str) -> Iterator[None]:
    """Print what a logger has to say, from its informations on, to stderr while in here."""
    talker, handler = logging.getLogger(logger), _Saying()
    level = talker.level
    talker.addHandler(handler)
    talker.setLevel(logging.INFO)
    try:
        yield
    finally:
        talker.setLevel(level)
        talker.removeHandler(handler)


class _Saying(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage(), err=True)


def print_lines(heading: str, lines: list[tuple[str, str]]) -> None:
    """Print names and what is said of them, in two columns."""
    width = max(len(name) for name, _ in lines)
    say(f"{heading}:")
    for name, words in lines:
        say(f"  {name:<{width}}  {words}".rstrip())
    say("")


def continue_command() -> str:
    """Return the command line of this process, quoted for a shell and without ``--fresh``.

    >>> continue_command().startswith("autotunenet-bench") or " " in continue_command()
    True
    """
    program, *arguments = sys.orig_argv
    if _is_console_script():
        program, *arguments = [PROGRAM, *arguments[1:]]  # its user did not type the interpreter
    return shlex.join([program, *(argument for argument in arguments if argument != "--fresh")])


def command(*arguments: str) -> str:
    """Return another command of this program, quoted so that it runs as printed."""
    program = [PROGRAM] if _is_console_script() else [sys.orig_argv[0], "-m", "autotunenet_bench"]
    return shlex.join([*program, *arguments])


def _is_console_script() -> bool:
    """Return whether this process is the console script that the shell finds under its name."""
    script, found = sys.orig_argv[1:2], shutil.which(PROGRAM)
    return bool(script and found) and Path(script[0]).resolve() == Path(str(found)).resolve()
