"""Mean, spread and maximum of the last losses, in constant time."""

from __future__ import annotations

import math

from autotunenet.state import PlainState

_Part = tuple[int, float, float, float]
"""Count, mean, summed squared deviations and maximum of some values."""

_NOTHING: _Part = (0, 0.0, 0.0, -math.inf)


class RecentLosses(PlainState):
    """Statistics of the last `window` values, each in amortised constant time and without a subtraction of old values.

    One value of 1e200 ruins a running sum for ever: it cannot be taken out again. So the values lie in two halves, as
    in a queue made of two stacks. The newer half has running statistics (Welford 1962), the older half has them for
    each of its tails, and what is asked for is both together (Chan, Golub and LeVeque 1983). When the older half is
    used up, the newer one takes its place. No rounding outlives its window.

    Args:
        window: Values that are remembered, at least 1.

    Attributes:
        num: Values remembered now.
        mean: Their mean; 0 where there are none.
        variance: Their mean squared deviation from `mean`.
        maximum: The largest of them; minus infinity where there are none.

    >>> recent = RecentLosses(window=3)
    >>> for loss in (100.0, 1.0, 2.0, 3.0):
    ...     recent.push(loss)
    >>> recent.num, recent.mean, round(3 * recent.variance, 9), recent.maximum
    (3, 2.0, 2.0, 3.0)
    """

    state_names = ("_older", "_newer")

    def __init__(self, window: int) -> None:
        self.window = window
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._older: list[float] = []  # newest first, so that the oldest is popped
        self._newer: list[float] = []
        self._part: _Part = _NOTHING  # of the newer half
        self._rebuild()

    def push(self, value: float) -> None:
        """Remember `value`; where the window is full, the oldest is forgotten."""
        if self.num < self.window:
            self.num += 1
        else:
            if not self._older:
                self._older, self._newer = self._newer[::-1], []
                self._rebuild()
            self._older.pop()
            self._tails.pop()
        self._newer.append(value)
        # What `_with` does, without the call: this runs after every step of the training.
        num, mean, squares, maximum = self._part
        num, apart = num + 1, value - mean
        mean += apart / num
        self._part = num, mean, squares + apart * (value - mean), value if value > maximum else maximum
        self._combine()

    def load_state_dict(self, state_dict: dict[str, list[float]]) -> None:
        """Go on from saved values; their statistics follow from them, bit for bit."""
        super().load_state_dict(state_dict)
        self._rebuild()

    def _rebuild(self) -> None:
        """Work out all statistics from the values, in the order in which `push` does."""
        self.num = len(self._older) + len(self._newer)
        self._tails: list[_Part] = [_NOTHING]
        for value in self._older:
            self._tails.append(_with(self._tails[-1], value))
        self._part = _NOTHING
        for value in self._newer:
            self._part = _with(self._part, value)
        self._combine()

    def _combine(self) -> None:
        num_old, old_mean, old_squares, old_maximum = self._tails[-1]
        num_new, new_mean, new_squares, new_maximum = self._part
        if not num_old or not num_new:
            num, self.mean, squares, self.maximum = self._part if num_new else self._tails[-1]
            self.variance = squares / num if num else 0.0
            return
        num, apart = num_old + num_new, new_mean - old_mean
        self.mean = old_mean + apart * num_new / num
        # Products, not powers: these overflow to inf, where ** raises.
        self.variance = (old_squares + new_squares + apart * apart * num_old * num_new / num) / num
        self.maximum = old_maximum if old_maximum > new_maximum else new_maximum


def _with(part: _Part, value: float) -> _Part:
    num, mean, squares, maximum = part
    num, apart = num + 1, value - mean
    mean += apart / num
    return num, mean, squares + apart * (value - mean), value if value > maximum else maximum
