"""What a curriculum shift does to data. Pure functions of their arguments.

`reference` are the untouched training data: which examples are easy, and which classes come late, is told by them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from autotunenet_bench.data import TensorBatches, stream_seed
from autotunenet_bench.regimes.label_shifts import classes_of

SMALLEST_SHARE = 0.1
"""Share of every class's examples that is left of them at severity 1."""

LONGEST_WAY = 0.25
"""How far images are moved at severity 1, at most, in heights and widths."""

_CHUNK = 1024
"""Examples at a time: in double precision, distances take a copy of them."""


def centroids(inputs: Tensor, codes: Tensor, num_classes: int) -> Tensor:
    """Return the mean input of every class, in double precision.

    Args:
        inputs: Shape ``(n, ...)``, real numbers.
        codes: Shape ``(n,)``, the class of each, from 0 to ``num_classes - 1``; every class at least once.
        num_classes: Number of classes.

    Returns:
        Shape ``(num_classes, features)``.

    >>> centroids(torch.tensor([[0.0], [2.0], [9.0]]), torch.tensor([0, 0, 1]), 2).tolist()
    [[1.0], [9.0]]
    """
    flat = inputs.reshape(len(inputs), -1)
    sums = torch.zeros(num_classes, flat.shape[1], dtype=torch.float64)
    for part, part_codes in zip(torch.split(flat, _CHUNK), torch.split(codes, _CHUNK), strict=True):
        sums.index_add_(0, part_codes, part.double())
    return sums / torch.bincount(codes, minlength=num_classes).unsqueeze(1)


def margins(inputs: Tensor, codes: Tensor, centres: Tensor) -> Tensor:
    """Return how easy inputs are: the distance to the nearest other class's mean minus that to the own class's mean.

    That is the margin of a nearest-centroid classifier; below 0 it is wrong. Ordering examples by the margin of a
    simple classifier follows Bengio et al., "Curriculum learning", ICML 2009, section 4, where examples that a margin
    says are easy come first.

    Args:
        inputs: Shape ``(n, ...)``, real numbers.
        codes: Shape ``(n,)``, rows of `centres`.
        centres: Shape ``(k, features)``, k at least 2; as from `centroids`.

    Returns:
        Shape ``(n,)``, in units of the inputs, in double precision.

    >>> margins(torch.tensor([[0.0], [3.0], [9.0]]), torch.tensor([0, 0, 1]), torch.tensor([[1.0], [9.0]]).double())
    tensor([8., 4., 8.], dtype=torch.float64)
    """
    parts = []
    flat = inputs.reshape(len(inputs), -1)
    for part, own in zip(torch.split(flat, _CHUNK), torch.split(codes, _CHUNK), strict=True):
        # Not by matrix products: they cancel, and round otherwise on another number of threads.
        distances = torch.cdist(part.double(), centres, compute_mode="donot_use_mm_for_euclid_dist")
        own_distance = distances.gather(1, own.unsqueeze(1)).squeeze(1)
        parts.append(distances.scatter(1, own.unsqueeze(1), math.inf).amin(dim=1) - own_distance)
    return torch.cat(parts)


def easiest(codes: Tensor, ease: Tensor, share: float) -> Tensor:
    """Return which example stands in the place of each so that of every class only the easiest ones are left.

    What is easy enough stays in its place. In the others' places stand easy ones of the same class, the easiest first
    and every one equally often, give or take one: labels and the number of examples stay.

    Args:
        codes: Shape ``(n,)``, the class of each.
        ease: Shape ``(n,)``, larger is easier; of equals the first is taken for the easier one.
        share: Of every class's examples, above 0; at least one is left.

    Returns:
        Indices, shape ``(n,)``.

    >>> easiest(torch.tensor([0, 0, 0, 1]), torch.tensor([0.1, 0.9, 0.5, 0.0]), share=0.34).tolist()
    [1, 1, 1, 3]
    """
    index = torch.arange(len(codes))
    for code in torch.unique(codes):
        members = torch.nonzero(codes == code).flatten()
        ranked = members[torch.argsort(ease[members], descending=True, stable=True)]
        num_left = max(1, round(share * len(ranked)))
        hard = ranked[num_left:]
        index[hard] = ranked[torch.arange(len(hard)) % num_left]
    return index


def late_classes(classes: Tensor, severity: float, seed: int) -> Tensor:
    """Choose the classes that are not there yet: ``round(severity * (k - 1))`` of k, so that one at least is.

    With one seed, the classes that a severity leaves out are left out by every higher one.

    >>> [len(late_classes(torch.arange(10), severity, seed=0)) for severity in (0.0, 0.4, 1.0)]
    [0, 4, 9]
    """
    order = torch.from_numpy(np.random.default_rng(seed).permutation(classes.numpy()))
    return order[: round(severity * (len(classes) - 1))]


