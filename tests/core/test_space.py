"""What may be tuned: bounds, the unit cube, and refusals that say what to do."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotunenet import Categorical, Float, Int, Ordinal, SearchSpace

SPACE = SearchSpace({"lr": Float(1e-5, 1.0, log=True), "layers": Int(1, 4), "act": Categorical(("relu", "gelu"))})


@st.composite
def floats_dimensions(draw):
    log = draw(st.booleans())
    low = draw(st.floats(1e-8, 1e3) if log else st.floats(-1e3, 1e3))
    return Float(low, low + draw(st.floats(1e-3, 1e3)), log=log)


@given(floats_dimensions(), st.floats(0, 1))
def test_float_goes_to_the_unit_interval_and_back(dimension, u):
    value = dimension.from_unit(u)
    assert dimension.contains(value)
    assert dimension.to_unit(value) == pytest.approx(u, abs=1e-6)
    assert dimension.from_unit(dimension.to_unit(value)) == pytest.approx(value, rel=1e-9, abs=1e-9)


@given(floats_dimensions(), st.floats(0, 1), st.floats(0, 1))
def test_float_keeps_the_order(dimension, u, v):
    low, high = sorted((u, v))
    assert dimension.from_unit(low) <= dimension.from_unit(high)


@given(floats_dimensions())
def test_the_ends_of_the_unit_interval_are_the_bounds(dimension):
    assert dimension.from_unit(0.0) == pytest.approx(dimension.low, rel=1e-12)
    assert dimension.from_unit(1.0) == pytest.approx(dimension.high, rel=1e-12)
    assert (dimension.to_unit(dimension.low), dimension.to_unit(dimension.high)) == (0.0, 1.0)


@given(st.integers(-20, 20), st.integers(1, 30), st.booleans())
def test_int_gives_every_number_and_takes_it_back(low, width, log):
    dimension = Int(low if not log else abs(low) + 1, (low if not log else abs(low) + 1) + width, log=log)
    numbers = range(dimension.low, dimension.high + 1)
    assert [dimension.from_unit(dimension.to_unit(n)) for n in numbers] == list(numbers)
    assert {dimension.from_unit(u) for u in np.linspace(0, 1, 4001)} == set(numbers)


def test_int_shares_are_equal():
    counts = np.bincount([Int(0, 3).from_unit(u) for u in np.linspace(0, 1, 4001)])
    assert counts.min() > 990


def test_categorical_shares_are_equal_and_the_end_is_inside():
    dimension = Categorical(("a", "b", "c"))
    assert [dimension.from_unit(u) for u in (-1.0, 0.0, 0.34, 0.67, 1.0, 2.0)] == ["a", "a", "b", "c", "c", "c"]
    assert [dimension.from_unit(dimension.to_unit(c)) for c in "abc"] == ["a", "b", "c"]


@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=9, unique=True).map(sorted), st.floats())
def test_ordinal_gives_every_value_in_an_equal_share_and_takes_it_back(values, asked):
    dimension = Ordinal(values)
    n = len(values)
    assert [dimension.from_unit((i + share) / n) for i in range(n) for share in (0.01, 0.99)] == [
        value for value in values for _ in range(2)
    ]
    assert [dimension.from_unit(u) for u in (-1.0, 2.0)] == [values[0], values[-1]]
    assert [dimension.from_unit(dimension.to_unit(value)) for value in values] == values
    assert dimension.contains(asked) == (asked in values)
    if not math.isnan(asked):
        assert all(abs(dimension.clip(asked) - asked) <= abs(value - asked) for value in values)


def test_ordinal_holds_numbers_only_and_nothing_between_them():
    assert Ordinal((16, 32)).contains(16.0)
    assert not any(map(Ordinal((0, 1, 32)).contains, (24, True, "16", None, math.nan)))
    assert (Ordinal((16, 32)).clip(24), Ordinal((16, 32)).clip(25), Ordinal((16, 32)).clip(-math.inf)) == (16, 32, 16)
    with pytest.raises(ValueError, match="NaN"):
        Ordinal((16, 32)).clip(math.nan)
    with pytest.raises(TypeError, match="finite numbers, got 'a'"):
        Ordinal(("a", "b"))


FINITE = SearchSpace({"a": Ordinal((2e-5, 3e-5, 5e-5)), "b": Int(-1, 2), "c": Categorical(("x", "y"))})


def test_the_points_of_a_finite_space_are_counted_in_the_order_of_a_nested_loop():
    points = [FINITE.point_at(i) for i in range(FINITE.num_points)]
    product = itertools.product((2e-5, 3e-5, 5e-5), (-1, 0, 1, 2), ("x", "y"))
    assert points == [dict(zip("abc", point, strict=True)) for point in product]
    assert [FINITE.index_of(point) for point in points] == list(range(24))
    for index in (-1, 24):
        with pytest.raises(IndexError, match=f"24, got {index}"):
            FINITE.point_at(index)


def test_more_points_than_an_array_could_hold_are_counted_too():
    space = SearchSpace({name: Int(1, 10**9) for name in "abcde"})
    assert space.num_points == 10**45
    assert space.point_at(10**45 - 2) == {**dict.fromkeys("abcd", 10**9), "e": 10**9 - 1}
    assert space.index_of(space.point_at(123 * 10**40 + 7)) == 123 * 10**40 + 7


def test_a_space_with_a_real_range_has_no_points_to_count():
    assert SPACE.num_points is None
    assert SPACE["lr"].num_values is None
    for count in (lambda: SPACE.point_at(0), lambda: SPACE.index_of({"lr": 0.1, "layers": 2, "act": "relu"})):
        with pytest.raises(ValueError, match="lr may be any real number"):
            count()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "0.1", None, True, 2.0, -1.0])
def test_what_is_no_number_of_the_range_is_not_contained(value):
    assert not Float(0.0, 1.0).contains(value)
    assert not Int(0, 1).contains(value)


@pytest.mark.parametrize("value", [1, 1.0, np.float64(1.0), np.int64(1), np.float32(1.0)])
def test_numbers_of_every_make_are_contained(value):
    assert Float(0.0, 1.0).contains(value)
    assert Int(0, 1).contains(value)


def test_clip():
    assert (Float(0.0, 1.0).clip(math.inf), Float(0.0, 1.0).clip(-3), Int(1, 4).clip(2.6), Int(1, 4).clip(-9)) == (
        1.0,
        0.0,
        3,
        1,
    )
    for dimension in (Float(0.0, 1.0), Int(0, 1)):
        with pytest.raises(ValueError, match="NaN"):
            dimension.clip(math.nan)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Float(1.0, 1.0), "low must be below high"),
        (lambda: Float(2.0, 1.0), "low must be below high"),
        (lambda: Float(0.0, 1.0, log=True), "needs low > 0"),
        (lambda: Float(-1.0, 1.0, log=True), "needs low > 0"),
        (lambda: Float(math.nan, 1.0), "finite"),
        (lambda: Float(0.0, math.inf), "finite"),
        (lambda: Int(0, 4, log=True), "needs low > 0"),
        (lambda: Int(0.5, 4), "whole"),
        (lambda: Categorical(("a",)), "at least two"),
        (lambda: Categorical(("a", "b", "a")), "must differ"),
        (lambda: Ordinal((1.0,)), "at least two"),
        (lambda: Ordinal((1, 3, 2)), "must increase"),
        (lambda: Ordinal((1, 1.0)), "must increase"),
        (lambda: SearchSpace({}), "at least one dimension"),
    ],
)
def test_bad_dimensions_are_refused(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()


def test_a_bare_list_is_no_range():
    with pytest.raises(TypeError, match="Float, Int, Categorical or Ordinal"):
        SearchSpace({"lr": [1e-5, 1e-1]})


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(KeyError, match="lr, layers, act"):
        SPACE.clip({"momentum": 0.9})


def test_a_space_cannot_be_changed_from_outside():
    dimensions = {"lr": Float(0.0, 1.0)}
    space = SearchSpace(dimensions)
    dimensions["momentum"] = Float(0.0, 1.0)
    assert list(space) == ["lr"]
    with pytest.raises(TypeError):
        space["momentum"] = Float(0.0, 1.0)


def test_a_range_is_a_range_and_no_choice_between_its_ends():
    rng = np.random.default_rng(0)
    lrs = [SPACE.sample(rng)["lr"] for _ in range(500)]
    assert len(set(lrs)) == 500
    assert 0.4 < np.mean([lr < 10**-2.5 for lr in lrs]) < 0.6


def test_samples_lie_inside_and_the_same_seed_gives_the_same():
    first, second = ([SPACE.sample(rng) for _ in range(50)] for rng in map(np.random.default_rng, (3, 3)))
    assert first == second
    assert all(map(SPACE.contains, first))
    assert all(SPACE.from_unit(SPACE.to_unit(point)).keys() == SPACE.keys() for point in first)


def test_contains_wants_all_names_and_no_other():
    point = {"lr": 0.1, "layers": 2, "act": "relu"}
    assert SPACE.contains(point)
    assert not SPACE.contains({**point, "momentum": 0.9})
    assert not SPACE.contains({"lr": 0.1})


def test_from_unit_wants_one_coordinate_a_dimension():
    with pytest.raises(ValueError, match=r"shape \(3,\), got \(2,\)"):
        SPACE.from_unit(np.zeros(2))
