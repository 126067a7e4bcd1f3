"""A controller of my own: a class of the core. Its arguments are the keys of the config."""

from __future__ import annotations

import math

from autotunenet.controllers import Controller
from autotunenet.types import Hyperparams


class HalveOnRise(Controller):
    """Multiplies lr by `factor` whenever the metric rises.

    Args:
        factor: Factor of a cut, in (0, 1).

    Raises:
        ValueError: If `factor` is out of its range.
    """

    state_names = ("_previous", "_has_risen")  # everything that must survive a resume

    def __init__(self, *, factor: float = 0.5) -> None:
        if not 0 < factor < 1:
            raise ValueError(f"HalveOnRise: factor must lie in (0, 1), got {factor}")
        self.factor = factor
        self._previous = math.inf
        self._has_risen = False

    def observe(self, metric: float, step: int) -> None:
        """Compare with the metric before; lower is better."""
        self._has_risen = not math.isfinite(metric) or metric > self._previous
        if math.isfinite(metric):
            self._previous = metric

    def propose(self, current_params: Hyperparams) -> Hyperparams:
        """Return the lr in force, cut if the metric has risen."""
        return {"lr": current_params["lr"] * (self.factor if self._has_risen else 1.0)}
