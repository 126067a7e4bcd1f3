"""Numbers in the param groups of a torch optimizer: where they stand, how they are read, written and scaled."""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

ParamGroup = dict[str, Any]

# The field writes momentum in two ways: SGD's entry "momentum", Adam's betas[0].


def is_beta(group: ParamGroup, name: str) -> bool:
    """Whether `name` is momentum and stands in ``betas[0]``."""
    return name == "momentum" and "momentum" not in group and "betas" in group


def read(group: ParamGroup, name: str) -> float:
    """Return the value now in the group, as `number` does."""
    return number(group["betas"][0] if is_beta(group, name) else group[name])


# Not weakref's own dictionary: it would compare tensors by what they hold, and wait for that.
_READ: MutableMapping[Tensor, tuple[int, float]] = WeakIdKeyDictionary()
"""By tensor on an accelerator: how often it had been written when it was read last, and what it held."""


def number(value: Any) -> float:
    """Return a value as a float. A tensor on an accelerator is waited for, unless nobody has written it since.

    That is told by torch's count of writes, which those through ``tensor.data`` are not in.
    """
    if not isinstance(value, Tensor) or not is_far(value):
        return float(value)
    version, known = _READ.get(value, (-1, 0.0))
    if version != value._version:
        known = float(value)
        _READ[value] = value._version, known
    return known


def is_far(tensor: Tensor) -> bool:
    """Whether reading a number out of a tensor makes the host wait."""
    return tensor.device.type != "cpu"


def write(group: ParamGroup, name: str, value: float) -> None:
    """Put `value` into the group; a tensor is filled and never rebound."""
    beta = is_beta(group, name)
    old = group["betas"][0] if beta else group[name]
    if type(old) is not float and isinstance(old, Tensor):
        old.fill_(value)
        if is_far(old):  # what it holds now is known without asking
            _READ[old] = old._version, float(torch.tensor(value, dtype=old.dtype, device="cpu"))
    elif beta:
        group["betas"] = type(group["betas"])((value, *group["betas"][1:]))
    else:
        group[name] = value


def base_value(group: ParamGroup, name: str) -> float:
    """Return what the user gave: a scheduler that warms up has already scaled lr down, perhaps to zero."""
    return number(group["initial_lr"]) if name == "lr" and "initial_lr" in group else read(group, name)


def first_positive(values: Sequence[float]) -> int:
    """Return the index of the group that speaks for all: the first with a value above zero, else the first."""
    return next((i for i, value in enumerate(values) if value > 0), 0)


def ratio(name: str, value: float, base: float) -> float:
    """Return how `value` relates to `base`: as a factor, for momentum a factor of ``1 - momentum``."""
    if value == base:
        return 1.0
    return (1 - value) / (1 - base) if name == "momentum" else value / base


def scaled(name: str, value: float, ratio: float) -> float:
    """Return `value` scaled by a ratio of `ratio`'s kind; momentum does not fall below zero."""
    if ratio == 1.0:
        return value
    return max(0.0, 1 - ratio * (1 - value)) if name == "momentum" else ratio * value


def check_entry(group: ParamGroup, name: str, index: int) -> None:
    """Refuse a name that is no number of this group.

    Raises:
        ValueError: If there is no such number.
    """
    if is_beta(group, name):
        return
    value = group.get(name)
    if isinstance(value, Tensor) and value.numel() == 1:
        value = float(value)
    if isinstance(value, int | float) and not math.isfinite(value):
        raise ValueError(
            f"param group {index} has {name} {value}, and a value that is tuned has to start from a finite number; "
            "give the optimizer one"
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        numbers = [k for k, v in group.items() if isinstance(v, int | float) and not isinstance(v, bool)]
        numbers += ["momentum"] if "betas" in group else []
        raise ValueError(
            f"param group {index} has no number {name!r} to tune (found {value!r}); "
            f"this optimizer's groups have {', '.join(sorted(numbers))}"
        )


# Schedule-free optimizers hold two points: in train mode the weights are where gradients are taken, in eval mode they
# are the average that is evaluated. `train()` and `eval()` move them there and back.


def train_mode(optimizer: Optimizer) -> bool | None:
    """Return whether a schedule-free optimizer is in train mode; None for optimizers that have no such modes."""
    if not (callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))):
        return None
    mode = optimizer.param_groups[0].get("train_mode", getattr(optimizer, "train_mode", None))
    return mode if isinstance(mode, bool) else None


def set_train_mode(optimizer: Any, mode: bool | None) -> None:
    """Move a schedule-free optimizer to the mode; nothing happens where it is there already or has no modes."""
    if mode is not None and train_mode(optimizer) not in (None, mode):
        (optimizer.train if mode else optimizer.eval)()
