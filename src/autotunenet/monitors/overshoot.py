"""The loss is several times what the training began with: the update was far too large."""

from __future__ import annotations

import math

from autotunenet.monitors.base import Monitor
from autotunenet.types import Health


class Overshoot(Monitor):
    """Compares each loss with the larger of the first loss and the running level.

    A loss above `factor` times that is suspect, and `patience` of them in a row make the run unstable; a single one
    above `hard_factor` times that does at once. It sees what an average over a window is too slow for: a learning rate
    that is wrong by orders of magnitude throws the loss up in its first two steps, and often leaves a dead network
    whose loss looks almost like the first one.

    Args:
        factor: Multiple that is suspect, above 1.
        hard_factor: Multiple that makes the run unstable at once, at least `factor`.
        patience: Suspect losses in a row that make the run unstable, at least 1.
        smoothing: Weight of a new loss in the running level, an exponential mean of the accepted ones, in (0, 1].

    Raises:
        ValueError: If an argument is out of its range.

    >>> monitor = Overshoot()
    >>> [monitor.update(loss, step).value for step, loss in enumerate([2.3, 12.0, 2.3, 12.0, 13.0, 900.0], start=1)]
    ['stable', 'suspect', 'stable', 'suspect', 'unstable', 'unstable']
    """

    state_names = ("_first", "_level", "_num_suspect")

    def __init__(
        self, *, factor: float = 4.0, hard_factor: float = 100.0, patience: int = 2, smoothing: float = 0.05
    ) -> None:
        if not 1 < factor <= hard_factor < math.inf:
            raise ValueError(f"Overshoot: 1 < factor <= hard_factor must hold, got {factor} and {hard_factor}")
        if patience < 1:
            raise ValueError(f"Overshoot: patience must be at least 1, got {patience}")
        if not 0 < smoothing <= 1:
            raise ValueError(f"Overshoot: smoothing must lie in (0, 1], got {smoothing}")
        self.factor, self.hard_factor, self.patience, self.smoothing = factor, hard_factor, patience, smoothing
        self._first = 0.0  # magnitude of the first loss that is neither zero nor non-finite
        self._level = 0.0
        self._num_suspect = 0

    def update(self, loss: float, step: int) -> Health:
        """Judge one step."""
        normal = self._first if self._first > self._level else self._level
        if math.isfinite(loss) and not 0 < self.factor * normal < loss:
            self._num_suspect = 0
            magnitude = abs(loss)
            self._first = self._first or magnitude
            self._level = self._level + self.smoothing * (magnitude - self._level) if self._level else magnitude
            return Health.STABLE
        self._num_suspect += 1
        is_hard = not math.isfinite(loss) or loss > self.hard_factor * normal
        return Health.UNSTABLE if is_hard or self._num_suspect >= self.patience else Health.SUSPECT

    def reset(self, loss: float) -> None:
        """Re-anchor the running level at `loss`."""
        self._num_suspect = 0
        if math.isfinite(loss):
            self._first = self._first or abs(loss)
            self._level = abs(loss)
