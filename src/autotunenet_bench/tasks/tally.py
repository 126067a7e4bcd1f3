"""How many examples of each class a model took for which: what F1 and the like are made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TOP = 5


class Tally:
    """Counts over the batches of an evaluation; they stay where the logits are, so that no batch waits for another.

    Args:
        num_classes: Classes, at least 2.

    >>> tally = Tally(2)
    >>> tally.add(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]), torch.tensor([0, 1, 0]))
    >>> tally.confusion.tolist(), tally.count, round(f1(tally), 3)
    ([[1, 1], [0, 1]], 3, 0.667)
    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._pairs = torch.zeros(num_classes**2, dtype=torch.int64)
        self._in_top = torch.zeros((), dtype=torch.int64)

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Count a batch: logits ``(n, num_classes)`` and targets ``(n,)``, on any device."""
        pairs = targets * self._num_classes + logits.argmax(dim=1)
        self._pairs, self._in_top = self._pairs.to(logits.device), self._in_top.to(logits.device)
        self._pairs = self._pairs.index_add(0, pairs, torch.ones_like(pairs))
        top = logits.topk(min(TOP, self._num_classes), dim=1).indices
        self._in_top = self._in_top + (top == targets.unsqueeze(1)).sum()

    @property
    def confusion(self) -> Tensor:
        """Examples by true class (rows) and by the one they were taken for; shape ``(num_classes,) * 2``, int64."""
        return self._pairs.cpu().view(self._num_classes, self._num_classes)

    @property
    def num_in_top(self) -> int:
        """Examples whose class is among the five of the highest logits."""
        return int(self._in_top)

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
