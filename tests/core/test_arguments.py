"""What a tuner refuses, and what it says then."""

import math
from decimal import Decimal

import numpy as np
import pytest
import torch
from doubles import new_tuner

from autotunenet.arguments import as_float


@pytest.mark.parametrize(
    "value",
    [
        1,
        1.0,
        True,
        np.float32(1),
        np.ones(()),
        np.ones((1, 1)),
        torch.ones(()),
        torch.ones(1, 1),
        torch.ones((), dtype=torch.int),
    ],
)
def test_one_number_is_one_however_it_comes(value):
    result = as_float(value, "loss")
    assert (type(result), result) == (float, 1.0)


def test_what_is_no_finite_number_is_one_all_the_same():
    assert math.isnan(as_float(torch.tensor(math.nan), "loss"))
    assert as_float(-math.inf, "loss") == -math.inf
    assert [as_float(sign * 10**400, "loss") for sign in (1, -1)] == [math.inf, -math.inf]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (torch.ones(4), r"loss must be one number, .* got Tensor of shape \(4,\); take loss.mean\(\)"),
        (torch.ones(0), r"got Tensor of shape \(0,\)"),
        (np.ones((2, 3)), r"got ndarray of shape \(2, 3\)"),
        (torch.ones((), dtype=torch.complex64), "got Tensor"),
        ("1.0", "got str"),
        (np.array("1.5"), "got ndarray"),
        (bytearray(b"1.5"), "got bytearray"),
        (1j, "got complex"),
        (np.complex64(1 + 2j), "got complex64"),
        (Decimal("sNaN"), "got Decimal"),
        (None, "got NoneType"),
        ([1.0], "got list"),
    ],
)
def test_anything_else_is_refused_in_words_and_changes_nothing(value, told):
    tuner, _ = new_tuner(interval=2)
    tuner.step(1.0)
    before = tuner.state_dict()
    with pytest.raises(TypeError, match=told):
        tuner.step(value)
    assert tuner.state_dict() == before


@pytest.mark.parametrize("name", ["interval", "snapshot_every", "max_rollbacks"])
@pytest.mark.parametrize(("value", "kind"), [(2.5, TypeError), ("5", TypeError), (True, TypeError), (0, ValueError)])
def test_counts_are_whole_numbers_above_zero(name, value, kind):
    with pytest.raises(kind, match=f"{name} must be"):
        new_tuner(**{name: value})
