"""The search of a launch: which lr to try next, and which one is the answer."""

from __future__ import annotations

import math
from enum import Enum

from autotunenet.launch_losses import LaunchLosses, mean, noise_of

_STANDSTILL = 1e-8
"""Share of the user's lr that is in force while the noise is measured."""

_SMALLEST = 1e-12
"""Least magnitude of a loss that relative progress is measured by."""

_SHARE = 2
"""A run that is known to be N steps long lends a launch N divided by this at the most; the rest has to earn it back."""

_LEAST = 40
"""Steps that a launch needs at the least, to try a few lrs; where it cannot have them there is none."""

_SLOWER = 0.8
"""A larger lr that learns at less than this share of the pace says that the one before is near the edge.

On two networks the pace fell to 0.06 to 0.76 where lr was ten times too high or more, and rose to 1.1 to 1.9 where it
was good, with two exceptions in fifteen.
"""

_AS_MUCH = 0.75
"""A quarter of an lr that brings the loss down by this share of what the lr itself did is the better choice."""

_UNSTEADY = 0.1
"""Spread of the first losses, as a share of their level, from which on more of them are measured."""

_BLIND = 0.25
"""Spread of the first losses, as a share of their level, above which no lr larger than the user's is tried.

A trial's twelve losses then tell their level to no better than a seventh, and an lr that breaks the network by and by
passes. With losses of an MLP under log-normal noise, from a good lr: no harm at 0.2, the final loss tripled at 0.3.
"""

_MAX_SPOILT = 4
"""First losses of a trial in a row that are not finite, after which the state that was kept is to blame."""


class Move(Enum):
    """What the tuner has to do after a step of the launch."""

    GO_ON = "go on"
    KEEP = "keep"  # the trial passed: this state is the one to go back to from now on
    RETURN = "return"  # the trial failed: go back to the last state that was kept
    RESTART = "restart"  # go back to the very first state, and trust it
    REWIND = "rewind"  # go to the very first state, and trust it not: the one that was kept stays to be gone back to


