"""Networks: sizes worked out by hand, the residual block as in the paper, and padding that no text feels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from autotunenet_bench.device import Device
from autotunenet_bench.models import BiLstmClassifier, ResNet
from autotunenet_bench.models.bilstm import text_lengths
from autotunenet_bench.models.resnet import BasicBlock, Bottleneck
from autotunenet_bench.runners.base import weights_sha256
from autotunenet_bench.tasks import TASKS


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def num_parameters(model):
    return sum(param.numel() for param in model.parameters())


# -- the residual network ----------------------------------------------------------------------------------------------


def conv_and_norm(before, after, size=3):
    """Weights of a convolution without bias, and the two numbers a channel of batch normalisation."""
    return before * after * size * size + 2 * after


def by_hand(widths, blocks_per_stage, num_classes):
    total, before = conv_and_norm(3, widths[0]), widths[0]
    for width in widths:
        for _ in range(blocks_per_stage):
            total += conv_and_norm(before, width) + conv_and_norm(width, width)
            total += conv_and_norm(before, width, size=1) if before != width else 0
            before = width
    return total + before * num_classes + num_classes


@pytest.mark.parametrize(
    ("widths", "blocks", "expected"), [((64, 128, 256, 512), 2, 11_173_962), ((16, 32, 64), 1, 78_042)]
)
def test_resnets_have_the_size_that_is_worked_out_by_hand(widths, blocks, expected):
    model = seeded(lambda: ResNet(widths, blocks))
    assert num_parameters(model) == by_hand(widths, blocks, 10) == expected
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d) and module.kernel_size[0] > 1]
    assert len(convolutions) + 1 == 2 * blocks * len(widths) + 2  # the number in its name: with the last layer


@pytest.mark.parametrize(
    ("widths", "blocks", "expected"),
    [((64, 128, 256, 512), (3, 4, 6, 3), 23_520_842), ((16, 32, 64), (1, 1, 1), 127_642)],
)
def test_resnets_of_bottlenecks_have_the_size_that_is_worked_out_by_hand(widths, blocks, expected):
    with torch.device("meta"):
        model = ResNet(widths, blocks, block=Bottleneck)
    total, before = conv_and_norm(3, widths[0]), widths[0]
    for width, num in zip(widths, blocks, strict=True):
        for number in range(num):
            total += conv_and_norm(before, width, 1) + conv_and_norm(width, width) + conv_and_norm(width, 4 * width, 1)
            total += conv_and_norm(before, 4 * width, size=1) if number == 0 else 0
            before = 4 * width
    assert num_parameters(model) == total + before * 10 + 10 == expected
    inner = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d) and "shortcut" not in name]
    assert len(inner) + 1 == 3 * sum(blocks) + 2


@pytest.mark.parametrize(("before", "width", "stride"), [(16, 4, 1), (8, 4, 1), (16, 8, 2)])
def test_a_bottleneck_is_that_of_transformers(before, width, stride):
    """Whose 3x3 convolution has the stride."""
    from transformers.models.resnet.modeling_resnet import ResNetBottleNeckLayer

    block = seeded(lambda: Bottleneck(before, width, stride)).eval()
    other = ResNetBottleNeckLayer(before, 4 * width, stride).eval()
    assert len(block.state_dict()) == len(other.state_dict())
    for number in (1, 2, 3):
        getattr(block, f"conv{number}").load_state_dict(other.layer[number - 1].convolution.state_dict())
        getattr(block, f"norm{number}").load_state_dict(other.layer[number - 1].normalization.state_dict())
    if len(block.shortcut):
        block.shortcut[0].load_state_dict(other.shortcut.convolution.state_dict())
    inputs = torch.randn(2, before, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(block(inputs), other(inputs), atol=1e-5)


def test_sizes_are_halved_from_the_second_stage_on():
    model = seeded(lambda: ResNet((4, 8, 16), 2))
    features, shapes = model.stem(torch.zeros(1, 3, 32, 32)), []
    for block in model.blocks:
        features = block(features)
        shapes.append(tuple(features.shape[1:]))
    assert shapes == [(4, 32, 32)] * 2 + [(8, 16, 16)] * 2 + [(16, 8, 8)] * 2


@pytest.mark.parametrize(("before", "width", "stride"), [(4, 4, 1), (4, 8, 2)])
def test_a_block_is_the_one_of_the_paper(before, width, stride):
    block = seeded(lambda: BasicBlock(before, width, stride))
    inputs = torch.randn(2, before, 8, 8, generator=torch.Generator().manual_seed(0))

    def normed(values):  # batch normalisation in training, before anything is learnt
        mean, var = values.mean((0, 2, 3), keepdim=True), values.var((0, 2, 3), unbiased=False, keepdim=True)
        return (values - mean) / (var + 1e-5).sqrt()

    hidden = normed(F.conv2d(inputs, block.conv1.weight, stride=stride, padding=1)).relu()
    branch = normed(F.conv2d(hidden, block.conv2.weight, padding=1))
    straight = inputs if before == width else normed(F.conv2d(inputs, block.shortcut[0].weight, stride=stride))
    assert torch.allclose(block(inputs), (branch + straight).relu(), atol=1e-5)


def test_convolutions_begin_with_the_variance_of_he():
    model = seeded(lambda: ResNet((64, 128), 1))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_an_untrained_network_guesses_in_evaluation_too():
    model = seeded(lambda: ResNet((64, 128, 256, 512), 2)).eval()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert model(images).abs().max() < 0.1


# -- the bidirectional LSTM --------------------------------------------------------------------------------------------

WORDS, EMBEDDING, HIDDEN = 50, 8, 6
TEXTS = st.lists(st.lists(st.integers(1, WORDS - 1), min_size=1, max_size=20), min_size=1, max_size=6)


def classifier():
    return seeded(lambda: BiLstmClassifier(WORDS, EMBEDDING, HIDDEN, num_classes=3)).eval()


def matrix(texts, length=None):
    ids = torch.zeros(len(texts), length or max(map(len, texts)), dtype=torch.int32)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
    return ids


@pytest.mark.parametrize(
    ("words", "embedding", "hidden", "expected"), [(20_000, 128, 128, 2_825_218), (5_000, 32, 32, 177_154)]
)
def test_classifiers_have_the_size_that_is_worked_out_by_hand(words, embedding, hidden, expected):
    model = seeded(lambda: BiLstmClassifier(words, embedding, hidden, 2))
    lstm = 4 * hidden * (embedding + hidden) + 2 * 4 * hidden  # four gates, from words and state, with two biases
    assert num_parameters(model) == words * embedding + 2 * lstm + 4 * hidden * 2 + 2 == expected


def packed_reference(model, ids):
    """The same by torch's own bidirectional LSTM over a packed sequence, pooled text by text."""
    lstm = nn.LSTM(EMBEDDING, HIDDEN, batch_first=True, bidirectional=True)
    for name, weights in model.forwards.named_parameters():
        getattr(lstm, name).data.copy_(weights)
    for name, weights in model.backwards.named_parameters():
        getattr(lstm, f"{name}_reverse").data.copy_(weights)
    lengths = (ids != 0).sum(1)
    packed = nn.utils.rnn.pack_padded_sequence(model.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
    states, _ = nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)
    pooled = [
        torch.cat([one[:length].max(0).values, one[:length].mean(0)])
        for one, length in zip(states, lengths, strict=True)
    ]
    return model.head(torch.stack(pooled))