def move(images: Tensor, offsets: Tensor, background: float) -> Tensor:
    """Move every image by whole pixels.

    Args:
        images: Shape ``(n, channels, height, width)``; stays as it is.
        offsets: Shape ``(n, 2)``, whole numbers: down and to the right.
        background: What comes in at the edges.

    >>> move(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([[1, -1]]), 0.0).squeeze().tolist()
    [[0.0, 0.0], [2.0, 0.0]]
    """
    height, width = images.shape[-2:]
    reach = int(offsets.abs().max())
    framed = F.pad(images, (reach,) * 4, value=background)
    rows = torch.arange(height) + reach - offsets[:, :1]
    columns = torch.arange(width) + reach - offsets[:, 1:]
    number, channel = torch.arange(len(images)), torch.arange(images.shape[1])
    return framed[
        number[:, None, None, None], channel[None, :, None, None], rows[:, None, :, None], columns[:, None, None, :]
    ]


# What the kinds of `curriculum_shift` are made of. `part` names the random stream: "train" or "val", and the epoch too
# where every epoch has draws of its own.


def easy_to_all(
    batches: TensorBatches, strength: float, seed: int, part: str, reference: TensorBatches
) -> TensorBatches:
    """Leave the easiest ``1 - 0.9 * strength`` of every class, in place of all of them."""
    classes, codes = classes_of(reference.targets, "easy to all")
    centres = centroids(reference.inputs, codes, len(classes))
    own = codes if batches is reference else _codes(batches.targets, classes)
    index = easiest(own, margins(batches.inputs, own, centres), 1 - (1 - SMALLEST_SHARE) * strength)
    return _taken(batches, index)


def fewer_classes(
    batches: TensorBatches, strength: float, seed: int, part: str, reference: TensorBatches
) -> TensorBatches:
    """Put examples of the classes that are there in place of those of the late ones, each equally often."""
    late = late_classes(classes_of(reference.targets, "classes")[0], strength, stream_seed(seed, "classes/late"))
    is_late = torch.isin(batches.targets, late)
    pool = torch.nonzero(~is_late).flatten()
    if len(pool) == 0:
        raise ValueError(
            f"of the classes that are there before the trigger there is no example here, all of {len(batches.targets)} "
            f"are of the late classes {late.tolist()}; use shift_validation: false, a lower severity, or another split"
        )
    order = np.random.default_rng(stream_seed(seed, f"classes/{part}")).permutation(len(pool))
    index = torch.arange(batches.num_examples)
    index[is_late] = pool[torch.from_numpy(order)][torch.arange(int(is_late.sum())) % len(pool)]
    return _taken(batches, index)


def augmentation(
    batches: TensorBatches, strength: float, seed: int, part: str, reference: TensorBatches
) -> TensorBatches:
    """Move every image by up to ``0.25 * strength`` of its height and width, to the nearest pixel."""
    rng = np.random.default_rng(stream_seed(seed, f"augmentation/{part}"))
    # One draw whatever the strength is: a higher one moves every image at least as far, the same way. The half makes
    # the ways of whole pixels equally frequent, those to the ends too.
    ways = rng.uniform(-1, 1, size=(batches.num_examples, 2))
    reach = LONGEST_WAY * strength * np.array(batches.inputs.shape[-2:]) + 0.5
    offsets = torch.from_numpy(np.rint(ways * reach).astype(np.int64))
    background = reference.inputs.min().item()
    pieces = zip(torch.split(batches.inputs, _CHUNK), torch.split(offsets, _CHUNK), strict=True)
    moved = torch.cat([move(images, way, background) for images, way in pieces])
    return batches.with_tensors(inputs=torch.empty_like(batches.inputs).copy_(moved))


def _codes(targets: Tensor, classes: Tensor) -> Tensor:
    codes = torch.searchsorted(classes, targets).clamp(max=len(classes) - 1)
    if strange := sorted(set(targets[classes[codes] != targets].tolist())):
        raise ValueError(
            f"no training example is of the classes {strange}, so how easy theirs are cannot be told; use "
            f"shift_validation: false, or another split"
        )
    return codes


def _taken(batches: TensorBatches, index: Tensor) -> TensorBatches:
    """Return the examples of an index in the batches' places; the batches themselves where nothing moves."""
    if torch.equal(index, torch.arange(len(index))):
        return batches
    return batches.with_tensors(inputs=batches.inputs[index], targets=batches.targets[index])
