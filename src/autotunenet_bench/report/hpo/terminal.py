"""The table of searches, for a terminal."""

from __future__ import annotations

from rich.table import Table as RichTable
from rich.text import Text

from autotunenet_bench.report.hpo.pages import HpoPage

_LEFT_OUT = ("steps", "seconds")
"""Columns that the page has and a terminal has no room for."""


def terminal_table(page: HpoPage) -> RichTable:
    """Return what every search found and took, of a page that has it."""
    shown = page.tables[1]
    kept = [index for index, text in enumerate(shown.head) if text not in _LEFT_OUT]
    table = RichTable(title=shown.title, title_justify="left", box=None, pad_edge=False)
    for number, index in enumerate(kept):
        table.add_column(shown.head[index], justify="left" if number == 0 else "right", overflow="fold")
    for row in shown.rows:
        table.add_row(*(Text(row[index].text, style="bold" if row[index].is_best else "") for index in kept))
    return table