@given(TEXTS)
@settings(max_examples=30)
def test_it_is_what_torch_makes_of_a_packed_sequence(texts):
    model, ids = classifier(), matrix(texts)
    assert torch.allclose(model(ids), packed_reference(model, ids), atol=1e-6)


@given(TEXTS, st.integers(0, 40))
@settings(max_examples=30)
def test_neither_padding_nor_the_other_texts_change_a_prediction(texts, more):
    model = classifier()
    together = model(matrix(texts, max(map(len, texts)) + more))
    alone = torch.cat([model(matrix([text])) for text in texts])
    assert torch.allclose(together, alone, atol=1e-6)


def test_gradients_do_not_feel_the_padding_either():
    texts, grads = [[3, 4, 5], [6]], []
    for length in (3, 17):
        model = classifier()
        model(matrix(texts, length)).sum().backward()
        grads.append(torch.cat([param.grad.flatten() for param in model.parameters()]))
        assert not model.embedding.weight.grad[0].any()
    assert torch.allclose(*grads, atol=1e-6)


def test_the_order_of_the_words_is_heard():
    model = classifier()
    assert not torch.allclose(model(matrix([[3, 4, 5]])), model(matrix([[5, 4, 3]])), atol=1e-4)


def test_a_text_without_words_has_a_finite_prediction():
    assert classifier()(torch.zeros(2, 4, dtype=torch.int32)).isfinite().all()
    assert text_lengths(torch.zeros(2, 4, dtype=torch.int32)).tolist() == [1, 1]


