"""When a state is captured, and what it takes to be trusted."""

from __future__ import annotations

from typing import Any

from autotunenet.launch import Move
from autotunenet.snapshots import SnapshotBuffer
from autotunenet.space import SearchSpace
from autotunenet.state import PlainState, check_keys
from autotunenet.types import Health, Hyperparams, TrainingRun

ORIGIN = "origin"
"""The slot of the state that a launch started from."""


class WayBack(PlainState):
    """Captures a state now and then, and commits it once the steps after it have proven it.

    Args:
        run: Whose state is kept.
        space: What is tuned, within which bounds.
        snapshots: Where states are kept.
        snapshot_every: Optimizer steps between two snapshots, at least 1.
        proof_steps: Healthy steps after a snapshot that make it good, at least 1.
    """

    state_names = ("_last_snapshot_step", "_last_restore_step", "_proof_losses", "_num_useful")

    def __init__(
        self, run: TrainingRun, space: SearchSpace, snapshots: SnapshotBuffer, *, snapshot_every: int, proof_steps: int
    ) -> None:
        self.snapshots = snapshots
        self._run, self._space = run, space
        self._snapshot_every, self._proof_steps = snapshot_every, proof_steps
        self._last_snapshot_step = 0
        self._last_restore_step = 0
        self._proof_losses: list[float] = []  # since the candidate was captured
        self._num_useful = 0  # steps that a launch has kept since the origin

    # -- there -------------------------------------------------------------------------------------------------------

    def keep(self, loss: float, step: int, health: Health, applied: Hyperparams) -> bool:
        """Take note of a step. Return whether a candidate was proven by it.

        Args:
            loss: Of this step.
            step: Its number.
            health: The verdict on it.
            applied: What the tuner had put in force. What somebody else put in force has not been judged; a state under
                it is not stored as good.
        """
        if health is Health.UNSTABLE:
            self.drop_candidate()
        elif health is Health.SUSPECT:
            # Neither proof nor disproof: a wrecked state gives nothing but these, and soon an alarm. A healthy one
            # gives them now and then, and would hardly ever be stored if each of them counted against it.
            pass
        elif self.snapshots.candidate:
            self._proof_losses.append(loss)
            # The very first state is the user's own, and there is nothing else to go back to: one loss is proof enough.
            if len(self._proof_losses) >= (self._proof_steps if self.snapshots.good else 1):
                self.snapshots.commit(sum(self._proof_losses) / len(self._proof_losses))
                return True
        elif self.is_due(step) and self._run.get_hyperparams() == applied:
            self.capture(step)
        return False

    def is_due(self, step: int) -> bool:
        """Whether it is time for another candidate."""
        return self.snapshots.scope != "none" and step - self._last_snapshot_step >= self._snapshot_every

    def capture(self, step: int) -> None:
        """Take the live state as the candidate."""
        self.snapshots.capture(step)
        self._last_snapshot_step, self._proof_losses = step, []

    def drop_candidate(self) -> None:
        """The candidate was harmed, or cannot be told from one that was."""
        if self.snapshots.good:
            self.snapshots.discard()
            self._proof_losses = []

    def trust(self, step: int, loss: float) -> None:
        """Take the live state as good; `loss` is what it is known to give."""
        self.capture(step)
        if self.snapshots.candidate:
            self.snapshots.commit(loss)
        self._last_restore_step = step

    # -- and back ----------------------------------------------------------------------------------------------------

    def note_restore(self, step: int) -> None:
        """Take note that the live state is the good one again; it is some time until the next snapshot."""
        self._last_snapshot_step = self._last_restore_step = step

    def num_lost(self, step: int) -> int:
        """Return the steps that going back at `step` throws away; what an earlier return threw away is not counted."""
        lost = step - max(self.snapshots.good_or_first().step, self._last_restore_step)
        return lost if self.snapshots.scope == "full" else 0

    def cut_by(self, factor: float) -> dict[str, float]:
        """Return the good state's values, those that a back-off cuts times `factor`, inside the space."""
        good = self.snapshots.good_or_first().hyperparams
        cut = ("lr",) if "lr" in self._space else tuple(self._space)
        bounded = self._space.clip({name: good[name] * factor for name in cut})
        # A value the user started below its box is not pulled up: a back-off never raises.
        return {**good, **{name: min(good[name], value) for name, value in bounded.items()}}

    def follow_launch(self, move: Move, step: int, level: float) -> int:
        """Keep the live state, or go back, as the launch wants it. Return the optimizer steps thrown away."""
        lost = step - self._last_restore_step
        if move is Move.KEEP:
            self.trust(step, level)
            if not self.snapshots.has(ORIGIN):
                self.snapshots.capture(step, ORIGIN)
            self._num_useful += lost
            return 0
        if move is Move.RETURN:
            self.snapshots.restore()
        else:
            self.snapshots.restore_from(ORIGIN)
            self.trust(step, level)
            lost, self._num_useful = lost + self._num_useful, 0
        self.note_restore(step)
        return lost

    # -- resume ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs, the snapshots included."""
        return {**super().state_dict(), "snapshots": self.snapshots.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, or raise ValueError and stay as it was."""
        check_keys(type(self).__name__, state_dict, (*self.state_names, "snapshots"))
        self.snapshots.load_state_dict(state_dict["snapshots"])
        super().load_state_dict({name: state_dict[name] for name in self.state_names})
