"""Batches of texts of like length, so that little of what is computed is padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from autotunenet_bench.data.batches import TensorBatches
from autotunenet_bench.data.sending import send
from autotunenet_bench.types import Batch

POOL = 50
"""Batches whose examples are sorted by length together: enough for like lengths, few enough for chance."""

ROUNDED_TO = 16
"""Batches are as long as a multiple of that, so that there are few shapes of them."""

PADDING, UNKNOWN = 0, 1
"""Ids of what stands behind the end of a text, and of every word that is not known."""


@dataclass(frozen=True, eq=False)
class TextBatches(TensorBatches):
    """Batches of rows of word ids; a batch is cut where its longest text ends, rounded up to a multiple of 16.

    With a seed, the order of an epoch is cut into pools of 50 batches, each pool is sorted by length and cut into
    batches, and these come in a random order. Without one, all examples come sorted by length. In both, every example
    comes once an epoch and equals keep their order; one batch may be smaller.

    Args:
        inputs: Word ids, shape ``(n, length)``, whole numbers, 0 behind the end of each text.

    >>> batches = TextBatches(torch.tensor([[5, 6, 7], [8, 0, 0]]), torch.tensor([0, 1]), batch_size=1)
    >>> [(ids.tolist(), targets.tolist()) for ids, targets in batches.epoch(1)]
    [([[8, 0, 0]], [1]), ([[5, 6, 7]], [0])]
    """

    @cached_property
    def lengths(self) -> Tensor:
        """Ids of each text up to the last that is not padding, shape ``(n,)``, int64."""
        places = torch.arange(1, self.inputs.shape[1] + 1, dtype=torch.int32)
        parts = [((part != PADDING) * places).amax(dim=1) for part in torch.split(self.inputs, 1024)]
        return torch.cat(parts).long()

    def placed(self, place: Callable[[Tensor], Tensor]) -> TensorBatches:
        """Return the same batches, cut from tensors that lie elsewhere. Lengths stay here, where batches are cut."""
        batches = super().placed(place)
        vars(batches)["lengths"] = self.lengths
        return batches

    def _places(self, epoch: int) -> Iterator[slice | Tensor]:
        generator = self._stream("epoch", epoch)
        if generator is None:
            yield from torch.split(torch.argsort(self.lengths, stable=True), self.batch_size)
            return
        order = torch.randperm(self.num_examples, generator=generator)
        pools = torch.split(order, POOL * self.batch_size)
        by_length = torch.cat([pool[torch.argsort(self.lengths[pool], stable=True)] for pool in pools])
        batches = torch.split(by_length, self.batch_size)
        yield from (batches[number] for number in torch.randperm(len(batches), generator=generator).tolist())

    def _stored(self, index: slice | Tensor) -> Batch:
        longest = max(1, int(self.lengths[index].max()))
        if isinstance(index, Tensor):
            index = send(index, self.inputs.device)
        return self.inputs[index, : -(-longest // ROUNDED_TO) * ROUNDED_TO], self.targets[index]
