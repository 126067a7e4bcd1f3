"""Several changes at one trigger, as when new data come and somebody touches lr on the same day."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_serializer, model_validator
from torch import Tensor, nn
from torch.optim import Optimizer

from autotunenet_bench.data import TensorBatches, as_tensor_batches
from autotunenet_bench.member import Member
from autotunenet_bench.regimes.base import DEFAULT_FRACTION, LastMade, Onset, TimedConfig, TriggeredConfig
from autotunenet_bench.types import Batches, Horizon, Loss, Regime, TaskData

PARTS: dict[str, type[TriggeredConfig]] = {}
"""What may be a part: the members of `REGIMES` that have a severity; filled where these are registered."""

PART = Member("part", PARTS, TriggeredConfig)

DEFAULT_PARTS: tuple[dict[str, Any], ...] = (
    {"name": "data_shift", "kind": "label_noise", "severity": 0.4},
    {"name": "optimizer_shift", "kind": "lr_jump", "severity": 0.5},
)

_TRIGGER_KEYS = ("trigger_epoch", "trigger_fraction", "trigger_jitter")


class Compound(TimedConfig):
    """Several regimes strike together, at one trigger: for example other data and a harmful lr.

    The parts act in the order given, each on what the ones before it have left; a part that acts alone acts as it does
    without the others under the same seed.
    """

    name: Literal["compound"] = "compound"
    parts: tuple[Annotated[TriggeredConfig, PART], ...] = Field(
        min_length=2,
        description="what happens together: regimes with a severity, of different kinds, without triggers of their own",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_parts(cls, values: Any) -> Any:
        """Resolve the default, and refuse triggers that nothing would read."""
        if not isinstance(values, Mapping):
            return values
        parts = values.get("parts", DEFAULT_PARTS)
        for index, part in enumerate(parts if isinstance(parts, Sequence) else ()):
            given = [key for key in _TRIGGER_KEYS if isinstance(part, Mapping) and part.get(key) is not None]
            if given:
                raise ValueError(
                    f"{given[0]} has no effect in part {index} of compound because all parts strike together; write it "
                    f"beside parts"
                )
        # A config's list has become one of Python by now, of which strict validation makes no tuple.
        if isinstance(parts, list | tuple) and len(parts) < 2:
            raise ValueError(
                f"parts of compound must be at least two, got {len(parts)}; use a part by itself as the regime"
            )
        return {**values, "parts": tuple(parts) if isinstance(parts, list) else parts}

    @model_validator(mode="after")
    def _parts_go_together(self) -> Compound:
        kinds = [(part.name, getattr(part, "kind", "")) for part in self.parts]
        for part, kind in zip(self.parts, kinds, strict=True):
            if kinds.count(kind) > 1:
                raise ValueError(
                    f"{' '.join(kind).strip()} stands {kinds.count(kind)} times among the parts of compound, so one "
                    f"would act on the other's work; leave one of them"
                )
            if (part.trigger_epoch, part.trigger_fraction, part.trigger_jitter) != (None, DEFAULT_FRACTION, None):
                raise ValueError(f"the part {part.display} of compound has a trigger of its own; write it beside parts")
        return self

    @field_serializer("parts", mode="wrap")
    def _without_triggers(self, parts: Any, handler: SerializerFunctionWrapHandler) -> list[dict[str, Any]]:
        """Leave out the triggers of the parts, which say nothing."""
        return [{key: value for key, value in part.items() if key not in _TRIGGER_KEYS} for part in handler(parts)]

    @property
    def severity(self) -> float:
        """The largest severity of a part."""
        return max(part.severity for part in self.parts)

    @property
    def leaves_a_trace(self) -> bool:
        """Whether a part writes something into the optimizer that stays there."""
        return any(part.leaves_a_trace for part in self.parts)

    @property
    def display(self) -> str:
        """The label, or for example ``label noise 0.4 + lr jump 0.5 @ 50 %``."""
        parts = " + ".join(part.label or f"{part.what}{part.how}{part.where}" for part in self.parts)
        return self.label or f"{parts} @ {self.when}"

    def start(self, horizon: Horizon, seed: int) -> CompoundRegime:
        """Return a fresh regime for one run.

        Raises:
            ValueError: If the trigger lies beyond the end of the run, or a part cannot strike there.
        """
        low, high = self.trigger_range(horizon)
        self._parts_at(low, horizon, seed)  # whatever this seed draws: a config is right or wrong for all of them
        epoch = self.first_epoch(horizon, seed)
        drawn_from = (low, high) if self.trigger_jitter else None
        words = Onset(epoch, drawn_from=drawn_from).words
        return CompoundRegime(epoch, self.severity, seed, self._parts_at(epoch, horizon, seed), words)

    def check_optimizer(self, make: Callable[[], Optimizer]) -> None:
        """Check that the optimizer has what every part changes.

        Raises:
            ValueError: If a part finds nothing that it could change.
        """
        for part in self.parts:
            part.check_optimizer(make)

    def _parts_at(self, epoch: int, horizon: Horizon, seed: int) -> list[Regime]:
        at = {"trigger_epoch": epoch, "trigger_fraction": None}
        return [part.model_copy(update=at).start(horizon, seed) for part in self.parts]


@dataclass
class CompoundRegime(Regime):
    """Lets its parts act one after the other, each on the data that the ones before it have made."""

    trigger_epoch: int
    severity: float
    seed: int
    parts: list[Regime]
    words: str = ""
    _made: LastMade = field(default_factory=LastMade, init=False, repr=False)

    def apply(self, epoch: int, model: nn.Module, data: TaskData, optimizer: Optimizer) -> None:
        """Make the world what all parts together make of it in `epoch`.

        Raises:
            TypeError: If the data are not held in memory or not of the sort that a part needs.
            ValueError: If a part does not fit the data or the optimizer.
        """
        parts = {"train": data.train, "val": data.val, **({"test": data.test} if data.test is not None else {})}
        pristine = {name: as_tensor_batches(part, "compound").pristine for name, part in parts.items()}
        staged = replace(data)
        for name, untouched in pristine.items():
            setattr(staged, name, untouched)
        for number, regime in enumerate(self.parts):
            for name in pristine:
                setattr(staged, name, self._as_untouched(getattr(staged, name), f"{name}/{number}"))
            regime.apply(epoch, model, staged, optimizer)
        for name, untouched in pristine.items():
            setattr(data, name, _made_from(getattr(staged, name), untouched))

    def training_loss(self, loss: Tensor, step: int) -> Tensor:
        """Return what the parts, one after the other, make of the loss that is differentiated."""
        for part in self.parts:
            loss = part.training_loss(loss, step)
        return loss

    def shown_loss(self, loss: Loss, step: int) -> Loss:
        """Return what the parts, one after the other, show the tuner of a loss."""
        for part in self.parts:
            loss = part.shown_loss(loss, step)
        return loss

    def shown_metric(self, metric: float, epoch: int) -> float:
        """Return what the parts, one after the other, show the controller of a metric."""
        for part in self.parts:
            metric = part.shown_metric(metric, epoch)
        return metric

    @property
    def description(self) -> str:
        """What changes at the trigger."""
        return " ".join(f"({n}) {part.description}" for n, part in enumerate(self.parts, start=1)) + self.words

    def _as_untouched(self, batches: Batches, part: str) -> TensorBatches:
        """Return batches that a part takes for untouched ones; the same for the same, so that it knows them again."""
        stream = as_tensor_batches(batches, "compound")
        return self._made.get(part, stream, 0, lambda: replace(stream, origin=None)) if stream.origin else stream


def _made_from(batches: Batches, pristine: TensorBatches) -> TensorBatches:
    """Return batches that remember the run's own untouched ones, and not those of a part."""
    stream = as_tensor_batches(batches, "compound")
    return stream if stream.pristine is pristine else replace(stream, origin=pristine)
