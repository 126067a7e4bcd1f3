"""Accelerate: a tuner for what ``accelerator.prepare`` has returned."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, SupportsFloat

import torch
from torch import nn
from torch.optim import Optimizer

from autotunenet import arguments
from autotunenet.adapters._modulation import hooked
from autotunenet.adapters._steps import StepCounter, StepLosses
from autotunenet.autotune import AutoTuneNet
from autotunenet.tuner import Tuner
from autotunenet.types import Decision

if TYPE_CHECKING:
    from accelerate import Accelerator

_SHARDING = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "TP", "XLA")
"""Kinds of training in which no process has the whole model, or the optimizer is not torch's."""


class AcceleratedTuner:
    """A tuner beside a prepared model and optimizer, as `prepare_tuner` makes it.

    Knows which calls belong together: the micro-batches of ``accelerator.accumulate`` make one step, whose loss is
    their mean, over all processes; a step that the gradient scaler has skipped is none.

    Args:
        tuner: Of the model and the optimizer inside the prepared ones.
        accelerator: Whose gradients are accumulated.
        optimizer: The prepared optimizer.
    """

    def __init__(self, tuner: Tuner, accelerator: Accelerator, optimizer: Optimizer) -> None:
        self.tuner = tuner
        self._accelerator = accelerator
        self._losses, self._counter = StepLosses(), StepCounter(optimizer)

    @property
    def history(self) -> deque[Decision]:
        """Every decision, with its reason."""
        return self.tuner.history

    def step(self, loss: SupportsFloat, batch: Any = None) -> Decision | None:
        """Take note of a micro-batch: call it after ``optimizer.step()``, with the loss that ``backward`` was given.

        Args:
            loss: Of this micro-batch in this process, as it was given to ``accelerator.backward``.
            batch: What it was computed from, for `replay`.

        Returns:
            What was decided, or None where nothing was, or no step was made.

        Raises:
            TypeError: If `loss` is no number and holds none.
        """
        value = loss if isinstance(loss, torch.Tensor) and loss.numel() == 1 else arguments.as_float(loss, "loss")
        mean = self._losses.add(value, has_stepped=self._counter.has_stepped(), is_due=self._accelerator.sync_gradients)
        return None if mean is None else self.tuner.step(self._mean_of_processes(mean), batch)

    def observe(self, metric: SupportsFloat) -> Decision | None:
        """Take note of a validation metric; the mean of the processes counts. As `Tuner.observe`."""
        return self.tuner.observe(self._mean_of_processes(arguments.as_float(metric, "metric")))

    def metrics(self) -> dict[str, float]:
        """Return numbers to plot, for ``accelerator.log``. As `Tuner.metrics`."""
        return self.tuner.metrics()

    def close(self) -> None:
        """Let go of model and optimizer. As `Tuner.close`."""
        self._counter.close()
        self.tuner.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the tuner's state: ``accelerator.register_for_checkpointing(tuner)`` has it saved and loaded."""
        return self.tuner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state. ``accelerator.load_state`` does it, after model, optimizer and scheduler."""
        self.tuner.load_state_dict(state_dict)

    def _mean_of_processes(self, value: Any) -> Any:
        """Return a number that is the same in all processes, so that all tuners decide alike."""
        if self._accelerator.num_processes == 1:
            return value
        tensor = torch.as_tensor(value, dtype=torch.float32, device=self._accelerator.device).detach().clone()
        return self._accelerator.reduce(tensor, reduction="mean")


def prepare_tuner(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Optimizer,
    total_steps: int | None = None,
    **options: Any,
) -> AcceleratedTuner:
    """Return a tuner for a prepared model and optimizer.

    Call its `step` beside every ``optimizer.step()``, accumulating or not. An LR scheduler, prepared or not, is scaled
    and goes on as if nobody were there.

    Args:
        accelerator: That has prepared them.
        model: As ``accelerator.prepare`` returned it.
        optimizer: The same.
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
    inner = hooked(optimizer)
    extras = [*options.pop("extras", ()), *([] if accelerator.scaler is None else [accelerator.scaler])]
    tuner = AutoTuneNet(
        accelerator.unwrap_model(model), optimizer if inner is None else inner, total_steps, extras=extras, **options
    )
    return AcceleratedTuner(tuner, accelerator, optimizer)
