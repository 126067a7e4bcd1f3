"""The same data and the same kind of network as ResNet-18 on CIFAR-10, in the size of a CPU core."""

from __future__ import annotations

from typing import Literal

from autotunenet_bench.models import ResNet
from autotunenet_bench.tasks.cifar10_resnet18 import Cifar10Base


class Cifar10ResNet18Small(Cifar10Base):
    """ResNet-8 (78,042 parameters) on CIFAR-10, augmented; a tenth of a second a step on a CPU core."""

    name: Literal["cifar10_resnet18_small"] = "cifar10_resnet18_small"

    def _network(self) -> ResNet:
        return ResNet((16, 32, 64), blocks_per_stage=1, num_classes=self.num_classes)
