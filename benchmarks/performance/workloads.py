"""The four networks, and data that they can learn: ten classes with noise around them, and one label in ten wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autotunenet_bench.models import ResNet
from benchmarks.performance.loops import Workload
from benchmarks.performance.timing import Settings

EPOCHS, NUM_EXAMPLES = 10, 60_000
"""Of the training that a tuner is told of: ten epochs of MNIST."""


Batch = tuple[Tensor, Tensor]


class TinyTransformer(nn.Module):
    """Two encoder layers of width 128 over tokens, their mean, and ten classes: 431,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(128, nhead=4, dim_feedforward=512, dropout=0.0, batch_first=True)
        self.tokens = nn.Embedding(256, 128)
        self.layers = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.head = nn.Linear(128, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits ``(n, 10)`` of tokens ``(n, length)``."""
        logits: Tensor = self.head(self.layers(self.tokens(tokens)).mean(dim=1))
        return logits


def mlp() -> nn.Module:
    """Return three layers with 49,950 parameters for images of 28x28."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 60), nn.ReLU(), nn.Linear(60, 40), nn.ReLU(), nn.Linear(40, 10))


def workloads(settings: Settings) -> dict[str, Workload]:
    """Return all of them by name, each with weights and batches of its own that are the same every time."""
    from autotunenet_bench.tasks import TASKS  # here, for the process of `legacy` has another autotunenet

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        digits, pictures, tokens = images(64, 1, 28, 28), images(4, 3, 32, 32), texts(16, 32)
        resnet = ResNet((64, 128, 256, 512), 2)
        found = (
            _workload("MLP, 50k", mlp(), digits, settings, (50, 187)),
            _workload("mnist_cnn", TASKS["mnist_cnn"]().build_model(), digits, settings, (10, 40)),
            _workload("transformer, 431k", TinyTransformer(), tokens, settings, (10, 20)),
            _workload("ResNet-18, 11M", resnet, pictures, settings, (5, 20)),
        )
    return {workload.name: workload for workload in found}


def images(batch_size: int, *shape: int) -> list[Batch]:
    """Return batches of images ``(batch_size, *shape)``: a pattern for each class, in twice as much noise."""
    patterns = torch.randn(10, *shape)
    return [(patterns[classes] + 2 * torch.randn(batch_size, *shape), labels) for classes, labels in _drawn(batch_size)]


def texts(batch_size: int, length: int) -> list[Batch]:
    """Return batches of tokens ``(batch_size, length)``, which each class draws with probabilities of its own."""
    frequencies = torch.rand(10, 256) ** 4
    return [(torch.multinomial(frequencies[classes], length), labels) for classes, labels in _drawn(batch_size)]


def _drawn(batch_size: int) -> list[Batch]:
    """Return classes and labels of 256 batches."""
    classes = torch.randint(10, (256, batch_size))
    labels = torch.where(torch.rand(256, batch_size) < 0.1, torch.randint(10, (256, batch_size)), classes)
    return list(zip(classes, labels, strict=True))


def _workload(
    name: str, model: nn.Module, batches: list[Batch], settings: Settings, length: tuple[int, int]
) -> Workload:
    block_steps, num_blocks = settings.pick(length, (3, 2))
    total_steps = EPOCHS * NUM_EXAMPLES // len(batches[0][1])
    return Workload(name, model, batches, total_steps, block_steps, num_blocks)
