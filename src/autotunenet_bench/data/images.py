"""Decoded images with their labels, and what is made of them."""

from __future__ import annotations

import hashlib
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
        images: Shape ``(n, height, width)``, uint8.
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
        return hashlib.sha256(self.images.tobytes() + self.labels.tobytes()).hexdigest()

    def tensors(self, index: NDArray[np.intp], full_scale: int, mean: float, std: float) -> tuple[Tensor, Tensor]:
        """Return the chosen examples as a network takes them.

        Args:
            index: Which examples, shape ``(k,)``.
            full_scale: The pixel value that becomes 1 before normalisation.
            mean: Subtracted from pixels in [0, 1].
            std: Divides what is left.

        Returns:
            Inputs, shape ``(k, 1, height, width)``, float32, and targets, shape ``(k,)``, int64.
        """
        pixels = torch.from_numpy(self.images[index]).to(torch.float32).unsqueeze(1)
        inputs = pixels.div_(full_scale).sub_(mean).div_(std)
        return inputs, torch.from_numpy(self.labels[index].astype(np.int64))
