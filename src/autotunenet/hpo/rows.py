"""The rows of a journal: what stands in a line of its file, and what that means.

A row is a JSON object with a key ``row``, which says what it is:

    search    what is searched, and how; the first row, and no other
    asked     a trial was handed to a worker: the fields of the trial, `worker`, and `attempt`, counted from 1
    told      it ended: `number`, `value`, `error`, `metrics`, `cost`, `worker`
    released  its worker gave it back unfinished: `number`, `worker`

JSON has neither NaN nor infinities: they are the strings "nan", "inf" and "-inf".
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import platform
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from autotunenet.files import parse_json
from autotunenet.hpo.base import Search
from autotunenet.hpo.objective import Ending, plain
from autotunenet.hpo.trial import Cost, Trial, TrialState
from autotunenet.space import Categorical, SearchSpace

FORMAT = 1
"""Of the journal; counted up when an earlier version could not read it."""

KINDS = {"search", "asked", "told", "released"}
PACKAGES = ("numpy", "scipy", "scikit-learn", "optuna", "torch")

TOLD = {"state", "value", "metrics", "cost", "error"}
"""Fields of a trial that nobody knows while it is pending."""

Row = dict[str, Any]


def to_line(row: Mapping[str, Any]) -> bytes:
    r"""Return a row as a line.

    >>> to_line({"row": "released", "number": 3, "worker": "a"})
    b'{"row":"released","number":3,"worker":"a"}\n'
    """
    return json.dumps(_encode(row), separators=(",", ":"), allow_nan=False).encode() + b"\n"


def from_line(line: bytes) -> Row:
    """Return the row that stands in a line.

    Raises:
        ValueError: If none does.
    """
    try:
        row = parse_json(line)
    except ValueError as error:  # text that is not UTF-8 is such an error, too
        raise ValueError("it is not JSON") from error
    if not isinstance(row, dict) or not isinstance(row.get("row"), str) or row["row"] not in KINDS:
        raise ValueError(f"it is no object with a key 'row' that says {', '.join(sorted(KINDS))}")
    return row


# -- trials ----------------------------------------------------------------------------------------------------------


def asked_row(trial: Trial, worker: str, attempt: int) -> Row:
    """Return the row of a trial that is handed to a worker."""
    asked = {name: value for name, value in trial.to_dict().items() if name not in TOLD}
    return {"row": "asked", **asked, "worker": worker, "attempt": attempt}


def told_row(number: int, ending: Ending, worker: str) -> Row:
    """Return the row of a trial that has ended."""
    return {"row": "told", "number": number, **dataclasses.asdict(ending), "worker": worker}


def asked_trial(row: Row, space: SearchSpace) -> Trial:
    """Return the trial of an "asked" row.

    Raises:
        KeyError, TypeError, ValueError: If the row holds none of this space.
    """
    values = {key: value for key, value in row.items() if key not in ("row", "worker", "attempt")}
    params = {name: _choice(space[name], value) for name, value in values["params"].items()}
    return Trial.from_dict({"state": TrialState.PENDING, "cost": {}, **values, "params": params})


def told_ending(row: Row) -> Ending:
    """Return how the trial of a "told" row ended.

    Raises:
        KeyError, TypeError: If the row does not say so.
    """
    metrics = {name: _numbers(value) for name, value in row["metrics"].items()}
    return Ending(value=_numbers(row["value"]), error=row["error"], metrics=metrics, cost=Cost(**row["cost"]))


def _numbers(value: Any) -> Any:
    """Return values that were read with their NaN and infinities."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def _choice(dimension: Any, value: Any) -> Any:
    """Return the choice that is written as `value`: a tuple, say, is written as a list."""
    if not isinstance(dimension, Categorical):
        return value
    return next((choice for choice in dimension.choices if _encode(choice) == value), value)


def _encode(value: Any) -> Any:
    return _nonfinite_as_strings(plain(value))


def _nonfinite_as_strings(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _nonfinite_as_strings(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nonfinite_as_strings(item) for item in value]
    return value


# -- the first row ---------------------------------------------------------------------------------------------------


def search_row(search: Search) -> Row:
    """Return the first row: what is searched, and how.

    Raises:
        TypeError: If a choice of the space cannot be written down.
        ValueError: If two of them would be written alike.
    """
    return {
        "row": "search",
        "format": FORMAT,
        **_describe(search),
        "space": {name: _describe_dimension(name, dimension) for name, dimension in search.space.items()},
        "seed": search.seed,
        "direction": search.direction,
        "packages": _versions(),
    }


def differences(found: Row, wanted: Row) -> list[str]:
    """Return in words how the first row of a journal differs from that of a search; versions do not count."""
    wanted = json.loads(to_line(wanted))
    keys = [key for key in {**wanted, **found} if key != "packages" and found.get(key) != wanted.get(key)]
    return [f"{key} is {json.dumps(found.get(key))} there, and {json.dumps(wanted.get(key))} here" for key in keys]


def _describe(search: Search) -> Row:
    settings = {
        name: _describe(value) if isinstance(value, Search) else plain(value, _describe_other)
        for name, value in search.settings.items()
    }
    return {"search": type(search).__name__, "settings": settings}


def _describe_other(value: Any) -> str:
    """Return what an object is; a repr that holds an address is another one in every process."""
    text = repr(value)
    return getattr(value, "__qualname__", type(value).__qualname__) if " at 0x" in text else text


def _describe_dimension(name: str, dimension: Any) -> Row:
    def refuse(choice: Any) -> Any:
        raise TypeError(
            f"dimension {name!r}: the choice {choice!r} cannot be written into a journal; use strings or numbers, and "
            "look up in the objective what they stand for"
        )

    values = {item.name: getattr(dimension, item.name) for item in dataclasses.fields(dimension)}
    row = {"kind": type(dimension).__name__, **{key: plain(value, refuse) for key, value in values.items()}}
    if isinstance(dimension, Categorical):
        written = [json.dumps(_encode(choice)) for choice in dimension.choices]
        if len(set(written)) < len(written):
            raise ValueError(f"dimension {name!r}: two of the choices {dimension.choices!r} are written alike as JSON")
    return row


@cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "autotunenet": sys.modules["autotunenet"].__version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # an extra that is not installed
            continue
    return versions
