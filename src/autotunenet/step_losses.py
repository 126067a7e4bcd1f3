"""The loss of one optimizer step, out of as many calls as there were for it."""

from __future__ import annotations

import logging
import math
from typing import Any

from autotunenet.late_losses import Loss, mean_of, value_of
from autotunenet.state import PlainState
from autotunenet.types import SteppingRun, TrainingRun

logger = logging.getLogger(__name__)

MAX_HELD = 128
"""Calls in a row without a step that was seen, after which steps are taken to be made where nobody sees them."""


class StepLosses(PlainState):
    """Takes calls together between which the optimizer has not stepped: the loss of that step is their mean.

    There are such calls in gradient accumulation, where the loss of every batch is told, and where a gradient scaler
    has skipped a step. Counted as steps they would be losses that no update has led to: a launch would take them for an
    lr that does nothing.

    The first call is passed on in any case, so that no loss comes two steps late in a loop that calls before it steps.
    A loss that is not finite is passed on at once, or as soon as it is known, for it may be why every step is skipped.
    And where no step is seen for long, every call is passed on, until one is seen: from then on it may take twice as
    long.

    Args:
        run: Whose steps are looked for. None, or a run that does not see them: every call is a step.
        lag: Calls after which a loss on its way is known.
    """

    state_names = ("_has_begun", "_losses", "_max_held", "_is_blind")

    def __init__(self, run: TrainingRun | None, lag: int = 0) -> None:
        self._run = run if isinstance(run, SteppingRun) else None
        self._lag = lag
        self._has_begun = False
        self._losses: list[Loss] = []  # since the last step
        self._max_held = MAX_HELD
        self._is_blind = False
        self.took_step()

    def took_step(self) -> bool | None:
        """Whether the optimizer has stepped since this was last asked, as `SteppingRun.took_step` says it."""
        return True if self._run is None else self._run.took_step()

    def take(self, loss: Loss, batch: Any, took_step: bool | None) -> tuple[Loss, Any] | None:
        """Take note of a call, and of whether there was a step before it.

        Returns:
            The loss of the step and its batch, None for a batch where it had several; None while there was no step.
        """
        if took_step and self._is_blind:
            self._is_blind, self._max_held = False, 2 * self._max_held
        self._losses.append(loss)
        is_first, self._has_begun = not self._has_begun, True
        if took_step is False and self._may_wait() and not is_first and not self._is_blind:
            if len(self._losses) < self._max_held:
                return None
            self._is_blind = True
            logger.warning(
                "no optimizer step was seen in %d calls of Tuner.step, so from now on every call counts as one. Where "
                "steps are made by other means than optimizer.step(), say accumulation=False",
                len(self._losses),
            )
        losses, self._losses = self._losses, []
        return (loss, batch) if len(losses) == 1 else (mean_of(losses), None)

    def _may_wait(self) -> bool:
        """Whether the newest loss that is known is finite."""
        known = (
            self._losses[-1:] if isinstance(self._losses[-1], int | float) else self._losses[: -self._lag or None][-1:]
        )
        return all(math.isfinite(value_of(loss)) for loss in known)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs; waits for the losses that are on their way."""
        self._losses = [value_of(loss) for loss in self._losses]
        return super().state_dict()
