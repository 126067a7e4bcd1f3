"""The data change at the trigger: labels, inputs, or which classes are common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import nn
from torch.optim import Optimizer

from autotunenet_bench.data import TensorBatches, as_tensor_batches
from autotunenet_bench.regimes import input_shifts, label_shifts
from autotunenet_bench.regimes.base import LastMade, TriggeredConfig, TriggeredRegime
from autotunenet_bench.regimes.label_shifts import classes_of, num_replaced
from autotunenet_bench.types import Horizon, TaskData

KindName = Literal[
    "label_noise",
    "class_conditional_label_noise",
    "pixel_permutation",
    "inversion",
    "rotation",
    "contrast_noise",
    "class_prior",
]

Shift = Callable[[TensorBatches, float, int, str, TensorBatches], TensorBatches]
"""From untouched batches, a severity above 0, a seed, the part ("train", "val", "test"), the training data."""


@dataclass(frozen=True)
class Kind:
    """One way in which data change.

    Attributes:
        shift: Makes the shifted batches.
        check: Raises where the data are not of the sort that is needed; asked in every epoch, also before the trigger.
        words: What happens at a severity.
        shifts_validation: Whether the validation data shift along where the config does not say so. They do where what
            is to be learnt would be another task otherwise. The test data go with them, but for labels: these are
            always tested clean.
        changes: What is said to change: "labels" or "data".
        is_share: Whether the severity is a share of the training examples.
    """

    shift: Shift
    check: Callable[[TensorBatches], object]
    words: Callable[[float], str]
    shifts_validation: bool
    changes: str = "data"
    is_share: bool = False


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


KINDS: dict[str, Kind] = {
    "label_noise": Kind(
        label_shifts.label_noise,
        lambda data: classes_of(data.targets),
        lambda severity: f"{_percent(severity)} of the training labels replaced by other classes",
        shifts_validation=False,
        changes="labels",
        is_share=True,
    ),
    "class_conditional_label_noise": Kind(
        label_shifts.class_conditional_label_noise,
        lambda data: classes_of(data.targets),
        lambda severity: f"{_percent(severity)} of the training labels replaced, each class by one fixed other class",
        shifts_validation=False,
        changes="labels",
        is_share=True,
    ),
    "pixel_permutation": Kind(
        input_shifts.pixel_permutation,
        input_shifts.check_pixels,
        lambda severity: f"{_percent(severity)} of the pixels change places, in every input alike",
        shifts_validation=True,
    ),
    "inversion": Kind(
        input_shifts.inversion,
        lambda data: input_shifts.check_reals(data, "inversion"),
        lambda severity: f"{_percent(severity)} of the inputs turned into their negatives",
        shifts_validation=True,
        is_share=True,
    ),
    "rotation": Kind(
        input_shifts.rotation,
        input_shifts.check_images,
        lambda severity: f"images turned by {180 * severity:g} degrees",
        shifts_validation=True,
    ),
    "contrast_noise": Kind(
        input_shifts.contrast_noise,
        lambda data: input_shifts.check_reals(data, "contrast noise"),
        lambda severity: (
            f"contrast of the inputs lowered to {_percent(1 - severity * (1 - input_shifts.LOWEST_CONTRAST))}, under "
            f"noise of {severity * input_shifts.STRONGEST_NOISE:g} standard deviations"
        ),
        shifts_validation=True,
    ),
    "class_prior": Kind(
        label_shifts.class_prior,
        lambda data: classes_of(data.targets, "class prior"),
        lambda severity: f"{_percent(severity)} of the training examples replaced by ones of a third of the classes",
        shifts_validation=False,
        is_share=True,
    ),
}


class DataShift(TriggeredConfig):
    """From the trigger on, the data are others: wrong labels, other inputs, or classes in other numbers."""

    name: Literal["data_shift"] = "data_shift"
    kind: KindName = Field(
        "label_noise",
        description="what changes; severity is the share of labels (label_noise, class_conditional_label_noise), "
        "pixels (pixel_permutation) or inputs (inversion, class_prior), of 180 degrees (rotation), or of fading by "
        "80 % and noise of half a standard deviation (contrast_noise)",
    )
    shift_validation: bool | None = Field(
        None, description="whether the validation data shift along; null: they do where the inputs change"
    )

    @model_validator(mode="before")
    @classmethod
    def _resolve_validation(cls, values: Any) -> Any:
        """Resolve the default of the kind before validation, so that a stored config says what was done."""
        if not isinstance(values, Mapping) or values.get("shift_validation") is not None:
            return values
        kind = values.get("kind", "label_noise")
        known = KINDS.get(kind) if isinstance(kind, str) else None
        return {**values, "shift_validation": known.shifts_validation} if known else values

    @property
    def where(self) -> str:
        """Whether the validation data shift along, where that is not the default of the kind."""
        if self.shift_validation == KINDS[self.kind].shifts_validation:
            return ""
        return ", validation too" if self.shift_validation else ", not validation"

    def start(self, horizon: Horizon, seed: int) -> DataShiftRegime:
        """Return a fresh regime for one run.

        Raises:
            ValueError: If the trigger lies beyond the end of the run.
        """
        return DataShiftRegime(self.onset(horizon, seed), self.severity, seed, self.kind, bool(self.shift_validation))


@dataclass
class DataShiftRegime(TriggeredRegime):
    """Puts shifted data in place from the trigger on; equal data in epochs of equal strength.

    What it makes depends on the epoch, the seed and the untouched data alone, which the shifted batches remember. So it
    does not compound over epochs, a run that resumes after the trigger finds itself in the same world, and an epoch
    before the trigger sees the untouched data again.
    """

    kind: KindName = "label_noise"
    shift_validation: bool = False
    _counts: str = field(default="", init=False, repr=False)
    _made: LastMade = field(default_factory=LastMade, init=False, repr=False)

    def apply(self, epoch: int, model: nn.Module, data: TaskData, optimizer: Optimizer) -> None:
        """Put the data of `epoch` in place.

        Raises:
            TypeError: If the data are not held in memory or not of the sort that the kind needs.
            ValueError: If there are fewer than two classes and the kind needs them.
        """
        words = self.kind.replace("_", " ")
        train = as_tensor_batches(data.train, words).pristine
        # In every epoch: a regime that does not fit is to stop the run at its first one, not at half time.
        KINDS[self.kind].check(train)
        data.train = self._in_epoch(epoch, train, train, "train")
        if self.shift_validation:
            data.val = self._in_epoch(epoch, as_tensor_batches(data.val, words).pristine, train, "val")
            if data.test is not None and KINDS[self.kind].changes != "labels":
                data.test = self._in_epoch(epoch, as_tensor_batches(data.test, words).pristine, train, "test")
        if KINDS[self.kind].is_share:
            self._counts = f" ({num_replaced(self.severity, train.num_examples):,} of {train.num_examples:,})"

    @property
    def description(self) -> str:
        """What changes at the trigger; with the numbers of examples once `apply` has seen the data."""
        kind = KINDS[self.kind]
        val = f"validation {kind.changes} untouched"
        if self.shift_validation:
            share = f"{_percent(self.severity)} of " if kind.changes == "labels" else ""
            val = f"{share}the validation {kind.changes} too"
        return f"{kind.words(self.severity)}{self._counts}; {val}{self.onset.words}"

    def _in_epoch(self, epoch: int, pristine: TensorBatches, train: TensorBatches, part: str) -> TensorBatches:
        strength = self.strength(epoch)
        if strength == 0:
            return pristine
        shift = KINDS[self.kind].shift
        return self._made.get(part, pristine, strength, lambda: shift(pristine, strength, self.seed, part, train))
