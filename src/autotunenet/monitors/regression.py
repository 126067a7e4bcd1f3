"""The loss is clearly and persistently worse than it already was."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

from autotunenet.monitors.base import Monitor
from autotunenet.types import Health

_SMOOTHING = 32
"""Losses over which their noise is averaged, exponentially."""

_CAP = 4.0
"""Usual differences of two losses that a single one counts for at most."""

_SIGMAS = 0.5 * math.sqrt(math.pi)
"""Standard deviations of normal noise in the mean absolute difference of two of its values."""


class Regression(Monitor):
    """Compares each loss with the best level reached so far.

    The level is the mean over `window` losses, the reference its minimum, at first simply the first loss. A loss is
    a breach, and suspect, above ``reference + max(rtol * abs(reference) + atol, num_sigmas * sigma)``. `patience`
    breaches in a row: unstable. Several in a row are asked for because single batches vary; the absolute part
    because a relative one vanishes as the loss nears zero; the noise sigma because small batches vary by half of
    their level and more. It is measured by the mean absolute difference of losses that follow each other, which for
    normal noise is ``2 / sqrt(pi)`` standard deviations, and which a falling level does not widen; and it is that
    of the reference, for a run that goes astray gets noisier as well.

    Args:
        rtol: Relative tolerance, 0 or more.
        atol: Absolute tolerance in units of the loss, 0 or more. None: 5 % of the first loss, so that the
            default fits losses of any scale.
        patience: Breaches in a row that make the run unstable, at least 1.
        window: Losses that are averaged for the level, at least 1.
        cooldown: Steps after a reset in which a breach is never more than suspect, 0 or more.
        num_sigmas: Standard deviations of single losses that a breach lies above the reference at the least, 0 or more.
            The lowest level that a run has had lies below the one it keeps, so some of them are used up by that.

    Raises:
        ValueError: If an argument is out of its range.

    >>> monitor = Regression(rtol=0.5, atol=0.0, patience=2, window=1, num_sigmas=0.0)
    >>> [monitor.update(loss, step).value for step, loss in enumerate([1.0, 0.5, 0.8, 0.9], start=1)]
    ['stable', 'stable', 'suspect', 'unstable']
    """

    state_names = (
        "_reference",
        "_scale",
        "_older_sums",
        "_newer",
        "_newer_sum",
        "_num_breaches",
        "_cooldown_left",
        "_last",
        "_num_steps",
        "_step_size",
        "_noise",
    )

    def __init__(
        self,
        *,
        rtol: float = 0.5,
        atol: float | None = None,
        patience: int = 5,
        window: int = 20,
        cooldown: int = 0,
        num_sigmas: float = 3.0,
    ) -> None:
        if not (math.isfinite(rtol) and rtol >= 0):
            raise ValueError(f"Regression: rtol must be a finite number, 0 or more, got {rtol}")
        if atol is not None and not (math.isfinite(atol) and atol >= 0):
            raise ValueError(f"Regression: atol must be a finite number, 0 or more, or None, got {atol}")
        if patience < 1 or window < 1 or cooldown < 0:
            raise ValueError(
                "Regression: patience and window must be at least 1 and cooldown at least 0, "
                f"got patience={patience}, window={window}, cooldown={cooldown}"
            )
        if not (math.isfinite(num_sigmas) and num_sigmas >= 0):
            raise ValueError(f"Regression: num_sigmas must be a finite number, 0 or more, got {num_sigmas}")
        self.rtol, self.atol, self.patience, self.window, self.cooldown = rtol, atol, patience, window, cooldown
        self.num_sigmas = num_sigmas
        self._reference: float | None = None
        self._scale = 0.0  # magnitude of the first loss that is neither zero nor non-finite
        self._older_sums: list[float] = []  # of the last, the last two ... of the older half; the oldest come last
        self._newer: list[float] = []
        self._newer_sum = 0.0
        self._num_breaches = 0
        self._cooldown_left = 0
        self._last = math.nan  # loss before
        self._num_steps = 0  # from one such to the next, counted up to `_SMOOTHING`
        self._step_size = 0.0  # their mean magnitude
        self._noise = 0.0  # standard deviation of single losses at the reference
        self._limit = math.inf  # a breach lies above it; follows from the rest of the state

    # Few calls and no work that the last step has done already: this runs after every step of the training, with cold
    # caches, where each call costs several times what it costs in a loop of its own.

    def update(self, loss: float, step: int) -> Health:
        """Judge one step."""
        cooling = self._cooldown_left > 0
        self._cooldown_left -= cooling
        is_finite = math.isfinite(loss)
        is_breach = not is_finite or loss > self._limit
        if is_finite:
            self._note(loss)
        if is_breach:
            self._num_breaches += 1
            return Health.UNSTABLE if self._num_breaches >= self.patience and not cooling else Health.SUSPECT
        self._num_breaches = 0
        self._learn(loss)
        return Health.STABLE

    def reset(self, loss: float) -> None:
        """Re-anchor at `loss`; the best level from before no longer counts."""
        self._reference = loss if math.isfinite(loss) else None
        if self._scale == 0.0 and math.isfinite(loss):
            self._scale = abs(loss)
        self._older_sums, self._newer, self._newer_sum = [], [], 0.0
        self._num_breaches = 0
        self._cooldown_left = self.cooldown
        # The noise of another level is another one, but better than none.
        self._last, self._num_steps = math.nan, min(self._num_steps, _SMOOTHING // 4)
        self._find_limit()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state. Raises ValueError for one that is not of this class; nothing is loaded then."""
        super().load_state_dict(state_dict)
        self._find_limit()

    def _find_limit(self) -> None:
        if self._reference is None or not self._scale:
            self._limit = math.inf
            return
        atol = 0.05 * self._scale if self.atol is None else self.atol
        margin = max(self.rtol * abs(self._reference) + atol, self.num_sigmas * self._noise)
        self._limit = self._reference + margin

    def _note(self, loss: float) -> None:
        """Average how far a loss lies from the one before; a jump counts for no more than a few usual ones."""
        if math.isfinite(self._last):
            step = min(abs(loss - self._last), max(_CAP * self._step_size, 0.05 * self._scale))
            if self._num_steps < _SMOOTHING:
                self._num_steps += 1
            self._step_size += (step - self._step_size) / self._num_steps
            if self._num_steps < _SMOOTHING:
                self._noise = _SIGMAS * self._step_size
                self._find_limit()
        self._last = loss

    def _learn(self, loss: float) -> None:
        """Take a loss into the level, and the level for the reference where it is lower."""
        # Two halves as in `RecentLosses`: nothing is ever subtracted, so a huge loss leaves no rounding behind.
        older, newer = self._older_sums, self._newer
        newer.append(loss)
        self._newer_sum += loss
        if older:
            older.pop()
        mean = math.inf
        if len(older) + len(newer) >= self.window:
            mean = ((older[-1] if older else 0.0) + self._newer_sum) / self.window
            if not older:
                self._older_sums, self._newer, self._newer_sum = list(accumulate(reversed(newer))), [], 0.0
        if self._scale == 0.0 or self._reference is None:  # nothing but zeros so far: no level to compare with
            self._scale = self._scale or abs(loss)
            self._reference = loss
            self._find_limit()
        elif mean < self._reference:
            self._reference = mean
            self._noise = _SIGMAS * self._step_size
            self._find_limit()
