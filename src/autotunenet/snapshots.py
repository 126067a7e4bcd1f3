"""THE WAY BACK: the last good state of a training run, and the one that may become it."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

from autotunenet.state import check_keys, check_kind
from autotunenet.types import Hyperparams, TrainingRun

Scope = Literal["none", "hyperparameters", "full"]
SCOPES: tuple[Scope, ...] = ("none", "hyperparameters", "full")


@runtime_checkable
class CheckingRun(Protocol):
    """A run that can tell whether buffers are its own."""

    def check_buffers(self, buffers: dict[str, Any]) -> Any:
        """Raise ValueError where `copy_from` could not copy them."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state to return to.

    Attributes:
        step: Optimizer steps done when it was taken.
        loss: What the training gave right after it; NaN while that is not known.
        hyperparams: In force when it was taken.
        buffers: The adapter's copy of the state; None where the scope is ``"hyperparameters"``.
        age: Optimizer steps that have made it; those that were taken back before are not among them.
    """

    step: int
    loss: float
    hyperparams: Hyperparams
    buffers: dict[str, Any] | None
    age: int


class SnapshotBuffer:
    """Slots for states, copied in place: `good`, a `candidate` that is not trusted yet, and some set aside by name.

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
        self._run = run
        self._slots: dict[str, Snapshot] = {}
        self._spares: list[dict[str, Any]] = []  # buffers that no slot uses now

    @property
    def good(self) -> Snapshot | None:
        """The state to go back to; None while none has been proven."""
        return self._slots.get("good")

    @property
    def candidate(self) -> Snapshot | None:
        """The state that may become the good one."""
        return self._slots.get("candidate")

    def slot(self, name: str) -> Snapshot:
        """Return what was set aside under a name. Raises KeyError if nothing was."""
        return self._slots[name]

    def has(self, name: str) -> bool:
        """Whether there is something in a slot."""
        return name in self._slots

    def capture(self, step: int, slot: str = "candidate", *, age: int | None = None) -> None:
        """Copy the live state into a slot. What was there is overwritten. An `age` of None is that of the step."""
        if self.scope == "none":
            return
        self.discard(slot)
        spare = self._spares.pop() if self._spares else None
        buffers = self._run.copy_into(spare) if self.scope == "full" else None
        self._slots[slot] = Snapshot(step, math.nan, self._run.get_hyperparams(), buffers, step if age is None else age)

    def commit(self, loss: float) -> None:
        """Trust the candidate: it becomes the good state. `loss` is what the training gave right after it.

        Raises:
            RuntimeError: If there is no candidate.
        """
        if self.candidate is None:
            raise RuntimeError("there is no candidate to commit; call capture() first")
        self.discard("good")
        self._slots["good"] = replace(self._slots.pop("candidate"), loss=loss)

    def discard(self, slot: str = "candidate") -> None:
        """Empty a slot; its buffers are used again."""
        snapshot = self._slots.pop(slot, None)
        if snapshot and snapshot.buffers is not None:
            self._spares.append(snapshot.buffers)

    def discard_all(self) -> None:
        """Empty all slots and give their memory back."""
        self._slots.clear()
        self._spares.clear()

    def release(self) -> None:
        """Give the memory of buffers back that no slot uses now."""
        self._spares.clear()

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
        good = self._slots["good"] = self.good_or_first()
        if self.candidate is good:
            del self._slots["candidate"]
        self.discard()
        return self._put_back(good)

    def restore_from(self, slot: str) -> Snapshot:
        """Put a state that was set aside back in place of the live one.

        Raises:
            KeyError: If the slot is empty.
        """
        return self._put_back(self._slots[slot])

    def _put_back(self, snapshot: Snapshot) -> Snapshot:
        if snapshot.buffers is not None:
            self._run.copy_from(snapshot.buffers)
        self._run.set_hyperparams(snapshot.hyperparams)
        return snapshot

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all slots; it takes as much memory as they do."""
        # asdict copies deeply.
        return {"scope": self.scope, "slots": {name: asdict(snapshot) for name, snapshot in self._slots.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from saved slots; copies them, so that `state_dict` can be loaded again.

        Raises:
            ValueError: If the state is of another scope or of another model, or no state of a snapshot buffer; nothing
                is loaded then.
        """
        check_keys(type(self).__name__, state_dict, ("scope", "slots"))
        if state_dict["scope"] != self.scope:
            raise ValueError(
                f"the saved snapshots have the scope {state_dict['scope']!r}, this buffer has {self.scope!r}; "
                "make the tuner with the scope it was saved with"
            )
        if not isinstance(state_dict["slots"], dict):
            raise ValueError("this is no saved state: the slots of a SnapshotBuffer are a dict")
        slots = {name: _snapshot(name, saved) for name, saved in state_dict["slots"].items()}
        for snapshot in slots.values():
            if snapshot.buffers is not None and isinstance(self._run, CheckingRun):
                self._run.check_buffers(snapshot.buffers)
        self._spares, self._slots = [], slots


class SnapshotBudget:
    """Says when another snapshot can be afforded: a share of the time goes into them, and no more.

    Times are the host's. On an accelerator copies within its memory go on while the host does, and cost it nothing.

    Args:
        share: Of the time, above 0 and at most 1; None: as much as it takes.

    Raises:
        ValueError: If `share` is out of its range.

    >>> budget = SnapshotBudget(0.01)
    >>> with budget.spent():
    ...     time.sleep(0.01)  # a copy; the next one can be afforded a second later
    >>> budget.is_kept
    False
    """

    def __init__(self, share: float | None) -> None:
        if share is not None and not 0 < share <= 1:
            raise ValueError(f"snapshot_budget must lie in (0, 1], a share of the time, or be None; got {share}")
        self._share = share
        self._seconds, self._since = 0.0, time.perf_counter()  # of the last copy, and when it had ended

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Copy in here."""
        began = time.perf_counter()
        yield
        self._since = time.perf_counter()
        self._seconds = self._since - began

    @property
    def is_limited(self) -> bool:
        """Whether the clock has a say."""
        return self._share is not None

    @property
    def is_kept(self) -> bool:
        """Whether there has been enough time since the last copy for another one like it."""
        return self._share is None or self._seconds <= self._share * (time.perf_counter() - self._since)


def _snapshot(slot: str, saved: dict[str, Any]) -> Snapshot:
    """Return a copy of a saved slot, or raise ValueError for what is none."""
    plain = {"step": 0, "loss": 0.0, "hyperparams": {}, "age": 0}
    check_keys(f"a snapshot ({slot})", saved, (*plain, "buffers"))
    for name, pattern in plain.items():
        check_kind(f"{name} of the snapshot {slot}", saved[name], pattern)
    if not all(isinstance(value, float | int) for value in saved["hyperparams"].values()):
        raise ValueError(f"this is no saved state: a hyperparameter of the snapshot {slot} is no number")
    if not isinstance(saved["buffers"], dict | type(None)):
        raise ValueError(f"this is no saved state: the buffers of the snapshot {slot} are a dict, or None")
    return Snapshot(**copy.deepcopy(saved))
