"""The loss jumps far out of its recent spread."""

from __future__ import annotations

import math
from typing import Any

from autotunenet.monitors._recent import RecentLosses
from autotunenet.monitors.base import Monitor
from autotunenet.state import check_keys
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

    state_names = ("_scale", "_spike_steps")

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
        self._recent = RecentLosses(window)
        self._limit = math.inf  # a spike rises above the mean by more; follows from the rest of the state
        self._spike_steps: list[int] = []

    def update(self, loss: float, step: int) -> Health:
        """Judge one step."""
        if math.isfinite(loss) and not loss - self._recent.mean > self._limit:
            self._scale = self._scale or abs(loss)
            self._recent.push(loss)
            self._find_limit()
            return Health.STABLE
        self._spike_steps = [s for s in self._spike_steps if s > step - self.span] + [step]
        return Health.UNSTABLE if len(self._spike_steps) >= self.patience else Health.SUSPECT

    def reset(self, loss: float) -> None:
        """Re-anchor at `loss`. The remembered losses stay where they agree with it, else they are forgotten.

        Fewer than `min_count` were never judged themselves, so they are forgotten too: the losses of a run that blew up
        in its first steps would hide every later spike.
        """
        self._spike_steps = []
        if self._recent.num < self.min_count or not abs(loss - self._recent.mean) <= self._limit:
            self._recent.clear()
            self._find_limit()

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on bit for bit."""
        return {**super().state_dict(), "recent": self._recent.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state. Raises ValueError for one that is not of this class; nothing is loaded then."""
        check_keys(type(self).__name__, state_dict, (*self.state_names, "recent"))
        self._recent.load_state_dict(state_dict["recent"])
        super().load_state_dict({name: state_dict[name] for name in self.state_names})
        self._find_limit()

    def _find_limit(self) -> None:
        recent = self._recent
        if recent.num < self.min_count:
            self._limit = math.inf
            return
        spread, largest_rise = self.num_sigmas * math.sqrt(recent.variance), 2 * (recent.maximum - recent.mean)
        self._limit = max(spread, largest_rise, self.min_rise * self._scale)
