"""The mean loss of the batches whose gradients a framework accumulates."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class MicroBatches:
    """Gathers losses until the framework has the optimizer step. Whether that stepped or was skipped, the tuner sees.

    `Tuner.step` could be given every loss as it comes. Here nothing waits for an accelerator, or for other processes,
    before there is a step.

    >>> losses = MicroBatches()
    >>> losses.add(1.0, is_due=False)  # the first half of an accumulation
    >>> losses.add(3.0, is_due=True)
    2.0
    """

    def __init__(self) -> None:
        self._losses: list[Any] = []

    def add(self, loss: Any, *, is_due: bool) -> Any:
        """Take a batch's loss; return the mean since the last step that was due, or None.

        Args:
            loss: A number or a tensor with one element; None: the batch was left out.
            is_due: Whether a step was due after this batch.
        """
        if loss is not None:
            self._losses.append(_wide(loss))
        if not is_due or not self._losses:
            return None
        losses, self._losses = self._losses, []
        return losses[0] if len(losses) == 1 else sum(losses) / len(losses)


def _wide(loss: Any) -> Any:
    """Return a loss that can be added up: a tensor without its graph, and not in half precision."""
    if not isinstance(loss, Tensor):
        return loss
    return loss.detach().float() if loss.element_size() < 4 else loss.detach()
