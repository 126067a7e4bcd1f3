"""What two folders of results must have in common: all numbers but those of clocks."""

import csv
import json

from autotunenet_bench.report.aggregate import aggregate
from autotunenet_bench.report.csvs import overall_csv, summary_csv
from autotunenet_bench.results import ResultStore
from autotunenet_bench.suite import read_results

OF_CLOCKS = {
    "wall_clock",
    "controller_seconds",
    "train_seconds",
    "eval_seconds",
    "peak_memory",
}
"""Columns of summary.csv."""


def table_of(root):
    """Events of all runs, summary.csv and overall.csv, without what a clock or the memory of a process has made."""
    found = read_results(root).traces
    traces = [found[run_id] for run_id in sorted(found)]  # their order depends on whether there is a suite.json
    groups = aggregate(traces)
    return {
        "events": {folder.path.name: _events(folder.events_path) for folder in ResultStore(root).folders()},
        "summary.csv": _rows(summary_csv(traces, groups)),
        "overall.csv": _rows(overall_csv(groups)),
    }


def _events(path):
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "clock"} for row in rows]


def _rows(text):
    return [
        {key: cell for key, cell in row.items() if key not in OF_CLOCKS}
        for row in csv.DictReader(text.splitlines(keepends=True))
    ]
