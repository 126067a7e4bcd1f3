"""Initial designs: how well they are spread, and that they do not repeat where points are few."""

import numpy as np
import pytest
from hpo_spaces import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from autotunenet import Categorical, Float, Int, Ordinal, SearchSpace
from autotunenet.hpo import DESIGNS

CUBE = SearchSpace({name: Float(0.0, 1.0) for name in "xyz"})
TABLE = SearchSpace({"a": Ordinal((1, 2, 4)), "b": Int(0, 1), "c": Categorical("xy"), "d": Ordinal((0.0, 0.1))})


def design(name, space, num, seed=0):
    return DESIGNS[name](space, num, np.random.default_rng(seed))


def coordinates(name, num, seed=0):
    return np.array([list(point.values()) for point in design(name, CUBE, num, seed)])


@pytest.mark.parametrize("num", [1, 5, 16])
def test_a_latin_hypercube_has_one_point_in_each_share_of_each_dimension(num):
    shares = np.floor(coordinates("latin_hypercube", num) * num)
    assert (np.sort(shares, axis=0) == np.arange(num)[:, None]).all()


def test_a_sobol_sequence_fills_every_elementary_interval_alike():
    x = coordinates("sobol", 16)[:, :2]
    for cells in ((16, 1), (8, 2), (4, 4), (2, 8), (1, 16)):
        _, counts = np.unique(np.floor(x * cells), axis=0, return_counts=True)
        assert counts.tolist() == [1] * 16
    assert (coordinates("sobol", 5) == coordinates("sobol", 8)[:5]).all()


def test_a_grid_subset_begins_with_points_that_are_far_apart():
    x = coordinates("grid", 8, seed=3)
    assert set(np.unique(x)) <= {0.0, 0.5, 1.0}
    distances = np.linalg.norm(x[:, None] - x, axis=2)
    assert distances[np.triu_indices(8, 1)].min() >= 0.7
    corners = DESIGNS["grid"](SearchSpace({name: Ordinal((0, 1)) for name in "xy"}), 2, np.random.default_rng(0))
    assert {name: 1 - value for name, value in corners[0].items()} == corners[1]


def test_uniform_points_are_independent():
    assert len(np.unique(coordinates("random", 50), axis=0)) == 50


@pytest.mark.parametrize("name", DESIGNS)
@given(space=spaces(), num=st.integers(1, 20), seed=st.integers(0, 5))
@settings(max_examples=25)
def test_designs_stay_inside_and_do_not_repeat(name, space, num, seed):
    points = design(name, space, num, seed)
    assert all(map(space.contains, points))
    if space.num_points is None:
        assert len(points) == num
    else:
        assert len(points) == len({space.index_of(point) for point in points}) == min(num, space.num_points)
    assert points == design(name, space, num, seed)


@pytest.mark.parametrize("name", ["sobol", "latin_hypercube"])
def test_every_level_of_a_small_table_is_soon_seen(name):
    for seed in range(10):
        points = design(name, TABLE, 12, seed)
        assert all(len({point[key] for point in points}) == TABLE[key].num_values for key in TABLE)
