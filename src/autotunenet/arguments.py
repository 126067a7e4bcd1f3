"""What a tuner may be given, and what is said where it is given something else."""

from __future__ import annotations

from typing import SupportsFloat

from autotunenet.controllers import Controller
from autotunenet.space import SearchSpace
from autotunenet.types import Hyperparams


def as_float(value: SupportsFloat, what: str) -> float:
    """Return a number, out of a tensor with one element as well.

    Args:
        value: A number, or a tensor or an array with one element.
        what: Its name in an error.

    Raises:
        TypeError: If it is no number and holds none.

    >>> as_float(2, "loss")
    2.0
    """
    if type(value) is float:
        return value
    try:
        if not isinstance(value, str | bytes) and not getattr(value, "is_complex", bool)():
            return float(value.detach() if hasattr(value, "detach") else value)
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


def check_counts(**counts: int) -> None:
    """Refuse what is no whole number above 0.

    Raises:
        TypeError: If one is no integer.
        ValueError: If one is below 1.
    """
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
