"""Change nothing at the start."""

from __future__ import annotations

from autotunenet.guards.base import Guard, check_count
from autotunenet.types import Hyperparams


def warmup(num_steps: int) -> Guard:
    """Hold the values in force during the first `num_steps` control steps.

    Raises:
        ValueError: If `num_steps` is negative or not whole.

    >>> guard = warmup(2)
    >>> [guard({"lr": 0.1}, {"lr": 0.2}, step)["lr"] for step in (1, 2, 3)]
    [0.1, 0.1, 0.2]
    """
    check_count("warmup", num_steps)

    def guard(current: Hyperparams, proposed: Hyperparams, step: int) -> dict[str, float]:
        return dict(proposed) if step > num_steps else {name: current[name] for name in proposed}

    return guard
