"""Batches cut from tensors in memory, in an order that depends on nothing but the seed and the epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from autotunenet_bench.data.preparing import Preparation
from autotunenet_bench.data.seeds import stream_seed
from autotunenet_bench.data.sending import send
from autotunenet_bench.types import Batch, Batches


@dataclass(frozen=True, eq=False)
class TensorBatches:
    """A resumable stream of batches. The last batch of an epoch may be smaller; every example comes once an epoch.

    The data sets of the benchmark fit in memory, where indexing is many times faster than a `DataLoader`.

    Args:
        inputs: Shape ``(n, ...)``.
        targets: Shape ``(n,)`` or ``(n, ...)``.
        batch_size: Examples in a batch, at least 1.
        seed: Seed of the order, which is another one every epoch; None keeps the examples as they lie.
        origin: The untouched batches that these were made from; see `pristine`.
        preparation: What is done to the stored inputs of a batch on its way out; None hands them out as they are.
            Where there is a seed it draws from a stream of its own, another one every epoch.

    Raises:
        ValueError: If there are no examples, the lengths differ, or `batch_size` is below 1.

    >>> batches = TensorBatches(torch.arange(5), torch.arange(5), batch_size=2)
    >>> [x.tolist() for x, _ in batches.epoch(1)]
    [[0, 1], [2, 3], [4]]
    """

    inputs: Tensor
    targets: Tensor
    batch_size: int
    seed: int | None = None
    origin: TensorBatches | None = field(default=None, repr=False)
    preparation: Preparation | None = None

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise ValueError(
                f"every input needs a target, got {len(self.inputs)} inputs and {len(self.targets)} targets"
            )
        if len(self.inputs) == 0:
            raise ValueError("batches need at least one example, got none")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch. The same number gives the same batches whatever was asked for before."""
        draws = self._stream("augment", epoch) if self.preparation else None
        for index in self._places(epoch):
            inputs, targets = self._stored(index)
            yield self.preparation(inputs, draws) if self.preparation else inputs, targets

    def _places(self, epoch: int) -> Iterator[slice | Tensor]:
        """Yield where the examples of each batch of an epoch lie."""
        starts = range(0, self.num_examples, self.batch_size)
        generator = self._stream("epoch", epoch)
        if generator is None:
            # Slices of the tensors, not copies: this is the path of the validation pass.
            yield from (slice(start, start + self.batch_size) for start in starts)
            return
        order = send(torch.randperm(self.num_examples, generator=generator), self.inputs.device)
        yield from (order[start : start + self.batch_size] for start in starts)

    def _stored(self, index: slice | Tensor) -> Batch:
        """Return the stored inputs and the targets of a batch."""
        return self.inputs[index], self.targets[index]

    def _stream(self, purpose: str, epoch: int) -> torch.Generator | None:
        """Return the random stream of a purpose in an epoch; None where these batches have no seed."""
        return None if self.seed is None else torch.Generator().manual_seed(stream_seed(self.seed, purpose, epoch))

    def __len__(self) -> int:
        """Batches of one epoch."""
        return math.ceil(self.num_examples / self.batch_size)

    @property
    def num_examples(self) -> int:
        """Examples of one epoch."""
        return len(self.inputs)

    @property
    def pristine(self) -> TensorBatches:
        """These batches as they were before anything was put in place of their inputs or targets."""
        return self.origin or self

    def with_tensors(self, inputs: Tensor | None = None, targets: Tensor | None = None) -> TensorBatches:
        """Return batches of the same order with other inputs or targets. These stay as they are.

        Raises:
            ValueError: If the number of examples changes, and with it the order.
        """
        inputs = self.inputs if inputs is None else inputs
        targets = self.targets if targets is None else targets
        if not len(inputs) == len(targets) == self.num_examples:
            raise ValueError(
                f"with_tensors keeps the order and so the number of examples, {self.num_examples}; "
                f"got {len(inputs)} inputs and {len(targets)} targets"
            )
        return replace(self, inputs=inputs, targets=targets, origin=self.pristine)

    def placed(self, place: Callable[[Tensor], Tensor]) -> TensorBatches:
        """Return the same batches, cut from copies of the tensors that lie elsewhere, on a GPU for example.

        Args:
            place: Returns the copy of a tensor there.
        """
        return replace(self, inputs=place(self.inputs), targets=place(self.targets), origin=None)

    def shuffled(self, seed: int) -> TensorBatches:
        """Return the same examples, and the same `pristine` ones, in the order of `seed`."""
        return replace(self, seed=seed, origin=self.origin.shuffled(seed) if self.origin else None)


def as_tensor_batches(batches: Batches, asked_by: str) -> TensorBatches:
    """Return `batches` if they are held in memory.

    Args:
        batches: Any stream.
        asked_by: Who needs that, for the error message.

    Raises:
        TypeError: If they are of another kind.
    """
    if not isinstance(batches, TensorBatches):
        raise TypeError(f"{asked_by} needs data held in memory as TensorBatches, got {type(batches).__name__}")
    return batches
