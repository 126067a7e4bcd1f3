"""The training loop that all overheads are measured in. Torch alone is imported, so that an older tuner can come in."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, thread_time

from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer


@dataclass(frozen=True)
class Workload:
    """A network, its batches, and how much of it is trained.

    Attributes:
        name: How it stands in the tables.
        model: With its initial weights; every loop trains a copy.
        batches: Inputs and targets, over and over again.
        total_steps: Optimizer steps of the whole training, as a tuner is told.
        block_steps: Optimizer steps of one block.
        num_blocks: Blocks that are trained, from the first step on.
    """

    name: str
    model: nn.Module
    batches: list[tuple[Tensor, Tensor]]
    total_steps: int
    block_steps: int
    num_blocks: int


@dataclass(frozen=True)
class Method:
    """What is added to a loop.

    Attributes:
        optimizer: What trains.
        after_step: Called with the loss after every optimizer step.
        after_block: Called with the last loss, a number, after every block, as others are after every epoch.
        close: Called at the end.
    """

    optimizer: Optimizer
    after_step: Callable[[Tensor], object] | None = None
    after_block: Callable[[float], object] | None = None
    close: Callable[[], object] | None = None


Make = Callable[[nn.Module, Workload], Method]


@dataclass(frozen=True)
class Block:
    """Seconds that a block has taken.

    Attributes:
        cpu: Of this thread; what other processes do is not in them.
        wall: By the clock on the wall.
        inside: Those by the clock on the wall that passed inside of the method's calls.
    """

    cpu: float
    wall: float
    inside: float


class Loop:
    """A training that goes on block by block.

    Args:
        workload: What is trained.
        make: Makes the optimizer, and what is called after it, for a model.
    """

    def __init__(self, workload: Workload, make: Make) -> None:
        self._model = copy.deepcopy(workload.model).train()
        self._method = make(self._model, workload)
        self._batches = itertools.cycle(workload.batches)
        self._block_steps = workload.block_steps

    def block(self) -> Block:
        """Train one block further."""
        model, optimizer, after_step = self._model, self._method.optimizer, self._method.after_step
        inside, began, began_cpu = 0.0, perf_counter(), thread_time()
        for inputs, targets in itertools.islice(self._batches, self._block_steps):
            loss = F.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if after_step is not None:
                called = perf_counter()
                after_step(loss)
                inside += perf_counter() - called
        if self._method.after_block is not None:
            called = perf_counter()
            self._method.after_block(loss.item())
            inside += perf_counter() - called
        return Block(thread_time() - began_cpu, perf_counter() - began, inside)

    @property
    def state_bytes(self) -> int:
        """Bytes of weights, buffers and the optimizer's state."""
        states = [value for state in self._method.optimizer.state.values() for value in state.values()]
        tensors = [*self._model.parameters(), *self._model.buffers(), *states]
        return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))

    def close(self) -> None:
        """End it."""
        if self._method.close is not None:
            self._method.close()


LR = 1e-3


def bare(model: nn.Module, workload: Workload) -> Method:
    """Return AdamW alone, which the others are compared with."""
    return Method(AdamW(model.parameters(), lr=LR))
