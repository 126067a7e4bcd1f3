"""Floating point operations: against numbers worked out by hand, and against the same layer by another kernel."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from autotunenet_bench.data.batches import TensorBatches
from autotunenet_bench.runners.base import weights_sha256
from autotunenet_bench.runners.flops import count_flops, measure_flops
from autotunenet_bench.tasks import DigitsMlp, MnistCnn
from autotunenet_bench.types import TaskData

N, T, E, H = 4, 6, 16, 32  # examples, steps of a sequence, width, hidden width


def forward(model, *inputs):
    def run():
        with torch.inference_mode():
            model(*inputs)

    return count_flops(run)


def training(model, *inputs):
    def run():
        outputs = model(*inputs)
        (outputs[0] if isinstance(outputs, tuple) else outputs).sum().backward()

    return count_flops(run)


def test_a_linear_layer():
    layer, inputs = nn.Linear(64, 10), torch.ones(8, 64)
    once = 2 * 8 * 64 * 10
    assert forward(layer, inputs) == once
    assert training(layer, inputs) == 2 * once  # forward, gradient of the weights
    assert training(layer, inputs.requires_grad_()) == 3 * once  # and that of the inputs


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution(memory_format, groups):
    layer = nn.Conv2d(4, 8, 3, groups=groups).to(memory_format=memory_format)
    inputs = torch.ones(2, 4, 12, 12)
    once = 2 * 2 * 8 * 10 * 10 * (4 // groups) * 9
    assert forward(layer, inputs) == once
    assert training(layer, inputs) == 2 * once
    assert training(layer, inputs.requires_grad_()) == 3 * once


def test_a_transposed_convolution():
    layer, inputs = nn.ConvTranspose2d(4, 8, 3, groups=2), torch.ones(2, 4, 12, 12, requires_grad=True)
    once = 2 * 2 * 4 * 12 * 12 * (8 // 2) * 9
    assert forward(layer, inputs.detach()) == once
    assert training(layer, inputs) == 3 * once


@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_by_the_kernel_of_the_cpu(is_causal):
    query = torch.randn(2, 3, T, 8, requires_grad=True)
    product = 2 * (2 * 3) * T * T * 8
    count = count_flops(lambda: F.scaled_dot_product_attention(query, query, query, is_causal=is_causal))
    assert count == 2 * product
    count = count_flops(
        lambda: F.scaled_dot_product_attention(query, query, query, is_causal=is_causal).sum().backward()
    )
    assert count == 2 * product + 5 * product  # the backward computes the scores anew


ATTENTION = 2 * N * T * E * 4 * E + 2 * 2 * N * T * T * E
ENCODER = ATTENTION + 2 * 2 * N * T * E * H


def test_fused_layers_in_evaluation_count_as_much_as_their_parts():
    inputs = torch.randn(N, T, E)
    attention = nn.MultiheadAttention(E, 2, batch_first=True)
    encoder = nn.TransformerEncoderLayer(E, 2, H, batch_first=True)
    for model in (attention, copy.deepcopy(attention).eval()):
        assert forward(model, inputs, inputs, inputs) == ATTENTION
    for model in (encoder, copy.deepcopy(encoder).eval()):
        assert forward(model, inputs) == ENCODER


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
def test_an_lstm(directions, layers):
    model = nn.LSTM(8, E, layers, batch_first=True, bidirectional=directions == 2)
    widths = [8] + [directions * E] * (layers - 1)
    once = sum(directions * 2 * N * T * 4 * E * (width + E) for width in widths)
    assert forward(model, torch.randn(N, T, 8)) == once
    assert 2 * once < training(model, torch.randn(N, T, 8)) <= 3 * once


def test_products_with_a_vector():
    matrix, vector = torch.randn(5, 7), torch.randn(7)
    assert count_flops(lambda: matrix @ vector) == 2 * 5 * 7
    assert count_flops(lambda: vector @ vector) == 2 * 7
    assert count_flops(lambda: torch.addmv(torch.ones(5), matrix, vector)) == 2 * 5 * 7


def test_what_goes_through_the_values_one_by_one_is_left_out():
    model = nn.Sequential(nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.LayerNorm(8))
    assert training(model, torch.randn(4, 8)) == 0
    assert training(nn.Embedding(5, 3), torch.tensor([1, 2])) == 0


def mlp(num):
    """Of a batch: forward and gradient of both weights, and the gradient of the hidden units."""
    once = 2 * num * (64 * 64 + 64 * 10)
    return 2 * once + 2 * num * 64 * 10, once


def cnn(num):
    first, second = 2 * num * 26 * 26 * 32 * 9, 2 * num * 11 * 11 * 64 * 32 * 9
    linear = 2 * num * (1600 * 128 + 128 * 10)
    return 2 * first + 3 * (second + linear), first + second + linear


@pytest.mark.parametrize(
    ("task", "shape", "count"), [(DigitsMlp(), (64,), mlp), (MnistCnn(), (1, 28, 28), cnn)], ids=["mlp", "cnn"]
)
def test_the_networks_by_hand_with_a_smaller_last_batch(task, shape, count):
    def batches(num):
        return TensorBatches(torch.randn(num, *shape), torch.arange(num) % 10, batch_size=4)

    flops = measure_flops(task, task.build_model(), TaskData(batches(10), batches(7)))
    assert flops.num_batches == 3
    assert flops.train_epoch == 2 * count(4)[0] + count(2)[0]
    assert flops.evaluation == count(4)[1] + count(3)[1]


def test_measuring_touches_nothing():
    class Dropping(DigitsMlp):
        def build_model(self):
            return nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 10))

    task = Dropping()
    model = task.build_model()
    model.eval()
    batches = TensorBatches(torch.randn(6, 64), torch.arange(6), batch_size=4, seed=1)
    before, state = weights_sha256(model), torch.get_rng_state()
    first = measure_flops(task, model, TaskData(batches, batches))
    assert weights_sha256(model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(param.grad is None for param in model.parameters())
    assert not any(module.training for module in model.modules())
    assert measure_flops(task, model, TaskData(batches, batches)) == first
