"""ResNet-18 on CIFAR-10."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from torch import nn

from autotunenet_bench.data import DataSource
from autotunenet_bench.data.cifar10 import load_cifar10
from autotunenet_bench.models import ResNet
from autotunenet_bench.tasks.base import Task
from autotunenet_bench.types import DataInfo, TaskData


class Cifar10Base(Task):
    """What the CIFAR-10 tasks share: the data. Has no name, and so is no member itself."""

    def load(self, source: DataSource) -> tuple[TaskData, DataInfo]:
        """Return CIFAR-10 from wherever `source` says; see `autotunenet_bench.data.cifar10`."""
        return load_cifar10(source, self.batch_size, self.num_test, self.data_fraction)

    def build_model(self) -> nn.Module:
        """Return the network; inputs ``(n, 3, 32, 32)``, logits ``(n, 10)``."""
        # A step of ResNet-8 took 170 ms this way, 250 ms in the default format, and one of ResNet-18 5.2 s and 5.5 s:
        # 64 images on one busy CPU core with torch 2.13.
        return self._network().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    @abstractmethod
    def _network(self) -> ResNet:
        """Return the network in the default memory format."""


class Cifar10ResNet18(Cifar10Base):
    """ResNet-18 (11,173,962 parameters) on CIFAR-10, augmented; seconds a step on a CPU core."""

    name: Literal["cifar10_resnet18"] = "cifar10_resnet18"

    def _network(self) -> ResNet:
        return ResNet((64, 128, 256, 512), blocks_per_stage=2, num_classes=self.num_classes)