# -- initial weights ---------------------------------------------------------------------------------------------------


# Golden: sum of all weights without their signs, sum of their squares, the eighth of the last matrix; seed 3. Not a
# digest: torch draws normal numbers whose last bit is the processor's.
DRAWN = {
    "cifar10_resnet18": (224395, 12481.1, -3.41084e-05),
    "cifar10_resnet50_small": (10382.2, 2428.86, 0.000105925),
    "cifar10_resnet18_small": (4733.82, 795.964, -3.90705e-05),
    "imdb_bilstm": (215934, 26287.6, 0.00220506),
    "imdb_bilstm_small": (14257.7, 1773.26, -0.0276958),
    "mnist_cnn_small": (431.392, 22.6649, -0.0399348),
}


@pytest.mark.parametrize("name", DRAWN)
def test_the_initial_weights_of_a_seed_never_change(name):
    model = seeded(TASKS[name]().build_model, seed=3)
    params = list(model.parameters())
    flat = torch.cat([param.detach().flatten() for param in params]).double()
    found = (flat.abs().sum().item(), flat.square().sum().item(), params[-2].flatten()[7].item())
    assert found == pytest.approx(DRAWN[name], rel=1e-4)
    again = seeded(TASKS[name]().build_model, seed=3)
    assert weights_sha256(again) == weights_sha256(model)
    assert weights_sha256(seeded(TASKS[name]().build_model, seed=4)) != weights_sha256(model)


# Those on GLUE need a pretrained model: tests/bench/test_tasks_glue.py.
IN_BFLOAT16 = [
    name for name in TASKS if not name.startswith(("sst2", "mrpc")) and ("resnet" not in name or "small" in name)
]


@pytest.mark.parametrize("name", IN_BFLOAT16)
def test_every_task_can_be_passed_in_bfloat16_and_gives_nearly_the_same(name):
    """On CPUs without instructions for it oneDNN has no LSTM in bfloat16."""
    task = TASKS[name]()
    model = seeded(task.build_model).eval()
    generator = torch.Generator().manual_seed(0)
    shapes = {"imdb": (4, 32), "digi": (4, 64), "cifa": (4, 3, 32, 32), "mnis": (4, 1, 28, 28)}
    inputs = torch.randn(shapes[name[:4]], generator=generator)
    if name.startswith("imdb"):
        inputs = inputs.abs().mul(100).long()
    batch = inputs, torch.zeros(4, dtype=torch.int64)
    expected = task.loss(model, batch)
    with Device("cpu", "bfloat16").autocast():
        found = task.loss(model, batch)
    found.backward()
    assert found.item() == pytest.approx(expected.item(), rel=0.05)
    assert all(param.grad.isfinite().all() for param in model.parameters())
