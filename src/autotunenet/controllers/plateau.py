"""Cut lr when the metric has stopped improving."""

from __future__ import annotations

import math
from typing import Literal

from autotunenet.controllers.base import Controller
from autotunenet.types import Hyperparams


class Plateau(Controller):
    """The rule of torch's `ReduceLROnPlateau`, step for step and with its defaults.

    Args:
        factor: Factor of a cut, in (0, 1).
        patience: Intervals without improvement that are let pass; the next one cuts. 0 or more.
        threshold: How much better counts as improvement, 0 or more.
        threshold_mode: Whether `threshold` is a share of the best metric (``"rel"``) or absolute (``"abs"``).
        cooldown: Intervals after a cut in which nothing is counted.
        min_lr: lr is not cut below this.
        eps: A cut smaller than this is not made.

    Raises:
        ValueError: If an argument is out of its range.

    >>> controller = Plateau(factor=0.5, patience=1)
    >>> for metric in (1.0, 1.0, 1.0):
    ...     controller.observe(metric, step=1)
    >>> controller.propose({"lr": 0.1})
    {'lr': 0.05}
    """

    needs = ("lr",)
    state_names = ("_best", "_num_bad", "_cooldown_left", "_cut_due")

    def __init__(
        self,
        *,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if not 0 < factor < 1:
            raise ValueError(f"Plateau: factor must lie in (0, 1), got {factor}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"Plateau: threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}")
        for name, value in (
            ("patience", patience),
            ("threshold", threshold),
            ("cooldown", cooldown),
            ("min_lr", min_lr),
        ):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"Plateau: {name} must be a finite number, 0 or more, got {value}")
        self.factor, self.patience, self.threshold, self.threshold_mode = factor, patience, threshold, threshold_mode
        self.cooldown, self.min_lr, self.eps = cooldown, min_lr, eps
        self._best: float | None = None
        self._num_bad = 0
        self._cooldown_left = 0
        self._cut_due = False

    def observe(self, metric: float, step: int) -> None:
        """Count intervals without improvement; NaN is none."""
        if self._is_better(metric):
            self._best, self._num_bad = metric, 0
        else:
            self._num_bad += 1
        if self._cooldown_left > 0:
            self._cooldown_left -= 1
            self._num_bad = 0
        self._cut_due = self._num_bad > self.patience
        if self._cut_due:
            self._cooldown_left, self._num_bad = self.cooldown, 0

    def propose(self, current_params: Hyperparams) -> Hyperparams:
        """Return the lr in force, or the cut one."""
        lr = current_params["lr"]
        cut = max(lr * self.factor, self.min_lr)
        return {"lr": cut if self._cut_due and lr - cut > self.eps else lr}

    def _is_better(self, metric: float) -> bool:
        if self._best is None:
            return metric < math.inf
        # abs(): a metric whose sign was turned ("max") is negative, and better still has to mean lower.
        margin = self.threshold * abs(self._best) if self.threshold_mode == "rel" else self.threshold
        return metric < self._best - margin
