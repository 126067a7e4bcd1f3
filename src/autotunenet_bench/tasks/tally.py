"""How many examples of each class a model took for which: what F1 and the like are made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TOP = 5


class Tally:
    """Counts over the batches of an evaluation.

    Args:
        num_classes: Classes, at least 2.

    Attributes:
        confusion: Examples by true class (rows) and by the one they were taken for; shape ``(num_classes,) * 2``,
            int64.
        num_in_top: Examples whose class is among the five of the highest logits.

    >>> tally = Tally(2)
    >>> tally.add(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]), torch.tensor([0, 1, 0]))
    >>> tally.confusion.tolist(), tally.count, round(f1(tally), 3)
    ([[1, 1], [0, 1]], 3, 0.667)
    """

    def __init__(self, num_classes: int) -> None:
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.num_in_top = 0

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Count a batch: logits ``(n, num_classes)`` and targets ``(n,)``, on any device."""
        num_classes = len(self.confusion)
        pairs = targets * num_classes + logits.argmax(dim=1)
        self.confusion += torch.bincount(pairs.cpu(), minlength=num_classes**2).view(num_classes, num_classes)
        top = logits.topk(min(TOP, num_classes), dim=1).indices
        self.num_in_top += int((top == targets.unsqueeze(1)).sum())

    @property
    def count(self) -> int:
        """All examples."""
        return int(self.confusion.sum())


def f1(tally: Tally) -> float:
    """F1, the harmonic mean of precision and recall: of class 1 where there are two, else the mean over all classes.

    That of a class that neither is nor was predicted is 0.
    """
    right = tally.confusion.diagonal().double()
    either = (tally.confusion.sum(dim=0) + tally.confusion.sum(dim=1)).double()
    scores = 2 * right / either.clamp(min=1)
    return float(scores[1] if len(scores) == 2 else scores.mean())


def top5_accuracy(tally: Tally) -> float:
    """Share of the examples whose class is among the five of the highest logits."""
    return tally.num_in_top / tally.count


METRICS: dict[str, Callable[[Tally], float]] = {"f1": f1, "top5_accuracy": top5_accuracy}
"""What a task may name in `more_metrics`."""
