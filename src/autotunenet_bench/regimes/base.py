"""The base of the regimes: what a config says about one, when it strikes, and how it sets in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from torch.optim import Optimizer

from autotunenet_bench.data import TensorBatches, stream_seed
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

    @property
    def is_removal(self) -> bool:
        """Whether something is taken away at the trigger: in force before it, the untouched world from it on."""
        return False

    @property
    def leaves_a_trace(self) -> bool:
        """Whether the trigger writes something into the optimizer that stays there, and so in its checkpoints."""
        return False

    @property
    def spares_epochs(self) -> bool:
        """Whether chance decides what it hits, so that an epoch under it may be as if there were none."""
        return False

    @abstractmethod
    def start(self, horizon: Horizon, seed: int) -> Regime:
        """Return a fresh regime for one run.

        Raises:
            ValueError: If the trigger lies beyond the end of the run.
        """

    def check_optimizer(self, make: Callable[[], Optimizer]) -> None:
        """Check that the optimizer of a run has what changes; any will do where this is not overridden.

        Args:
            make: Makes it, with its model, which may take a while: call it only where the answer depends on it.

        Raises:
            ValueError: If it lacks what the regime would change.
        """


@dataclass(frozen=True, slots=True)
class Onset:
    """How a regime sets in.

    Attributes:
        trigger_epoch: The first epoch under it, counted from 1.
        profile: At once and for good, growing evenly, or on and off.
        length: Epochs of the ramp or of one period, at least 1; of no meaning for "abrupt".
        is_removal: Whether it is turned round: in force before the trigger, and then taken away in the same way.
        drawn_from: The first and the last epoch that the trigger was drawn from; None where it was not drawn.

    >>> [Onset(3, "ramp", 4).intensity(epoch) for epoch in range(1, 9)]
    [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    >>> [Onset(3, "recurring", 3).intensity(epoch) for epoch in range(1, 9)]
    [0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0]
    >>> [Onset(3, "ramp", 4, is_removal=True).intensity(epoch) for epoch in range(1, 9)]
    [1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0]
    """

    trigger_epoch: int
    profile: Profile = "abrupt"
    length: int = 1
    is_removal: bool = False
    drawn_from: tuple[int, int] | None = None

    def intensity(self, epoch: int) -> float:
        """Return the share of the severity that is in force, in [0, 1].

        Before the trigger that is 0, and 1 where something is taken away.
        """
        share = self._share(epoch)
        return 1.0 - share if self.is_removal else share

    def _share(self, epoch: int) -> float:
        """Return how far the change has come, in [0, 1]; 0 before the trigger."""
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
        """What is to be added to a sentence about the regime; nothing for "abrupt" at a trigger that was not drawn."""
        return self._profile_words + (
            f"; the trigger drawn from the epochs {self.drawn_from[0]} to {self.drawn_from[1]}"
            if self.drawn_from
            else ""
        )

    @property
    def _profile_words(self) -> str:
        if self.profile == "ramp":
            return f"; {'fading' if self.is_removal else 'growing'} evenly over {self.length} epochs"
        gone = "gone " if self.is_removal else ""
        return f"; {gone}for {self.num_on} of every {self.length} epochs" if self.profile == "recurring" else ""


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


class LastMade:
    """What was made last, by part of the data: what stays the same from epoch to epoch is made once.

    >>> import torch
    >>> batches, made = TensorBatches(torch.zeros(2), torch.zeros(2), batch_size=1), LastMade()
    >>> first = made.get("train", batches, 0.4, lambda: batches.with_tensors(targets=torch.ones(2)))
    >>> made.get("train", batches, 0.4, lambda: batches) is first
    True
    """

    def __init__(self) -> None:
        self._made: dict[str, tuple[TensorBatches, Hashable, TensorBatches]] = {}

    def get(self, part: str, source: TensorBatches, key: Hashable, make: Callable[[], TensorBatches]) -> TensorBatches:
        """Return what `make` makes, or made last time if that was from the same source and under an equal key."""
        made_from, made_under, made = self._made.get(part, (None, None, source))
        if made_from is not source or made_under != key:
            made = make()
            self._made[part] = (source, key, made)
        return made


class TimedConfig(RegimeConfig, ABC):
    """A regime with a trigger: at an epoch or after a fraction of the run, exactly or drawn around it by each run."""

    trigger_epoch: int | None = Field(None, ge=1, description="first epoch under the new regime, counted from 1")
    trigger_fraction: float | None = Field(
        None, ge=0, lt=1, description="share of the epochs before the new regime; 0.5 where no trigger is given"
    )
    trigger_jitter: float | None = Field(
        None,
        ge=0,
        description="each seed draws its trigger evenly from this far before to this far after the given one, in the "
        "same unit: epochs beside trigger_epoch, a share of them beside trigger_fraction; null: it strikes as given",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_trigger(cls, values: Any) -> Any:
        """Resolve the defaults before validation, so that a stored config says when it struck."""
        if not isinstance(values, Mapping):
            return values
        given = [name for name in ("trigger_epoch", "trigger_fraction") if values.get(name) is not None]
        if len(given) == 2:
            raise ValueError("trigger_epoch and trigger_fraction exclude each other; remove one of them")
        jitter = values.get("trigger_jitter")
        plain = {} if jitter is None or jitter else {"trigger_jitter": None}
        return {**values, **plain, **({} if given else {"trigger_fraction": DEFAULT_FRACTION})}

    @model_validator(mode="after")
    def _jitter_stays_within(self) -> TimedConfig:
        """Check what does not depend on the run's length: equal configs are right or wrong for every seed."""
        jitter, fraction = self.trigger_jitter, self.trigger_fraction
        if jitter is None:
            return self
        if self.trigger_epoch is not None:
            if not float(jitter).is_integer():
                raise ValueError(
                    f"trigger_jitter={jitter:g} beside trigger_epoch counts epochs and must be a whole number; change "
                    f"it, or use trigger_fraction"
                )
            if jitter >= self.trigger_epoch:
                raise ValueError(
                    f"trigger_jitter={jitter:g} reaches back to before the first epoch from "
                    f"trigger_epoch={self.trigger_epoch}; lower it"
                )
        elif fraction is not None and not (jitter <= fraction and fraction + jitter < 1):
            raise ValueError(
                f"trigger_jitter={jitter:g} around trigger_fraction={fraction:g} reaches out of the run; lower it to "
                f"less than {min(fraction, 1 - fraction):g}"
            )
        return self

    @model_serializer(mode="wrap")
    def _leave_out_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the keys that came later only where they are used: a run's id is a hash of what is written.

        So runs of before there were these keys keep their ids.
        """
        values: dict[str, Any] = handler(self)
        unused = self.unwritten()
        return {key: value for key, value in values.items() if key not in unused}

    def unwritten(self) -> tuple[str, ...]:
        """Return the keys that are left out of the stored config because they stand for nothing here."""
        return () if self.trigger_jitter else ("trigger_jitter",)

    def trigger_range(self, horizon: Horizon) -> tuple[int, int]:
        """Return the first and the last epoch that the trigger may come at; the same one where there is no jitter.

        Raises:
            ValueError: If it could lie beyond the end of the run, where it would measure nothing.
        """
        jitter = self.trigger_jitter or 0
        if self.trigger_epoch is None:
            # As decimal numbers: 0.3 - 0.1 is to be 0.2.
            middle = _decimal(DEFAULT_FRACTION if self.trigger_fraction is None else self.trigger_fraction)
            shares = (middle - _decimal(jitter), middle + _decimal(jitter))
            low, high = (_epoch_after(share, horizon) for share in shares)
            return low, high
        low, high = self.trigger_epoch - int(jitter), self.trigger_epoch + int(jitter)
        if high > horizon.num_epochs:
            reach = f", with trigger_jitter={jitter:g}," if jitter else ""
            raise ValueError(
                f"trigger_epoch={self.trigger_epoch} of {self.name}{reach} lies beyond the run's {horizon.num_epochs} "
                f"epochs, so nothing would ever change; raise num_epochs, trigger earlier, or use trigger_fraction"
            )
        return low, high

    def first_epoch(self, horizon: Horizon, seed: int) -> int:
        """Return the first epoch under the new regime, which with a jitter the seed draws.

        Raises:
            ValueError: If the trigger could lie beyond the end of the run.
        """
        low, high = self.trigger_range(horizon)
        # Where nothing is drawn no stream is opened; where something is, it is one of its own.
        return low if low == high else int(np.random.default_rng(stream_seed(seed, "trigger")).integers(low, high + 1))

    @property
    def when(self) -> str:
        """The trigger in words, for display names."""
        if self.trigger_epoch is not None:
            return f"epoch {self.trigger_epoch}" + (f" +- {self.trigger_jitter:g}" if self.trigger_jitter else "")
        jitter = f" +- {100 * self.trigger_jitter:g} %" if self.trigger_jitter else ""
        return f"{100 * (self.trigger_fraction or 0):g} %{jitter}"


class TriggeredConfig(TimedConfig, ABC):
    """A regime that strikes at its trigger with a severity, at once, growing, or on and off."""

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

    def unwritten(self) -> tuple[str, ...]:
        """Return the keys that are left out of the stored config: those of profiles where there is none, and others."""
        return (*super().unwritten(), *(("profile", *LENGTHS.values()) if self.profile == "abrupt" else ()))

    def onset(self, horizon: Horizon, seed: int) -> Onset:
        """Return when and how the regime sets in for a seed.

        Raises:
            ValueError: If the trigger could lie beyond the end of the run, or at its first epoch where something is
                taken away that then was never there.
        """
        low, high = self.trigger_range(horizon)
        if self.is_removal and self.profile == "abrupt" and low == 1:
            raise ValueError(
                f"{self.what} is in force until its trigger, and with a trigger at epoch 1 of {horizon.num_epochs} "
                f"never; trigger later, or raise num_epochs"
            )
        length = self.ramp_epochs or self.period_epochs or 1
        drawn_from = (low, high) if self.trigger_jitter else None
        return Onset(self.first_epoch(horizon, seed), self.profile, length, self.is_removal, drawn_from)

    @property
    def what(self) -> str:
        """What changes, in the words of display names: ``label noise 0.4``."""
        return f"{str(getattr(self, 'kind', self.name)).replace('_', ' ')} {self.severity:g}"

    @property
    def how(self) -> str:
        """The profile in words, for display names; empty for "abrupt"."""
        if self.profile == "ramp":
            return f", over {self.ramp_epochs} epochs"
        return f", every {self.period_epochs} epochs" if self.profile == "recurring" else ""

    @property
    def where(self) -> str:
        """What is to be said of the validation data in display names; empty where it goes without saying."""
        return ""

    @property
    def when(self) -> str:
        """The trigger and the profile in words, for display names."""
        return super().when + self.how

    @property
    def display(self) -> str:
        """The label, or for example ``label noise 0.4 @ epoch 4``."""
        return self.label or f"{self.what} @ {self.when}{self.where}"


def epoch_after(fraction: float, horizon: Horizon) -> int:
    """Return the first epoch after a fraction of the run: ``floor(fraction * num_epochs) + 1``.

    The fraction is taken as the decimal number that was written, not as the float next to it.

    >>> epoch_after(0.29, Horizon(num_epochs=100, steps_per_epoch=1))  # where 0.29 * 100 is 28.999999999999996
    30
    """
    return _epoch_after(_decimal(fraction), horizon)


def _epoch_after(share: Fraction, horizon: Horizon) -> int:
    return int(share * horizon.num_epochs) + 1


def _decimal(number: float) -> Fraction:
    return Fraction(repr(number))
