"""Compares what the tuner decided with what is known to have happened."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

from autotunenet_bench.attribution.events import CAUSES, FAULTS
from autotunenet_bench.attribution.trajectory import Row
from autotunenet_bench.statistics import wilson

VERDICTS = ("knob", "data", "both", "noise", "untried", "none")
"""Columns of the confusion matrix: the first trial's verdict; an alarm without a trial; no alarm."""

GROUPS: dict[str, Callable[[Row], str]] = {
    "all": lambda row: "all",
    "optimizer": lambda row: str(row["optimizer"]),
    "task": lambda row: str(row["task"]),
    "fault": lambda row: str(row["fault"]),
}
"""What cases are grouped by."""

_ORDER = [fault.name for fault in FAULTS]


def outcome(row: Row) -> str:
    """Return what a case came to: "right", "wrongful", "missed" or "harmless".

    >>> outcome({"cause": "data", "rolled_back": True}), outcome({"cause": "noise", "rolled_back": False})
    ('wrongful', 'right')
    >>> outcome({"cause": "both", "harmful": True, "rolled_back": False})
    'missed'
    """
    if row["cause"] in ("knob", "both"):
        if not row["harmful"]:
            return "harmless"
        return "right" if row["rolled_back"] else "missed"
    return "wrongful" if row["rolled_back"] else "right"


def verdict_of(row: Row) -> str:
    """Return the column of the confusion matrix that a case belongs to."""
    if row["delay"] is None:
        return "none"
    return row["verdict"] or "untried"


def confusion(cases: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Return how often each verdict was given, by true cause."""
    counts = {cause: Counter(verdict_of(row) for row in cases if row["cause"] == cause) for cause in CAUSES}
    return {cause: {verdict: count[verdict] for verdict in VERDICTS} for cause, count in counts.items()}


def score(cases: Sequence[Row], stable: Sequence[Row]) -> dict[str, Any]:
    """Return the rates of some cases and the stable steps that belong to them, flat, as in ``summary.csv``."""
    results = [outcome(row) for row in cases]
    innocent = [row["cause"] in ("data", "noise", "null") for row in cases]
    num_wrongful, num_innocent = results.count("wrongful"), sum(innocent)
    num_missed, num_harmful = results.count("missed"), results.count("missed") + _num_found(cases)
    num_unhealed = sum(result == "missed" and not row["healed"] for result, row in zip(results, cases, strict=True))
    num_alarms = sum(len(row["alarm_steps"]) for row in stable)
    num_steps = sum(row["num_steps"] for row in stable)
    return {
        "num_cases": len(cases),
        **_share("wrongful", num_wrongful, num_innocent),
        **_share("missed", num_missed, num_harmful),
        "num_missed_unhealed": num_unhealed,
        "num_harmless": results.count("harmless"),
        "num_harmless_rolled_back": sum(
            result == "harmless" and row["rolled_back"] for result, row in zip(results, cases, strict=True)
        ),
        "stable_steps": num_steps,
        "false_alarms": num_alarms,
        "false_alarms_per_1000": 1000 * num_alarms / num_steps if num_steps else None,
        "median_delay": median_delay(cases),
    }


def grouped(cases: Sequence[Row], stable: Sequence[Row]) -> Iterable[tuple[str, str, dict[str, Any]]]:
    """Yield (what is grouped by, the group, its scores); events have no stable steps of their own."""
    for by, key in GROUPS.items():
        known = _ORDER if by == "fault" else []
        for name in dict.fromkeys([*known, *map(key, cases)]):
            calm = [] if by == "fault" else [row for row in stable if key(row) == name]
            group = [row for row in cases if key(row) == name]
            if group:
                yield by, name, score(group, calm)


def median_delay(cases: Sequence[Row]) -> float | None:
    """Return the median of alarm minus event in steps over all but harmless cases; one never seen counts as infinite.

    None where there are no cases.
    """
    counted = [row["delay"] for row in cases if outcome(row) != "harmless"]
    return median(math.inf if delay is None else delay for delay in counted) if counted else None


def _num_found(cases: Sequence[Row]) -> int:
    return sum(outcome(row) == "right" and row["cause"] in ("knob", "both") for row in cases)


def _share(name: str, hits: int, num: int) -> dict[str, Any]:
    low, high = wilson(hits, num)
    share = hits / num if num else None
    return {f"num_{name}": hits, f"of_{name}": num, f"{name}_rate": share, f"{name}_low": low, f"{name}_high": high}
