"""Following an event file: a screen that is drawn anew in a terminal, lines everywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.live import Live

from autotunenet.sinks.run_log import EventFile, find_events
from autotunenet.sinks.telling import headline, is_news
from autotunenet.watch.screen import Screen


def show(path: Path, console: Console, *, num_decisions: int) -> None:
    """Print a run as far as it got.

    Args:
        path: The event file, or a folder that holds one.
        console: Where to. Where that is no terminal there are no control codes and no spaces at the ends of lines.
        num_decisions: How many of the last decisions are told.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the folder holds several.
    """
    file = EventFile(find_events(path))
    if not file.path.exists():
        raise FileNotFoundError(f"there is no event file {file.path}; autotunenet.sinks.JsonlSink(path) writes one")
    file.read()
    _print(console, Screen(file.log, str(path), _note(file), num_decisions))


def follow(
    path: Path,
    console: Console,
    *,
    num_decisions: int,
    interval: float,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show a run until it has ended. A file that is not there yet is waited for.

    In a terminal the screen is drawn anew every `interval` seconds, in the size that the terminal has then; at the end
    the run is printed once more, to stay. Elsewhere every decision that is news is a line.

    Args:
        path: The event file, or a folder that holds one or will.
        console: Where to.
        num_decisions: How many of the last decisions are told.
        interval: Seconds between two looks into the file.
        sleep: Waits for so many seconds.

    Raises:
        ValueError: If the folder holds several.
        KeyboardInterrupt: At Ctrl-C; the terminal is as it was.
    """
    if not console.is_terminal:
        _follow_in_lines(path, console, interval, sleep)
        return
    file = EventFile(find_events(path))
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                file = _look(file, path)
                if file.log.is_ended:
                    break
                live.update(Screen(file.log, str(path), _note(file), num_decisions, console.size.height), refresh=True)
                sleep(interval)
    finally:
        _print(console, Screen(file.log, str(path), _note(file), num_decisions))


def _follow_in_lines(path: Path, console: Console, interval: float, sleep: Callable[[float], None]) -> None:
    file, num_told = EventFile(find_events(path)), 0
    while True:
        file = _look(file, path)
        decisions = file.log.decisions
        num_told = min(num_told, len(decisions))  # a resume has dropped some
        for decision in decisions[num_told:]:
            if is_news(decision):
                console.out(headline(decision), highlight=False)
        num_told = len(decisions)
        if file.log.is_ended:
            return
        sleep(interval)


def _look(file: EventFile, path: Path) -> EventFile:
    """Read what is new. In a folder the file may have come under another name than was looked for."""
    found = find_events(path)
    file = file if file.path == found else EventFile(found)
    file.read()
    return file


def _note(file: EventFile) -> str:
    if file.damage:
        return f"A line cannot be read and is left out: {file.damage}"
    return "" if file.log.step or file.path.exists() else f"There is no file {file.path} yet; waiting for it."


def _print(console: Console, screen: Screen) -> None:
    if console.is_terminal:
        console.print(screen)
        return
    with console.capture() as captured:
        console.print(screen)
    lines = captured.get().splitlines()
    console.file.write("".join(f"{line.rstrip()}\n" for line in lines))
    console.file.flush()
