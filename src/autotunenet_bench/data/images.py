"""Decoded images with their labels, and what is made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images and labels exactly as decoded; read-only, because they are shared by the runs of a process.

    Attributes:
        images: Shape ``(n, height, width)`` or ``(n, channels, height, width)``, uint8; may be mapped from a file.
        labels: Shape ``(n,)``, uint8.
    """

    images: Pixels
    labels: Pixels

    def __post_init__(self) -> None:
        self.images.setflags(write=False)
        self.labels.setflags(write=False)

    def __len__(self) -> int:
        return len(self.labels)

    def sha256(self) -> str:
        """Return the digest of all pixels followed by all labels, one byte each, in order."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()

    def raw(self, index: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Return the chosen examples as they are, copied into memory.

        Args:
            index: Which examples, shape ``(k,)``.

        Returns:
            Pixels, shape ``(k, channels, height, width)``, uint8, and targets, shape ``(k,)``, int64.
        """
        pixels = torch.from_numpy(self.images[index])
        if pixels.ndim == 3:
            pixels = pixels.unsqueeze(1)
        return pixels, torch.from_numpy(self.labels[index].astype(np.int64))

    def tensors(
        self, index: NDArray[np.intp], full_scale: int, mean: float | Sequence[float], std: float | Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Return the chosen examples as a network takes them.

        Args:
            index: Which examples, shape ``(k,)``.
            full_scale: The pixel value that becomes 1 before normalisation.
            mean: Subtracted from pixels in [0, 1]; one number, or one for every channel.
            std: Divides what is left; likewise.

        Returns:
            Inputs, shape ``(k, channels, height, width)``, float32, and targets, shape ``(k,)``, int64.
        """
        pixels, targets = self.raw(index)
        inputs = pixels.to(torch.float32).div_(full_scale)
        return inputs.sub_(_per_channel(mean)).div_(_per_channel(std)), targets


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A data set of images as decoded.

    Attributes:
        name: For example ``"mnist"``, ``"mnist-5k"`` (a part of it) or ``"mnist-like"`` (other content in its form).
        source: Where it came from, in words.
        train: What runs train and validate on.
        test: The test images, where the source has them.
        sha256: Of `train`.
    """

    name: str
    source: str
    train: LabelledImages
    test: LabelledImages | None
    sha256: str


def _per_channel(value: float | Sequence[float]) -> float | Tensor:
    return torch.tensor(value, dtype=torch.float32).view(-1, 1, 1) if isinstance(value, Sequence) else value
