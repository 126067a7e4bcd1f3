"""HOW FAR: a guard bounds what a controller asks for.

A guard is a pure function ``(current, proposed, step) -> allowed``. `current` and `proposed` name the same values, all
finite; `step` counts control steps from 1, and is 0 for the values that a controller starts from (then `current` and
`proposed` are equal). Being pure, guards need no state to resume.
"""

from __future__ import annotations

from collections.abc import Callable

from autotunenet.types import Hyperparams

Guard = Callable[[Hyperparams, Hyperparams, int], dict[str, float]]


def chain(*guards: Guard) -> Guard:
    """Apply guards in turn, each to what the one before it allowed. The last word is the last one's: the box goes last.

    With no guards at all, everything is allowed.

    >>> from autotunenet.guards import max_delta, warmup
    >>> guard = chain(warmup(1), max_delta(0.5))
    >>> guard({"lr": 0.1}, {"lr": 1.0}, 1), guard({"lr": 0.5}, {"lr": 1.0}, 2)
    ({'lr': 0.1}, {'lr': 0.75})
    """

    def guard(current: Hyperparams, proposed: Hyperparams, step: int) -> dict[str, float]:
        allowed = dict(proposed)
        for each in guards:
            allowed = each(current, allowed, step)
        return allowed

    return guard


def check_count(name: str, value: int) -> None:
    """Refuse a negative or fractional count of control steps.

    Raises:
        ValueError: If `value` is not a whole number of at least 0.
    """
    if value != int(value) or value < 0:
        raise ValueError(f"{name} must be a whole number of control steps, 0 or more, got {value}")
