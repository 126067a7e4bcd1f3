"""The summary for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from autotunenet_bench.report.aggregate import Group, Row, aggregate
from autotunenet_bench.report.columns import MAIN_COLUMNS, Column
from autotunenet_bench.report.overall import METRICS_IN_ALL, overall
from autotunenet_bench.report.remarks import remarks
from autotunenet_bench.results.trace import Trace

SPREAD = "± sd"
LESS_NEEDED = ("control", "best val loss", SPREAD, "rolled back", "cumulative val loss", "diverged", "final accuracy")
"""What a terminal too narrow for everything goes without, first to last: heads of columns, and the spread."""

MAX_NAME_WIDTH = 32
"""Longer names of controllers may take two lines; up to here a name costs a column and not its own wholeness."""

MAX_BLOCKS = 12
"""Tables by task and regime in a terminal; where there are more, the report has them."""

NO_RUNS = "There are no runs to show."


def summary_table(traces: Iterable[Trace], groups: Sequence[Group] | None = None) -> SummaryTable:
    """One block a task and regime, one line a controller, means over seeds, as wide as the console allows.

    Where there are several, a last block is over all of them; beyond `MAX_BLOCKS` it is the only one.

    Args:
        traces: Runs.
        groups: What `aggregate` makes of them, where it has been done already.
    """
    groups = tuple(aggregate(traces) if groups is None else groups)
    return SummaryTable(groups, tuple(overall(groups)) if len(groups) > 1 else ())


@dataclass(frozen=True, slots=True)
class SummaryTable:
    """What `summary_table` returns, for ``console.print``.

    The best mean of a column is bold and has a star, so that it also shows in a log file. Runs that are not finished
    are in no mean, and each line that misses some says so. Names and numbers stay whole: where the console is too
    narrow for all columns, those of `LESS_NEEDED` go, and the legend says which.
    """

    groups: tuple[Group, ...]
    overall: tuple[dict[str, Any], ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the widest table that fits."""
        if len(self.groups) <= MAX_BLOCKS:
            yield from self._blocks(console, options)
        else:
            words = [text for group in self.groups for text in _remarks(group)]
            yield f"{len(self.groups)} tables by task and regime, and {len(words)} remarks on them, are in the report."
        if self.overall:
            yield Text()
            yield Text("over all tasks and regimes", style="bold cyan")
            yield _overall_block(self.overall, self._name_width(options))
            yield Text(_OVERALL_LEGEND.format(self.overall[0]["cells"]), style="dim")

    def _blocks(self, console: Console, options: ConsoleOptions) -> RenderResult:
        num_left_out = next(n for n in range(len(LESS_NEEDED) + 1) if self._fits(LESS_NEEDED[:n], console, options))
        left_out = LESS_NEEDED[:num_left_out]
        columns = _columns(left_out)
        for group in self.groups:
            yield Text(f"{group.task} · {group.regime}", style="bold cyan")
            yield _block(group, columns, self._name_width(options))
            yield from _remarks(group)
            yield Text()
        for line in _legend(columns, left_out) if self.groups else [NO_RUNS]:
            yield Text(line, style="dim")

    def _fits(self, left_out: Sequence[str], console: Console, options: ConsoleOptions) -> bool:
        """Whether every block does; the same columns in all of them are easier to read."""
        if len(left_out) == len(LESS_NEEDED):
            return True  # nothing more can go; now names fold
        unbounded = options.update_width(10_000)
        blocks = [_block(group, _columns(left_out), self._name_width(options)) for group in self.groups]
        return all(Measurement.get(console, unbounded, block).maximum <= options.max_width for block in blocks)

    def _name_width(self, options: ConsoleOptions) -> int:
        names = [row.controller for group in self.groups for row in group.rows]
        # Half of a very narrow console is for the numbers.
        return min(max(map(cell_len, names), default=0), MAX_NAME_WIDTH, max(options.max_width // 2, len("controller")))


def _columns(left_out: Sequence[str]) -> list[Column]:
    shown = [column for column in MAIN_COLUMNS if column.head not in left_out]
    return [replace(column, with_sd=False) for column in shown] if SPREAD in left_out else shown


def _legend(columns: Sequence[Column], left_out: Sequence[str]) -> Iterator[str]:
    yield f"mean{'' if SPREAD in left_out else ' ± sd'} over the finished seeds; * best mean of its block"
    if any(column.as_count for column in columns):
        yield "diverged: runs with a divergence event, of those finished"
    if left_out:
        yield f"left out, for want of width: {', '.join(left_out)}"


def _block(group: Group, columns: Sequence[Column], name_width: int) -> Table:
    block = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    block.add_column("controller", overflow="fold", width=max(name_width, len("controller")))
    cells = [[_cell(column, group, row) for column in columns] for row in group.rows]
    for column, below in zip(columns, zip(*cells, strict=True), strict=True):
        head = Text(f"{column.head}\n{column.unit} {column.arrow}".rstrip())
        width = max(cell_len(part) for part in (*head.plain.split(), *(cell.plain for cell in below)))
        block.add_column(head, justify="right", width=width)
    for row, line in zip(group.rows, cells, strict=True):
        block.add_row(Text(row.controller), *line)
    return block


_OVERALL_LEGEND = (
    "mean over the {} cells that all have finished of the median over seeds; a run counts for no more than the loss it "
    "began with, and has failed where it ends near that"
)


def _overall_block(rows: Sequence[dict[str, Any]], name_width: int) -> Table:
    block = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    block.add_column("controller", overflow="fold", width=max(name_width, len("controller")))
    for head in ("loss after\nthe change ↓", "final\nloss ↓", "mean\nrank ↓", "failed\nruns ↓"):
        block.add_column(head, justify="right")
    for row in rows:
        losses = [f"{row[metric]:.3f}" for metric in METRICS_IN_ALL]
        failed = f"{row['failed']}/{row['runs']}"
        block.add_row(Text(row["controller"]), *losses, f"{row['mean_rank']:.2f}", failed)
    return block


def _cell(column: Column, group: Group, row: Row) -> Text:
    text = column.text(row).replace(" ", "")
    # The blank keeps the digits of marked and unmarked cells in one column.
    return Text(f"{text}*", style="bold") if row.controller in column.best(group) else Text(f"{text} ")


def _remarks(group: Group) -> list[Text]:
    return [Text(f"! {remark}", style="yellow") for row in group.rows for remark in remarks(row)]
