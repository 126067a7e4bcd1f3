"""What every contract asks."""

from __future__ import annotations

import contextlib
import io
import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np


def same(a: Any, b: Any) -> bool:
    """Whether two trees of plain values and tensors are equal bit for bit; NaN equals NaN.

    >>> same({"a": [1.0, float("nan")]}, {"a": [1.0, float("nan")]}), same(1, 1.0)
    (True, False)
    """
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "untyped_storage"):  # a tensor, without importing torch for those who have none
        return bool(a.dtype == b.dtype and a.shape == b.shape and ((a == b) | (a.isnan() & b.isnan())).all())
    return bool(a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b)))


@contextlib.contextmanager
def no_side_effects() -> Iterator[None]:
    """Hold what runs inside to leaving the global random generators alone, and to printing nothing."""
    import torch

    def generators() -> tuple[object, ...]:
        return random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002

    before, printed = generators(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield
    require(generators() == before, "the global random generators belong to the user and must not be touched")
    require(not printed.getvalue(), f"a library must not print; it printed {printed.getvalue()[:80]!r}")


def require(holds: bool, rule: str) -> None:
    """Raise an AssertionError that says the rule, unless it holds."""
    if not holds:
        raise AssertionError(rule)
