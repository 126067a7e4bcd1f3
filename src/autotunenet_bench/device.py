"""The one place that knows of devices: where a run's model lies, its precision, its random streams and its memory.

Everything else hands over CPU tensors and does not ask. Data, and whatever a regime makes of them, are made in the
host's memory; `Feed` brings them to the device. Hyperparameters, decisions and results are on the host.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from autotunenet_bench.data import TensorBatches
from autotunenet_bench.data.sending import send
from autotunenet_bench.types import Batch, Batches, Loss

STEPS_AHEAD = 2
"""Steps by which the host runs ahead of a GPU: as late as a tuner judges by default."""

SHARE_FOR_DATA = 0.25
"""Of the memory that is free on a GPU, what data may take up there: the model wants some, and other runs may."""


def has_cuda() -> bool:
    """Return whether torch finds a CUDA GPU that it can use."""
    return torch.cuda.is_available()


@dataclass(frozen=True)
class Device:
    """What one run is computed on.

    Two runs of one spec are equal bit for bit on the CPU. On a GPU deterministic cuDNN kernels are chosen, but other
    kernels may add up in another order each time, and so last digits may differ.

    Args:
        kind: Where the model lies.
        precision: "bfloat16": of the passes that autocast allows; weights, gradients and optimizer stay float32.
        compiles: Whether the model's passes go through `torch.compile`.
    """

    kind: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    compiles: bool = False

    @contextmanager
    def running(self, seed: int) -> Iterator[None]:
        """Draw from streams of `seed` in here, with kernels that give equal results; afterwards all is as it was."""
        is_cuda = self.kind == "cuda"
        # Not torch.manual_seed: it seeds every accelerator, also those that fork_rng does not guard.
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if is_cuda else []):
            torch.default_generator.manual_seed(seed)
            if not is_cuda:
                yield
                return
            torch.cuda.manual_seed(seed)
            torch.cuda.reset_peak_memory_stats()
            cudnn = torch.backends.cudnn
            before = cudnn.benchmark, cudnn.deterministic
            cudnn.benchmark, cudnn.deterministic = False, True
            try:
                yield
            finally:
                cudnn.benchmark, cudnn.deterministic = before

    def place(self, model: nn.Module) -> None:
        """Move a fresh model to the device, and compile it where that is asked for; both in place.

        An optimizer that was made for it keeps its parameters. A copy of the model is not a compiled one.
        """
        model.to(self.kind)
        if self.compiles:
            model.compile()

    def loss_of(self, loss: Tensor) -> Loss:
        """Return a step's loss as a number, or as it is where reading it would wait for the device."""
        return loss.item() if self.kind == "cpu" else loss.detach()

    def record_event(self) -> Any:
        """Return an event that is over when the device has done all that it was given so far; None on the CPU."""
        return None if self.kind == "cpu" else torch.cuda.current_stream().record_event()

    def numbers(self, losses: Sequence[Loss]) -> list[float]:
        """Return losses as numbers; waits once for all that lie on the device."""
        if self.kind == "cpu":
            return [float(loss) for loss in losses]
        return torch.stack([torch.as_tensor(loss) for loss in losses]).tolist()

    def autocast(self) -> AbstractContextManager[Any]:
        """Pass the model in the run's precision in here. Not for backward: gradients follow the pass by themselves."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.kind, dtype=torch.bfloat16)

    def random_state(self) -> dict[str, Tensor]:
        """Return the state of the generators that `running` has seeded."""
        state = {"rng": torch.get_rng_state()}
        return {**state, "cuda_rng": torch.cuda.get_rng_state()} if self.kind == "cuda" else state

    def set_random_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a state that `random_state` has returned; other keys are passed over."""
        torch.set_rng_state(state["rng"])
        if self.kind == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"])

    def free_memory(self) -> float:
        """Return the bytes that are free on the GPU; infinity where that is no question."""
        return torch.cuda.mem_get_info()[0] if self.kind == "cuda" else math.inf

    def facts(self) -> dict[str, Any]:
        """Return which GPU this is, for the results; empty on the CPU."""
        if self.kind == "cpu":
            return {}
        return {"device": {"name": torch.cuda.get_device_name(), "cuda": torch.version.cuda}}

    def peak_memory(self) -> dict[str, int]:
        """Return the most that was held on the GPU since `running` began, in bytes; empty on the CPU."""
        return {} if self.kind == "cpu" else {"peak_device_memory_bytes": torch.cuda.max_memory_allocated()}


CPU = Device()
"""What is computed on where nothing is said."""


class Pace:
    """Lets the host run ahead of a device by a few steps and no more.

    A tuner waits for the loss of two steps before. What it would wait for has happened then, and the time is that of
    the training and not of the tuner; and a method that never waits does not queue a whole epoch.

    Args:
        device: The run's.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._events: deque[Any] = deque()

    def step(self) -> None:
        """Take note of a step; wait for the one before the last two."""
        event = self._device.record_event()
        if event is not None:
            self._events.append(event)
        if len(self._events) > STEPS_AHEAD:
            self._events.popleft().synchronize()


class Feed:
    """Hands the batches of one run to its device.

    Data that take up little of the memory that is free there are copied to it once, and batches are cut from them
    there; of others each batch is moved when its turn comes. What a regime puts in the place of inputs or targets is
    copied when it first comes, and stays for as long as the regime keeps it.

    Args:
        device: The run's.

    >>> batches = [(torch.ones(2, 3), torch.zeros(2))]
    >>> Feed(CPU)(batches) is batches
    True
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._copies = WeakIdKeyDictionary()  # by tensor: one that two streams share is copied once

    def __call__(self, batches: Batches) -> Batches:
        """Return the same batches, on the device."""
        if self._device.kind == "cpu":
            return batches
        if isinstance(batches, TensorBatches) and self._fits(batches):
            return batches.placed(self._place)
        return _Moved(batches, self._device.kind)

    def _fits(self, batches: TensorBatches) -> bool:
        missing = sum(tensor.nbytes for tensor in (batches.inputs, batches.targets) if tensor not in self._copies)
        return not missing or missing <= SHARE_FOR_DATA * self._device.free_memory()

    def _place(self, tensor: Tensor) -> Tensor:
        if tensor not in self._copies:
            self._copies[tensor] = tensor.to(self._device.kind)
        copy: Tensor = self._copies[tensor]
        return copy


class _Moved:
    """A stream of batches that lie on a device."""

    def __init__(self, batches: Batches, device: str) -> None:
        self._batches, self._device = batches, device

    def epoch(self, epoch: int) -> Iterator[Batch]:
        for inputs, targets in self._batches.epoch(epoch):
            yield send(inputs, self._device), send(targets, self._device)

    def __len__(self) -> int:
        return len(self._batches)
