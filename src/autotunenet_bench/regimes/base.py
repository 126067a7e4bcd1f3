"""The base of the regimes: what a config says about one, when it strikes, and how it sets in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from autotunenet_bench.types import Horizon, Regime

NEVER = 0
"""The `trigger_epoch` of a regime that never strikes: epochs are counted from 1."""

DEFAULT_FRACTION = 0.5

Profile = Literal["abrupt", "ramp", "recurring"]

LENGTHS: dict[str, str] = {"ramp": "ramp_epochs", "recurring": "period_epochs"}
"""The key that says how long a profile takes."""

DEFAULT_LENGTH = 4


class RegimeConfig(BaseModel, ABC):
    """A regime as it stands in a config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    label: str | None = Field(None, min_length=1, max_length=60, description="name in tables; default: made from name")

    @property
    def display(self) -> str:
        """The name in tables and plots."""
        return self.label or self.name

    @abstractmethod
    def start(self, horizon: Horizon, seed: int) -> Regime:
        """Return a fresh regime for one run.

        Raises:
            ValueError: If the trigger lies beyond the end of the run.
        """


@dataclass(frozen=True, slots=True)
class Onset:
    """How a regime sets in.

    Attributes:
        trigger_epoch: The first epoch under it, counted from 1.
        profile: At once and for good, growing evenly, or on and off.
        length: Epochs of the ramp or of one period, at least 1; of no meaning for "abrupt".

    >>> [Onset(3, "ramp", 4).intensity(epoch) for epoch in range(1, 9)]
    [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    >>> [Onset(3, "recurring", 3).intensity(epoch) for epoch in range(1, 9)]
    [0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0]
    """

    trigger_epoch: int
    profile: Profile = "abrupt"
    length: int = 1

    def intensity(self, epoch: int) -> float:
        """Return the share of the severity that is in force, in [0, 1]; 0 before the trigger."""
        since = epoch - self.trigger_epoch
        if since < 0:
            return 0.0
        if self.profile == "ramp":
            return min(1.0, (since + 1) / self.length)
        return 1.0 if self.profile == "abrupt" or since % self.length < self.num_on else 0.0

    @property
    def num_on(self) -> int:
        """Epochs at the begin of each period in which a recurring regime is on: half of them, rounded up."""
        return (self.length + 1) // 2

    @property
    def words(self) -> str:
        """What is to be added to a sentence about the regime; nothing for "abrupt"."""
        if self.profile == "ramp":
            return f"; growing evenly over {self.length} epochs"
        return f"; for {self.num_on} of every {self.length} epochs" if self.profile == "recurring" else ""


@dataclass
class TriggeredRegime(Regime):
    """What the live regimes with a trigger share.

    Attributes:
        onset: When and how it sets in.
        severity: In [0, 1], where it is fully in force.
        seed: Of its own random streams.
    """

    onset: Onset
    severity: float
    seed: int
    trigger_epoch: int = field(init=False)

    def __post_init__(self) -> None:
        self.trigger_epoch = self.onset.trigger_epoch

    def strength(self, epoch: int) -> float:
        """Return the severity that is in force in an epoch, in [0, `severity`]."""
        return self.severity * self.onset.intensity(epoch)


class TriggeredConfig(RegimeConfig, ABC):
    """A regime that strikes at an epoch or after a fraction of the run, with a severity."""

    trigger_epoch: int | None = Field(None, ge=1, description="first epoch under the new regime, counted from 1")
    trigger_fraction: float | None = Field(
        None, ge=0, lt=1, description="share of the epochs before the new regime; 0.5 where no trigger is given"
    )
    severity: float = Field(0.4, ge=0, le=1, description="0: no effect at all; 1: the strongest")
    profile: Profile = Field(
        "abrupt", description="abrupt: at once and for good; ramp: grows over ramp_epochs; recurring: on and off"
    )
    ramp_epochs: int | None = Field(
        None, ge=2, description="ramp only: epochs from the trigger to full severity, both counted; null: 4"
    )
    period_epochs: int | None = Field(
        None, ge=2, description="recurring only: epochs of a period, the first half of it, rounded up, on; null: 4"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_trigger(cls, values: Any) -> Any:
        """Resolve the default before validation, so that a stored config says when it struck."""
        if not isinstance(values, Mapping):
            return values
        given = [name for name in ("trigger_epoch", "trigger_fraction") if values.get(name) is not None]
        if len(given) == 2:
            raise ValueError("trigger_epoch and trigger_fraction exclude each other; remove one of them")
        return values if given else {**values, "trigger_fraction": DEFAULT_FRACTION}

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, values: Any) -> Any:
        """Resolve the length of the profile, and refuse one that nothing would read."""
        if not isinstance(values, Mapping):
            return values
        profile = values.get("profile", "abrupt")
        for other, key in LENGTHS.items():
            if values.get(key) is not None and profile != other:
                raise ValueError(
                    f"{key} has no effect because profile is {profile}; remove it, or write profile: {other}"
                )
        own = LENGTHS.get(profile) if isinstance(profile, str) else None
        return {**values, own: DEFAULT_LENGTH} if own and values.get(own) is None else values

    @model_serializer(mode="wrap")
    def _leave_out_abrupt(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the keys of a profile only where there is one: a run's id is a hash of what is written.

        So runs of before there were profiles, all of which were abrupt, keep their ids.
        """
        values: dict[str, Any] = handler(self)
        idle = ("profile", *LENGTHS.values()) if self.profile == "abrupt" else ()
        return {key: value for key, value in values.items() if key not in idle}

    def first_epoch(self, horizon: Horizon) -> int:
        """Return the first epoch under the new regime.

        Raises:
            ValueError: If `trigger_epoch` lies beyond the end of the run, where it would measure nothing.
        """
        if self.trigger_epoch is None:
            return epoch_after(DEFAULT_FRACTION if self.trigger_fraction is None else self.trigger_fraction, horizon)
        if self.trigger_epoch > horizon.num_epochs:
            raise ValueError(
                f"trigger_epoch={self.trigger_epoch} of {self.name} lies beyond the run's {horizon.num_epochs} epochs, "
                f"so nothing would ever change; raise num_epochs, trigger earlier, or use trigger_fraction"
            )
        return self.trigger_epoch

    def onset(self, horizon: Horizon) -> Onset:
        """Return when and how the regime sets in.

        Raises:
            ValueError: If the trigger lies beyond the end of the run.
        """
        return Onset(self.first_epoch(horizon), self.profile, self.ramp_epochs or self.period_epochs or 1)

    @property
    def when(self) -> str:
        """The trigger and the profile in words, for display names."""
        trigger = f"{100 * (self.trigger_fraction or 0):g} %"
        if self.trigger_epoch is not None:
            trigger = f"epoch {self.trigger_epoch}"
        if self.profile == "ramp":
            return f"{trigger}, over {self.ramp_epochs} epochs"
        return f"{trigger}, every {self.period_epochs} epochs" if self.profile == "recurring" else trigger


def epoch_after(fraction: float, horizon: Horizon) -> int:
    """Return the first epoch after a fraction of the run: ``floor(fraction * num_epochs) + 1``.

    The fraction is taken as the decimal number that was written, not as the float next to it.

    >>> epoch_after(0.29, Horizon(num_epochs=100, steps_per_epoch=1))  # where 0.29 * 100 is 28.999999999999996
    30
    """
    return int(Fraction(repr(fraction)) * horizon.num_epochs) + 1
