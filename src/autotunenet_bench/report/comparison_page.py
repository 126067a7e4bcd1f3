"""Two result folders beside each other: the page, the table for the terminal and the pairs as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from autotunenet_bench.report import drawing
from autotunenet_bench.report.comparison import Change, FolderComparison, words
from autotunenet_bench.report.csvs import to_csv
from autotunenet_bench.report.pages import page
from autotunenet_bench.report.tables import MAX_NAME_WIDTH
from autotunenet_bench.report.verdicts import Verdict

MAX_REGRESSIONS = 20
"""Cells whose mean rose that the page tells."""

MAX_IN_TERMINAL = 5
"""Regressions, differences of specs and remarks that the terminal tells, each."""

MAX_LISTED = 30
"""Runs of one folder only, differences of specs and remarks that the page tells, each."""

CONFOUNDED = "Some pairs differ in more than the controller ({}), so that a difference need not be the controller's."

OTHER_ENVIRONMENT = (
    "Some pairs were not computed alike: {}. Equal specs give equal numbers only under equal versions and on equal "
    "processors, so a difference need not come from the code."
)


def render_comparison(found: FolderComparison) -> str:
    """Render the page; equal comparisons give equal bytes."""
    return page(
        "compare.html.j2",
        found=found,
        warnings=warnings(found),
        figure=drawing.inline_svg(differences_figure(found.controllers), "d-"),
        regressions=found.regressions[:MAX_REGRESSIONS],
        num_more_regressions=len(found.regressions[MAX_REGRESSIONS:]),
        max_listed=MAX_LISTED,
        only_a=[words(key) for key in found.only_a],
        only_b=[words(key) for key in found.only_b],
    )


def warnings(found: FolderComparison) -> list[str]:
    """Return what else may be behind a difference of the losses, a sentence each: other specs, other environments."""
    told = [CONFOUNDED.format(", ".join(found.confounders))] if found.confounders else []
    if others := [f"{one.field} {one.a} in A, {one.b} in B" for one in found.environments]:
        shown = "; ".join(others[:MAX_IN_TERMINAL]) + ("; and others" if others[MAX_IN_TERMINAL:] else "")
        told.append(OTHER_ENVIRONMENT.format(shown))
    return told


def differences_figure(controllers: Sequence[tuple[Change, Verdict]]) -> str:
    """Return the mean differences B - A with their 95 % intervals, one row a controller, as an SVG document."""
    with mpl.rc_context(drawing.SETTINGS):
        figure = Figure(figsize=(drawing.WIDTH, 0.9 + 0.27 * len(controllers)), layout="constrained")
        ax = figure.subplots()
        places = np.arange(len(controllers))
        intervals = [verdict.comparison.difference for _, verdict in controllers]
        ax.hlines(places, [one.low for one in intervals], [one.high for one in intervals], color=drawing.COLORS[0])
        ax.plot([one.point for one in intervals], places, "o", color=drawing.COLORS[0], markersize=5)
        ax.axvline(0.0, color=drawing.INKS["line"], linewidth=0.9, zorder=1)
        ax.set_yticks(places, [change.controller for change, _ in controllers])
        ax.set_ylim(len(controllers) - 0.5, -0.5)
        ax.set_xlabel("B less A, share of the initial loss: left of 0 B is better")
        return drawing.to_svg(figure)


def pairs_csv(found: FolderComparison) -> str:
    """One row a pair: the shares of the initial loss in A and in B."""
    return to_csv(
        {
            **dict(zip(("task", "regime", "controller", "seed"), pair.key, strict=True)),
            "a": pair.a,
            "b": pair.b,
            "difference": pair.b - pair.a,
            "identical": pair.is_identical,
            "metric": found.metric.name,
        }
        for change, _ in found.controllers
        for pair in change.pairs
    )


class ComparisonTable:
    """A comparison for ``console.print``: the controllers, and the first of everything else.

    Args:
        found: From `autotunenet_bench.report.comparison.compare_sides`.
    """

    def __init__(self, found: FolderComparison) -> None:
        self.found = found

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        found = self.found
        yield Text(f"A: {found.a.name}")
        yield Text(f"B: {found.b.name}")
        yield _table(found.controllers)
        yield Text(
            f"mean share of the initial loss that is left ({found.metric.title}); lower is better, below 0 B is "
            "better; identical: pairs that ended with the same weights; no claim does not mean equal",
            style="dim",
        )
        yield from (Text(warning, style="yellow") for warning in warnings(found))
        if found.limits:
            yield Text(found.limits, style="yellow")
        for heading, lines in self._lists():
            if lines:
                yield Text()
                yield Text(heading, style="bold cyan")
                yield from (Text(f"  {line}") for line in lines[:MAX_IN_TERMINAL])
                if lines[MAX_IN_TERMINAL:]:
                    yield Text(f"  and {len(lines) - MAX_IN_TERMINAL} more, on the page", style="dim")

    def _lists(self) -> Iterator[tuple[str, list[str]]]:
        found = self.found
        yield (
            "largest rises, by cell (no claims)",
            [
                f"{cell.task}, {cell.regime}, {cell.controller}: {cell.mean_a:.4f} to {cell.mean_b:.4f} over "
                f"{len(cell.pairs)} seed{'s' if len(cell.pairs) > 1 else ''}"
                for cell in found.regressions
            ],
        )
        yield (
            "what differs in specs, versions and machines",
            [f"{one.field}: {one.a} in A, {one.b} in B ({one.num_pairs} pairs)" for one in found.differences],
        )
        yield "only in A", [words(key) for key in found.only_a]
        yield "only in B", [words(key) for key in found.only_b]
        yield "to be known", list(found.remarks)


def _table(controllers: Sequence[tuple[Change, Verdict]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    width = min(max(cell_len(change.controller) for change, _ in controllers), MAX_NAME_WIDTH)
    table.add_column("controller", overflow="fold", width=max(width, len("controller")))
    for head in ("pairs", "identical", "A", "B", "B - A", "95 % interval", "p (Holm)"):
        table.add_column(head, justify="right")
    table.add_column("B is")
    for change, verdict in controllers:
        comparison = verdict.comparison
        table.add_row(
            Text(change.controller),
            str(len(change.pairs)),
            str(change.num_identical),
            f"{change.mean_a:.4f}",
            f"{change.mean_b:.4f}",
            f"{comparison.difference.point:+.4f}",
            f"{comparison.difference.low:+.4f} to {comparison.difference.high:+.4f}",
            f"{comparison.p_holm:.3g}",
            verdict.claim.value,
        )
    return table
