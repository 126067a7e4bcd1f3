"""Floating point operations of a training pass and of a validation, by torch's counter with its gaps on the CPU closed.

Counted are the products and sums of matrix products and convolutions, two a multiply-add. What goes through the values
one by one (activations, normalisation, dropout, look-ups in an embedding, the loss) is left out, as torch's counter
leaves it out; so is the optimizer's own arithmetic, and that of a controller.

What the counter passes over on the CPU, seen with torch 2.13: attention by the CPU's flash kernel (forward and
backward), a layer of an LSTM by oneDNN (forward and backward), the fused attention and encoder layer of a model in
evaluation mode, and the products with a vector. The weights' gradient of a convolution in groups it counts once for
every group.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, sdpa_backward_flop_count, sdpa_flop_count

from autotunenet_bench.results.trace import Flops
from autotunenet_bench.tasks import Task
from autotunenet_bench.types import Batch, Batches, TaskData

Shape = tuple[int, ...]


def count_flops(function: Callable[[], Any]) -> int:
    """Return the floating point operations of what `function` runs in torch.

    >>> layer, inputs = nn.Linear(64, 10), torch.ones(8, 64)
    >>> count_flops(lambda: layer(inputs)) == 2 * 8 * 64 * 10
    True
    """
    with FlopCounterMode(display=False, custom_mapping=_missing_formulas()) as counter:
        function()
    return int(counter.get_total_flops())


def measure_flops(task: Task, model: nn.Module, data: TaskData) -> Flops:
    """Return the operations of an epoch of training and of a validation, from one batch of each shape.

    On a copy of the model, on the CPU wherever it lies. Nothing of the run is touched, and no random stream goes on.

    Args:
        task: Says what a pass and a validation are.
        model: What is trained.
        data: The run's, before any regime.
    """
    model = copy.deepcopy(model).cpu()

    def train(batch: Batch) -> int:
        model.train()
        return count_flops(lambda: task.loss(model, batch).backward())  # type: ignore[no-untyped-call]

    def evaluate(batch: Batch) -> int:
        return count_flops(lambda: task.evaluate(model, _One(batch)))

    with torch.random.fork_rng(devices=[]):
        return Flops(
            train_epoch=_over_shapes(data.train, train),
            num_batches=len(data.train),
            evaluation=_over_shapes(data.val, evaluate),
        )


class _One:
    """An epoch of one batch."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def epoch(self, epoch: int) -> Any:
        yield self._batch

    def __len__(self) -> int:
        return 1


def _over_shapes(batches: Batches, count: Callable[[Batch], int]) -> int:
    """Return the sum over an epoch, in which batches of one shape are counted once."""
    costs: dict[tuple[torch.Size, ...], int] = {}
    numbers: Counter[tuple[torch.Size, ...]] = Counter()
    for batch in batches.epoch(1):
        shape = tuple(part.shape for part in batch)
        if shape not in costs:
            costs[shape] = count(batch)
        numbers[shape] += 1
    return sum(cost * numbers[shape] for shape, cost in costs.items())


# -- formulas; every tensor comes as its shape -------------------------------------------------------------------------


def _missing_formulas() -> dict[Any, Callable[..., int]]:
    """Return a formula for each operator that the counter passes over and that this torch has."""
    formulas: dict[str, Callable[..., int]] = {
        "mv": _matrix_vector,
        "addmv": lambda _, matrix, vector, *rest, **options: _matrix_vector(matrix, vector),
        "dot": lambda one, other, **options: 2 * one[0],
        "convolution_backward": _convolution_backward,
        "_scaled_dot_product_flash_attention_for_cpu": _attention,
        "_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
        "_native_multi_head_attention": _multi_head_attention,
        "_transformer_encoder_layer_fwd": _encoder_layer,
        "mkldnn_rnn_layer": _lstm_layer,
        "mkldnn_rnn_layer_backward": lambda *shapes, **options: 2 * _lstm_layer(*shapes),
    }
    return {getattr(torch.ops.aten, name): it for name, it in formulas.items() if hasattr(torch.ops.aten, name)}


def _matrix_vector(matrix: Shape, vector: Shape, **options: Any) -> int:
    return 2 * matrix[0] * matrix[1]


def _convolution_backward(grad: Shape, inputs: Shape, weight: Shape, *rest: Any, **options: Any) -> int:
    """Each gradient that is asked for has as many products as the forward pass."""
    is_transposed, wanted = rest[4], rest[7]
    forward: int = conv_flop_count(list(inputs), list(weight), list(grad), transposed=is_transposed)
    return forward * (int(wanted[0]) + int(wanted[1]))


def _attention(query: Shape, key: Shape, value: Shape, *rest: Any, **options: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_backward(grad: Shape, query: Shape, key: Shape, value: Shape, *rest: Any, **options: Any) -> int:
    """As torch counts its flash kernels: the scores are computed anew."""
    return int(sdpa_backward_flop_count(grad, query, key, value))  # type: ignore[no-untyped-call]


def _multi_head_attention(query: Shape, key: Shape, value: Shape, width: int, *rest: Any, **options: Any) -> int:
    num, length, other = query[0], query[1], key[1]
    projections = 2 * num * (2 * length + 2 * other) * width * width  # query and output; key and value
    return projections + 2 * 2 * num * length * other * width


def _encoder_layer(inputs: Shape, width: int, *rest: Any, **options: Any) -> int:
    hidden = rest[12][0]  # of the first feed-forward weight, (hidden, width)
    feed_forward = 2 * 2 * inputs[0] * inputs[1] * width * int(hidden)
    return _multi_head_attention(inputs, inputs, inputs, width) + feed_forward


def _lstm_layer(inputs: Shape, from_inputs: Shape, from_state: Shape, *rest: Any, **options: Any) -> int:
    """One layer in one direction; inputs (steps, examples, features), weights (4 hidden, features or hidden)."""
    each = from_inputs[0] * from_inputs[1] + from_state[0] * from_state[1]
    return 2 * inputs[0] * inputs[1] * each
