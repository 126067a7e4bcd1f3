"""What a data shift does to inputs. Pure functions of their arguments; labels and order stay.

`reference` are the untouched training data. Levels such as the middle of the range are measured on them, so that both
parts of the data are shifted alike.

Pixels that are stored with 8 bits are shifted as the camera sees them, before any augmentation and normalisation:
in floats, a part of the images at a time, and rounded and clipped to 8 bits again.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from autotunenet_bench.data import TensorBatches, stream_seed
from autotunenet_bench.regimes.label_shifts import num_replaced

LOWEST_CONTRAST = 0.2
"""Factor on the contrast at severity 1."""

STRONGEST_NOISE = 0.5
"""Standard deviation of the noise at severity 1, in standard deviations of the data."""

_CHUNK = 1024
"""Images at a time: a sampling grid is as large as the images themselves, and floats take four times the bytes."""

_FITTING = (
    "label_noise, class_conditional_label_noise, class_prior, classes, optimizer_shift and loss_noise fit any inputs"
)


def check_pixels(batches: TensorBatches) -> None:
    """Check that there are pixels or features that can change places.

    Raises:
        TypeError: If the inputs are neither ``(n, features)`` nor ``(n, channels, height, width)``, with two or more,
            or are whole numbers other than pixels.
    """
    check_reals(batches, "pixel permutation")
    shape = tuple(batches.inputs.shape)
    if len(shape) not in (2, 4) or _num_pixels(shape) < 2:
        raise TypeError(
            f"pixel permutation needs inputs of shape (n, features) or (n, channels, height, width) with at least two "
            f"features or pixels, got shape {shape}; use another kind or task"
        )


def check_images(batches: TensorBatches, asked_by: str = "rotation") -> None:
    """Check that the inputs are images; `asked_by` needs that, for the error message.

    Raises:
        TypeError: If the inputs are not real numbers or stored pixels of shape ``(n, channels, height, width)``.
    """
    if batches.inputs.ndim != 4 or not (batches.inputs.is_floating_point() or has_stored_pixels(batches)):
        raise TypeError(
            f"{asked_by} needs images of shape (n, channels, height, width), got {batches.inputs.dtype} of shape "
            f"{tuple(batches.inputs.shape)}; use another kind or task: {_FITTING}"
        )


def check_reals(batches: TensorBatches, asked_by: str = "this kind") -> None:
    """Check that the inputs are real numbers, or pixels; `asked_by` needs that, for the error message.

    Raises:
        TypeError: If they are other whole numbers, such as the ids of words.
    """
    if not (batches.inputs.is_floating_point() or has_stored_pixels(batches)):
        raise TypeError(
            f"{asked_by} changes what the inputs measure: inputs of real numbers are needed, got "
            f"{batches.inputs.dtype} of shape {tuple(batches.inputs.shape)}, such as the ids of words; use another "
            f"kind or task: {_FITTING}"
        )


def has_stored_pixels(batches: TensorBatches) -> bool:
    """Return whether the inputs are images of 8 bits, which are normalised on their way to the network."""
    return batches.inputs.dtype == torch.uint8 and batches.inputs.ndim == 4


def permuted_positions(num_positions: int, severity: float, seed: int) -> Tensor:
    """Return where each position takes its value from: one cycle through a random share of them, the rest stays.

    With one seed, the positions that a severity moves are moved by every higher one.

    Args:
        num_positions: Pixels or features.
        severity: Share of the positions, in [0, 1]; what would be a single one stays, for want of a partner.
        seed: Seed of the order.

    Returns:
        Shape ``(num_positions,)``, a permutation.

    >>> (permuted_positions(10, 0.4, seed=0) != torch.arange(10)).sum().item()
    4
    """
    order = torch.from_numpy(np.random.default_rng(seed).permutation(num_positions))
    moved = order[: num_replaced(severity, num_positions)]
    source = torch.arange(num_positions)
    source[moved] = moved.roll(-1)
    return source


def pixel_permutation(
    batches: TensorBatches, severity: float, seed: int, part: str, reference: TensorBatches
) -> TensorBatches:
    """Give a share of the pixels (all channels of one together) or features other places, the same in every input."""
    inputs = batches.inputs
    source = permuted_positions(_num_pixels(inputs.shape), severity, stream_seed(seed, "pixel_permutation"))
    return batches.with_tensors(inputs=_like(inputs.flatten(2 if inputs.ndim == 4 else 1)[..., source], inputs))


def inversion(batches: TensorBatches, severity: float, seed: int, part: str, reference: TensorBatches) -> TensorBatches:
    """Turn a share of the inputs into their negatives, around the middle of the range of the training data.

    A share of the inputs and not of the way to the negative: at half of that way every input would be the same grey.
    """
    low, high = (value.item() for value in reference.inputs.aminmax())
    rng = np.random.default_rng(stream_seed(seed, f"inversion/{part}"))
    chosen = torch.from_numpy(rng.permutation(batches.num_examples))[: num_replaced(severity, batches.num_examples)]
    inputs = batches.inputs.clone()
    inputs[chosen] = _by_floats(lambda images: (low + high) - images, inputs[chosen])
    return batches.with_tensors(inputs=inputs)


def rotation(batches: TensorBatches, severity: float, seed: int, part: str, reference: TensorBatches) -> TensorBatches:
    """Turn the images by ``180 * severity`` degrees; what comes in at the corners is the data's lowest value."""
    background = reference.inputs.min().item()
    turned = [
        _by_floats(lambda part: turn(part, 180 * severity, background), images)
        for images in torch.split(batches.inputs, _CHUNK)
    ]
    return batches.with_tensors(inputs=_like(torch.cat(turned), batches.inputs))