class LaunchSearch(LaunchLosses):
    """A launch up to its answer; see `autotunenet.launch.Launch` for what it does and for the arguments."""

    state_names = (
        *LaunchLosses.state_names,
        "lr",
        "is_done",
        "reason",
        "peak",
        "num_gaps",
        "_user_lr",
        "_first_lr",
        "_low",
        "_high",
        "_num_steps",
        "_ceiling",
        "_from_above",
        "_speed",
        "_drop",
        "_kept",
        "is_proven",
        "max_steps",
        "_revoked_peak",
        "_revoked_level",
        "_is_patient",
    )

    def __init__(
        self,
        *,
        window: int = 12,
        num_calibration: int = 4,
        grow: float = 4.0,
        shrink: float = 8.0,
        down: float = 16.0,
        gain: float = 2.0,
        gain_beyond: float = 1.0,
        resolution: float = 2.1,
        peak_fraction: float = 0.25,
        max_steps: int = 110,
        total_steps: int | None = None,
    ) -> None:
        if window < 6 or num_calibration < 3 or max_steps < 40:
            raise ValueError(
                "Launch: window must be at least 6, num_calibration at least 3 and max_steps at least 40, "
                f"got {window}, {num_calibration} and {max_steps}"
            )
        if total_steps is not None and total_steps < 1:
            raise ValueError(f"Launch: total_steps must be at least 1, or None for not known, got {total_steps}")
        for name, value in {"grow": grow, "shrink": shrink, "down": down, "resolution": resolution}.items():
            if not (math.isfinite(value) and value > 1):
                raise ValueError(f"Launch: {name} must be a finite number above 1, got {value}")
        for name, value in {"gain": gain, "gain_beyond": gain_beyond}.items():
            if not (math.isfinite(value) and value >= 1):
                raise ValueError(f"Launch: {name} must be a finite number, at least 1, got {value}")
        if not 0 < peak_fraction <= 1:
            raise ValueError(f"Launch: peak_fraction must lie in (0, 1], got {peak_fraction}")
        super().__init__()
        self.window, self.num_calibration, self.max_steps = window, num_calibration, max_steps
        self.total_steps = total_steps
        self.grow, self.shrink, self.down = grow, shrink, down
        self.resolution, self.peak_fraction = resolution, peak_fraction
        self.gain, self.gain_beyond = gain, gain_beyond
        self.lr = math.nan  # in force for the next step
        self.is_done = False
        self.peak = math.nan  # the lr found
        self.reason = ""  # of the last move, for the history
        self.num_gaps = 0  # losses in a row that were not finite, and were not put down to lr
        self._user_lr = self._first_lr = math.nan  # given, and inside the space
        self._low, self._high = 0.0, math.inf
        self._num_steps = 0
        self._ceiling = math.inf  # smallest lr that failed
        self._from_above = False  # every trial so far failed
        self._drop = 0.0  # by how much the first trial that learned has brought the loss down; 0: no more of interest
        self._kept: list[float] = []  # while a smaller lr is compared: the lr that passed, and the level that it led to
        self._speed = 0.0  # relative fall of the loss per step at the largest lr that passed
        self.is_proven = False
        self._revoked_peak = 0.0  # the first answer, where it was revoked
        self._revoked_level = math.inf  # and where it had brought the loss
        self._is_patient = False  # full windows although nothing has been learned

    def start(self, lr: float, low: float = 0.0, high: float = math.inf) -> float:
        """Take the user's lr; return the first one to put in force. Where there is no time to search it `is_done`.

        Args:
            lr: The user's, above 0. Where it lies outside of the bounds the search begins at the nearer one.
            low: No lr below it is tried.
            high: Nor one above it.

        Raises:
            ValueError: If `lr` is not a finite number above 0, `high` is not above 0, or it has been started before.
        """
        if not math.isnan(self.lr):
            raise ValueError("this Launch has begun in another tuner; give each tuner one of its own")
        if not (math.isfinite(lr) and lr > 0):
            raise ValueError(f"a launch starts from a finite lr above 0, got {lr}; give the optimizer a positive one")
        if not high > 0:
            raise ValueError(f"a launch needs room for an lr above 0, got {high} as the upper bound; raise the bound")
        self._user_lr, self._low, self._high = lr, low, high
        self._first_lr = min(max(lr, low), high)
        self.max_steps = min(self.max_steps, self._share_of_the_rest())
        if self.max_steps < _LEAST:
            self.lr = self.peak = self._first_lr
            self.is_done = self.is_proven = True
            self.reason = f"{self.total_steps} steps are too few for a launch: it goes on with lr {self.lr:.3g}."
        else:
            self.lr = self._first_lr * _STANDSTILL
        return self.lr

    def _share_of_the_rest(self) -> int:
        """How many of the steps that are left a launch may take."""
        return self.max_steps if self.total_steps is None else (self.total_steps - self._num_steps) // _SHARE

    @property
    def level(self) -> float:
        """Loss that the state to go back to is known to give."""
        return self._reference

    def update(self, loss: float, *, step: int | None = None, is_gap: bool = False) -> Move:
        """Take note of one optimizer step's loss; afterwards `lr` is the one for the next step.

        Args:
            loss: Of this step; may be NaN or infinite.
            step: Its number in the run, from 1. None: the one after the last.
            is_gap: Whether a loss that is not finite is to be passed over, for the weights are finite: the signal is
                broken or the step was skipped, which is no matter of lr.
        """
        self._num_steps = self._num_steps + 1 if step is None else step
        if math.isnan(self._reference):
            return self._calibrate(loss)
        if self._kept:
            return self._compare(loss)
        if not math.isfinite(loss) and (is_gap or not self._losses):
            return self._pass_over(loss)
        self.num_gaps = 0
        self._losses.append(loss)
        if len(self._losses) == 1 and not self._good:
            return self._recalibrate(loss)
        if self._is_failing():
            return self._fail("the loss rose")
        return self._judge() if self._is_window_complete() else self._go_on()

    def _go_on(self) -> Move:
        is_late = self._num_steps >= self.max_steps
        return self._finish(Move.RETURN, "Time is up") if is_late else Move.GO_ON

    def _begin_again(self, ceiling: float) -> Move:
        """Search once more from the first state, well below an lr that did not keep what it had promised."""
        self._has_learned, self._is_patient = False, True
        self._good, self._speed, self._ceiling = 0.0, 0.0, ceiling
        return self._climb_from(ceiling / self.down)

    def _calibrate(self, loss: float) -> Move:
        if not math.isfinite(loss):
            return self._wait(loss)
        self._losses.append(loss)
        num, spread = len(self._losses), self._relative_spread()
        if num < self.num_calibration or (spread > _UNSTEADY and num < 3 * self.num_calibration):
            return Move.GO_ON
        self._count_in(self._losses)
        self.reason = f"The loss starts at {self._initial:.4g}, give or take {self._noise:.2g} a batch."
        if spread > _BLIND:
            self.reason += f" That hides what a larger lr would break: none above {self._first_lr:.3g} is tried."
            self._high, self._is_patient, self._is_blind = self._first_lr, True, True
        if self._first_lr != self._user_lr:
            self.reason += (
                f" lr {self._user_lr:.3g} is outside of the space: the search begins at {self._first_lr:.3g}."
            )
        self._try(self._first_lr)
        return Move.KEEP

    def _wait(self, loss: float) -> Move:
        """Undo a step whose loss is not a number before anything was tried; that is no matter of lr."""
        self.reason = f"The loss is {loss} before any lr was tried: look at the data. Taken back."
        if self._num_steps < self.max_steps:
            return Move.RETURN
        self._good, self.is_proven = self._first_lr, True
        return self._finish(Move.RETURN, self.reason.rstrip("."))

    def _pass_over(self, loss: float) -> Move:
        """Go on as if there had been no such loss; the first one of a trial comes from a state no lr has touched since.

        That state is the one that was kept, and what its own last step has done to it, only this loss tells.
        """
        self.num_gaps += 1
        if self._losses or self._num_steps >= self.max_steps:
            return self._go_on()
        if self._good and self.num_gaps > _MAX_SPOILT:
            self.reason = f"lr {self._good:.3g} has left a state that gives {loss}: back to the start, from lower."
            self.num_gaps = 0
            return self._begin_again(self._good)
        return self._again(loss, self._reference)

    def _again(self, loss: float, level: float) -> Move:
        self.reason = f"The state that gave {level:.4g} gives {loss:.4g}, before lr {self.lr:.3g} has moved it: again."
        self._try(self.lr)
        return Move.RETURN

    def _recalibrate(self, loss: float) -> Move:
        """Count in a trial's first loss at the first state: its lr has no part in it. Too high a one: try it again."""
        jump, level = self._jump(), self._reference
        self._count_in([min(max(loss, level - jump), level + jump)])
        if loss <= level + jump or self._num_steps >= self.max_steps:
            return self._go_on()
        return self._again(loss, level)

    def _is_window_complete(self) -> bool:
        if len(self._losses) >= self.window:
            return True
        # Where nothing has been learned there is nothing to compare: half a window shows that it does no harm.
        hasty = not (self._has_learned or self._from_above or self._is_patient)
        return hasty and len(self._losses) == self.window // 2 and not self._is_below(self._initial, 2.5)

    def _judge(self) -> Move:
        if not self._good and self._from_above:
            # The first lr that survives, coming from above, is still too high.
            self._from_above, self._ceiling = False, 2 * self.lr
            self.reason = f"lr {self.lr:.3g} survives; the climb starts well below it."
            return self._climb_from(self.lr / self.down)
        if self._has_risen():
            return self._fail("the loss ended higher")
        # Where nothing is learned the whole trial tells the level.
        learns = self._has_learned or self._is_below(self._initial, 2.5)
        end = mean(self._losses[-self._third() :] if learns else self._losses)
        speed = (self._reference - end) / max(abs(self._reference), _SMALLEST) / len(self._losses)
        # What looked like learning may have been noise: then the climb goes on.
        surely_below = self._initial - 3 * self._noise * math.sqrt(1 / self._third() + 1 / len(self._start))
        learns = learns and (not self._has_learned or min(end, self._reference) < surely_below)
        gain = self.gain if self._good == self._first_lr else self.gain_beyond
        if learns and self._has_learned and speed < gain * self._speed:  # a larger lr has to earn its place
            if speed < _SLOWER * self._speed and self._can_descend():
                return self._descend(f"lr {self.lr:.3g} learned slower than {self._good:.3g}.")
            if end >= self._reference:
                return self._finish(
                    Move.RETURN, f"lr {self.lr:.3g} took the loss from {self._reference:.4g} to {end:.4g}"
                )
            self._reference = end
            return self._finish(Move.KEEP, f"lr {self.lr:.3g} learned no faster than {self._good:.3g}")
        self.reason = f"lr {self.lr:.3g} took the loss from {self._reference:.4g} to {end:.4g}: kept."
        self._reference = end
        if learns and not self._has_learned:
            self._drop = self._initial - end
        if learns:
            self._noise = 0.5 * (self._noise + noise_of(self._losses))
        elif self._is_still_at_start():
            self._count_in(self._losses if self._good else self._losses[1:])
        self._good, self._speed, self._has_learned = self.lr, speed, learns
        return self._next(Move.KEEP)

    def _fail(self, why: str) -> Move:
        loss = self._losses[-1]
        top = max(loss, mean(self._losses[-2:]))  # of the two that were judged, the last may be the lower
        what = f"{why}, from {self._reference:.4g} to {top:.4g}" if math.isfinite(loss) else f"the loss became {loss}"
        self.reason = f"lr {self.lr:.3g} failed: {what}. Taken back."
        self._ceiling = self.lr
        if self._good:
            return self._next(Move.RETURN)
        if self._num_steps >= self.max_steps or self.lr <= self._low:
            return self._finish(Move.RETURN, self.reason.rstrip("."))
        self._from_above = True
        self._try(self.lr / self.shrink)
        return Move.RETURN

    def _next(self, move: Move) -> Move:
        """Choose the next trial, or end."""
        if move is Move.RETURN and self._ceiling * self.peak_fraction <= self._good and self._can_descend():
            return self._descend(self.reason)
        is_narrow = self._ceiling / self._good < self.resolution or self._good >= self._high
        if self._num_steps >= self.max_steps or (is_narrow and (self._has_learned or self._is_patient)):
            return self._finish(move, self.reason.rstrip("."))
        if is_narrow:  # an lr that did no harm, but taught nothing either: that is no choice yet
            self._is_patient = True
            top, self._good = min(self._ceiling, self._high), 0.0
            return self._climb_from(top / self.down)
        self._try(self._good * self.grow if self._ceiling == math.inf else math.sqrt(self._good * self._ceiling))
        return move

    def _can_descend(self) -> bool:
        """Whether the lr that the search began with has learned, and a smaller one can be compared with it."""
        has_room = self._num_steps + self.window <= self.max_steps and self._good / self.grow >= self._low
        return has_room and self._drop > 0 and self._good == self._first_lr

    def _descend(self, why: str) -> Move:
        self.reason = f"{why} Would {self._good / self.grow:.3g} learn as much as {self._good:.3g} has?"
        self._kept, self._reference = [self._good, self._reference], self._initial
        self._try(self._good / self.grow)
        return Move.REWIND

    def _compare(self, loss: float) -> Move:
        """Go on with a smaller lr from the first state, and take it where it brings the loss down by as much."""
        self._losses.append(loss)
        is_failing = not math.isfinite(loss) or self._is_failing()
        if not is_failing and len(self._losses) < self.window:
            return Move.GO_ON
        (kept, level), end = self._kept, mean(self._losses[-self._third() :])
        is_as_good = not is_failing and self._initial - end >= _AS_MUCH * self._drop
        self._kept, self._drop = [], 0.0
        if is_as_good:
            self._good, self._reference, self._ceiling = self.lr, end, kept
            return self._finish(Move.KEEP, f"From the start, lr {self.lr:.3g} learned as much as {kept:.3g}")
        self._reference, self.reason = level, f"From the start, lr {self.lr:.3g} learned less than {kept:.3g}: back."
        return self._next(Move.RETURN) if self._ceiling < math.inf else self._finish(Move.RETURN, self.reason[:-1])

    def _climb_from(self, lr: float) -> Move:
        self._reference = self._initial
        self._try(lr)
        return Move.RESTART

    def _try(self, lr: float) -> None:
        self.lr, self._losses = min(max(lr, self._low), self._high), []

    def _finish(self, move: Move, why: str) -> Move:
        # Where nothing has been learned at any lr, nothing speaks against the user's, unless it failed.
        best = self._good if self._has_learned else self._first_lr
        self.is_done, self.peak = True, max(min(best, self._ceiling * self.peak_fraction), self._low)
        self.reason = f"{why}. The launch ends after {self._num_steps} steps with lr {self.peak:.3g}."
        self._try(self.peak)
        return move
