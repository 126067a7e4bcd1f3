"""The command line ``autotunenet``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import autotunenet
from autotunenet.optional import import_optional

EXIT_REFUSED, EXIT_INTERRUPTED = 2, 130

_EPILOG = """\
example: have a training write down what is decided, and look on from another terminal

  in the training     from autotunenet.sinks import JsonlSink
                      tuner = AutoTuneNet(model, optimizer, sinks=[JsonlSink("runs/first.jsonl")])
  in the terminal     autotunenet watch runs/first.jsonl
"""

_WATCH = """\
Show a run live while it is trained, from its event file: the curves of loss and lr, what was rolled
back and why, the last decisions with their reasons. A file that is not there yet is waited for, one
that has ended is printed. Ctrl-C leaves; the training knows nothing of it.
"""

_WATCH_EPILOG = """\
examples:
  autotunenet watch runs/first.jsonl                    follow a run in this terminal
  autotunenet watch runs/first.jsonl --once             print it as it is now
  autotunenet watch runs/first.jsonl | grep rollback    in a pipe: a line for every decision
  autotunenet watch results/digits_quick/RUN_ID         a run of autotunenet-bench
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Without the program's name; None: those of the process.

    Returns:
        The exit code: 0; 2 where something was refused, with a sentence on stderr; 130 after Ctrl-C.

    Raises:
        SystemExit: Where the arguments cannot be understood, and after ``--help`` and ``--version``.
    """
    options = _parser().parse_args(arguments)
    try:
        return _watch(options)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at the end
        return 0
    except (ImportError, OSError, ValueError) as error:
        sys.stderr.write(f"autotunenet: error: {error}\n")
        return EXIT_REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "autotunenet",
        description="AutoTuneNet: safe online hyperparameter adaptation inside a running training.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=autotunenet.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    watch = commands.add_parser(
        "watch",
        help="show a run live, from its event file",
        description=_WATCH,
        epilog=_WATCH_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = watch.add_argument
    add("run", metavar="RUN", type=Path, help="the file of a JsonlSink, or a folder that holds one")
    add("--once", action="store_true", help="print the run as it is now, and end")
    add("--decisions", type=_count, default=6, metavar="N", help="last decisions to tell (default: 6)")
    add("--width", type=_count, metavar="N", help="columns (default: the terminal's; 80 in a pipe)")
    add("--interval", type=_seconds, default=0.5, metavar="SECONDS", help="between two looks (default: 0.5)")
    return parser


def _watch(options: argparse.Namespace) -> int:
    console = import_optional("rich.console", "autotunenet watch", "watch").Console(width=options.width)
    from autotunenet.watch import following

    if options.once:
        following.show(options.run, console, num_decisions=options.decisions)
    else:
        following.follow(options.run, console, num_decisions=options.decisions, interval=options.interval)
    return 0


def _count(text: str) -> int:
    """Return an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it must be a whole number of at least 1, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    """Return a number above 0."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"it must be a number of seconds above 0, got {text!r}")
    return seconds
