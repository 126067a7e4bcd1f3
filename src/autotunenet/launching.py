"""A launch, carried out in a training run."""

from __future__ import annotations

import logging
import math

from autotunenet.launch import Launch, Move
from autotunenet.recovery import Recovery
from autotunenet.space import Dimension, Float
from autotunenet.trial import MAX_GAP, has_finite_weights
from autotunenet.types import ScheduledRun, TrainingRun
from autotunenet.way_back import ORIGIN, WayBack

logger = logging.getLogger(__name__)


class Launching:
    """Does in a run what a launch decides: keep what a trial has learned or take it back, put the next lr in force.

    Args:
        launch: Decides. Its state is the tuner's to save.
        run: The training.
        way_back: Where the states are kept.
        recovery: Takes over afterwards.
    """

    def __init__(self, launch: Launch, run: TrainingRun, way_back: WayBack, recovery: Recovery) -> None:
        self.launch = launch
        self._run, self._way_back, self._recovery = run, way_back, recovery

    def start(self, lr: float, box: Dimension) -> float:
        """Take the user's lr and the box it is tuned in; return the first lr to put in force.

        Where there is no time for a launch (`Launch.is_done` at once) the user's schedule stays in force.
        """
        first = self.launch.start(lr, box.low, box.high) if isinstance(box, Float) else self.launch.start(lr)
        if self.launch.is_done:
            logger.info(self.launch.reason)
        self._override_schedule(not self.launch.is_done)
        return first

    def step(self, loss: float, step: int) -> int | None:
        """Go on with the search. Return the optimizer steps that a move threw away; None: there was no move."""
        return self._do(self.launch.update(loss, step=step, is_gap=self._is_gap(loss)), step)

    def _is_gap(self, loss: float) -> bool:
        """Whether a loss is no case against lr: the signal is broken, or a step was skipped, and not the network."""
        return not math.isfinite(loss) and self.launch.num_gaps < MAX_GAP and has_finite_weights(self._run)

    def prove(self, loss: float, step: int) -> int | None:
        """See whether the lr that was found does learn; begin once more where it does not. Return as `step` does."""
        answer = self.launch.peak
        if self.launch.prove(loss, step=step) is Move.RESTART:
            return self._do(Move.RESTART, step)
        if self.launch.is_proven:
            self._way_back.snapshots.discard(ORIGIN)
            self._way_back.snapshots.release()
            if self.launch.peak != answer:
                self._put_in_force(step)
                return 0
        return None

    def end(self, reason: str) -> None:
        """Leave lr as it is from here on: somebody else has decided it, or a rollback."""
        launch = self.launch
        launch.lr = launch.peak = self._run.get_hyperparams()["lr"]
        launch.is_done, launch.is_proven, launch.reason = True, True, reason
        self._override_schedule(False)
        self._way_back.snapshots.discard(ORIGIN)
        self._way_back.snapshots.release()

    def _do(self, move: Move, step: int) -> int | None:
        if move is Move.GO_ON:
            return None
        if move is Move.KEEP and not self._way_back.snapshots.has(ORIGIN):
            self._recovery.anchor_scale(self.launch.level, step)
        discarded = self._way_back.follow_launch(move, step, self.launch.level)
        self._put_in_force(step)
        return discarded

    def _put_in_force(self, step: int) -> None:
        done = self.launch.is_done
        self._override_schedule(not done)
        # The schedule is scaled so that its top, where it is known, is the lr that was found.
        top = self._run.schedule_top if done and isinstance(self._run, ScheduledRun) else 1.0
        self._run.set_hyperparams({"lr": self.launch.lr / top})
        if done:
            self._recovery.begin(self.launch.level, step)

    def _override_schedule(self, active: bool) -> None:
        """A trial needs exactly its lr, also where a schedule warms up from zero."""
        if isinstance(self._run, ScheduledRun):
            self._run.override_schedule(active)
