"""Tabular benchmarks: outcomes of every point of a finite space, recorded once, to race searches on in seconds."""

from autotunenet_bench.tables.table import (
    OutcomeTable,
    TableError,
    TableObjective,
    find_table,
    load_table,
    shipped_tables,
)

__all__ = ["OutcomeTable", "TableError", "TableObjective", "find_table", "load_table", "shipped_tables"]
