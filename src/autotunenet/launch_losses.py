"""What the losses of a launch say: where the training starts, and whether a trial has fallen, risen or broken."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from autotunenet.state import PlainState

_NONE = 1e-5
"""Scale of a loss that starts at exactly 0, as a converged one may in single precision: 1e-7 above it is no rise."""


class LaunchLosses(PlainState):
    """The losses of the trial that is on, the level where the training starts, and their noise.

    Every answer allows for the noise of a single loss, and for the little that a few losses tell of it.
    """

    state_names: tuple[str, ...] = (
        "_losses",
        "_start",
        "_scale",
        "_initial",
        "_noise",
        "_reference",
        "_good",
        "_has_learned",
        "_is_blind",
    )

    def __init__(self) -> None:
        self._losses: list[float] = []  # of the present trial
        self._start: list[float] = []  # all losses known to tell the level where the training starts
        self._scale = math.nan  # magnitude that rises are measured by
        self._initial = math.nan  # level of the loss where the training starts
        self._noise = 0.0  # standard deviation of a single loss
        self._reference = math.nan  # level that a trial starts from
        self._good = 0.0  # largest lr that passed; 0: none
        self._has_learned = False
        self._is_blind = False  # the noise hides what an lr does, unless it breaks everything

    def _count_in(self, losses: Sequence[float]) -> None:
        """Measure level and noise where the training starts once more, with these losses too."""
        if not self._start:
            self._scale = abs(mean(losses)) or _NONE
        self._start = [*self._start, *losses]
        num = len(self._start)
        self._initial = self._reference = mean(self._start)
        spread = math.sqrt(sum((v - self._initial) * (v - self._initial) for v in self._start) / (num - 1))
        # Few losses tell little of their noise: the factor is that of the 1 % quantiles of Student's t and the normal.
        self._noise = max((1 + 2 / (num - 2)) * spread, 0.01 * self._scale)

    def _relative_spread(self) -> float:
        """Standard deviation of the trial's losses as a share of their level; infinite where that is zero."""
        if len(self._losses) < 2:
            return 0.0
        level = mean(self._losses)
        spread = math.sqrt(sum((v - level) * (v - level) for v in self._losses) / (len(self._losses) - 1))
        return spread / abs(level) if level else (math.inf if spread else 0.0)

    def _jump(self) -> float:
        """By how much a single loss must exceed the level to fail a trial."""
        return max(0.5 * abs(self._reference), 8 * self._noise) + 0.05 * self._scale

    def _is_failing(self) -> bool:
        loss, level = self._losses[-1], self._reference
        if self._is_blind and math.isfinite(loss):  # a single one may be ten times the level by chance
            return len(self._losses) >= 3 and min(self._losses[-3:]) > level + self._noise
        if not math.isfinite(loss) or loss > level + self._jump():
            return True
        if len(self._losses) < 2:
            return False
        return mean(self._losses[-2:]) > level + max(0.12 * abs(level), 3 * self._noise) + 0.02 * self._scale

    def _third(self) -> int:
        return max(2, len(self._losses) // 3)

    def _is_below(self, level: float, num_errors: float) -> bool:
        """Whether the trial ended below a level by more than its noise explains."""
        third = self._third()
        error = self._noise * math.sqrt(1 / third + 1 / len(self._start))
        return mean(self._losses[-third:]) < level - max(0.03 * abs(level), num_errors * error)

    def _is_still_at_start(self) -> bool:
        """Whether nothing says that the trial has left the level where the training starts, for better or worse."""
        return abs(mean(self._losses) - self._initial) <= 3 * self._error_at_start()

    def _error_at_start(self) -> float:
        """Standard error of the trial's mean to the level where the training starts."""
        noise = max(self._noise, noise_of(self._losses))
        return noise * math.sqrt(1 / len(self._losses) + 1 / len(self._start))

    def _has_risen(self) -> bool:
        third = self._third()
        begin, end = mean(self._losses[:third]), mean(self._losses[-third:])
        # A false alarm at the first trial would send the search down for nothing: both sides of each comparison vary,
        # and so does the noise that a few losses tell.
        noise = max(self._noise, noise_of(self._losses))
        floor = 0.02 * self._scale
        margin = 3.5 * noise * math.sqrt(1 / third + 1 / (third if self._has_learned else len(self._start)))
        if end > self._reference + max(0.03 * abs(self._reference), margin, floor):
            return True
        if end > begin + max(0.03 * abs(begin), 3.5 * noise * math.sqrt(2 / third), floor):
            return True
        return self._good > 0 and self._has_crept_up(floor)

    def _has_crept_up(self, floor: float) -> bool:
        """Whether trials that passed one by one, each within its noise, have together left the start for worse."""
        above = mean(self._losses) - self._initial
        return above > max(0.03 * abs(self._initial), 3.5 * self._error_at_start(), floor)


def mean(values: Sequence[float]) -> float:
    """Return the mean of at least one value."""
    return sum(values) / len(values)


def noise_of(losses: Sequence[float]) -> float:
    """Return the standard deviation of single losses around a smooth course, from their successive differences."""
    squares = [(b - a) * (b - a) for a, b in itertools.pairwise(losses)]
    return math.sqrt(sum(squares) / len(squares) / 2)
