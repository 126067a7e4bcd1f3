"""A small convolutional network on MNIST."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from autotunenet_bench.data import DataSource
from autotunenet_bench.data.mnist import load_mnist
from autotunenet_bench.tasks.base import Task
from autotunenet_bench.types import DataInfo, TaskData


class MnistCnnBase(Task):
    """What the MNIST tasks share: the data and the network. Has no name, and so is no member itself."""

    def load(self, source: DataSource) -> tuple[TaskData, DataInfo]:
        """Return MNIST from wherever `source` says; see `autotunenet_bench.data.mnist`."""
        return load_mnist(source, self.batch_size, self.num_test, self.data_fraction)

    def build_model(self) -> nn.Module:
        """Return the network: conv 3x3 x 32, conv 3x3 x 64, each with ReLU and 2x2 pooling, then 128 and 10 units.

        225,034 parameters; inputs ``(n, 1, 28, 28)``, logits ``(n, 10)``.
        """
        model = nn.Sequential(
            # Pooling before ReLU is the same function (both keep order) on a quarter of the values.
            nn.Conv2d(1, 32, 3),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 5 * 5, 128),
            nn.ReLU(),
            nn.Linear(128, self.num_classes),
        )
        # A step took 15 ms this way, 32 ms in the default format, on one CPU core with torch 2.13.
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class MnistCnn(MnistCnnBase):
    """Small CNN (225,034 parameters) on MNIST, good initial lr."""

    name: Literal["mnist_cnn"] = "mnist_cnn"
