"""When a state is captured, what it takes to be trusted, and which steps have made the live one."""

from __future__ import annotations

from typing import Any

from autotunenet.agreement import Topic, holds_on_all_ranks
from autotunenet.late_losses import LateLosses
from autotunenet.launch import Move
from autotunenet.snapshots import Snapshot, SnapshotBudget, SnapshotBuffer
from autotunenet.space import SearchSpace
from autotunenet.state import PlainState, check_keys
from autotunenet.types import Health, Hyperparams, TrainingRun

GOOD, CANDIDATE, ORIGIN = "good", "candidate", "origin"
"""Slots: the state to go back to, the one that may become it, and the one that a launch started from."""

SUSPECT, TWIN = "suspect", "twin"
"""Slots: the state at an alarm, and the good one after the same batches with its own values."""

MAX_BATCHES = 128
"""Batches since the good state that are remembered; beyond that there is no exact twin."""


class WayBack(PlainState):
    """Captures a state now and then, and commits it once the steps after it have proven it.

    It knows the age of every state: how many of the steps so far have made it. Steps that were taken back are not among
    them, so the age of the live state against the steps so far says what was thrown away.

    Args:
        run: Whose state is kept.
        space: What is tuned, within which bounds.
        snapshots: Where states are kept.
        snapshot_every: Optimizer steps between two snapshots, at least 1.
        proof_steps: Healthy steps after a snapshot that make it good, at least 1.
        budget: Share of the time that snapshots may take, in (0, 1]; None: as much as it takes.
        late: Losses that are on their way. Those from before a snapshot neither prove it nor are they heard after a
            return. None: there are none.
    """

    state_names = ("age", "_num_settled", "_last_snapshot_step", "_proof_losses", "_num_before")

    def __init__(
        self,
        run: TrainingRun,
        space: SearchSpace,
        snapshots: SnapshotBuffer,
        *,
        snapshot_every: int,
        proof_steps: int,
        budget: float | None = None,
        late: LateLosses | None = None,
    ) -> None:
        self.snapshots, self._late = snapshots, LateLosses(0) if late is None else late
        self._run, self._space = run, space
        self._snapshot_every, self._proof_steps = snapshot_every, proof_steps
        self._budget = SnapshotBudget(budget)
        self.age = 0  # steps that have made the live state
        self._num_settled = 0  # steps known to be thrown away
        self._last_snapshot_step = 0
        self._proof_losses: list[float] = []  # since the candidate was captured
        self._num_before = 0  # losses still to be heard that came before the candidate
        self.is_replaying = False  # whether a stored batch is being trained on just now
        self._batches: list[Any] = []  # that have made the live state out of the good one
        self._batches_aside: dict[str, list[Any]] = {}  # the same for states in slots

    # -- there -------------------------------------------------------------------------------------------------------

    def advance(self, batch: Any = None) -> None:
        """Take note of a step of the live state, and of its batch, where there may be a twin.

        Raises:
            RuntimeError: If this is asked for by the replay of a batch.
        """
        if self.is_replaying:
            raise RuntimeError("replay called tuner.step; it has to train on the batch, return the loss, and no more")
        self.age += 1
        if batch is not None:
            self._batches = [*self._batches, batch][-MAX_BATCHES:]

    def keep(self, loss: float, step: int, health: Health, applied: Hyperparams) -> bool:
        """Take note of a step. Return whether a candidate was proven by it.

        Args:
            loss: Of this step.
            step: Its number.
            health: The verdict on it.
            applied: What the tuner had put in force. What somebody else put in force has not been judged; a state under
                it is not stored as good.
        """
        is_after, candidate = self._num_before == 0, self.snapshots.candidate
        self._num_before -= not is_after
        if health is Health.UNSTABLE:
            self.drop_candidate()
        elif health is Health.SUSPECT:
            # Neither proof nor disproof: a wrecked state gives nothing but these, and soon an alarm. A healthy one
            # gives them now and then, and would hardly ever be stored if each of them counted against it.
            pass
        elif candidate and is_after:
            self._proof_losses.append(loss)
            # The very first state is the user's own, and there is nothing else to go back to: one loss is proof enough.
            if len(self._proof_losses) >= (self._proof_steps if self.snapshots.good else 1):
                self._commit(sum(self._proof_losses) / len(self._proof_losses))
                return True
        elif not candidate and self.is_due(step) and self._run.get_hyperparams() == applied:
            self.capture(step)
        return False

    def is_due(self, step: int) -> bool:
        """Whether it is time for another candidate."""
        if step - self._last_snapshot_step < self._snapshot_every or self.snapshots.scope == "none":
            return False
        # By the clocks of all processes: a state that one of them has and another one has not is none to go back to.
        return not self._budget.is_limited or holds_on_all_ranks(self._run, Topic.SNAPSHOT, self._budget.is_kept)

    @property
    def num_unheard(self) -> int:
        """Steps of the live state whose losses are still on their way."""
        return self._late.num_waiting

    def capture(self, step: int, slot: str = CANDIDATE) -> None:
        """Take the live state as the candidate, or set it aside in another slot."""
        with self._budget.spent():
            self.snapshots.capture(step, slot, age=self.age)
        if slot == CANDIDATE:
            self._last_snapshot_step, self._proof_losses = step, []
            self._num_before = self._late.num_waiting
        elif slot in (SUSPECT, TWIN):
            self._batches_aside[slot] = list(self._batches)

    def discard(self, slot: str = CANDIDATE) -> None:
        """Empty a slot."""
        self.snapshots.discard(slot)
        self._batches_aside.pop(slot, None)

    def drop_candidate(self) -> None:
        """The candidate was harmed, or cannot be told from one that was."""
        if self.snapshots.good:
            self.snapshots.discard()
            self._proof_losses = []

    def trust(self, step: int, loss: float) -> None:
        """Take the live state as good; `loss` is what it is known to give."""
        self.capture(step)
        if self.snapshots.candidate:
            self._commit(loss)

    def _commit(self, loss: float) -> None:
        self.snapshots.commit(loss)
        num_since = self.age - self.snapshots.slot(GOOD).age
        self._batches = self._batches[-num_since:] if num_since else []

    # -- and back ----------------------------------------------------------------------------------------------------

    def restore(self, step: int, slot: str = GOOD) -> Snapshot:
        """Put a state back in place of the live one; it is some time until the next snapshot."""
        snapshot = self.snapshots.restore() if slot == GOOD else self.snapshots.restore_from(slot)
        self._late.clear()  # they came from the state that is left here
        if self.snapshots.scope == "full":
            self.age, self._batches = snapshot.age, list(self._batches_aside.get(slot, []))
        self._last_snapshot_step = step
        return snapshot

    def settle(self, step: int) -> int:
        """Return the optimizer steps that were thrown away since this was last asked; below 0 where some came back."""
        num = step - self.age - self._num_settled
        self._num_settled += num
        return num

    def batches_since_good(self) -> list[Any] | None:
        """Return the batches that have made the live state out of the good one; None if not all of them are known."""
        num = self.age - self.snapshots.good_or_first().age
        return list(self._batches) if num == len(self._batches) > 0 else None

    def cut_by(self, factor: float) -> dict[str, float]:
        """Return the good state's values, those that a back-off cuts times `factor`, inside the space."""
        good = self.snapshots.good_or_first().hyperparams
        cut = ("lr",) if "lr" in self._space else tuple(self._space)
        bounded = self._space.clip({name: good[name] * factor for name in cut})
        # A value the user started below its box is not pulled up: a back-off never raises.
        return {**good, **{name: min(good[name], value) for name, value in bounded.items()}}

    def follow_launch(self, move: Move, step: int, level: float) -> int:
        """Keep the live state, or go back, as the launch wants it. Return the optimizer steps thrown away."""
        if move is Move.RETURN:
            self.restore(step)
            return self.settle(step)
        if move in (Move.RESTART, Move.REWIND):
            self.restore(step, ORIGIN)
        if move is Move.REWIND:
            return 0  # what it costs is known once it is over: the last state may come back
        self.trust(step, level)
        if not self.snapshots.has(ORIGIN):
            self.capture(step, ORIGIN)
        return self.settle(step)

    # -- resume ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs, snapshots and batches included."""
        aside = {slot: list(batches) for slot, batches in self._batches_aside.items()}
        own = {**super().state_dict(), "batches": list(self._batches), "batches_aside": aside}
        return {**own, "snapshots": self.snapshots.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, or raise ValueError and stay as it was."""
        check_keys(type(self).__name__, state_dict, (*self.state_names, "batches", "batches_aside", "snapshots"))
        own = {name: state_dict[name] for name in self.state_names}
        self.check_plain(own)
        batches = list(state_dict["batches"])
        aside = {slot: list(kept) for slot, kept in state_dict["batches_aside"].items()}
        self.snapshots.load_state_dict(state_dict["snapshots"])
        super().load_state_dict(own)
        self._batches, self._batches_aside = batches, aside
