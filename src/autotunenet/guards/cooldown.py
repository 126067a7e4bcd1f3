"""Leave time between changes."""

from __future__ import annotations

from autotunenet.guards.base import Guard, check_count
from autotunenet.types import Hyperparams


def cooldown(num_steps: int) -> Guard:
    """Allow a change at one control step, then hold for the next `num_steps`, and so on.

    The rhythm is counted from control step 1 and does not wait for a change, which keeps the guard a pure function.

    Raises:
        ValueError: If `num_steps` is negative or not whole.

    >>> guard = cooldown(2)
    >>> [guard({"lr": 0.1}, {"lr": 0.2}, step)["lr"] for step in (1, 2, 3, 4)]
    [0.2, 0.1, 0.1, 0.2]
    """
    check_count("cooldown", num_steps)

    def guard(current: Hyperparams, proposed: Hyperparams, step: int) -> dict[str, float]:
        return dict(proposed) if (step - 1) % (num_steps + 1) == 0 else {name: current[name] for name in proposed}

    return guard
