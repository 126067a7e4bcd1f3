"""The loss is back where the run began, after it had come down: what was learnt is lost."""

from __future__ import annotations

import math
from statistics import median

from autotunenet.monitors.base import Monitor
from autotunenet.types import Health


class Collapse(Monitor):
    """Compares each loss with the level at which the run began, once it had come down clearly from there.

    A network whose units have died says the same for every input. It gives a finite, calm loss that looks like the
    first one (ln C for C classes), from which no training returns. Where the loss had come down by less than a third
    before, no tolerance on the best level is narrow enough to see it.

    The first level is the median of the first losses. The run has learnt something once its running level lies below
    that by the share `depth`, and by four standard errors of the difference. From then on, every loss that is not below
    the first level by more than the share `tolerance` counts one up, every other one down: at `suspect_after` it is
    suspect, at `patience` unstable. A run that has not begun to learn is never judged.

    Args:
        depth: Share of the first level by which the loss must have come down, in (0, 1).
        tolerance: Share of the first level within which a loss is back at it, from 0 to below `depth`.
        suspect_after: Count that is suspect, at least 1.
        patience: Count that is unstable, at least `suspect_after`.
        num_first: Losses whose median is the first level, at least 1.
        smoothing: Weight of a new loss in the running level, an exponential mean, in (0, 1). The variance behind the
            standard errors takes a quarter of it.

    Raises:
        ValueError: If an argument is out of its range.

    >>> monitor = Collapse(patience=4)
    >>> losses = [*[2.3] * 9, *[1.7] * 40, 2.3, 2.31, 2.3, 2.3]
    >>> [monitor.update(loss, step).value for step, loss in enumerate(losses, start=1)][-4:]
    ['stable', 'stable', 'suspect', 'unstable']
    """

    state_names = ("_first", "_first_losses", "_level", "_variance", "_has_learnt", "_count")

    def __init__(
        self,
        *,
        depth: float = 0.1,
        tolerance: float = 0.03,
        suspect_after: int = 3,
        patience: int = 10,
        num_first: int = 9,
        smoothing: float = 0.2,
    ) -> None:
        if not 0 <= tolerance < depth < 1:
            raise ValueError(f"Collapse: 0 <= tolerance < depth < 1 must hold, got {tolerance} and {depth}")
        if not 1 <= suspect_after <= patience:
            raise ValueError(f"Collapse: 1 <= suspect_after <= patience must hold, got {suspect_after} and {patience}")
        if num_first < 1:
            raise ValueError(f"Collapse: num_first must be at least 1, got {num_first}")
        if not 0 < smoothing < 1:
            raise ValueError(f"Collapse: smoothing must lie in (0, 1), got {smoothing}")
        self.depth, self.tolerance, self.suspect_after, self.patience = depth, tolerance, suspect_after, patience
        self.num_first, self.smoothing = num_first, smoothing
        self._first: float | None = None  # None: still being collected
        self._first_losses: list[float] = []
        self._level = 0.0
        self._variance = 0.0
        self._has_learnt = False
        self._count = 0

    def update(self, loss: float, step: int) -> Health:
        """Judge one step."""
        first = self._first
        if first is None or not self._has_learnt:
            if math.isfinite(loss):
                self._learn(loss)
            return Health.STABLE
        if loss < first - self.tolerance * abs(first):
            if not self._count:
                return Health.STABLE
            self._count -= 1
        else:  # NaN is not below anything
            self._count = min(self._count + 1, self.patience)
        if self._count < self.suspect_after:
            return Health.STABLE
        return Health.UNSTABLE if self._count >= self.patience else Health.SUSPECT

    def reset(self, loss: float) -> None:
        """Re-anchor at `loss`. Where that is no lower than the run began, nothing has been learnt yet."""
        self._count = 0
        del self._first_losses[1:]  # the first loss came before any update; the others led to the reset
        if math.isfinite(loss) and self._first is not None:
            self._has_learnt = self._has_learnt and loss < self._first - self.depth * abs(self._first)
            self._first = max(self._first, loss)
            self._level = loss

    def _learn(self, loss: float) -> None:
        if self._first is None:
            self._first_losses.append(loss)
            if len(self._first_losses) >= self.num_first:
                self._set_first(median(self._first_losses))
            return
        apart = loss - self._level
        self._level += self.smoothing * apart
        # Slower than the level: a spread taken from a handful of losses is too small every now and then.
        weight = self.smoothing / 4
        self._variance = (1 - weight) * (self._variance + weight * apart * apart)
        # Squared standard errors of an exponential mean and of a median, in units of the variance of one loss.
        error = math.sqrt(self._variance * (self.smoothing / (2 - self.smoothing) + 0.5 * math.pi / self.num_first))
        self._has_learnt = self._level < self._first - max(self.depth * abs(self._first), 4 * error)

    def _set_first(self, first: float) -> None:
        # Both robust, because the first losses may overshoot by orders of magnitude.
        deviation = 1.4826 * median(abs(loss - first) for loss in self._first_losses)
        self._first = self._level = first
        self._variance = deviation * deviation
        self._first_losses = []
