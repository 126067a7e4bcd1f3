"""The summary for the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.cells import cell_len
from rich.console import Group as Stack
from rich.table import Table
from rich.text import Text

from autotunenet_bench.report.aggregate import Group, Row, aggregate
from autotunenet_bench.report.columns import MAIN_COLUMNS, Column
from autotunenet_bench.report.remarks import remarks
from autotunenet_bench.results.trace import Trace

LEGEND = "mean ± sd over the finished seeds; * best mean of its block; diverged: runs that did, of those finished"
NO_RUNS = "There are no runs to show."


def summary_table(traces: Iterable[Trace]) -> Table:
    """One block a task and regime, one line a controller, means over seeds. Fits a terminal of 100 columns.

    The best mean of a column is bold and has a star, so that it also shows in a log file. Runs that are not finished
    are in no mean, and each line that misses some says so.
    """
    groups = aggregate(traces)
    table = Table(box=None, show_header=False, padding=(0, 0, 1, 0), caption_justify="left")
    table.add_column()
    for group in groups:
        title = Text(f"{group.task} · {group.regime}", style="bold cyan")
        table.add_row(Stack(title, _block(group), *_remarks(group)))
    table.caption = Text(LEGEND if groups else NO_RUNS, style="dim")
    return table


def _block(group: Group) -> Table:
    block = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    block.add_column("controller", overflow="fold")
    cells = [[_cell(column, group, row) for column in MAIN_COLUMNS] for row in group.rows]
    for column, below in zip(MAIN_COLUMNS, zip(*cells, strict=True), strict=True):
        head = Text(f"{column.head}\n{column.unit} {column.arrow}".rstrip())
        # Too narrow a terminal breaks the controllers' names, never a number.
        width = max(cell_len(part) for part in (*head.plain.split(), *(cell.plain for cell in below)))
        block.add_column(head, justify="right", width=width)
    for row, line in zip(group.rows, cells, strict=True):
        block.add_row(Text(row.controller), *line)
    return block


def _cell(column: Column, group: Group, row: Row) -> Text:
    text = column.text(row).replace(" ", "")
    # The blank keeps the digits of marked and unmarked cells in one column.
    return Text(f"{text}*", style="bold") if row.controller in column.best(group) else Text(f"{text} ")


def _remarks(group: Group) -> list[Text]:
    return [Text(f"! {remark}", style="yellow") for row in group.rows for remark in remarks(row)]
