"""Accelerate: a tuner for what ``accelerator.prepare`` has returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsFloat

from torch import Tensor, nn
from torch.optim import Optimizer

from autotunenet import arguments
from autotunenet.adapters._micro_batches import MicroBatches
from autotunenet.adapters._optimizers import hooked
from autotunenet.autotune import AutoTuneNet
from autotunenet.tuner import Tuner
from autotunenet.types import Decision

if TYPE_CHECKING:
    from accelerate import Accelerator

_SHARDING = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "TP", "XLA")
"""Kinds of training in which no process has the whole model, or the optimizer is not torch's."""


class AcceleratedTuner:
    """A `Tuner` that knows which calls of `step` belong together, as `prepare_tuner` makes it.

    The micro-batches of ``accelerator.accumulate`` make one step, whose loss is their mean. All else is the tuner's:
    `history`, `observe`, `metrics`, `plot`, ...

    Args:
        tuner: Of the prepared model and the optimizers.
        accelerator: Whose gradients are accumulated.
    """

    def __init__(self, tuner: Tuner, accelerator: Accelerator) -> None:
        self.tuner = tuner
        self._accelerator, self._losses = accelerator, MicroBatches()

    def __getattr__(self, name: str) -> Any:
        if name == "tuner":  # in a copy that is being made
            raise AttributeError(name)
        return getattr(self.tuner, name)

    def step(self, loss: SupportsFloat, batch: Any = None) -> Decision | None:
        """Take note of a micro-batch: call it after ``optimizer.step()``, with the loss that ``backward`` was given.

        Where several processes train the model, all of them call it, each with its own loss.

        Args:
            loss: Of this micro-batch in this process, as it was given to ``accelerator.backward``.
            batch: What it was computed from, for `replay`.

        Returns:
            What was decided, or None where nothing was, or no step was made.

        Raises:
            TypeError: If `loss` is no number and holds none.
        """
        value = loss if isinstance(loss, Tensor) and loss.numel() == 1 else arguments.as_float(loss, "loss")
        mean = self._losses.add(value, is_due=self._accelerator.sync_gradients)
        return None if mean is None else self.tuner.step(mean, batch)

    def state_dict(self) -> dict[str, Any]:
        """Return the tuner's state: ``accelerator.register_for_checkpointing(tuner)`` has it saved and loaded."""
        return self.tuner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state. ``accelerator.load_state`` does it, after model, optimizer and scheduler."""
        self.tuner.load_state_dict(state_dict)


def prepare_tuner(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    total_steps: int | None = None,
    **options: Any,
) -> AcceleratedTuner:
    """Return a tuner for a prepared model and optimizer.

    Call its `step` beside every ``optimizer.step()``, accumulating or not. An LR scheduler, prepared or not, is scaled
    and goes on as if nobody were there.

    Args:
        accelerator: That has prepared them.
        model: As ``accelerator.prepare`` returned it.
        optimizer: The same; or a list of several that one loss trains.
        total_steps: Optimizer steps of the whole training, in one process, micro-batches not counted; None: not known.
        **options: Of `autotunenet.AutoTuneNet`. Snapshots hold the accelerator's gradient scaler as well.

    Raises:
        ValueError: If the model is sharded over the processes, if `replay` is given and gradients are accumulated, or
            as `AutoTuneNet` does.
        TypeError: As `AutoTuneNet` does.

    >>> import torch
    >>> from accelerate import Accelerator
    >>> accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    >>> model = torch.nn.Linear(4, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=100.0)  # a thousand times too high
    >>> model, optimizer = accelerator.prepare(model, optimizer)
    >>> tuner = prepare_tuner(accelerator, model, optimizer, total_steps=200)
    >>> inputs = torch.eye(4)
    >>> for _ in range(400):
    ...     with accelerator.accumulate(model):
    ...         loss = (model(inputs) - 1).square().mean()
    ...         accelerator.backward(loss)
    ...         optimizer.step()
    ...         optimizer.zero_grad()
    ...         decision = tuner.step(loss)
    >>> loss.item() < 0.01
    True
    """
    kind = str(getattr(accelerator.distributed_type, "value", accelerator.distributed_type))
    if kind in _SHARDING:
        raise ValueError(
            f"prepare_tuner needs the whole model and torch's own optimizer in every process, and this accelerator's "
            f"training is {kind}; train on one device or with DistributedDataParallel"
        )
    if options.get("replay") is not None and accelerator.gradient_accumulation_steps > 1:
        raise ValueError(
            "replay trains one batch a step, and this accelerator accumulates the gradients of "
            f"{accelerator.gradient_accumulation_steps}; leave it out"
        )
    members = (optimizer,) if isinstance(optimizer, Optimizer) else optimizer
    inner = [hooked(member) or member for member in members]
    extras = [*options.pop("extras", ()), *([] if accelerator.scaler is None else [accelerator.scaler])]
    return AcceleratedTuner(AutoTuneNet(model, inner, total_steps, extras=extras, **options), accelerator)
