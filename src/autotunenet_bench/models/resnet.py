"""Residual networks for images of 32x32 pixels, after He et al., "Deep residual learning", CVPR 2016.

The blocks and stages are those of the paper's section 4.1 (two 3x3 convolutions a block, or three that narrow and widen
again; widths that double where the size is halved); the stem is the one of its section 4.2 for CIFAR-10, a 3x3
convolution without pooling. Where a block changes the shape, its shortcut is a 1x1 convolution (option B), as in
ResNet-18 and ResNet-50.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResNet(nn.Module):
    """A residual network; each stage after the first halves height and width.

    ``ResNet((64, 128, 256, 512), 2)`` is ResNet-18, 11,173,962 parameters for 10 classes, and ``ResNet((16, 32, 64),
    1)`` is ResNet-8, 78,042. ``ResNet((64, 128, 256, 512), (3, 4, 6, 3), block=Bottleneck)`` is ResNet-50, 23,520,842.

    Args:
        widths: Channels of the 3x3 convolutions of each stage, at least one.
        blocks_per_stage: Blocks of each stage, at least 1; one number for all, or a number each.
        num_classes: Logits that come out.
        stem_stride: By which the stem divides height and width already; 1 in the paper.
        block: `BasicBlock`, or `Bottleneck`, of which four times as many channels come out.

    >>> ResNet((4, 8), 1)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        widths: Sequence[int],
        blocks_per_stage: int | Sequence[int],
        num_classes: int = 10,
        stem_stride: int = 1,
        block: type[BasicBlock] | type[Bottleneck] | None = None,
    ) -> None:
        super().__init__()
        make = block or BasicBlock
        if isinstance(blocks_per_stage, int):
            blocks_per_stage = (blocks_per_stage,) * len(widths)
        self.stages = tuple(blocks_per_stage)
        self.stem = nn.Sequential(_conv3(3, widths[0], stem_stride), nn.BatchNorm2d(widths[0]), nn.ReLU())
        blocks: list[nn.Module] = []
        before = widths[0]
        for width, num_blocks in zip(widths, self.stages, strict=True):
            for number in range(num_blocks):
                blocks.append(make(before, width, 2 if blocks and number == 0 else 1))
                before = make.expansion * width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(before, num_classes)
        self._draw_weights()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(n, num_classes)`` of images ``(n, 3, height, width)``, float, normalised."""
        features = self.blocks(self.stem(images))
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        """Copy pretrained weights, and running means and variances, into the blocks.

        Those for images of ImageNet's size come with another stem, 7x7 and with pooling, and other classes: stem and
        last layer stay as they were drawn.

        Args:
            weights: By their names in ``transformers.ResNetForImageClassification``, bottleneck blocks.

        Raises:
            ValueError: If a weight of the blocks is missing or has another shape.
        """
        own = self.blocks.state_dict()
        for name, tensor in own.items():
            other = _name_in_transformers(name, self.stages)
            if other not in weights:
                raise ValueError(f"the pretrained weights lack {other}, which {name} of the blocks is to begin with")
            if weights[other].shape != tensor.shape:
                raise ValueError(
                    f"the pretrained weights {other} have the shape {tuple(weights[other].shape)}, the network's "
                    f"{tuple(tensor.shape)}"
                )
        self.blocks.load_state_dict({name: weights[_name_in_transformers(name, self.stages)] for name in own})

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

    expansion = 1
    """Channels that go out, as a multiple of `width`."""

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


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3 and 1x1 around which the input is led by a shortcut, and added.

    The stride is that of the 3x3 convolution, as in most implementations since, and in the pretrained ones.

    Args:
        before: Channels that come in.
        width: Channels of the 3x3 convolution; four times as many go out.
        stride: By which height and width are divided.
    """

    expansion = 4
    """Channels that go out, as a multiple of `width`."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = self.expansion * width
        self.conv1, self.norm1 = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = _conv3(width, width, stride), nn.BatchNorm2d(width)
        self.conv3, self.norm3 = nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``(n, 4 * width, height / stride, width / stride)`` of inputs ``(n, before, height, width)``."""
        hidden = F.relu(self.norm1(self.conv1(inputs)))
        hidden = F.relu(self.norm2(self.conv2(hidden)))
        return F.relu(self.norm3(self.conv3(hidden)) + self.shortcut(inputs))


def _name_in_transformers(name: str, stages: Sequence[int]) -> str:
    """Return what a weight of the blocks is called there.

    >>> _name_in_transformers("3.norm1.bias", (3, 4))
    'resnet.encoder.stages.1.layers.0.layer.0.normalization.bias'
    >>> _name_in_transformers("0.shortcut.0.weight", (3, 4))
    'resnet.encoder.stages.0.layers.0.shortcut.convolution.weight'
    """
    block, part, *rest = name.split(".")
    number, stage = int(block), 0
    while number >= stages[stage]:
        number, stage = number - stages[stage], stage + 1
    kinds = {"conv": "convolution", "norm": "normalization"}
    if part == "shortcut":
        inner = f"shortcut.{'convolution' if rest[0] == '0' else 'normalization'}"
    else:
        inner = f"layer.{int(part[4:]) - 1}.{kinds[part[:4]]}"
    return f"resnet.encoder.stages.{stage}.layers.{number}.{inner}.{rest[-1]}"


def _conv3(before: int, width: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
