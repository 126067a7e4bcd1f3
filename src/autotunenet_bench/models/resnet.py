"""Residual networks for images of 32x32 pixels, after He et al., "Deep residual learning", CVPR 2016.

The blocks and stages are those of the paper's section 4.1 (two 3x3 convolutions a block, widths that double where the
size is halved); the stem is the one of its section 4.2 for CIFAR-10, a 3x3 convolution without pooling. Where a block
changes the shape, its shortcut is a 1x1 convolution (option B), as in ResNet-18.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResNet(nn.Module):
    """A residual network of basic blocks; each stage after the first halves height and width.

    ``ResNet((64, 128, 256, 512), 2)`` is ResNet-18, 11,173,962 parameters for 10 classes, and ``ResNet((16, 32, 64),
    1)`` is ResNet-8, 78,042.

    Args:
        widths: Channels of each stage, at least one.
        blocks_per_stage: Basic blocks of each stage, at least 1.
        num_classes: Logits that come out.

    >>> ResNet((4, 8), 1)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, widths: Sequence[int], blocks_per_stage: int, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv3(3, widths[0], stride=1), nn.BatchNorm2d(widths[0]), nn.ReLU())
        blocks: list[nn.Module] = []
        for before, width in zip((widths[0], *widths), widths, strict=False):
            stride = 1 if not blocks else 2
            blocks.append(BasicBlock(before, width, stride))
            blocks += [BasicBlock(width, width, 1) for _ in range(blocks_per_stage - 1)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], num_classes)
        self._draw_weights()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(n, num_classes)`` of images ``(n, 3, height, width)``, float, normalised."""
        features = self.blocks(self.stem(images))
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits

    def _draw_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # He et al. 2015, equation 14 (fan-out), which the authors' own code for the paper takes.
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        # Before the first step, batch normalisation in evaluation mode is the identity, and every block doubles the
        # variance. With a small last layer the untrained network guesses all the same, and does not bet.
        with torch.no_grad():
            self.head.weight.mul_(HEAD_SCALE)
            self.head.bias.zero_()


HEAD_SCALE = 0.01
"""Factor on the initial weights of the last layer."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is led by a shortcut, and added.

    Args:
        before: Channels that come in.
        width: Channels that go out.
        stride: By which height and width are divided.
    """

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = _conv3(before, width, stride), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = _conv3(width, width, 1), nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``(n, width, height / stride, width / stride)`` of inputs ``(n, before, height, width)``."""
        hidden = F.relu(self.norm1(self.conv1(inputs)))
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(inputs))


def _conv3(before: int, width: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
