"""Find a learning rate in the first steps of a training, whatever the user's is: a pure state machine."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from enum import Enum

from autotunenet.state import PlainState


class Move(Enum):
    """What the tuner has to do after a step of the launch."""

    GO_ON = "go on"
    KEEP = "keep"  # the trial passed: this state is the one to go back to from now on
    RETURN = "return"  # the trial failed: go back to the last state that was kept
    RESTART = "restart"  # go back to the very first state


class Launch(PlainState):
    """Tries learning rates in the running training, keeps what they learn, and takes back what they break.

    The first `num_calibration` steps hardly move: they measure the loss where the training starts, and how much it
    varies from batch to batch. Then trials of at most `window` steps follow, the first at the user's lr. A trial fails
    when the loss rises by more than its noise explains, or when a larger lr no longer learns faster; what it did is
    taken back then. A trial that passes is kept, and the next one is `grow` times larger, or lies between the largest
    lr that passed and the smallest that failed. Where even the first trial fails, lr falls by `shrink` until a trial
    survives; that one still is too high, so the climb starts a factor `down` below it, from the first state.

    Args:
        window: Steps of a trial, at least 6.
        num_calibration: Steps before the first trial, at least 3.
        grow: Factor to the next trial while none has failed from below, above 1.
        shrink: Divisor to the next trial while none has passed, above 1.
        down: Divisor from the first lr that survives, coming from above, above 1.
        resolution: The search ends when the smallest failed lr is less than this multiple of the largest passed one.
        peak_fraction: Share of the smallest lr that failed which is never exceeded, in (0, 1].
        max_steps: The launch ends after so many steps with the best it has, at least 40.

    Raises:
        ValueError: If an argument is out of its range.
    """

    state_names = (
        "lr",
        "is_done",
        "reason",
        "peak",
        "_first_lr",
        "_num_steps",
        "_losses",
        "_initial",
        "_noise",
        "_reference",
        "_good",
        "_ceiling",
        "_from_above",
        "_has_learned",
        "_is_patient",
        "_speed",
    )

    def __init__(
        self,
        *,
        window: int = 12,
        num_calibration: int = 4,
        grow: float = 4.0,
        shrink: float = 8.0,
        down: float = 16.0,
        resolution: float = 2.1,
        peak_fraction: float = 0.25,
        max_steps: int = 110,
    ) -> None:
        self.window, self.num_calibration, self.max_steps = window, num_calibration, max_steps
        self.grow, self.shrink, self.down = grow, shrink, down
        self.resolution, self.peak_fraction = resolution, peak_fraction
        self.lr = math.nan  # in force for the next step
        self.is_done = False
        self.peak = math.nan  # the lr found
        self.reason = ""  # of the last move, for the history
        self._first_lr = math.nan
        self._num_steps = 0
        self._losses: list[float] = []  # of the present trial
        self._initial = math.nan  # level of the loss where the training starts
        self._noise = 0.0  # standard deviation of a single loss
        self._reference = math.nan  # level that a trial starts from
        self._good = 0.0  # largest lr that passed; 0: none
        self._ceiling = math.inf  # smallest lr that failed
        self._from_above = False  # every trial so far failed
        self._has_learned = False
        self._speed = 0.0  # relative fall of the loss per step at the largest lr that passed
        self._is_patient = False  # full windows although nothing has been learned

    def start(self, lr: float) -> float:
        """Take the user's lr; return the first one to put in force."""
        self._first_lr = lr
        self.lr = lr * 1e-4
        return self.lr

    @property
    def level(self) -> float:
        """Loss that the state to go back to is known to give."""
        return self._reference

    def update(self, loss: float) -> Move:
        """Take note of one optimizer step's loss; afterwards `lr` is the one for the next step."""
        self._num_steps += 1
        self._losses.append(loss)
        if math.isnan(self._reference):
            return self._calibrate()
        if self._is_failing():
            return self._fail()
        if self._is_window_complete():
            return self._judge()
        if self._num_steps >= self.max_steps and self._good:
            return self._finish(Move.RETURN)
        return Move.GO_ON

    def _calibrate(self) -> Move:
        if not math.isfinite(self._losses[-1]) or len(self._losses) < self.num_calibration:
            return Move.GO_ON
        self._initial = self._reference = _mean(self._losses)
        self._noise = max(1.5 * _noise(self._losses), 0.01 * abs(self._initial))
        self._try(self._first_lr)
        return Move.KEEP

    def _is_failing(self) -> bool:
        loss, level, scale = self._losses[-1], self._reference, abs(self._initial)
        if not math.isfinite(loss):
            return True
        if loss > level + max(0.5 * abs(level), 8 * self._noise) + 0.05 * scale:
            return True
        if len(self._losses) < 2:
            return False
        return _mean(self._losses[-2:]) > level + max(0.12 * abs(level), 3 * self._noise) + 0.02 * scale

    def _is_window_complete(self) -> bool:
        if len(self._losses) >= self.window:
            return True
        # Where nothing has been learned there is nothing to compare: half a window shows that it does no harm.
        hasty = not (self._has_learned or self._from_above or self._is_patient)
        return hasty and len(self._losses) == self.window // 2 and not self._is_below(self._initial, 2.0)

    def _judge(self) -> Move:
        if not self._good and self._from_above:
            # The first lr that survives, coming from above, is still too high.
            self._from_above, self._ceiling = False, 2 * self.lr
            return self._climb_from(self.lr / self.down)
        if self._has_risen():
            return self._fail()
        end = _mean(self._losses[-self._third() :])
        speed = (self._reference - end) / max(abs(self._reference), 1e-12) / len(self._losses)
        had_learned, self._has_learned = self._has_learned, self._has_learned or self._is_below(self._initial, 2.0)
        self._reference = end
        if self._has_learned:
            self._noise = 0.5 * (self._noise + _noise(self._losses))
        if had_learned and speed < self._speed:  # a larger lr has to earn its place: it must learn faster
            return self._finish(Move.KEEP)
        self._good, self._speed = self.lr, speed
        return self._next(Move.KEEP)

    def _third(self) -> int:
        return max(2, len(self._losses) // 3)

    def _is_below(self, level: float, num_errors: float) -> bool:
        """Whether the trial ended below a level by more than its noise explains."""
        third = self._third()
        error = self._noise / math.sqrt(third)
        return _mean(self._losses[-third:]) < level - max(0.03 * abs(level), num_errors * error)

    def _has_risen(self) -> bool:
        third = self._third()
        begin, end, error = _mean(self._losses[:third]), _mean(self._losses[-third:]), self._noise / math.sqrt(third)
        worse_than_before = end > self._reference + max(0.03 * abs(self._reference), 1.4 * error)
        return worse_than_before or end > begin + max(0.03 * abs(begin), 2 * error)

    def _fail(self) -> Move:
        self._ceiling = self.lr
        if not self._good:
            self._from_above = True
            self._try(self.lr / self.shrink)
            return Move.RETURN
        return self._next(Move.RETURN)

    def _next(self, move: Move) -> Move:
        """Choose the next trial, or end."""
        is_narrow = self._ceiling / self._good < self.resolution
        if self._num_steps >= self.max_steps or (is_narrow and (self._has_learned or self._is_patient)):
            return self._finish(move)
        if is_narrow:  # an lr that did no harm, but taught nothing either: that is no choice yet
            self._is_patient = True
            self._good = 0.0
            return self._climb_from(self._ceiling / self.down)
        self._try(self._good * self.grow if self._ceiling == math.inf else math.sqrt(self._good * self._ceiling))
        return move

    def _climb_from(self, lr: float) -> Move:
        self._reference = self._initial
        self._try(lr)
        return Move.RESTART

    def _try(self, lr: float) -> None:
        self.lr, self._losses = lr, []

    def _finish(self, move: Move) -> Move:
        self.is_done, self.peak = True, min(self._good, self._ceiling * self.peak_fraction)
        self._try(self.peak)
        return move


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _noise(losses: Sequence[float]) -> float:
    """Return the standard deviation of single losses around a smooth course, from their successive differences."""
    squares = [(b - a) * (b - a) for a, b in itertools.pairwise(losses)]
    return math.sqrt(sum(squares) / len(squares) / 2)