def turn(images: Tensor, degrees: float, background: float) -> Tensor:
    """Turn images about their centres, between pixels bilinearly.

    Args:
        images: Shape ``(n, channels, height, width)``; stays as it is.
        degrees: Clockwise.
        background: What lies outside of an image.

    >>> turn(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), 90.0, 0.0).round().squeeze().tolist()
    [[3.0, 1.0], [4.0, 2.0]]
    """
    angle, aspect = math.radians(degrees), images.shape[-1] / images.shape[-2]
    cosine, sine = math.cos(angle), math.sin(angle)
    # Coordinates run from -1 to 1 along both sides, however long they are; `aspect` makes a turn of what were a shear.
    matrix = images.new_tensor([[cosine, sine / aspect, 0.0], [-sine * aspect, cosine, 0.0]])
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images - background, grid, align_corners=False) + background


def contrast_noise(
    batches: TensorBatches, severity: float, seed: int, part: str, reference: TensorBatches
) -> TensorBatches:
    """Lower the contrast around the mean of the training data, and add Gaussian noise, which every input keeps.

    The contrast falls to ``1 - 0.8 * severity``; the noise has ``0.5 * severity`` standard deviations of the data.
    """
    std, mean = _std_and_mean(reference.inputs)
    rng = np.random.default_rng(stream_seed(seed, f"contrast_noise/{part}"))

    def fade(inputs: Tensor) -> Tensor:
        noise = torch.from_numpy(rng.standard_normal(tuple(inputs.shape), dtype=np.float32)).to(inputs)
        faded = torch.lerp(inputs, torch.full_like(inputs, mean), severity * (1 - LOWEST_CONTRAST))
        return faded.add_(noise, alpha=severity * STRONGEST_NOISE * std)

    return batches.with_tensors(inputs=_by_floats(fade, batches.inputs))


def _by_floats(shift: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Return what `shift` makes of inputs; stored pixels come to it as floats, and are rounded and clipped again."""
    if inputs.is_floating_point():
        return shift(inputs)
    shifted = [shift(part.float()).round_().clamp_(0, 255).to(inputs.dtype) for part in torch.split(inputs, _CHUNK)]
    return _like(torch.cat(shifted), inputs)


def _std_and_mean(inputs: Tensor) -> tuple[float, float]:
    """Return both, over all values; of stored pixels exactly, from sums of whole numbers."""
    if inputs.is_floating_point():
        std, mean = (value.item() for value in torch.std_mean(inputs))
        return std, mean
    total = squares = 0
    for part in torch.split(inputs, _CHUNK):
        values = part.long()
        total, squares = total + int(values.sum()), squares + int((values * values).sum())
    num = inputs.numel()
    return math.sqrt((squares - total * total / num) / max(1, num - 1)), total / num


def _num_pixels(shape: tuple[int, ...]) -> int:
    return math.prod(shape[2:] if len(shape) == 4 else shape[1:])


def _like(values: Tensor, inputs: Tensor) -> Tensor:
    """Return the values in the shape and the memory layout of the inputs, which some networks are faster in."""
    return torch.empty_like(inputs).copy_(values.reshape(inputs.shape))
