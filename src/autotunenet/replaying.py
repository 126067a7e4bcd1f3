"""The exact twin: what would have happened on the very same batches with the old values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from autotunenet.agreement import mean_over_ranks
from autotunenet.attribution import Attribution, Baseline, Verdict
from autotunenet.types import Hyperparams, TrainingRun
from autotunenet.way_back import GOOD, SUSPECT, TWIN, WayBack

Replay = Callable[[Any], Any]
"""Trains one stored batch, as the user's loop does but for schedulers and the tuner, and returns the loss before."""

_NUM_MEASURED = 24
"""Batches that two states are compared on where the data have not changed."""


class Reenactment:
    """Trains the good state through every batch that it has missed, and compares it with the suspect.

    Both have then trained on the same batches, in the same order, from the same state; only the hyperparameters differ.
    Losses on one batch are therefore paired, and what the batch adds to both cancels out. It costs one training step
    for each batch since the good state, and a few measurements; an alarm is rare.

    Args:
        run: The training.
        way_back: With the good state, and the suspect one in its slot.
        replay: Trains one stored batch.
        attribution: Judges the losses.
    """

    def __init__(self, run: TrainingRun, way_back: WayBack, replay: Replay, attribution: Attribution) -> None:
        self._run, self._way_back, self._replay, self._attribution = run, way_back, replay, attribution

    def judge(
        self,
        before: Baseline,
        batches: Sequence[Any],
        num_since_onset: int,
        values: Hyperparams,
        step: int,
        *,
        raised: float,
    ) -> Verdict:
        """Return the verdict, with the twin in its slot.

        Args:
            before: What the good state had given.
            batches: All since the good state.
            num_since_onset: How many of them came since the loss began to rise, at least 1.
            values: Those that the twin trains with.
            step: Number of the step now.
            raised: As in `Attribution.judge_twin`.
        """
        onset = batches[-num_since_onset:]
        at_good = self._measure(GOOD, onset, step)
        self._way_back.restore(step)
        self._run.set_hyperparams(values)
        path = [self._go_on(batch) for batch in batches]
        self._way_back.capture(step, TWIN)
        changed = self._attribution.is_raised(at_good, before) or not all(map(math.isfinite, at_good))
        measured = onset if changed else batches[-_NUM_MEASURED:]
        return self._attribution.judge_twin(
            before,
            at_good=at_good,
            path=path[-num_since_onset:],
            twin=self._measure(TWIN, measured, step),
            suspect=self._measure(SUSPECT, measured, step),
            raised=raised,
        )

    def race(
        self, before: Baseline, batches: Sequence[Any], twin: Sequence[float], step: int, *, raised: float
    ) -> Verdict:
        """Train the suspect on the batches that the twin has had since, and compare; the suspect is left trained.

        With the twin's values: the question is which of the two states to go on from, not how the suspect got there.

        Args:
            before: What the good state had given.
            batches: What the twin has trained on since the verdict that the data have changed.
            twin: Its losses.
            step: Number of the step now.
            raised: As in `Attribution.judge_twin`.
        """
        values = self._run.get_hyperparams()
        self._way_back.restore(step, SUSPECT)
        self._run.set_hyperparams(values)
        suspect = [self._go_on(batch) for batch in batches]
        later = slice(len(batches) // 2, None)
        return self._attribution.judge_twin(
            before,
            at_good=twin[:1],
            path=twin,
            twin=twin[later],
            suspect=suspect[later],
            raised=raised,
            data_changed=True,
        )

    def _go_on(self, batch: Any) -> float:
        """Train the live state, which has this batch behind it from now on."""
        self._way_back.advance(batch)
        return self._train(batch)

    def _measure(self, slot: str, batches: Sequence[Any], step: int) -> list[float]:
        """Return the losses of exactly that state, one by one."""
        losses = []
        for batch in batches:
            self._way_back.restore(step, slot)
            losses.append(self._train(batch))
        return losses

    def _train(self, batch: Any) -> float:
        self._way_back.is_replaying = True
        try:
            loss = self._replay(batch)
        finally:
            self._way_back.is_replaying = False
        return mean_over_ranks(self._run, float(loss.detach() if hasattr(loss, "detach") else loss))
