"""A race as a table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from rich.table import Table

from autotunenet_bench.statistics import Interval
from autotunenet_bench.tables.race import RaceRow
from autotunenet_bench.tables.table import OutcomeTable


def race_table(table: OutcomeTable, rows: Sequence[RaceRow]) -> Table:
    """Return a row a search: how often it found the best point, how far off it was, and what it took."""
    unit = "points" if table.provenance.objective != "val_loss" else ""
    shown = Table(box=None, pad_edge=False)
    shown.add_column("search")
    for head in ("found the best [95 %]", "after trials", f"mean regret, {unit} [95 %]", "duplicates", "trials"):
        shown.add_column(head.replace(",  [", " ["), justify="right")
    shown.add_column("of all FLOPs", justify="right")
    for row in rows:
        shown.add_row(row.search, *_cells(table, row))
    return shown


def _cells(table: OutcomeTable, row: RaceRow) -> list[str]:
    scale = 1 if table.provenance.objective == "val_loss" else 100
    found = [finish.trials_to_best for finish in row.finishes if finish.trials_to_best is not None]
    share = row.flops / (table.cost.flops or math.nan)
    return [
        _interval(row.share_found, 100, "{:.0f} %", "{:.0f}"),
        f"{fmean(found):.1f}" if found else "never",
        _interval(row.regret, scale, "{:.3f}", "{:.3f}"),
        f"{row.duplicates:.1f}",
        f"{fmean(finish.num_trials for finish in row.finishes):g}",
        "n/a" if math.isnan(share) else f"{100 * share:.0f} %",
    ]


def _interval(interval: Interval, scale: float, point: str, bound: str) -> str:
    low, high = bound.format(scale * interval.low), bound.format(scale * interval.high)
    return f"{point.format(scale * interval.point)} [{low}, {high}]"
