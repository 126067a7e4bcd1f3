"""Find a learning rate in the first steps of a training, whatever the user's is: a pure state machine."""

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

_LEAST_AGAIN = 24
"""The same for beginning once more, where level and noise are known."""

_MAX_SPOILT = 4
"""First losses of a trial in a row that are not finite, after which the state that was kept is to blame."""


class Move(Enum):
    """What the tuner has to do after a step of the launch."""

    GO_ON = "go on"
    KEEP = "keep"  # the trial passed: this state is the one to go back to from now on
    RETURN = "return"  # the trial failed: go back to the last state that was kept
    RESTART = "restart"  # go back to the very first state


class Launch(LaunchLosses):
    """Tries learning rates in the running training, keeps what they learn, and takes back what they break.

    The first `num_calibration` steps hardly move: they measure the loss where the training starts, and how much it
    varies from batch to batch. So few losses may all be low by chance, and every trial would seem to raise the loss.
    Therefore the first loss of each further trial from there, which no lr has touched yet, and the losses of trials
    that teach nothing are counted in. Then trials of at most `window` steps follow, the first at the user's lr.

    * A trial fails when the loss rises by more than its noise explains. What it did is taken back.
    * A trial that does no harm is kept, and the next lr is `grow` times larger, or lies between the largest that passed
      and the smallest that failed. Once something has been learned a larger lr has to earn its place: it must learn
      faster than the one before it, else that one is the answer. Half a trial is enough while nothing is learned.
    * Where even the first trial fails, lr falls by `shrink` until a trial survives. That one still is too high, so the
      climb starts a factor `down` below it, from the first state.

    The answer stays revocable: a network that saturates or dies gives a quiet loss too. The first state is kept until
    the loss has come down by a tenth (`prove`); where it has stopped far above that, the launch begins once more from
    there, well below its first answer. Never above it: an lr that is too low stops nothing, it only learns slowly, and
    what is larger has failed, or taught no more, in the launch already.

    The idea of a probe inside the run is that of AutoLRS (Jin et al. 2021) and of lr range tests (Smith 2017); that
    large steps are safe only once sharpness has come down is Kalra and Barkeshli 2024.

    Args:
        window: Steps of a trial, at least 6.
        num_calibration: Steps before the first trial, at least 3.
        grow: Factor to the next trial while none has failed from below, above 1.
        shrink: Divisor to the next trial while none has passed, above 1.
        down: Divisor from the first lr that survives, coming from above, above 1.
        gain: Once something has been learned, a larger lr has to learn so many times faster, at least 1. A little
            faster is not enough: it costs more when the world changes.
        resolution: The search ends when the smallest failed lr is less than this multiple of the largest passed one.
        peak_fraction: Share of the smallest lr that failed which the answer never exceeds, in (0, 1].
        max_steps: The launch ends after so many steps with the best it has, at least 40.
        total_steps: Optimizer steps of the whole training, at least 1; None: not known. The launch takes no more than
            half of them. In a run of less than 80 that is too little to find anything: the user's lr is kept.

    Raises:
        ValueError: If an argument is out of its range.

    >>> launch = Launch()
    >>> lr, loss = launch.start(100.0), 1.0
    >>> while not launch.is_done:  # a loss that falls with lr, up to 1
    ...     loss = loss * (1 - 0.1 * lr) if lr < 1 else loss * 10
    ...     move = launch.update(loss)
    ...     loss, lr = launch.level if move is not Move.GO_ON else loss, launch.lr
    >>> 0.05 < launch.peak < 1
    True
    """

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
        if not (math.isfinite(gain) and gain >= 1):
            raise ValueError(f"Launch: gain must be a finite number, at least 1, got {gain}")
        if not 0 < peak_fraction <= 1:
            raise ValueError(f"Launch: peak_fraction must lie in (0, 1], got {peak_fraction}")
        super().__init__()
        self.window, self.num_calibration, self.max_steps = window, num_calibration, max_steps
        self.total_steps = total_steps
        self.grow, self.shrink, self.down = grow, shrink, down
        self.resolution, self.peak_fraction, self.gain = resolution, peak_fraction, gain
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

    def prove(self, loss: float, *, step: int | None = None) -> Move:
        """Take note of a loss after the launch: KEEP once the answer is proven, RESTART where it must be revoked.

        After a RESTART the launch goes on with `update`. A loss that is not finite proves nothing. The arguments are
        those of `update`.
        """
        self._num_steps = self._num_steps + 1 if step is None else step
        if math.isfinite(loss):
            self._losses.append(loss)
            if len(self._losses) % self.window == 0:
                return self._look()
        return Move.GO_ON

    def _look(self) -> Move:
        """See, once a window, whether the answer learns."""
        num = len(self._losses)
        level = mean(self._losses[-self.window :])
        error = self._noise / math.sqrt(self.window)
        if self._has_learned and self.peak <= 1.01 * self._first_lr:
            whose = "user's own lr" if self._first_lr == self._user_lr else "lr that the search began with"
            return self._end_proof(f"It is the {whose}, and it learns.")
        if level < self._initial - max(0.1 * abs(self._initial), 3 * error):
            return self._end_proof("The loss has come down: the lr is proven.")
        before = mean(self._losses[-2 * self.window : -self.window]) if num >= 2 * self.window else math.inf
        if num < 4 * self.window or level < before - error:
            self._losses = self._losses[-3 * self.window :]  # what the next looks need
            return Move.GO_ON
        if self._revoked_peak:  # neither has learned: nothing speaks against the first
            if level > self._revoked_level - error:
                self.lr = self.peak = self._revoked_peak
            return self._end_proof("Nothing was learned from lower either: the first answer stands.")
        if self._share_of_the_rest() < _LEAST_AGAIN:
            return self._end_proof("There are too few steps left to begin once more: the answer stands.")
        return self._revoke(level)

    def _revoke(self, level: float) -> Move:
        self.reason = f"lr {self.peak:.3g} has not brought the loss below {level:.4g}: back to the start, from lower."
        self._revoked_peak, self._revoked_level = self.peak, level
        self.max_steps = self._num_steps + min(self.max_steps, self._share_of_the_rest())
        self.is_done = False
        return self._begin_again(self.peak)

    def _begin_again(self, ceiling: float) -> Move:
        """Search once more from the first state, well below an lr that did not keep what it had promised."""
        self._has_learned, self._is_patient = False, True
        self._good, self._speed, self._ceiling = 0.0, 0.0, ceiling
        return self._climb_from(ceiling / self.down)

    def _end_proof(self, reason: str) -> Move:
        self.reason, self.is_proven, self._losses = reason, True, []
        return Move.KEEP

    def _calibrate(self, loss: float) -> Move:
        if not math.isfinite(loss):
            return self._wait(loss)
        self._losses.append(loss)
        if len(self._losses) < self.num_calibration:
            return Move.GO_ON
        self._count_in(self._losses)
        self.reason = f"The loss starts at {self._initial:.4g}, give or take {self._noise:.2g} a batch."
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
        if learns and self._has_learned and speed < self.gain * self._speed:  # a larger lr has to earn its place
            if end >= self._reference:
                return self._finish(
                    Move.RETURN, f"lr {self.lr:.3g} took the loss from {self._reference:.4g} to {end:.4g}"
                )
            self._reference = end
            return self._finish(Move.KEEP, f"lr {self.lr:.3g} learned no faster than {self._good:.3g}")
        self.reason = f"lr {self.lr:.3g} took the loss from {self._reference:.4g} to {end:.4g}: kept."
        self._reference = end
        if learns:
            self._noise = 0.5 * (self._noise + noise_of(self._losses))
        elif self._is_still_at_start():
            self._count_in(self._losses if self._good else self._losses[1:])
        self._good, self._speed, self._has_learned = self.lr, speed, learns
        return self._next(Move.KEEP)

    def _fail(self, why: str) -> Move:
        loss = self._losses[-1]
        what = f"{why}, from {self._reference:.4g} to {loss:.4g}" if math.isfinite(loss) else f"the loss became {loss}"
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
        is_narrow = self._ceiling / self._good < self.resolution or self._good >= self._high
        if self._num_steps >= self.max_steps or (is_narrow and (self._has_learned or self._is_patient)):
            return self._finish(move, self.reason.rstrip("."))
        if is_narrow:  # an lr that did no harm, but taught nothing either: that is no choice yet
            self._is_patient = True
            top, self._good = min(self._ceiling, self._high), 0.0
            return self._climb_from(top / self.down)
        self._try(self._good * self.grow if self._ceiling == math.inf else math.sqrt(self._good * self._ceiling))
        return move

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
