"""Part (e): how long a user waits before anything happens. Every number is of a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter

from benchmarks.performance.tables import Goal, Table
from benchmarks.performance.timing import Settings, Spread, say, take_turns

HEAVY = ("scipy", "pandas", "sklearn", "lightning", "transformers", "keras", "accelerate", "matplotlib", "rich")


def measure(settings: Settings) -> list[Table]:
    """Return least and median of each."""
    say("startup")
    for run in VARIANTS.values():
        run()  # leaves bytecode and the disk's cache behind, as every run of a user but the first finds them
    seconds = take_turns(VARIANTS, settings.pick(9, 1))
    rows = tuple(
        (name, f"{1e3 * min(each):.0f}", f"{1e3 * Spread.of(each).median:.0f}") for name, each in seconds.items()
    )
    goals = (
        Goal("`import autotunenet` after torch, least", 1e3 * min(seconds[IMPORT]), 50, "{:.0f} ms"),
        Goal("`autotunenet-bench --help`, least", 1e3 * min(seconds[HELP]), 1000, "{:.0f} ms"),
    )
    notes = (
        "a busy machine only ever adds time, so the least is what it costs",
        f"large packages that `import autotunenet` brings along: {', '.join(_heavy_modules()) or 'none'}",
    )
    return [Table("Start-up and import, wall clock", ("what", "least, ms", "median, ms"), rows, goals, notes)]


def _whole(*words: str) -> Callable[[], float]:
    """Return what runs Python with these words, and times it from its start to its end."""

    def run() -> float:
        began = perf_counter()
        _python(*words)
        return perf_counter() - began

    return run


def _import_after(before: str, module: str) -> Callable[[], float]:
    """Return what starts Python, imports one module, and times the import of another by ``-X importtime``."""

    def run() -> float:
        told = _python("-X", "importtime", "-c", f"import {before}\nimport {module}").stderr
        microseconds = told.splitlines()[-1].split("|")[1]  # the last import to end is the outermost
        return int(microseconds) / 1e6

    return run


IMPORT, HELP = "`import autotunenet` after `import torch`", "`autotunenet-bench --help`"

VARIANTS: dict[str, Callable[[], float]] = {
    IMPORT: _import_after("torch", "autotunenet"),
    HELP: _whole("-m", "autotunenet_bench", "--help"),
    "`autotunenet --help`": _whole("-m", "autotunenet", "--help"),
    "Python alone": _whole("-c", ""),
    "Python and `import torch`": _whole("-c", "import torch"),
}


def _heavy_modules() -> list[str]:
    """Return which of the large packages `autotunenet` brings along."""
    code = f"import autotunenet, sys; print(*sorted(set({HEAVY!r}) & sys.modules.keys()))"
    return _python("-c", code).stdout.split()


def _python(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Python; it may write bytecode, as it does by default."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=True)
