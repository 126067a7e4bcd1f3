"""The MNIST CNN with a quarter of its channels and units."""

from __future__ import annotations

from typing import ClassVar, Literal

from autotunenet_bench.tasks.mnist_cnn import MnistCnnBase


class MnistCnnSmall(MnistCnnBase):
    """Smaller CNN (14,410 parameters) on MNIST: 8 and 16 channels, 32 units; milliseconds a step."""

    widths: ClassVar[tuple[int, int, int]] = (8, 16, 32)

    name: Literal["mnist_cnn_small"] = "mnist_cnn_small"
