"""A small convolutional network on MNIST."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import nn

from autotunenet_bench.data import DataSource
from autotunenet_bench.data.mnist import load_mnist
from autotunenet_bench.tasks.base import Task
from autotunenet_bench.types import DataInfo, TaskData


class MnistCnnBase(Task):
    """What the MNIST tasks share: the data and the network. Has no name, and so is no member itself."""

    widths: ClassVar[tuple[int, int, int]] = (32, 64, 128)
    """Channels of the first and the second convolution, units of the hidden layer."""

    def load(self, source: DataSource) -> tuple[TaskData, DataInfo]:
        """Return MNIST from wherever `source` says; see `autotunenet_bench.data.mnist`."""
        return load_mnist(source, self.batch_size, self.num_test, self.data_fraction)

    def build_model(self) -> nn.Module:
        """Return the network: two 3x3 convolutions, each with ReLU and 2x2 pooling, a hidden layer, and 10 units.

        Inputs ``(n, 1, 28, 28)``, logits ``(n, 10)``.
        """
        first, second, hidden = self.widths
        model = nn.Sequential(
            # Pooling before ReLU is the same function (both keep order) on a quarter of the values.
            nn.Conv2d(1, first, 3),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(first, second, 3),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(second * 5 * 5, hidden),
            nn.ReLU(),
            nn.Linear(hidden, self.num_classes),
        )
        # A step took 15 ms this way, 32 ms in the default format, on one CPU core with torch 2.13.
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class MnistCnn(MnistCnnBase):
    """Small CNN (225,034 parameters) on MNIST, good initial lr."""

    name: Literal["mnist_cnn"] = "mnist_cnn"
