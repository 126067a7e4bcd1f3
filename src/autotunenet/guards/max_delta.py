"""Bound the relative change of a value per control step."""

from __future__ import annotations

import math

from autotunenet.guards.base import Guard
from autotunenet.types import Hyperparams


def max_delta(delta: float, floor: float = 1e-8) -> Guard:
    """Allow each value to grow or shrink by at most the factor ``1 + delta`` in one control step.

    The bound is symmetric in log space, ``abs(log(new / old)) <= log(1 + delta)``, so that a rise and a fall cancel.
    A rollback and its back-off do not pass through guards: a restore that is itself bounded is no restore.

    Args:
        delta: Largest relative change, above 0; 0.5 allows factors from 1/1.5 to 1.5.
        floor: Magnitudes up to here count as this large, so that a value can leave zero and reach it.

    Raises:
        ValueError: If `delta` or `floor` is not a finite number above 0.

    >>> max_delta(0.5)({"lr": 0.1}, {"lr": 10.0}, 1)["lr"], round(max_delta(0.5)({"lr": 0.3}, {"lr": 0.0}, 1)["lr"], 12)
    (0.15000000000000002, 0.2)
    """
    for name, value in (("delta", delta), ("floor", floor)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"max_delta: {name} must be a finite number above 0, got {value}")

    def guard(current: Hyperparams, proposed: Hyperparams, step: int) -> dict[str, float]:
        return {name: _bounded(current[name], value, 1 + delta, floor) for name, value in proposed.items()}

    return guard


def _bounded(old: float, new: float, factor: float, floor: float) -> float:
    magnitude = abs(old)
    if magnitude <= floor:
        return min(max(new, -floor * factor), floor * factor)
    low, high = magnitude / factor, magnitude * factor
    return min(max(new, low), high) if old > 0 else min(max(new, -high), -low)
