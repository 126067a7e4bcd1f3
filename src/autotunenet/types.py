"""Records and protocols that every floor above speaks in. Imports nothing of ours, and no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, runtime_checkable

Hyperparams = Mapping[str, float]
"""Hyperparameter values by name, for example ``{"lr": 0.1, "momentum": 0.9}``."""


class Health(Enum):
    """A monitor's verdict on one optimizer step."""

    STABLE = "stable"
    SUSPECT = "suspect"  # not bad enough to act on, too odd to be stored as good
    UNSTABLE = "unstable"


class Action(Enum):
    """What the tuner did at the end of a control step."""

    HOLD = "hold"
    ADAPT = "adapt"
    PROBE = "probe"  # a trial that finds something out: an lr at the start, whose fault it was after an alarm
    ROLLBACK = "rollback"
    RESTORE_SUSPECT = "restore suspect"  # the state was not to blame: back to it, and judge from its level on
    ACCEPT = "accept"  # going back is futile, the world has changed: stay, and judge from the new level


class Cause(Enum):
    """Whose fault a rise of the loss was."""

    KNOB = "knob"  # the hyperparameters in force, or the updates they made
    DATA = "data"
    BOTH = "both"
    NOISE = "noise"  # single losses stood out; nothing has changed


@dataclass(frozen=True, slots=True)
class Observation:
    """One control interval, as a controller and the history see it.

    Attributes:
        step: Optimizer steps so far, counted from 1; discarded steps count too.
        metric: Lower is better. NaN and infinities are reports, not errors.
        hyperparams: The values in force while `metric` arose, read back from the optimizer, not remembered.
    """

    step: int
    metric: float
    hyperparams: Hyperparams


