"""Which losses make one optimizer step: those of its micro-batches, and of no step that was skipped."""

from __future__ import annotations

import math
import weakref
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from autotunenet.adapters._modulation import hooked


class StepCounter:
    """Knows whether an optimizer has stepped. Where a gradient scaler skips a step, it has not.

    Args:
        optimizer: One with torch's step hooks, or a wrapper with such a one in ``.optimizer``.

    Raises:
        ValueError: If it has no step hooks.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)
    >>> counter = StepCounter(optimizer)
    >>> optimizer.step()
    >>> counter.has_stepped(), counter.has_stepped()
    (True, False)
    """

    def __init__(self, optimizer: Optimizer) -> None:
        inner = hooked(optimizer)
        if inner is None:
            raise ValueError(
                f"{type(optimizer).__name__} has no step hooks, so its steps cannot be told from micro-batches; use a "
                "torch.optim.Optimizer, or AutoTuneNet in a loop of your own"
            )
        self._has_stepped = False
        me = weakref.ref(self)

        def after(*_: Any) -> None:
            if (live := me()) is not None:
                live._has_stepped = True

        self._handle = inner.register_step_post_hook(after)

    def has_stepped(self) -> bool:
        """Whether there was a step since this was last asked."""
        has_stepped, self._has_stepped = self._has_stepped, False
        return has_stepped

    def close(self) -> None:
        """Remove the hook."""
        self._handle.remove()


class StepLosses:
    """Gathers the losses of micro-batches until they make a step.

    >>> losses = StepLosses()
    >>> losses.add(1.0, has_stepped=False, is_due=False)  # the first half of an accumulation
    >>> losses.add(3.0, has_stepped=True, is_due=True)
    2.0
    """

    def __init__(self) -> None:
        self._losses: list[Any] = []

    def add(self, loss: Any, *, has_stepped: bool, is_due: bool) -> Any:
        """Take a micro-batch's loss; return the mean loss of the step that it completes, None where it completes none.

        A step that was due and that a scaler has skipped has moved no weight: its losses count into the next step.
        One whose loss is not finite is returned all the same: where every step is skipped nothing else would tell.

        Args:
            loss: A number or a tensor with one element. A tensor stays where it is: nothing waits for an accelerator
                before there is a step.
            has_stepped: Whether the optimizer has stepped after this micro-batch.
            is_due: Whether it was asked to.
        """
        self._losses.append(_wide(loss))
        if not (has_stepped or is_due):
            return None
        mean = self._losses[0] if len(self._losses) == 1 else sum(self._losses) / len(self._losses)
        if not has_stepped and math.isfinite(float(mean)):
            return None
        self._losses.clear()
        return mean


def _wide(loss: Any) -> Any:
    """Return a loss that can be added up: a tensor without its graph, and not in half precision."""
    if not isinstance(loss, Tensor):
        return loss
    return loss.detach().float() if loss.element_size() < 4 else loss.detach()
