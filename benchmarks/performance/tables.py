"""Tables in Markdown, the goals that they are held against, and their places in a page."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.performance.timing import Spread


@dataclass(frozen=True)
class Goal:
    """A limit that a measured number should not exceed.

    Args:
        what: Which number.
        value: What was measured.
        limit: The most that it should be.
        form: How both are written, a format of one place.
    """

    what: str
    value: float
    limit: float
    form: str = "{:.2f}"

    @property
    def is_met(self) -> bool:
        """Whether it is."""
        return self.value <= self.limit

    def __str__(self) -> str:
        verdict = "met" if self.is_met else "**missed**"
        return f"{self.what}: {self.form.format(self.value)}, goal {self.form.format(self.limit)} at most, {verdict}"


@dataclass(frozen=True)
class Table:
    """Rows of text under a head, with a title, the goals, and what else has to be said."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    goals: tuple[Goal, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [self.head, ("---",) * len(self.head), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        said = "\n".join(f"- {line}" for line in (*map(str, self.goals), *self.notes))
        return "\n\n".join(filter(None, (f"**{self.title}**", table, said)))


def times(spread: Spread, digits: int = 2) -> str:
    """Return a ratio with its quartiles.

    >>> times(Spread(1.0, 1.1, 1.25))
    '1.10 (1.00-1.25)'
    """
    low, median, high = (f"{value:.{digits}f}" for value in (spread.low, spread.median, spread.high))
    return f"{median} ({low}-{high})"


def per_cent(spread: Spread) -> str:
    """Return by how much a ratio is above one.

    >>> per_cent(Spread(0.99, 1.01, 1.025))
    '+1.0 % (-1.0 to +2.5)'
    """
    low, median, high = (f"{100 * (value - 1):+.1f}" for value in (spread.low, spread.median, spread.high))
    return f"{median} % ({low} to {high})"


def fingerprint(packages: Iterable[str]) -> str:
    """Return when, at which commit, on what machine and with which versions something was measured, in a sentence.

    Nothing that tells whose machine it is.
    """
    from autotunenet_bench.environment import environment

    found = environment(list(packages))
    names = [name for name in found if name not in ("machine", "platform", "cpu", "cpu_capability", "autotunenet")]
    versions = ", ".join(f"{name} {found[name]}" for name in names)
    load = f", load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    return (
        f"Measured on {datetime.now(timezone.utc):%Y-%m-%d} at commit {_commit()}, on {os.cpu_count()} cores of "
        f"{platform.machine()} with {found['cpu_capability']}{load}; {versions}."
    )


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else "unknown (no git checkout)"


def write_part(page: Path, part: str, text: str) -> None:
    """Put `text` between the markers of a part in a page; what stood there is replaced, all else stays.

    Raises:
        ValueError: If the page has no markers of that part.
    """
    before = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {part}: written by make bench -->", f"<!-- end of {part} -->"
    place = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    after, count = place.subn(lambda _: f"{begin}\n\n{text}\n\n{end}", before)
    if count != 1:
        raise ValueError(f"{page} needs the lines {begin!r} and {end!r} once, for the tables to stand between them")
    page.write_text(after, encoding="utf-8")
