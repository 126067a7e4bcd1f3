"""What a tuner may be given, and what is said where it is given something else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, SupportsFloat, TypeVar

from autotunenet.controllers import Controller
from autotunenet.space import SearchSpace
from autotunenet.types import Hyperparams

P = TypeVar("P")


_NO_NUMBERS = (str, bytes, bytearray, memoryview)
"""Texts that Python makes numbers of."""


def as_float(value: SupportsFloat, what: str) -> float:
    """Return a number, out of a tensor with one element as well.

    Args:
        value: A number, or a tensor or an array with one element. An integer beyond the range of floats is an infinity,
            as such a number is in tensors and arrays.
        what: Its name in an error.

    Raises:
        TypeError: If it is no number and holds none.

    >>> as_float(2, "loss"), as_float(-(10**400), "loss")
    (2.0, -inf)
    """
    if type(value) is float:
        return value
    try:
        number: Any = value.item() if hasattr(value, "item") else value
        if not isinstance(number, _NO_NUMBERS):
            return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
    except (TypeError, ValueError, RuntimeError) as error:
        fault: Exception | None = error
    else:
        fault = None
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    raise TypeError(
        f"{what} must be one number, or a tensor with one element, got {type(value).__name__}{shape}; "
        f"take {what}.mean() where there are several"
    ) from fault


def check_parts(initial: Hyperparams, space: SearchSpace, controller: Controller) -> None:
    """Refuse parts that do not fit each other.

    Raises:
        ValueError: If the names of run, space and controller differ.
        TypeError: If `controller` is a class.
    """
    if initial.keys() != space.keys():
        raise ValueError(
            f"the space tunes {', '.join(space)} but the run was made for {', '.join(initial)}; "
            "give both the same names, for example TorchRun(model, optimizer, names=space)"
        )
    if isinstance(controller, type):
        name = controller.__name__
        raise TypeError(f"controller must be an instance, not the class {name}: write {name}()")
    if missing := set(controller.needs) - space.keys():
        raise ValueError(
            f"{type(controller).__name__} changes {', '.join(sorted(missing))}, which the space does not name; "
            f"it names {', '.join(space)}"
        )


def check_counts(*, least: int = 1, **counts: int) -> None:
    """Refuse what is no whole number from `least` on.

    Raises:
        TypeError: If one is no integer.
        ValueError: If one is below `least`.
    """
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def as_space(space: Any) -> SearchSpace:
    """Return a search space, made out of a dict where it is none yet.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(space, SearchSpace):
        return space
    if not isinstance(space, Mapping):
        raise TypeError(
            f"space must be a SearchSpace, or a dict like {{'lr': Float(1e-5, 1.0, log=True)}}, got {space!r}"
        )
    return SearchSpace(space)


def as_count(name: str, value: Any) -> int | None:
    """Return a number of steps as an int, also out of 1e4; None stays. Whether it is above 0, `check_counts` sees.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not whole.

    >>> as_count("total_steps", 1e4)
    10000
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a whole number of steps, or None, got {value!r}")
    number = float(value)
    if not number.is_integer():
        raise ValueError(f"{name} must be a whole number of steps, or None, got {value}")
    return int(number)


def as_part(name: str, given: Any, kind: type[P]) -> P | None:
    """Return a part of a tuner: the one given, one with the defaults for True, None for False.

    Raises:
        TypeError: If it is of another kind.
    """
    if given is None or isinstance(given, bool):
        return kind() if given else None
    if not isinstance(given, kind):
        raise TypeError(f"{name} must be True, False or an instance of {kind.__name__}, got {given!r}")
    return given
