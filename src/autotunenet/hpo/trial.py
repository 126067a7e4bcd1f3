"""One evaluation of one point of a space: what was tried, how it ended, and what it took."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any


class TrialState(str, Enum):
    """How far a trial is."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What trials have taken. Costs add up.

    Attributes:
        steps: Optimizer steps.
        seconds: Of wall-clock time, while the trial ran.
        flops: Floating-point operations; None where nobody counted them, and then in every sum with them.

    >>> Cost(steps=10, seconds=1.5) + Cost(steps=5, seconds=0.5)
    Cost(steps=15, seconds=2.0, flops=None)
    """

    steps: int = 0
    seconds: float = 0.0
    flops: float | None = None

    def __add__(self, other: Cost) -> Cost:
        known = self.flops is not None and other.flops is not None
        flops = (self.flops or 0.0) + (other.flops or 0.0) if known else None
        return Cost(steps=self.steps + other.steps, seconds=self.seconds + other.seconds, flops=flops)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A trial, as a search hands it out and as a store keeps it. Immutable: telling makes a new one.

    Attributes:
        number: Counted from 0, in the order of asking.
        params: The point; its names are those of the space.
        state: Pending until it is told.
        value: What the objective returned; a finite number where the trial is done, None elsewhere.
        budget: How long it is to train, in whatever unit the objective takes; None: it is not said.
        parent: Number of the trial whose training this one may go on with, at a larger budget; None: from scratch.
        predicted: Mean and standard deviation of the value that a surrogate expected when it proposed the point; None
            where no model chose it.
        metrics: Whatever else was measured, as plain values.
        cost: What it took.
        error: Why it failed, in a line.
    """

    number: int
    params: Mapping[str, Any]
    state: TrialState = TrialState.PENDING
    value: float | None = None
    budget: float | None = None
    parent: int | None = None
    predicted: tuple[float, float] | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    error: str = ""

    def __post_init__(self) -> None:
        is_finite = self.value is not None and math.isfinite(self.value)
        if is_finite != (self.state is TrialState.DONE):
            raise ValueError(
                f"trial {self.number}: a trial that is done, and no other, has a finite value; "
                f"got state {self.state.value} with value {self.value}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, which `from_dict` reads.

        >>> trial = Trial(number=0, params={"lr": 0.1})
        >>> Trial.from_dict(trial.to_dict()) == trial
        True
        """
        plain = {"state": self.state.value, "params": dict(self.params), "metrics": dict(self.metrics)}
        return {**asdict(self), **plain, "predicted": self.predicted and list(self.predicted)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trial:
        """Return the trial that `to_dict` wrote.

        Raises:
            TypeError: If a key is missing or unknown.
            ValueError: If its state is none, or does not fit its value.
        """
        predicted = values.get("predicted")
        read = {
            "state": TrialState(values["state"]),
            "cost": Cost(**values["cost"]),
            "predicted": predicted and (float(predicted[0]), float(predicted[1])),
        }
        return cls(**{**values, **read})
