"""Saved states that may be anybody's: what is looked at before a tuner goes on from one, and all of it or nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from autotunenet.state import check_keys, check_kind
from autotunenet.types import Decision, Hyperparams, Stateful


@contextmanager
def all_or_nothing(owner: str, parts: Mapping[str, Stateful]) -> Iterator[None]:
    """Load states in here; where one is refused, every part goes on as it was before.

    Raises:
        ValueError: In place of what Python raises where a state is not built as those of `owner` are.
    """
    before = {name: part.state_dict() for name, part in parts.items()}
    try:
        yield
    except BaseException as error:
        for name, part in parts.items():
            part.load_state_dict(before[name])
        if isinstance(error, AttributeError | LookupError | TypeError | ArithmeticError):
            raise ValueError(f"this is no state of {owner}: {type(error).__name__}: {error}") from error
        raise


def saved_history(records: Any) -> list[Decision]:
    """Return the decisions of a saved history.

    Raises:
        ValueError: If it holds something else.
    """
    check_kind("the history", records, [])
    try:
        return [Decision.from_record(record) for record in records]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"this is no saved state: the history holds no decisions ({error!r})") from error


def saved_values(what: str, saved: Any, live: Hyperparams) -> dict[str, float]:
    """Return hyperparameters that were saved.

    Args:
        what: What they are, in an error.
        saved: They, by name.
        live: Those that are in force now, for their names.

    Raises:
        ValueError: If the names are others, or a value is no finite number.

    >>> saved_values("the values in force", {"lr": 1}, {"lr": 0.1})
    {'lr': 1.0}
    """
    check_keys(what, saved, live)
    for name, value in saved.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"this is no saved state: {what} have {name} = {value!r}, which is no finite number")
    return {name: float(value) for name, value in saved.items()}
