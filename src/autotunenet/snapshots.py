"""THE WAY BACK: the last good state of a training run, and the one that may become it."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from autotunenet.state import check_keys
from autotunenet.types import Hyperparams, TrainingRun

Scope = Literal["none", "hyperparameters", "full"]
SCOPES: tuple[Scope, ...] = ("none", "hyperparameters", "full")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state to return to.

    Attributes:
        step: Optimizer steps done when it was taken.
        loss: What the training gave right after it; NaN while that is not known.
        hyperparams: In force when it was taken.
        buffers: The adapter's copy of the state; None where the scope is ``"hyperparameters"``.
    """

    step: int
    loss: float
    hyperparams: Hyperparams
    buffers: dict[str, Any] | None


class SnapshotBuffer:
    """Two slots, copied in place: `good`, and a `candidate` that is not trusted yet.

    A loss is computed before the update that follows it, so a state looks healthy at the very step that ruined it. A
    state is therefore captured first, and committed as good only after the losses that follow it have been judged.

    Args:
        run: Whose state is kept.
        scope: ``"full"``: everything the adapter copies (weights, buffers, optimizer, extras). ``"hyperparameters"``:
            the values in force only; weights that went bad stay bad. ``"none"``: nothing is kept, nothing restored.

    Raises:
        ValueError: If `scope` is not one of these.
    """

    def __init__(self, run: TrainingRun, scope: Scope = "full") -> None:
        if scope not in SCOPES:
            raise ValueError(f"scope must be one of {', '.join(map(repr, SCOPES))}, got {scope!r}")
        self.scope: Scope = scope
        self.good: Snapshot | None = None
        self.candidate: Snapshot | None = None
        self._run = run
        self._spare: dict[str, Any] | None = None  # buffers that no slot uses now

    def capture(self, step: int) -> None:
        """Copy the live state into the candidate slot. A candidate that was there is overwritten."""
        if self.scope == "none":
            return
        self.discard()
        buffers = self._run.copy_into(self._spare) if self.scope == "full" else None
        self._spare = None
        self.candidate = Snapshot(step, math.nan, self._run.get_hyperparams(), buffers)

    def commit(self, loss: float) -> None:
        """Trust the candidate: it becomes the good state. `loss` is what the training gave right after it.

        Raises:
            RuntimeError: If there is no candidate.
        """
        if self.candidate is None:
            raise RuntimeError("there is no candidate to commit; call capture() first")
        self._spare = self.good.buffers if self.good else None
        self.good, self.candidate = replace(self.candidate, loss=loss), None

    def discard(self) -> None:
        """Drop the candidate, if there is one; its buffers are used again."""
        if self.candidate:
            self._spare = None if self.candidate is self.good else self.candidate.buffers
            self.candidate = None

    def good_or_first(self) -> Snapshot:
        """Return the good state; where nothing was ever committed, the candidate, which is then all there is.

        Raises:
            RuntimeError: If nothing was ever captured.
        """
        snapshot = self.good or self.candidate
        if snapshot is None:
            raise RuntimeError(f"there is nothing to go back to (scope {self.scope!r}); call capture() first")
        return snapshot

    def restore(self) -> Snapshot:
        """Put the good state back in place of the live one, and drop the candidate.

        Raises:
            RuntimeError: If nothing was ever captured.
        """
        self.good = self.good_or_first()
        self.discard()
        if self.good.buffers is not None:
            self._run.copy_from(self.good.buffers)
        self._run.set_hyperparams(self.good.hyperparams)
        return self.good

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of both slots; it takes as much memory as they do."""
        # asdict copies deeply.
        return {
            "scope": self.scope,
            "good": asdict(self.good) if self.good else None,
            "candidate": asdict(self.candidate) if self.candidate else None,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from saved slots; copies them, so that `state_dict` can be loaded again.

        Raises:
            ValueError: If the state is of another scope, or no state of a snapshot buffer.
        """
        check_keys(type(self).__name__, state_dict, ("scope", "good", "candidate"))
        if state_dict["scope"] != self.scope:
            raise ValueError(
                f"the saved snapshots have the scope {state_dict['scope']!r}, this buffer has {self.scope!r}; "
                "make the tuner with the scope it was saved with"
            )
        self._spare = None
        self.good, self.candidate = (
            Snapshot(**copy.deepcopy(state_dict[slot])) if state_dict[slot] else None for slot in ("good", "candidate")
        )
