"""The loss drifts or steps up from the level it keeps: a cumulative sum of its deviations."""

from __future__ import annotations

import math

from autotunenet.monitors.base import Monitor
from autotunenet.types import Health


class ChangePoint(Monitor):
    """Adds up how far the losses lie above their running level, in standard deviations: Page's test (1954), one-sided.

    With ``r = (x - mean) / sigma``, where mean and sigma are exponential averages, the sum
    ``S = max(0, S + min(r, cap) - slack)`` falls back to zero as long as the level holds. Above half of `threshold` it
    is suspect, above `threshold` unstable. No loss counts for more than `cap`, so one or two outliers are no change;
    and a loss at `cap` or above is kept out of the averages, so the change does not become normal.

    x is the logarithm of the loss, because the spread of batch losses is a share of their level, down to
    `resolution` times the first loss, where it goes over into the loss itself: ``asinh(loss / (resolution * first))``.
    Close to zero, ratios of losses mean nothing. Where the objective can be negative, logarithms mean nothing either:
    from the first negative loss on, x is ``asinh(loss / first)``, which is linear up to the magnitude of the first.

    Args:
        threshold: Sum that is unstable, above 0.
        slack: Standard deviations that a loss may lie above the level for nothing, 0 or more.
        cap: Standard deviations that a single loss counts for at most, above `slack`.
        smoothing: Weight of a new loss in mean and variance, in (0, 1).
        min_count: Losses that are averaged before anything is judged, at least 2. As many after a reset to a level that
            does not agree with the mean.
        min_sigma: Least standard deviation of x, above 0. Where losses hardly vary, a few per cent more are no harm.
        resolution: Share of the first loss below which differences of losses count and no ratios, above 0.

    Raises:
        ValueError: If an argument is out of its range.

    >>> monitor = ChangePoint(min_count=8)
    >>> calm = [monitor.update(1.0 + 0.1 * (-1) ** step, step) for step in range(1, 31)]
    >>> [monitor.update(1.6, step).value for step in range(31, 36)]
    ['stable', 'suspect', 'suspect', 'unstable', 'unstable']
    """

    state_names = ("_unit", "_is_signed", "_num", "_mean", "_variance", "_sum")

    def __init__(
        self,
        *,
        threshold: float = 12.0,
        slack: float = 0.75,
        cap: float = 4.0,
        smoothing: float = 0.05,
        min_count: int = 32,
        min_sigma: float = 0.1,
        resolution: float = 0.2,
    ) -> None:
        if not 0 < threshold < math.inf:
            raise ValueError(f"ChangePoint: threshold must be a finite number above 0, got {threshold}")
        if not 0 <= slack < cap < math.inf:
            raise ValueError(f"ChangePoint: 0 <= slack < cap must hold, got slack={slack}, cap={cap}")
        if not 0 < smoothing < 1:
            raise ValueError(f"ChangePoint: smoothing must lie in (0, 1), got {smoothing}")
        if min_count < 2:
            raise ValueError(f"ChangePoint: min_count must be at least 2, got {min_count}")
        if not (0 < min_sigma < math.inf and 0 < resolution < math.inf):
            raise ValueError(
                "ChangePoint: min_sigma and resolution must be finite numbers above 0, "
                f"got min_sigma={min_sigma}, resolution={resolution}"
            )
        self.threshold, self.slack, self.cap, self.smoothing = threshold, slack, cap, smoothing
        self.min_count, self.min_sigma, self.resolution = min_count, min_sigma, resolution
        self._unit = 0.0  # losses well above it are judged by ratios; 0: nothing but zeros so far
        self._is_signed = False  # whether there was a negative loss
        self._num = 0  # losses averaged so far, counted up to `min_count`
        self._mean = 0.0
        self._variance = 0.0
        self._sum = 0.0

    def update(self, loss: float, step: int) -> Health:
        """Judge one step."""
        if not self._unit or loss < 0:
            self._choose_scale(loss)
        x = math.asinh(loss / self._unit) if self._unit else loss
        rise = self._learn(x) if math.isfinite(x) else self.cap
        total = self._sum + (rise if rise < self.cap else self.cap) - self.slack
        if total <= 0:
            self._sum = 0.0
            return Health.STABLE
        # Bounded, so that a series of bad losses is not held against the good ones that follow.
        self._sum = min(total, self.threshold + self.cap)
        if total <= 0.5 * self.threshold:
            return Health.STABLE
        return Health.UNSTABLE if total > self.threshold else Health.SUSPECT

    def reset(self, loss: float) -> None:
        """Re-anchor at `loss`. Mean and spread stay where they agree with it, else they are learnt anew from there."""
        self._sum = 0.0
        if not self._unit or loss < 0:
            self._choose_scale(loss)
        x = math.asinh(loss / self._unit) if self._unit else loss
        if self._num < self.min_count or not abs(x - self._mean) <= self.cap * self._sigma():
            self._num, self._mean, self._variance = (1, x, 0.0) if math.isfinite(x) else (0, 0.0, 0.0)

    def _choose_scale(self, loss: float) -> None:
        """Take the scale from the first loss, and another one from the first that is negative."""
        if not math.isfinite(loss):
            return
        if self._unit == 0.0:
            self._unit = self.resolution * abs(loss)
        if loss < 0 and not self._is_signed:
            self._is_signed = True
            self._unit /= self.resolution
            self._num, self._mean, self._variance = 0, 0.0, 0.0  # they were of another scale

    def _sigma(self) -> float:
        return max(math.sqrt(self._variance), self.min_sigma)

    def _learn(self, x: float) -> float:
        """Average `x` in; return how many standard deviations it lies above the mean before."""
        apart, rise, weight = x - self._mean, 0.0, self.smoothing
        if self._num < self.min_count:
            self._num += 1
            weight = 1 / self._num
        else:
            sigma = math.sqrt(self._variance)
            sigma = max(sigma, self.min_sigma)
            rise = apart / sigma
            if rise >= self.cap:
                return rise
            # A fall counts for no more than a rise: one lucky loss must not widen the spread for long.
            lowest = -self.cap * sigma
            apart = max(apart, lowest)
        self._mean += weight * apart
        self._variance = (1 - weight) * (self._variance + weight * apart * apart)
        return rise
