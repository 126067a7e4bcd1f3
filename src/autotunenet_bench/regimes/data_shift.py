"""The data changes at the trigger: from then on, part of the labels is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from autotunenet_bench.data import TensorBatches, as_tensor_batches, stream_seed
from autotunenet_bench.regimes.base import TriggeredConfig
from autotunenet_bench.types import Horizon, TaskData


class DataShift(TriggeredConfig):
    """From the trigger on, a share of the training labels is replaced by other classes."""

    name: Literal["data_shift"] = "data_shift"
    kind: Literal["label_noise"] = Field(
        "label_noise", description="label_noise: severity is the share of labels replaced by another class"
    )
    shift_validation: bool = Field(False, description="whether the validation labels are replaced too")

    @property
    def display(self) -> str:
        """The label, or for example ``label noise 0.4 @ epoch 4``."""
        where = ", validation too" if self.shift_validation else ""
        return self.label or f"{self.kind.replace('_', ' ')} {self.severity:g} @ {self.when}{where}"

    def start(self, horizon: Horizon, seed: int) -> LabelNoise:
        """Return a fresh regime for one run.

        Raises:
            ValueError: If the trigger lies beyond the end of the run.
        """
        return LabelNoise(self.first_epoch(horizon), self.severity, seed, self.shift_validation)


@dataclass
class LabelNoise:
    """Replaces labels from `trigger_epoch` on; the same labels by the same classes in every epoch.

    What it makes depends on the epoch, the seed and the untouched data alone, which the shifted batches remember. So it
    does not compound over epochs, a run that resumes after the trigger finds itself in the same world, and an epoch
    before the trigger sees the untouched data again.
    """

    trigger_epoch: int
    severity: float
    seed: int
    shift_validation: bool = False
    _counts: str = field(default="", init=False, repr=False)

    def apply(self, epoch: int, model: nn.Module, data: TaskData, optimizer: Optimizer) -> None:
        """Put the labels of `epoch` in place.

        Raises:
            TypeError: If the data is not held in memory or the targets are not classes.
            ValueError: If there are fewer than two classes.
        """
        data.train = self._in_epoch(epoch, as_tensor_batches(data.train, "label noise").pristine, "train")
        if self.shift_validation:
            data.val = self._in_epoch(epoch, as_tensor_batches(data.val, "label noise").pristine, "val")
        num_examples = len(data.train.targets)
        self._counts = f" ({num_replaced(self.severity, num_examples):,} of {num_examples:,})"

    @property
    def description(self) -> str:
        """What changes at the trigger; with the numbers of examples once `apply` has seen the data."""
        share = f"{100 * self.severity:g} %"
        val = f"{share} of the validation labels too" if self.shift_validation else "validation labels untouched"
        return f"{share} of the training labels replaced by other classes{self._counts}; {val}"

    def _in_epoch(self, epoch: int, pristine: TensorBatches, part: str) -> TensorBatches:
        if epoch < self.trigger_epoch or num_replaced(self.severity, pristine.num_examples) == 0:
            return pristine
        noise_seed = stream_seed(self.seed, f"label_noise/{part}")
        return pristine.with_tensors(targets=replace_labels(pristine.targets, self.severity, noise_seed))


def num_replaced(severity: float, num_examples: int) -> int:
    """Return how many labels a severity stands for, rounded to the nearest whole number."""
    return round(severity * num_examples)


def replace_labels(labels: Tensor, severity: float, seed: int) -> Tensor:
    """Replace a share of the labels by other classes, drawn uniformly from those that occur.

    With one seed, what a severity replaces is replaced in the same way by every higher one.

    Args:
        labels: Shape ``(n,)``, any integer type; stays as it is.
        severity: Share in [0, 1].
        seed: Seed of the choice.

    Returns:
        Shape ``(n,)``; exactly ``round(severity * n)`` entries differ.

    Raises:
        TypeError: If the labels are not whole numbers.
        ValueError: If there are fewer than two classes.

    >>> (replace_labels(torch.arange(10), 0.4, seed=0) != torch.arange(10)).sum().item()
    4
    """
    if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.ndim != 1:
        raise TypeError(
            f"label noise needs class labels of shape (n,), got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    classes: Tensor
    classes, codes = torch.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            "label noise needs at least two classes to choose another from; use another regime or data set"
        )
    rng = np.random.default_rng(seed)
    # Both are drawn for all examples whatever the severity is, which makes the replacements nested.
    order = torch.from_numpy(rng.permutation(len(labels)))
    offsets = torch.from_numpy(rng.integers(1, len(classes), size=len(labels)))
    chosen = order[: num_replaced(severity, len(labels))]
    codes[chosen] = (codes[chosen] + offsets[chosen]) % len(classes)
    return classes[codes]
