"""What a data shift does to labels, and to which classes are common. Pure functions of their arguments."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from autotunenet_bench.data import TensorBatches, stream_seed


def num_replaced(severity: float, num_examples: int) -> int:
    """Return how many examples a severity stands for, rounded to the nearest whole number."""
    return round(severity * num_examples)


def classes_of(labels: Tensor, asked_by: str = "label noise") -> tuple[Tensor, Tensor]:
    """Return the classes that occur, in order, and the index of every label's class.

    Args:
        labels: Shape ``(n,)``, any integer type.
        asked_by: Who needs that, for the error message.

    Raises:
        TypeError: If the labels are not whole numbers of this shape.
        ValueError: If there are fewer than two classes.
    """
    if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.ndim != 1:
        raise TypeError(
            f"{asked_by} needs class labels of shape (n,), got {labels.dtype} of shape {tuple(labels.shape)}; use "
            f"another kind, or a task with classes"
        )
    classes: Tensor
    classes, codes = torch.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"{asked_by} needs at least two classes to choose another from; use another regime or data set"
        )
    return classes, codes


def replace_labels(labels: Tensor, severity: float, seed: int) -> Tensor:
    """Replace a share of the labels by other classes, drawn uniformly from those that occur.

    With one seed, what a severity replaces is replaced in the same way by every higher one.

    Args:
        labels: Shape ``(n,)``, any integer type; stays as it is.
        severity: Share in [0, 1].
        seed: Seed of the choice.

    Returns:
        Shape ``(n,)``; exactly ``round(severity * n)`` entries differ.

    Raises:
        TypeError: If the labels are not whole numbers.
        ValueError: If there are fewer than two classes.

    >>> (replace_labels(torch.arange(10), 0.4, seed=0) != torch.arange(10)).sum().item()
    4
    """
    classes, codes = classes_of(labels)
    rng = np.random.default_rng(seed)
    # Both are drawn for all examples whatever the severity is, which makes the replacements nested.
    order = torch.from_numpy(rng.permutation(len(labels)))
    offsets = torch.from_numpy(rng.integers(1, len(classes), size=len(labels)))
    chosen = order[: num_replaced(severity, len(labels))]
    codes[chosen] = (codes[chosen] + offsets[chosen]) % len(classes)
    return classes[codes]


def partners(classes: Tensor, seed: int) -> dict[int, int]:
    """Give every class another one: a single cycle through all of them, in a random order.

    Args:
        classes: Shape ``(k,)``, each class once, k at least 2.
        seed: Seed of the order.

    >>> pairs = partners(torch.tensor([3, 5, 7]), seed=0)
    >>> sorted(pairs) == sorted(pairs.values()), any(old == new for old, new in pairs.items())
    (True, False)
    """
    order = np.random.default_rng(seed).permutation(classes.numpy()).tolist()
    return dict(zip(order, order[1:] + order[:1], strict=True))


def replace_by_partner(labels: Tensor, severity: float, seed: int, pairs: dict[int, int]) -> Tensor:
    """Replace a share of the labels by the class that `pairs` gives to theirs; nested in severity.

    Args:
        labels: Shape ``(n,)``; stays as it is. Classes that `pairs` does not name keep their labels.
        severity: Share of all labels, in [0, 1].
        seed: Seed of the choice of the examples.
        pairs: The other class of every class.
    """
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
    is_chosen = torch.zeros(len(labels), dtype=torch.bool)
    is_chosen[order[: num_replaced(severity, len(labels))]] = True
    replaced = labels.clone()
    for old, new in pairs.items():
        replaced[is_chosen & (labels == old)] = new
    return replaced


def favoured_classes(classes: Tensor, seed: int) -> Tensor:
    """Choose a third of the classes, rounded down, but at least one.

    >>> len(favoured_classes(torch.arange(10), seed=0))
    3
    """
    return torch.from_numpy(np.random.default_rng(seed).permutation(classes.numpy()))[: max(1, len(classes) // 3)]


def favour(labels: Tensor, favoured: Tensor, severity: float, seed: int) -> Tensor:
    """Return which examples to take so that some classes are more common: a share is replaced by ones of those.

    Args:
        labels: Shape ``(n,)``.
        favoured: The classes that become more common.
        severity: Share of the examples that are replaced, in [0, 1]; nested. At 1 only favoured classes are left.
        seed: Seed of the choice.

    Returns:
        Indices, shape ``(n,)``, with repetitions.

    Raises:
        ValueError: If no example is of a favoured class.
    """
    pool = torch.nonzero(torch.isin(labels, favoured)).flatten()
    if len(pool) == 0:
        raise ValueError(
            f"class prior favours the classes {favoured.tolist()}, of which there is no example here; use "
            f"shift_validation: false, or another split"
        )
    rng = np.random.default_rng(seed)
    order = torch.from_numpy(rng.permutation(len(labels)))
    substitutes = pool[torch.from_numpy(rng.integers(0, len(pool), size=len(labels)))]
    chosen = order[: num_replaced(severity, len(labels))]
    index = torch.arange(len(labels))
    index[chosen] = substitutes[chosen]
    return index


# What the kinds of `data_shift` are made of. `reference` are the untouched training data: whatever both parts must
# share, such as the partner of a class, comes from them.


def label_noise(
    batches: TensorBatches, severity: float, seed: int, part: str, reference: TensorBatches
) -> TensorBatches:
    """Replace a share of the labels by any other classes."""
    if num_replaced(severity, batches.num_examples) == 0:
        return batches
    noise_seed = stream_seed(seed, f"label_noise/{part}")
    return batches.with_tensors(targets=replace_labels(batches.targets, severity, noise_seed))


def class_conditional_label_noise(
    batches: TensorBatches, severity: float, seed: int, part: str, reference: TensorBatches
) -> TensorBatches:
    """Replace a share of the labels by the one other class that belongs to theirs."""
    if num_replaced(severity, batches.num_examples) == 0:
        return batches
    purpose = "class_conditional_label_noise"
    pairs = partners(classes_of(reference.targets)[0], stream_seed(seed, f"{purpose}/partners"))
    noise_seed = stream_seed(seed, f"{purpose}/{part}")
    return batches.with_tensors(targets=replace_by_partner(batches.targets, severity, noise_seed, pairs))


def class_prior(
    batches: TensorBatches, severity: float, seed: int, part: str, reference: TensorBatches
) -> TensorBatches:
    """Replace a share of the examples by ones of the favoured classes."""
    if num_replaced(severity, batches.num_examples) == 0:
        return batches
    favoured = favoured_classes(classes_of(reference.targets)[0], stream_seed(seed, "class_prior/classes"))
    index = favour(batches.targets, favoured, severity, stream_seed(seed, f"class_prior/{part}"))
    return batches.with_tensors(inputs=batches.inputs[index], targets=batches.targets[index])
