"""Rows of a run of AutoTuneNet-Bench (``docs/results-format.md``), said in those of `autotunenet.sinks.JsonlSink`."""

from __future__ import annotations

from autotunenet.sinks.rows import Row

_LR = "autotunenet/lr"


def from_benchmark(row: Row) -> list[Row]:
    """Return what a row of a benchmark says; decisions, ends and rows of other files come back as they are.

    Raises:
        KeyError: If it lacks a key.
        TypeError: If a value is of a wrong kind.

    >>> from_benchmark({"event": "trigger", "epoch": 3, "step": 91, "description": "labels shuffled"})
    [{'event': 'change', 'step': 91, 'description': 'labels shuffled'}]
    """
    match row["event"]:
        case "start":
            return [{"event": "begin", "step": 0, "report": 0}]
        case "trigger":
            return [{"event": "change", "step": row["step"], "description": row["description"]}]
        case "decision" if "report" not in row and "lr" in row["applied"]:  # no metrics row stands before it
            return [{"event": "metrics", "step": row["step"], "values": {_LR: row["applied"]["lr"]}}, row]
        case "epoch":
            values = {"autotunenet/validation": row["val"]["loss"]}
            if "lr" in row["hyperparams"]:
                values[_LR] = row["hyperparams"]["lr"]
            losses = {"event": "losses", "step": row["step"], "losses": row["losses"]}
            return [losses, {"event": "metrics", "step": row["step"], "values": values}]
        case _:
            return [row]
