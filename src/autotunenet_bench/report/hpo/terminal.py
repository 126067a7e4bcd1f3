"""The table of searches, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table as RichTable
from rich.text import Text

from autotunenet_bench.report.hpo.pages import HpoPage
from autotunenet_bench.report.sections import Table

_LEFT_OUT = ("steps", "seconds")
"""Columns that the page has and a terminal has no room for."""


def terminal_table(page: HpoPage) -> RichTable:
    """Return what every search found and took, of a page that has it."""
    return to_terminal(page.tables[1], _LEFT_OUT)


def to_terminal(shown: Table, left_out: Sequence[str] = ()) -> RichTable:
    """Return a table of a page as a terminal shows it, without some columns."""
    kept = [index for index, text in enumerate(shown.head) if text not in left_out]
    table = RichTable(title=shown.title, title_justify="left", box=None, pad_edge=False)
    for number, index in enumerate(kept):
        table.add_column(shown.head[index], justify="left" if number == 0 else "right", overflow="fold")
    for row in shown.rows:
        table.add_row(*(Text(row[index].text, style="bold" if row[index].is_best else "") for index in kept))
    return table
