"""The rows of an event file: one JSON object a line, strict JSON, numbers that are not finite as words.

JSON has neither NaN nor infinity. They are written as the strings ``"nan"``, ``"inf"`` and ``"-inf"``, which Python's
`float` and numpy take back as they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from autotunenet.types import Decision

Row = Mapping[str, Any]
"""A row: its ``"event"`` says of which kind it is."""

_VALUES = ("in_force", "proposed", "applied", "evidence")


def to_line(row: Row) -> bytes:
    r"""Return a row as a line of ASCII, with its end.

    >>> to_line({"event": "metrics", "values": {"autotunenet/loss": float("nan")}})
    b'{"event":"metrics","values":{"autotunenet/loss":"nan"}}\n'
    """
    return json.dumps(_to_json(row), allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def from_line(line: bytes) -> Row:
    """Return the row of a line; `number` makes numbers of its words.

    Raises:
        ValueError: If it is no JSON object with an ``"event"``.
    """
    row = json.loads(line)
    if not isinstance(row, dict) or not isinstance(row.get("event"), str):
        raise ValueError("it is no JSON object with an 'event'")
    return row


def number(value: float | str) -> float:
    """Return a number as it was before it was written.

    Raises:
        ValueError: If it is neither a number nor a word for one.
        TypeError: The same, where it is of another kind.

    >>> number("-inf"), number(8)
    (-inf, 8)
    """
    if isinstance(value, str):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return value


def numbers(values: Mapping[str, float | str]) -> dict[str, float]:
    """Return a table of numbers as it was before it was written.

    >>> numbers({"lr": 0.1, "loss": "inf"})
    {'lr': 0.1, 'loss': inf}
    """
    return {name: number(value) for name, value in values.items()}


def to_decision(row: Row) -> Decision:
    """Return the decision of a ``"decision"`` row, which holds `Decision.to_record`.

    Raises:
        KeyError: If it lacks a key.
        TypeError: If a value is of a wrong kind.
        ValueError: If a value is unknown.
    """
    tables = {name: numbers(row[name]) for name in _VALUES if name in row}
    return Decision.from_record({**row, **tables, "metric": number(row["metric"])})


def _to_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):  # numpy's kinds among them
        return float(value) if math.isfinite(value) else str(float(value))
    raise TypeError(f"a row holds tables, texts and numbers; {value!r} is none of them")
