"""Compare two folders of results, from the folders to the page. The command line calls it, and so can your own code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autotunenet.files import write_atomically
from autotunenet_bench.report.comparison import ComparisonError, FolderComparison, Key, Outcome, Side, compare_sides
from autotunenet_bench.report.comparison import words as words_of
from autotunenet_bench.report.comparison_page import pairs_csv, render_comparison
from autotunenet_bench.results import RunFolder, Trace
from autotunenet_bench.suite import read_results

PAGE = "compare.html"
"""Name of the page in the folder of B, where no other is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonPaths:
    """The files of a comparison."""

    html: Path
    pairs_csv: Path


def compare_folders(a: Path, b: Path, out: Path | None = None) -> tuple[FolderComparison, ComparisonPaths]:
    """Compare two folders run by run, and write a page and a CSV file of the pairs.

    Args:
        a: The folder to compare with, as `autotunenet_bench.suite.run_suite` left it.
        b: The folder in question.
        out: The page; None: `PAGE` in `b`. The pairs go beside it, under its name with the ending ``.csv``.

    Returns:
        What was measured, and where it was written.

    Raises:
        NoRunsError: If there are no runs in a folder.
        SuiteFileError: If a ``suite.json`` is damaged.
        ComparisonError: If the two cannot be compared, or are one folder.
        OSError: If nothing can be written there.
    """
    if a.resolve() == b.resolve():
        raise ComparisonError(f"{b}: A and B are the same folder; name the results of another run of the config")
    found = compare_sides(read_side(a), read_side(b))
    page = out or b / PAGE
    if page.suffix == ".csv":
        raise ComparisonError(f"{page}: the pairs would be written over the page; give it the ending .html")
    paths = ComparisonPaths(html=page, pairs_csv=page.with_suffix(".csv"))
    write_atomically(paths.pairs_csv, pairs_csv(found))
    write_atomically(paths.html, render_comparison(found))
    return found, paths


def read_side(folder: Path) -> Side:
    """Read a folder of results for a comparison.

    Raises:
        NoRunsError: If there are no runs in it.
        SuiteFileError: If its ``suite.json`` is damaged.
        ComparisonError: If two of its runs have the same names and seed.
    """
    results = read_results(folder)
    runs: dict[Key, Outcome] = {}
    ids: dict[Key, str] = {}
    unread: dict[str, str] = dict(results.missing)
    for name in results.names:
        outcome = _outcome(RunFolder(folder / name), results.traces.get(name), results.failures.get(name, ""))
        if isinstance(outcome, str):
            unread.setdefault(name, outcome)
            continue
        labels = outcome.spec["labels"]
        key = (labels["task"], labels["regime"], labels["controller"], outcome.spec["seed"])
        if key in runs:
            raise ComparisonError(
                f"{folder}: {ids[key]} and {name} are both {words_of(key)}, so it is not clear which to compare; run a "
                "config into a folder of its own"
            )
        runs[key], ids[key] = outcome, name
    return Side(name=str(folder), runs=runs, unread=unread)


def _outcome(run: RunFolder, trace: Trace | None, failure: str) -> Outcome | str:
    """What is known of a run; a sentence where that is not even its spec."""
    has_failed = run.status() == "failed"
    if trace is not None:
        return Outcome(spec=trace.spec, trace=trace, failure=failure if has_failed else "")
    if not has_failed:  # not begun, or its files cannot be read, which says nothing about the method
        return failure or "no rows"
    try:
        spec = run.spec()
        labels = spec["labels"]
        names = [labels[kind] for kind in ("task", "regime", "controller")]
        if isinstance(spec["seed"], int) and all(isinstance(name, str) for name in names):
            return Outcome(spec=spec, trace=None, failure=failure)
    except (OSError, KeyError, TypeError, ValueError) as error:
        return f"its spec cannot be read: {error}"
    return "its spec has no labels and seed"
