"""The task gets harder at the trigger: all examples instead of easy ones, more augmentation, or more classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import nn
from torch.optim import Optimizer

from autotunenet_bench.data import TensorBatches, as_tensor_batches
from autotunenet_bench.regimes import curricula, input_shifts
from autotunenet_bench.regimes.base import LastMade, TriggeredConfig, TriggeredRegime
from autotunenet_bench.regimes.data_shift import Shift
from autotunenet_bench.regimes.label_shifts import classes_of
from autotunenet_bench.types import Horizon, TaskData

KindName = Literal["easy_to_all", "augmentation", "classes"]


@dataclass(frozen=True)
class Kind:
    """One way in which a task gets harder.

    Attributes:
        lesson: Makes the batches that are not the untouched ones.
        check: Raises where the data are not of the sort that is needed; asked in every epoch.
        words: What happens at a severity.
        shifts_validation: Whether the validation data go along where the config does not say so. They do where the
            model is asked for something else: for classes that it has never been shown.
        is_removal: Whether the untouched data are those from the trigger on, and not those before it.
        is_new_every_epoch: Whether training epochs of equal strength have draws of their own. Validation data never
            have: metrics are to stay comparable.
    """

    lesson: Shift
    check: Callable[[TensorBatches], object]
    words: Callable[[float], str]
    shifts_validation: bool
    is_removal: bool
    is_new_every_epoch: bool = False


def _check_rankable(data: TensorBatches) -> None:
    input_shifts.check_reals(data, "easy to all")
    classes_of(data.targets, "easy to all")


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


KINDS: dict[str, Kind] = {
    "easy_to_all": Kind(
        curricula.easy_to_all,
        _check_rankable,
        lambda severity: (
            f"all training examples, where there were only the easiest "
            f"{_percent(1 - (1 - curricula.SMALLEST_SHARE) * severity)} of every class, repeated"
        ),
        shifts_validation=False,
        is_removal=True,
    ),
    "augmentation": Kind(
        curricula.augmentation,
        lambda data: input_shifts.check_images(data, "augmentation"),
        lambda severity: (
            f"training images moved at random by up to {_percent(curricula.LONGEST_WAY * severity)} of their height "
            f"and width, anew in every epoch"
        ),
        shifts_validation=False,
        is_removal=False,
        is_new_every_epoch=True,
    ),
    "classes": Kind(
        curricula.fewer_classes,
        lambda data: classes_of(data.targets, "classes"),
        lambda severity: (
            f"all classes, where {_percent(severity)} of those beside the first were left out and others repeated"
        ),
        shifts_validation=True,
        is_removal=True,
    ),
}


class CurriculumShift(TriggeredConfig):
    """From the trigger on, the task is harder: all examples or classes, or more augmentation.

    Severity says how much easier it is before. `easy_to_all` and `classes` change the world until the trigger and leave
    the data untouched, bit for bit, from it on; `augmentation` leaves them untouched until the trigger. Severity 0 is
    the untouched data all the time for each of them. An epoch has as many examples, and so steps, as it always has.
    """

    name: Literal["curriculum_shift"] = "curriculum_shift"
    kind: KindName = Field(
        "easy_to_all",
        description="how it gets harder; easy_to_all: until the trigger only the easiest 1 - 0.9 severity of every "
        "class, by the margin of a nearest-centroid classifier; classes: until the trigger without severity of the "
        "classes beside the first; augmentation: from the trigger on, images moved by up to severity / 4 of their size",
    )
    shift_validation: bool | None = Field(
        None, description="whether the validation data go along; null: they do where classes are left out"
    )

    @model_validator(mode="before")
    @classmethod
    def _resolve_validation(cls, values: Any) -> Any:
        """Resolve the default of the kind before validation, so that a stored config says what was done."""
        if not isinstance(values, Mapping) or values.get("shift_validation") is not None:
            return values
        kind = values.get("kind", "easy_to_all")
        known = KINDS.get(kind) if isinstance(kind, str) else None
        return {**values, "shift_validation": known.shifts_validation} if known else values

    @property
    def is_removal(self) -> bool:
        """Whether the untouched data are those from the trigger on."""
        return KINDS[self.kind].is_removal

    @property
    def what(self) -> str:
        """For example ``more classes 0.4``."""
        kind = self.kind.replace("_", " ")
        return f"{kind if kind == 'easy to all' else f'more {kind}'} {self.severity:g}"

    @property
    def where(self) -> str:
        """Whether the validation data go along, where that is not the default of the kind."""
        if self.shift_validation == KINDS[self.kind].shifts_validation:
            return ""
        return ", validation too" if self.shift_validation else ", not validation"

    def start(self, horizon: Horizon, seed: int) -> CurriculumShiftRegime:
        """Return a fresh regime for one run.

        Raises:
            ValueError: If the trigger lies beyond the end of the run, or leaves no easier epoch before it.
        """
        onset = self.onset(horizon, seed)
        return CurriculumShiftRegime(onset, self.severity, seed, self.kind, bool(self.shift_validation))


@dataclass
class CurriculumShiftRegime(TriggeredRegime):
    """Puts easier or harder data in place; what they are depends on epoch, seed and untouched data alone."""

    kind: KindName = "easy_to_all"
    shift_validation: bool = False
    _made: LastMade = field(default_factory=LastMade, init=False, repr=False)

    def apply(self, epoch: int, model: nn.Module, data: TaskData, optimizer: Optimizer) -> None:
        """Put the data of `epoch` in place.

        Raises:
            TypeError: If the data are not held in memory or not of the sort that the kind needs.
            ValueError: If there are fewer than two classes and the kind needs them, or if the validation data are to go
                along and have none of the classes that are there.
        """
        words = self.kind.replace("_", " ")
        train = as_tensor_batches(data.train, words).pristine
        # In every epoch: a regime that does not fit is to stop the run at its first one, not at half time.
        KINDS[self.kind].check(train)
        data.train = self._in_epoch(epoch, train, train, "train")
        if self.shift_validation:
            data.val = self._in_epoch(epoch, as_tensor_batches(data.val, words).pristine, train, "val")
            if data.test is not None:
                data.test = self._in_epoch(epoch, as_tensor_batches(data.test, words).pristine, train, "test")

    @property
    def description(self) -> str:
        """What changes at the trigger."""
        val = "validation data too" if self.shift_validation else "validation data untouched"
        return f"{KINDS[self.kind].words(self.severity)}; {val}{self.onset.words}"

    def _in_epoch(self, epoch: int, pristine: TensorBatches, train: TensorBatches, part: str) -> TensorBatches:
        kind, strength = KINDS[self.kind], self.strength(epoch)
        if strength == 0:
            return pristine
        stream = f"{part}/{epoch}" if kind.is_new_every_epoch and part == "train" else part
        return self._made.get(
            part, pristine, (strength, stream), lambda: kind.lesson(pristine, strength, self.seed, stream, train)
        )
