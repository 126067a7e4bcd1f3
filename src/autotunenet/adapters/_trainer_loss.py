"""The loss of an optimizer step of `transformers.Trainer`, which shows it to no callback.

What the Trainer logs is a mean over many steps, from which losses that are not finite are left out by default. So the
loss is taken where it arises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from torch import Tensor, nn

NO_LOSS = (
    "AutoTuneNetCallback has seen no loss before the optimizer step: the model has returned none, or another one is "
    "trained on (label_smoothing_factor, compute_loss_func, a compute_loss of your own). Let it see the Trainer: "
    "callback = AutoTuneNetCallback(); callback.attach(trainer)"
)


class LossSource(Protocol):
    """Collects the loss of one optimizer step, from all its micro-batches."""

    def take(self, scale: float) -> float:
        """Return the loss since the last call, and forget it.

        Args:
            scale: That gradients are multiplied by, of a gradient scaler.

        Raises:
            RuntimeError: If there was none.
        """
        ...

    def close(self) -> None:
        """Leave model and Trainer as they were."""
        ...


class OutputLoss:
    """The losses that a model returns in training, each times the weight that the backward pass gives it.

    The gradient that arrives at a loss is that weight: one over the number of micro-batches where the Trainer averages
    them, one over the number of GPUs under DataParallel, 1 where the losses add up by themselves. So their weighted sum
    is what the step goes down from, however they are combined; and where the Trainer makes another loss of the logits,
    nothing arrives and nothing is taken for it.

    Args:
        model: The model inside all wrappers. Its output is a mapping with ``"loss"``, or a tuple that begins with it.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parts: list[tuple[Tensor, Tensor]] = []  # losses and their weights
        self._handle = model.register_forward_hook(self._after_forward)

    def _after_forward(self, model: nn.Module, inputs: Any, output: Any) -> None:
        if not model.training:
            return
        loss = _loss_in(output)
        if loss is not None and loss.requires_grad:
            value, part = loss.detach(), cast(Any, loss)
            part.register_hook(lambda weight: self._parts.append((value, weight.detach())))

    def take(self, scale: float) -> float:
        """Return the weighted sum; see `LossSource`. A loss of weight 0 is left out, for it may be NaN."""
        parts, self._parts = self._parts, []
        weighted = [(float(value), float(weight)) for value, weight in parts]
        losses = [value * weight / scale for value, weight in weighted if weight]
        if not losses:
            raise RuntimeError(NO_LOSS)
        return sum(losses)

    def close(self) -> None:
        """Remove the hook."""
        self._handle.remove()


class TrainerLoss:
    """What ``trainer.training_step`` returns: of each micro-batch, its share of the step's loss. Exact in every case.

    Args:
        trainer: A `transformers.Trainer`. While a training is on, its `training_step` is wrapped.
    """

    def __init__(self, trainer: Any) -> None:
        self._parts: list[Tensor] = []
        self._trainer, self._replaced = trainer, vars(trainer).get("training_step")
        step: Callable[..., Tensor] = trainer.training_step

        def training_step(*args: Any, **kwargs: Any) -> Tensor:
            loss = step(*args, **kwargs)
            self._parts.append(loss.detach())
            return loss

        trainer.training_step = training_step

    def take(self, scale: float) -> float:
        """Return the sum; see `LossSource`. It is not scaled."""
        parts, self._parts = self._parts, []
        if not parts:
            raise RuntimeError("trainer.training_step has returned no loss before the optimizer step")
        return sum(float(loss) for loss in parts)

    def close(self) -> None:
        """Put back the `training_step` that was there."""
        del self._trainer.training_step
        if self._replaced is not None:
            self._trainer.training_step = self._replaced


def _loss_in(output: Any) -> Tensor | None:
    """Return the loss in a model's output: one number, where the Trainer looks for it."""
    if isinstance(output, Mapping):
        loss = output.get("loss")
    else:
        loss = output[0] if isinstance(output, tuple) and output else None
    return loss if isinstance(loss, Tensor) and loss.numel() == 1 else None