@dataclass(frozen=True, slots=True)
class Decision:
    """One line of the history: what happened, and why.

    Attributes:
        observation: What was seen.
        health: The monitor's worst verdict in the interval.
        action: What was done about it.
        proposed: What the controller asked for.
        applied: What is in force from now on, after guard or rollback, read back from the optimizer.
        discarded_steps: Optimizer steps whose work this decision threw away.
        reason: One sentence for a person.
        cause: Whose fault it was, where that was found out.
        evidence: The numbers that `cause` rests on, by name.
    """

    observation: Observation
    health: Health
    action: Action
    proposed: Hyperparams
    applied: Hyperparams
    discarded_steps: int
    reason: str
    cause: Cause | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """Return a flat dict of plain values (str, int, float, dict), for JSON, logs and data frames.

        >>> seen = Observation(step=8, metric=0.5, hyperparams={"lr": 0.1})
        >>> record = Decision(seen, Health.STABLE, Action.ADAPT, {"lr": 0.3}, {"lr": 0.2}, 0, "bounded").to_record()
        >>> record["step"], record["action"], record["applied"]
        (8, 'adapt', {'lr': 0.2})
        >>> Decision.from_record(record).observation == seen
        True
        """
        return {
            "step": self.observation.step,
            "metric": self.observation.metric,
            "in_force": dict(self.observation.hyperparams),
            "health": self.health.value,
            "action": self.action.value,
            "proposed": dict(self.proposed),
            "applied": dict(self.applied),
            "discarded_steps": self.discarded_steps,
            "reason": self.reason,
            "cause": self.cause.value if self.cause else None,
            "evidence": dict(self.evidence),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Decision:
        """Inverse of `to_record`; further keys in `record` are left alone."""
        return cls(
            observation=Observation(record["step"], record["metric"], record["in_force"]),
            health=_HEALTHS.get(record["health"]) or Health(record["health"]),
            action=_ACTIONS.get(record["action"]) or Action(record["action"]),
            proposed=record["proposed"],
            applied=record["applied"],
            discarded_steps=record["discarded_steps"],
            reason=record["reason"],
            cause=Cause(record["cause"]) if record.get("cause") else None,
            evidence=record.get("evidence", {}),
        )


# A look into a dict takes a fifth of a call of the class, and a folder of results holds half a million decisions.
_HEALTHS = {health.value: health for health in Health}
_ACTIONS = {action.value: action for action in Action}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done about an alarm.

    Attributes:
        action: PROBE at the start of a trial; ROLLBACK, RESTORE_SUSPECT, ACCEPT, or HOLD where nothing is left to do.
        in_force: The values under which the alarm came.
        discarded_steps: Optimizer steps thrown away.
        reason: One sentence for a person.
        cause: The verdict, where there was a trial.
        evidence: Its numbers.
    """

    action: Action
    in_force: Hyperparams
    discarded_steps: int
    reason: str
    cause: Cause | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)

    @property
    def world_changed(self) -> bool:
        """Whether evidence from before no longer counts."""
        return self.action is Action.ACCEPT or self.data_changed

    @property
    def data_changed(self) -> bool:
        """Whether the data were found to be others."""
        return self.cause in (Cause.DATA, Cause.BOTH)


@runtime_checkable
class Stateful(Protocol):
    """State that can be saved and resumed bit for bit. The two names are torch's own.

    A state dict holds only tensors, dicts, lists, tuples, strings, numbers, booleans and None, so that a checkpoint
    loads with ``torch.load(..., weights_only=True)``.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on bit for bit."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state."""
        ...


class TrainingRun(Protocol):
    """The port between the tuner and a framework. `autotunenet.adapters.pytorch.TorchRun` is the one for torch."""

    def get_hyperparams(self) -> dict[str, float]:
        """Read the values now in force."""
        ...

    def set_hyperparams(self, hyperparams: Hyperparams) -> None:
        """Put values in force. Names that are left out stay as they are."""
        ...

    def copy_into(self, buffers: dict[str, Any] | None) -> dict[str, Any]:
        """Copy the live state into `buffers`, in place where they fit; allocate where they do not. Return them."""
        ...

    def copy_from(self, buffers: dict[str, Any]) -> None:
        """Copy `buffers` over the live state, in place; the two never share memory afterwards."""
        ...


@runtime_checkable
class ScheduledRun(Protocol):
    """A run whose lr somebody else's schedule may play on; the tuner scales it instead of fighting it."""

    @property
    def has_schedule(self) -> bool:
        """Whether there is such a schedule now."""
        ...

    @property
    def schedule_top(self) -> float:
        """Largest factor on the lr in force that the schedule is known to reach, above 0; 1 where nothing is known."""
        ...

    def override_schedule(self, active: bool) -> None:
        """While active, steps use exactly the lr that is set, whatever the schedule says."""
        ...


@runtime_checkable
class RatedRun(Protocol):
    """A run that knows the user's lr, and the one that steps use, which a schedule may have scaled."""

    @property
    def users_lr(self) -> float:
        """The lr that the run was made with; NaN where lr is not tuned."""
        ...

    @property
    def effective_lr(self) -> float:
        """The lr that the next optimizer step will use."""
        ...


@runtime_checkable
class SteppingRun(Protocol):
    """A run that sees its optimizer step."""

    def took_step(self) -> bool | None:
        """Whether there was an optimizer step since this was last asked; None: that cannot be told."""
        ...


@runtime_checkable
class PendingNumber(Protocol):
    """A number on its way from an accelerator."""

    def value(self) -> float:
        """Return it; waits until it has arrived."""
        ...


@runtime_checkable
class LateRun(Protocol):
    """A run whose losses may lie on an accelerator, where the host would wait for one that it reads at once."""

    def send_for(self, loss: Any) -> PendingNumber | None:
        """Fetch a loss without waiting for it; None for one that can be read at once."""
        ...


@runtime_checkable
class ClosableRun(Protocol):
    """A run that holds something, hooks say, until it is closed."""

    def close(self) -> None:
        """Let go, with the lr that was found in force, or the user's where none was."""
        ...


@runtime_checkable
class InspectableRun(Protocol):
    """A run that can tell a broken network from a broken signal."""

    def has_finite_weights(self) -> bool:
        """Whether every weight is a finite number. Waits for an accelerator; asked only when a loss is not finite."""
        ...


@runtime_checkable
class SharedRun(Protocol):
    """A run that several processes train together, each with a copy or with shards of the weights."""

    @property
    def ranks(self) -> Sequence[int]:
        """The processes, by the numbers that a person knows them by; one where the run is trained alone."""
        ...

    def exchange(self, values: Sequence[float]) -> list[list[float]]:
        """Give numbers to all processes, and return what each has given, in the order of `ranks`.

        Every process has to call it, with as many numbers. What it returns is the same in all of them, bit for bit.
        """
        ...


def is_finite(values: Hyperparams) -> bool:
    """Whether every value is a finite number.

    >>> is_finite({"lr": 0.1}), is_finite({"lr": float("nan")})
    (True, False)
    """
    return all(math.isfinite(value) for value in values.values())
