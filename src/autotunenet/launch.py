"""Find a learning rate in the first steps of a training, whatever the user's is: a pure state machine."""

from __future__ import annotations

import math

from autotunenet.launch_losses import mean
from autotunenet.launch_search import LaunchSearch, Move

__all__ = ["Launch", "Move"]

_LEAST_AGAIN = 24
"""Steps that beginning once more needs at the least, where level and noise are known."""


class Launch(LaunchSearch):
    """Tries learning rates in the running training, keeps what they learn, and takes back what they break.

    The first `num_calibration` steps hardly move: they measure the loss where the training starts, and how much it
    varies from batch to batch. Where that is more than a tenth of its level, three times as many are taken. So few
    losses may all be low by chance, and every trial would seem to raise the loss. Therefore the first loss of each
    further trial from there, which no lr has touched yet, and the losses of trials that teach nothing are counted in.
    Then trials of at most `window` steps follow, the first at the user's lr.

    * A trial fails when the loss rises by more than its noise explains. What it did is taken back.
    * A trial that does no harm is kept, and the next lr is `grow` times larger, or lies between the largest that passed
      and the smallest that failed. Once something has been learned a larger lr has to earn its place: it must learn
      faster than the one before it, twice as fast where that is the user's, else that one is the answer. Half a trial
      is enough while nothing is learned.
    * Where even the first trial fails, lr falls by `shrink` until a trial survives. That one still is too high, so the
      climb starts a factor `down` below it, from the first state.

    Where the first losses vary by more than a quarter of their level, an lr that breaks the network by and by cannot be
    told from a good one. Then nothing above the user's lr is tried: it is the answer, unless it fails.

    Where the user's lr learns, and the next larger one fails or learns slower, it is near the edge, and may well be too
    high. Then a quarter of it starts from the first state as well: if that brings the loss down by three quarters as
    much, it is the answer, and what the user's lr has learned is given up; if not, that comes back.

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
        gain: Once something has been learned, an lr larger than the user's has to learn so many times faster than
            that, at least 1. A little faster is not enough: it costs more when the world changes.
        gain_beyond: The same where the user's lr has been left behind, for it taught nothing, or too little, or
            failed: nothing speaks for the one before then, and the further a loss has come down, the slower it falls.
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
        is_own = self.peak > 0.99 * self._first_lr
        if self.peak <= 1.01 * self._first_lr and (self._has_learned or (self._is_blind and is_own)):
            whose = "user's own lr" if self._first_lr == self._user_lr else "lr that the search began with"
            why = "it learns" if self._has_learned else "the losses vary too much to doubt it"
            return self._end_proof(f"It is {'' if is_own else 'smaller than '}the {whose}, and {why}.")
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

    def _end_proof(self, reason: str) -> Move:
        self.reason, self.is_proven, self._losses = reason, True, []
        return Move.KEEP
