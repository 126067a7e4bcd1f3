"""The base of the regimes: what a config says about one, and when it strikes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from autotunenet_bench.types import Horizon, Regime

NEVER = 0
"""The `trigger_epoch` of a regime that never strikes: epochs are counted from 1."""

DEFAULT_FRACTION = 0.5


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


class TriggeredConfig(RegimeConfig, ABC):
    """A regime that strikes once, at an epoch or after a fraction of the run, with a severity."""

    trigger_epoch: int | None = Field(None, ge=1, description="first epoch under the new regime, counted from 1")
    trigger_fraction: float | None = Field(
        None, ge=0, lt=1, description="share of the epochs before the new regime; 0.5 where no trigger is given"
    )
    severity: float = Field(0.4, ge=0, le=1, description="0: no effect at all; 1: the strongest")

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

    @property
    def when(self) -> str:
        """The trigger in words, for display names."""
        if self.trigger_epoch is not None:
            return f"epoch {self.trigger_epoch}"
        return f"{100 * (self.trigger_fraction or 0):g} %"


def epoch_after(fraction: float, horizon: Horizon) -> int:
    """Return the first epoch after a fraction of the run: ``floor(fraction * num_epochs) + 1``.

    The fraction is taken as the decimal number that was written, not as the float next to it.

    >>> epoch_after(0.29, Horizon(num_epochs=100, steps_per_epoch=1))  # where 0.29 * 100 is 28.999999999999996
    30
    """
    return int(Fraction(repr(fraction)) * horizon.num_epochs) + 1
