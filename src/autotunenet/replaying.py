"""The exact twin: what would have happened on the very same batches with the old values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autotunenet.attribution import Attribution, Baseline, Verdict
from autotunenet.snapshots import SnapshotBuffer
from autotunenet.types import Hyperparams, TrainingRun

Replay = Callable[[Any], Any]
"""Trains one stored batch, as the user's loop does, and returns the loss that the step went down from."""

SUSPECT, TWIN = "suspect", "twin"
"""Slots: the state at the alarm, and the good one after the same batches with its own values."""

MAX_BATCHES = 128
"""Batches since the good state that are remembered; beyond that there is no exact twin."""

_NUM_MEASURED = 8
"""Batches that two states are compared on where the data have not changed."""


class Reenactment:
    """Trains the good state through every batch that it has missed, and compares it with the suspect.

    Both have then trained on the same batches, in the same order, from the same state; only the hyperparameters differ.
    Losses on one batch are therefore paired, and what the batch adds to both cancels out. It costs one training step
    for each batch since the good state, and a few measurements; an alarm is rare.

    Args:
        run: The training.
        snapshots: With the good state, and the suspect one in its slot.
        replay: Trains one stored batch.
        attribution: Judges the losses.
    """

    def __init__(self, run: TrainingRun, snapshots: SnapshotBuffer, replay: Replay, attribution: Attribution) -> None:
        self._run, self._snapshots, self._replay, self._attribution = run, snapshots, replay, attribution

    def judge(
        self,
        before: Baseline,
        batches: Sequence[Any],
        num_since_onset: int,
        values: Hyperparams,
        num_steps: int,
    ) -> Verdict:
        """Return the verdict, with the twin in its slot.

        Args:
            before: What the good state had given.
            batches: All since the good state.
            num_since_onset: How many of them came since the loss began to rise, at least 1.
            values: Those that the twin trains with.
            num_steps: Number of the step now.
        """
        onset = batches[-num_since_onset:]
        at_good = self._measure("good", onset)
        self._snapshots.restore_from("good")
        self._run.set_hyperparams(values)
        path = [self._train(batch) for batch in batches]
        self._snapshots.capture(num_steps, TWIN)
        changed = self._attribution.is_raised(at_good, before)
        measured = onset if changed else batches[-_NUM_MEASURED:]
        return self._attribution.judge_twin(
            before,
            at_good=at_good,
            path=path[-num_since_onset:],
            twin=self._measure(TWIN, measured),
            suspect=self._measure(SUSPECT, measured),
        )

    def race(self, before: Baseline, batches: Sequence[Any], twin: Sequence[float]) -> Verdict:
        """Train the suspect on the batches that the twin has had since, and compare; the suspect is left trained.

        With the twin's values: the question is which of the two states to go on from, not how the suspect got there.

        Args:
            before: What the good state had given.
            batches: What the twin has trained on since the verdict that the data have changed.
            twin: Its losses.
        """
        values = self._run.get_hyperparams()
        self._snapshots.restore_from(SUSPECT)
        self._run.set_hyperparams(values)
        suspect = [self._train(batch) for batch in batches]
        later = slice(len(batches) // 2, None)
        return self._attribution.judge_twin(
            before, at_good=twin[:1], path=twin, twin=twin[later], suspect=suspect[later]
        )

    def _train(self, batch: Any) -> float:
        loss = self._replay(batch)
        return float(loss.detach() if hasattr(loss, "detach") else loss)

    def _measure(self, slot: str, batches: Sequence[Any]) -> list[float]:
        """Return the losses of exactly that state, one by one."""
        losses = []
        for batch in batches:
            self._snapshots.restore_from(slot)
            losses.append(self._train(batch))
        return losses
