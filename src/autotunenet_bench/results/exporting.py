"""A folder of results as one table, for DuckDB, pandas or a spreadsheet: a row a run, and a row an event of it."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from autotunenet_bench.metrics import summarize
from autotunenet_bench.results.store import ResultStore, RunFolder
from autotunenet_bench.results.suite_file import read_suite_file
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.types import Event

ENDINGS = (".parquet", ".csv")

FORMULA = r"\A([=+\-@\t\n\r])"
"""Beginning of a text that a spreadsheet would take for a formula."""

BATCH = 200
"""Runs whose rows are held in memory at a time."""

COLUMNS = pa.schema(
    [
        ("run_id", pa.string()),
        ("task", pa.string()),
        ("regime", pa.string()),
        ("controller", pa.string()),
        ("seed", pa.int64()),
        ("state", pa.string()),
        ("row", pa.int64()),
        ("event", pa.string()),
        ("epoch", pa.int64()),
        ("step", pa.int64()),
        ("passes", pa.int64()),
        ("train_loss", pa.float64()),
        ("num_non_finite_losses", pa.int64()),
        ("losses", pa.list_(pa.float64())),
        ("action", pa.string()),
        ("health", pa.string()),
        ("metric", pa.float64()),
        ("cause", pa.string()),
        ("discarded_steps", pa.int64()),
        ("reason", pa.string()),
        ("num_restarts", pa.int64()),
        ("weights_sha256", pa.string()),
        ("finished", pa.bool_()),
        ("spec", pa.string()),
    ]
)
"""Columns that every table has, with their types. Others follow by name: numbers are doubles, the rest are texts."""

_FIXED = frozenset(COLUMNS.names)

_GROUPS = {
    "val": "val_",
    "test": "test_",
    "hyperparams": "hyperparams_",
    "in_force": "in_force_",
    "proposed": "proposed_",
    "applied": "applied_",
    "evidence": "evidence_",
    "flops": "flops_",
    "clock": "clock_",
    "environment": "environment_",
    "device": "device_",
}
"""Objects of a row, and what the names of the columns of their values begin with."""


class ExportError(ValueError):
    """A table cannot be written; the message says why."""


def begun_runs(folder: Path) -> list[RunFolder]:
    """Return the runs of a folder that have rows: those that its ``suite.json`` names, all where there is none.

    Raises:
        SuiteFileError: If ``suite.json`` is damaged.
    """
    named = read_suite_file(folder).get("runs")
    runs = ResultStore(folder).folders() if named is None else [RunFolder(folder / name) for name in named]
    return [run for run in runs if any(True for _ in run.events())]


def export_runs(runs: Iterable[RunFolder], path: Path) -> int:
    """Write the rows of runs into one file, which is replaced when the new one is whole; return the number of rows.

    Args:
        runs: Those without a row, or that cannot be read, stop the export: a table must not be silent about them.
        path: Ends in ``.parquet`` or ``.csv``; a CSV file has no column `losses`.

    Raises:
        ExportError: If the ending is another, or there is nothing to export.
        ValueError: If a run is damaged; the message names the file.
        OSError: If the file cannot be written.
    """
    if path.suffix not in ENDINGS:
        raise ExportError(f"{path}: the ending says what is written, and must be {' or '.join(ENDINGS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        parts = list(_write_parts(runs, Path(folder)))
        if not parts:
            raise ExportError(f"{path}: there are no runs with rows to export")
        schema = pa.unify_schemas([pq.read_schema(part) for part in parts], promote_options="permissive")
        whole = Path(folder) / f"whole{path.suffix}"
        num_rows = (_join_parquet if path.suffix == ".parquet" else _join_csv)(parts, schema, whole)
        with whole.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(whole, path)
    return num_rows


def rows_of(run: RunFolder) -> Iterator[dict[str, Any]]:
    """Yield a row for the run as a whole, with its metrics if it is finished, then one for each of its events.

    Raises:
        ValueError: If the run is damaged.
    """
    trace = run.trace()
    task, regime, controller = trace.label
    label = {"task": task, "regime": regime, "controller": controller, "seed": trace.spec["seed"]}
    common = {"run_id": run.path.name, **label, "state": run.status()}
    yield {**common, "row": 0, "event": "run", **_of_run(trace)}
    for number, event in enumerate(run.events(), start=1):
        yield {**common, "row": number, **_of_event(event)}


def _of_run(trace: Trace) -> dict[str, Any]:
    metrics = {f"metric_{name}": value for name, value in summarize(trace).items()} if trace.finished else {}
    return {"finished": trace.finished, **metrics, "spec": json.dumps(trace.spec)}


def _of_event(event: Event) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in event.items():
        if key in _GROUPS and isinstance(value, Mapping):
            flat |= {f"{_GROUPS[key]}{name}": _plain(one) for name, one in value.items()}
        elif key in _FIXED:
            flat[key] = value
        else:
            flat[key] = _plain(value)
    if "losses" in flat:
        finite = [loss for loss in flat["losses"] if math.isfinite(loss)]
        flat["train_loss"] = math.fsum(finite) / len(finite) if finite else math.nan
        flat["num_non_finite_losses"] = len(flat["losses"]) - len(finite)
    return flat


def _plain(value: Any) -> float | str | None:
    """Return a number as a double, so that a column has one type in all runs, and anything else as a text."""
    if value is None or isinstance(value, str):
        return value
    return float(value) if isinstance(value, int | float) else json.dumps(value)


def _write_parts(runs: Iterable[RunFolder], folder: Path) -> Iterator[Path]:
    """Write a file for every `BATCH` runs: which columns there are is known only when all have been read."""
    waiting = iter(runs)
    for number, batch in enumerate(iter(lambda: list(islice(waiting, BATCH)), [])):
        rows = [row for run in batch for row in rows_of(run)]
        path = folder / f"part{number}.parquet"
        pq.write_table(_table(rows), path)
        yield path


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """Return the rows as a table, made kind by kind of event: each has few of all the columns."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        places[row["event"]].append(place)
    tables = [_table_of_kind([rows[place] for place in some]) for some in places.values()]
    whole = pa.concat_tables([COLUMNS.empty_table(), *tables], promote_options="permissive")
    return whole.take(np.argsort(np.concatenate(list(places.values()))))


def _table_of_kind(rows: list[dict[str, Any]]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    types = {name: COLUMNS.field(name).type if name in _FIXED else None for name in names}
    return pa.table({name: pa.array([row.get(name) for row in rows], types[name]) for name in names})


def _aligned(part: Path, schema: pa.Schema) -> pa.Table:
    table = pq.read_table(part)
    missing = [field for field in schema if field.name not in table.column_names]
    for field in missing:
        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(schema.names).cast(schema)


def _join_parquet(parts: list[Path], schema: pa.Schema, path: Path) -> int:
    num_rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in parts:
            table = _aligned(part, schema)
            writer.write_table(table)
            num_rows += table.num_rows
    return num_rows


def _join_csv(parts: list[Path], schema: pa.Schema, path: Path) -> int:
    """Write a CSV file, in which no text is a formula to a spreadsheet: see `autotunenet_bench.report.csvs.inert`."""
    num_rows = 0
    flat = pa.schema([field for field in schema if field.name != "losses"])
    with pa_csv.CSVWriter(path, flat) as writer:
        for part in parts:
            table = _aligned(part, schema).select(flat.names)
            for place, field in enumerate(flat):
                if pa.types.is_string(field.type):
                    table = table.set_column(
                        place, field, pc.replace_substring_regex(table.column(place), FORMULA, r"'\1")
                    )
            writer.write_table(table)
            num_rows += table.num_rows
    return num_rows
