"""Whether the values of a stored run are of the types that its readers take them for: files come from anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

MAX_INT = 2**63 - 1
"""Of a whole number: all that counts fits, and so it does in arrays."""


def check_row(kind: Any, row: Mapping[str, Any]) -> None:
    """Check the values of one row of ``events.jsonl``; which keys there must be is for its reader to say.

    Raises:
        TypeError: If a value is of another type than rows of this kind have there.

    >>> check_row("end", {"event": "end", "num_restarts": 0, "weights_sha256": "ab"})
    >>> check_row("end", {"event": "end", "num_restarts": "none"})
    Traceback (most recent call last):
    TypeError: its 'num_restarts' must be a whole number from 0 on
    """
    _check(_ROWS.get(kind, {}), row)


def check_spec(spec: Mapping[str, Any]) -> None:
    """Check the parts of ``spec.json`` that a report names.

    Raises:
        KeyError: If the seed or a label is missing.
        TypeError: If a value is of another type than a spec has there.
    """
    for name in ("task", "regime", "controller"):
        if not isinstance(spec["labels"][name], str):
            raise TypeError(f"the label of its {name} must be a text")
        if isinstance(config := spec.get(name), Mapping) and not isinstance(config.get("name", ""), str):
            raise TypeError(f"the name of its {name} must be a text")
    spec["seed"]  # a KeyError names what is not there
    _check(_SPEC, spec)


def _check(rules: Mapping[str, tuple[Callable[[Any], bool], str]], values: Mapping[str, Any]) -> None:
    for name, (is_fit, words) in rules.items():
        if name in values and not is_fit(values[name]):
            raise TypeError(f"its {name!r} must be {words}")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_INT


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) <= MAX_INT)


def _are_numbers(values: Any) -> bool:
    # Most rows have floats and nothing else, which the set of their types says many times faster than a loop.
    return isinstance(values, list) and (set(map(type, values)) <= {float} or all(map(_is_number, values)))


def _is_table(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    # A loop, and not all(...): most tables hold a float and nothing else, and there are millions of them.
    for item in value.values():  # noqa: SIM110
        if type(item) is not float and not _is_number(item):
            return False
    return True


def _is_finite_table_or_nothing(value: Any) -> bool:
    return value is None or (_is_table(value) and all(map(math.isfinite, value.values())))


def _is_loose_table(value: Any) -> bool:
    return isinstance(value, dict) and all(item is None or _is_number(item) for item in value.values())


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _are_objects(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())


def _is_member(value: Any) -> bool:
    """Whether a value is the config of a task, regime or controller, with the configs of its parts if it has any."""
    parts = value.get("parts") if isinstance(value, dict) else None
    return isinstance(value, dict) and (parts is None or isinstance(parts, list))


_COUNT = (_is_count, "a whole number from 0 on")
_NUMBER = (_is_number, "a number")
_NUMBERS = (_are_numbers, "an array of numbers")
_TABLE = (_is_table, "an object of numbers")
_TEXT = (_is_text, "a text")
_TEXTS = (_are_texts, "an object of texts")
_MEMBER = (_is_member, "an object with a name")

_ROWS: Mapping[str, Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "start": {
        **{"environment": _TEXTS, "hyperparams": _TABLE, "val": _TABLE},
        "flops": (_is_finite_table_or_nothing, "an object of finite numbers"),
    },
    "trigger": {"epoch": _COUNT, "step": _COUNT, "description": _TEXT},
    "decision": {
        **{"step": _COUNT, "metric": _NUMBER, "discarded_steps": _COUNT, "reason": _TEXT},
        **{"in_force": _TABLE, "proposed": _TABLE, "applied": _TABLE, "evidence": _TABLE},
    },
    "epoch": {
        **{"epoch": _COUNT, "step": _COUNT, "passes": _COUNT, "losses": _NUMBERS},
        **{"val": _TABLE, "hyperparams": _TABLE, "clock": _TABLE},
    },
    "end": {
        **{"num_restarts": _COUNT, "weights_sha256": _TEXT, "test": _TABLE},
        "clock": (_is_loose_table, "an object of numbers"),
    },
}

_SPEC: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **{"protocol": _TEXT, "task": _MEMBER, "regime": _MEMBER, "controller": _MEMBER},
    **{"seed": _COUNT, "num_epochs": _COUNT, "labels": _TEXTS, "sources": _TEXTS},
    "space": (_are_objects, "an object of ranges"),
    "data": (lambda value: isinstance(value, dict), "an object"),
    "compute": (lambda value: isinstance(value, dict), "an object"),
}
