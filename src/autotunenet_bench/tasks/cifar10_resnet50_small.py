"""The same data and the same kind of network as ResNet-50 on CIFAR-10, in the size of a CPU core."""

from __future__ import annotations

from typing import Literal

from autotunenet_bench.models import Bottleneck, ResNet
from autotunenet_bench.tasks.cifar10_resnet50 import BottleneckBase


class Cifar10ResNet50Small(BottleneckBase):
    """ResNet-11 of bottlenecks (127,642 parameters) on CIFAR-10, halved in the stem; 50 ms a step."""

    name: Literal["cifar10_resnet50_small"] = "cifar10_resnet50_small"

    def _network(self) -> ResNet:
        return ResNet((16, 32, 64), 1, self.num_classes, stem_stride=2, block=Bottleneck)
