"""The loss jumps far out of its recent spread."""

from __future__ import annotations

import math

from autotunenet.monitors.base import Monitor
from autotunenet.types import Health


class Spike(Monitor):
    """Compares each loss with mean and standard deviation of the last accepted ones.

    A loss more than `num_sigmas` standard deviations above the mean is a spike: suspect. `patience` spikes within
    `span` steps: unstable. The threshold of 6 over 128 steps is that of OLMo-core's `SkipStepOptimizer`. Spikes are
    kept out of the statistics.

    Args:
        num_sigmas: Threshold in standard deviations, above 0.
        window: Accepted losses that are remembered, at least 2.
        min_count: Accepted losses before anything is judged, from 2 to `window`.
        patience: Spikes that make the run unstable, at least 1.
        span: Steps within which they must fall, at least `patience`.
        min_rise: A spike also stands above the mean by this share of the first loss's magnitude, 0 or more: below that,
            factors mean nothing any more. And by twice the largest rise remembered: close to zero, batch losses have
            heavy tails, and standard deviations say little.

    Raises:
        ValueError: If an argument is out of its range.

    >>> monitor = Spike(window=4, min_count=4, patience=1)
    >>> [monitor.update(loss, step).value for step, loss in enumerate([1.0, 1.1, 0.9, 1.0, 5.0], start=1)][-2:]
    ['stable', 'unstable']
    """

    state_names = ("_scale", "_recent", "_spike_steps")

    def __init__(
        self,
        *,
        num_sigmas: float = 6.0,
        window: int = 128,
        min_count: int = 64,
        patience: int = 3,
        span: int = 20,
        min_rise: float = 1e-3,
    ) -> None:
        if not (math.isfinite(num_sigmas) and num_sigmas > 0):
            raise ValueError(f"Spike: num_sigmas must be a finite number above 0, got {num_sigmas}")
        if not 2 <= min_count <= window:
            raise ValueError(f"Spike: 2 <= min_count <= window must hold, got min_count={min_count}, window={window}")
        if not 1 <= patience <= span:
            raise ValueError(f"Spike: 1 <= patience <= span must hold, got patience={patience}, span={span}")
        if not (math.isfinite(min_rise) and min_rise >= 0):
            raise ValueError(f"Spike: min_rise must be a finite number, 0 or more, got {min_rise}")
        self.num_sigmas, self.window, self.min_count = num_sigmas, window, min_count
        self.patience, self.span, self.min_rise = patience, span, min_rise
        self._scale = 0.0  # magnitude of the first loss that is neither zero nor non-finite
        self._recent: list[float] = []
        self._spike_steps: list[int] = []

    def update(self, loss: float, step: int) -> Health:
        """Judge one step."""
        if not self._is_spike(loss):
            self._learn(loss)
            return Health.STABLE
        self._spike_steps = [s for s in self._spike_steps if s > step - self.span] + [step]
        return Health.UNSTABLE if len(self._spike_steps) >= self.patience else Health.SUSPECT

    def reset(self, loss: float) -> None:
        """Re-anchor at `loss`. The remembered losses stay where they agree with it, else they are forgotten.

        Fewer than `min_count` were never judged themselves, so they are forgotten too: the losses of a run that blew up
        in its first steps would hide every later spike.
        """
        self._spike_steps = []
        if len(self._recent) < self.min_count or not abs(loss - self._mean()) <= self._limit():
            self._recent = []

    def _is_spike(self, loss: float) -> bool:
        if not math.isfinite(loss):
            return True
        return len(self._recent) >= self.min_count and loss - self._mean() > self._limit()

    def _mean(self) -> float:
        return sum(self._recent) / len(self._recent)

    def _limit(self) -> float:
        mean = self._mean()
        # Products, not powers: these overflow to inf, where ** raises.
        variance = sum((x - mean) * (x - mean) for x in self._recent) / len(self._recent)
        largest_rise = max(self._recent) - mean
        return max(self.num_sigmas * math.sqrt(variance), 2 * largest_rise, self.min_rise * self._scale)

    def _learn(self, loss: float) -> None:
        if self._scale == 0.0:
            self._scale = abs(loss)
        self._recent = [*self._recent, loss][-self.window :]
