"""Grid and random search: what they propose, and when they end."""

import itertools

import numpy as np
import pytest

from autotunenet import Categorical, Float, Int, Ordinal, SearchSpace
from autotunenet.hpo import GridSearch, RandomSearch, Trial, TrialState
from autotunenet.hpo.untried import draw_untried

FINITE = SearchSpace(
    {"lr": Ordinal((2e-5, 3e-5, 5e-5)), "batch": Ordinal((16, 32)), "act": Categorical(("relu", "gelu"))}
)
HUGE = SearchSpace({name: Int(1, 10**9) for name in "abcde"})


def asked(search, most=1000):
    return list(itertools.islice(iter(search.ask, None), most))


def test_a_grid_over_a_finite_space_is_the_space():
    search = GridSearch(FINITE)
    assert [trial.params for trial in asked(search)] == [FINITE.point_at(i) for i in range(12)]
    assert search.is_exhausted
    assert search.ask() is None


def test_a_grid_over_ranges_holds_both_ends_exactly():
    space = SearchSpace({"lr": Float(1e-5, 0.3, log=True), "share": Float(-1, 1), "width": Int(8, 512, log=True)})
    grid = GridSearch(space, points_per_dimension={"lr": 4, "share": 5, "width": 3}).grid
    assert grid["share"] == Ordinal((-1.0, -0.5, 0.0, 0.5, 1.0))
    assert grid["width"] == Ordinal((8, 64, 512))
    lrs = grid["lr"].values
    assert (lrs[0], lrs[-1]) == (1e-5, 0.3)
    assert np.allclose(np.diff(np.log(lrs)), np.log(0.3 / 1e-5) / 3)


def test_whole_numbers_come_once_each():
    values = {
        num: GridSearch(SearchSpace({"n": Int(1, 4)}), points_per_dimension=num).grid["n"] for num in (2, 3, 4, 9)
    }
    assert values == {2: Ordinal((1, 4)), 3: Ordinal((1, 2, 4)), 4: Int(1, 4), 9: Int(1, 4)}
    assert GridSearch(SearchSpace({"n": Int(1, 20, log=True)}), points_per_dimension=12).grid["n"].values[:3] == (
        1,
        2,
        3,
    )


def test_a_random_order_is_a_permutation_that_the_seed_decides():
    orders = [[FINITE.index_of(t.params) for t in asked(GridSearch(FINITE, order="random", seed=s))] for s in (0, 0, 1)]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != list(range(12))


def test_a_grid_too_large_to_list_is_fine():
    for order in ("given", "random"):
        assert len({HUGE.index_of(t.params) for t in asked(GridSearch(HUGE, order=order), most=50)}) == 50


@pytest.mark.parametrize(
    ("points", "error", "rule"),
    [
        (None, ValueError, "over real numbers needs points_per_dimension, for example {'lr': 5}"),
        ({"lr": 1}, ValueError, "both ends of 'lr', so at least 2; got 1"),
        ({"lr": 3, "no": 3}, KeyError, "'no' is not in the space; the ranges are lr"),
        ({"lr": 3, "act": 3}, KeyError, "'act' has its values already"),
    ],
)
def test_grids_that_are_none_are_refused(points, error, rule):
    space = SearchSpace({"lr": Float(0.0, 1.0), "act": Categorical(("relu", "gelu"))})
    with pytest.raises(error, match=rule):
        GridSearch(space, points_per_dimension=points)


def test_an_order_that_is_none_is_refused():
    with pytest.raises(ValueError, match="'given' or 'random', got 'shuffled'"):
        GridSearch(FINITE, order="shuffled")


def test_random_search_has_every_point_of_a_finite_space_once():
    search = RandomSearch(FINITE, seed=3)
    assert sorted(FINITE.index_of(trial.params) for trial in asked(search)) == list(range(12))
    assert search.is_exhausted
    assert not RandomSearch(SearchSpace({"x": Float(0, 1)})).is_exhausted


def test_random_search_takes_each_point_first_equally_often():
    firsts = [FINITE.index_of(RandomSearch(FINITE, seed=seed).ask().params) for seed in range(1200)]
    assert np.bincount(firsts, minlength=12).min() > 60


def test_random_search_looks_over_orders_of_magnitude_in_finite_spaces_too():
    search = RandomSearch(SearchSpace({"width": Int(1, 10**6, log=True)}))
    assert 0.3 < np.mean([trial.params["width"] < 1000 for trial in asked(search, 200)]) < 0.7


def test_every_untried_point_is_drawn_equally_often_however_many_there_are():
    rng = np.random.default_rng(0)
    drawn = [draw_untried(rng, 6, {1, 4}) for _ in range(2000)]
    counts = np.bincount(drawn, minlength=6)
    assert counts[[1, 4]].sum() == 0
    assert counts[[0, 2, 3, 5]].min() > 430
    far = [draw_untried(rng, 10**45, {0}) for _ in range(200)]
    assert 0.4 < np.mean([index > 10**45 // 2 for index in far]) < 0.6


def test_what_was_predicted_survives_a_file():
    trial = Trial(number=0, params={"x": 1}, state=TrialState.DONE, value=1.0, predicted=(0.5, 0.1))
    assert Trial.from_dict(trial.to_dict()) == trial
    assert trial.to_dict()["predicted"] == [0.5, 0.1]
