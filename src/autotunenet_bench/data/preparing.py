"""What is done to a batch of stored images on its way to the network: augmentation and normalisation.

Images stay in memory as the bytes they are; a batch becomes numbers when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from autotunenet_bench.data.sending import send

Preparation = Callable[[Tensor, torch.Generator | None], Tensor]
"""From the stored inputs of a batch, which it leaves as they are, and the epoch's random stream, if there is one."""


@dataclass(frozen=True)
class Normalise:
    """Turns pixels of 8 bits into numbers: scaled to [0, 1], minus the mean, divided by the standard deviation.

    Args:
        mean: Of each channel, scaled to [0, 1].
        std: Of each channel, likewise.

    >>> Normalise((0.5,), (0.25,))(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), None).flatten().tolist()
    [-2.0, 2.0]
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return float32, shape ``(n, channels, height, width)``, of uint8 in that shape."""
        mean, std = (_made_there(value, images.device).view(-1, 1, 1) for value in (self.mean, self.std))
        return images.to(torch.float32).div_(255).sub_(mean).div_(std)


@dataclass(frozen=True)
class AugmentAndNormalise:
    """The usual augmentation of small images (He et al. 2016, section 4.2), and then `Normalise`.

    Every image is framed with `padding` black pixels, cut to its size again at a random place, and in one of two cases
    mirrored. Without a random stream nothing is drawn and images are normalised alone.

    Args:
        mean: As for `Normalise`.
        std: As for `Normalise`.
        padding: Pixels; by as many an image is moved at most, in each direction.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int = 4

    def __call__(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return float32, shape ``(n, channels, height, width)``, of uint8 in that shape."""
        if generator is not None:
            offsets = torch.randint(0, 2 * self.padding + 1, (len(images), 2), generator=generator)
            is_mirrored = torch.rand(len(images), generator=generator) < 0.5
            images = crop_and_mirror(images, offsets, is_mirrored, self.padding)
        return Normalise(self.mean, self.std)(images, None)


def _made_there(values: Sequence[float], device: torch.device) -> Tensor:
    """Return a vector, made number by number on the device: a copy from the host would be waited for."""
    return torch.stack([torch.full((), value, device=device) for value in values])


def crop_and_mirror(images: Tensor, offsets: Tensor, is_mirrored: Tensor, padding: int) -> Tensor:
    """Cut every image anew out of itself with a black frame, and mirror some of them.

    Args:
        images: Shape ``(n, channels, height, width)``; stays as it is.
        offsets: Shape ``(n, 2)``, from 0 to ``2 * padding``: first row and first column of the cut, within the frame.
        is_mirrored: Shape ``(n,)``: whether left and right change places.
        padding: Width of the frame.

    >>> image, offsets = torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([[2, 1]])
    >>> crop_and_mirror(image, offsets, torch.tensor([True]), padding=1).squeeze().tolist()
    [[4, 3], [0, 0]]
    """
    height, width = images.shape[-2:]
    framed = F.pad(images, (padding,) * 4)
    # A view of every possible cut, of which each image takes one: rows are copied whole.
    cuts = framed.unfold(2, height, 1).unfold(3, width, 1)
    offsets = send(offsets, images.device)
    cut = cuts[torch.arange(len(images), device=images.device), :, offsets[:, 0], offsets[:, 1]]
    return torch.where(send(is_mirrored, images.device).view(-1, 1, 1, 1), cut.flip(3), cut)
