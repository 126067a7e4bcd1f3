"""Surrogate search: batches, predictions, failures, pending trials, and what it finds."""

import sys

import numpy as np
import pytest
from hpo_spaces import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from autotunenet import Categorical, Float, Int, Ordinal, SearchSpace
from autotunenet.hpo import RandomForest, SurrogateSearch, Trial, TrialState
from autotunenet.hpo.losses import Evidence, LossScale

TABLE = SearchSpace(
    {
        "lr": Ordinal((2e-5, 3e-5, 5e-5)),
        "batch": Ordinal((16, 32)),
        "warmup": Ordinal((0.0, 0.1)),
        "act": Categorical(("relu", "gelu")),
    }
)
PLANE = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
SMALL_FOREST = RandomForest(num_trees=8)


def error_of(params):
    """Main effects, an interaction, and one best row."""
    lr, batch, warmup, act = (TABLE[name].rank_of(params[name]) for name in TABLE)
    return 0.1 + 0.02 * abs(lr - 1) + 0.01 * (1 - batch) + 0.005 * warmup + 0.01 * act + 0.02 * (lr == 2) * (1 - batch)


def bowl(params):
    return (params["x"] - 0.3) ** 2 + (params["y"] - 0.6) ** 2


def run(search, objective, num_trials):
    for _ in range(num_trials):
        trial = search.ask()
        search.tell(trial.number, objective(trial.params))
    return search


@pytest.mark.parametrize("surrogate", ["gp", RandomForest(num_trees=20)])
def test_the_best_of_24_is_found_with_10_trials(surrogate):
    best = [run(SurrogateSearch(TABLE, surrogate=surrogate, seed=seed), error_of, 10).best.value for seed in range(5)]
    assert sum(value == 0.1 for value in best) >= 4  # chance finds 2.1 of 5


def test_a_minimum_of_a_plane_is_found():
    for surrogate, close in (("gp", 1e-4), (SMALL_FOREST, 0.03)):
        assert run(SurrogateSearch(PLANE, surrogate=surrogate, seed=0), bowl, 20).best.value < close


@pytest.mark.parametrize("surrogate", ["gp", SMALL_FOREST])
def test_a_batch_is_the_top_of_one_fit_whatever_its_members_are_told(surrogate):
    def batch(told):
        search = SurrogateSearch(TABLE, surrogate=surrogate, acquisition="mean", num_initial=8, batch_size=4, seed=2)
        run(search, error_of, 8)
        chosen = []
        for _ in range(4):
            chosen.append(search.ask())
            if told:
                search.tell(chosen[-1].number, 1e6)
        return chosen

    chosen = batch(told=False)
    assert batch(told=True) == chosen
    expected = [trial.predicted[0] for trial in chosen]
    assert expected == sorted(expected)
    assert np.mean([error_of(trial.params) for trial in chosen]) < 0.12  # the mean of the table is 0.138


def test_points_of_a_batch_keep_apart_in_a_plane():
    search = run(SurrogateSearch(PLANE, num_initial=6, batch_size=3, acquisition="mean"), bowl, 6)
    points = [PLANE.to_unit(search.ask().params) for _ in range(3)]
    assert min(np.abs(points[i] - points[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 0.05


def test_predictions_come_in_the_sign_and_size_of_the_objective():
    searches = {
        sign: SurrogateSearch(PLANE, seed=1, direction=way) for sign, way in ((1, "minimize"), (-1, "maximize"))
    }
    for sign, search in searches.items():
        run(search, lambda params, sign=sign: sign * (500.0 + 100.0 * bowl(params)), 12)
    low, high = (search.trials for search in searches.values())
    assert [trial.predicted for trial in low[:3]] == [None] * 3
    for a, b in zip(low[3:], high[3:], strict=True):
        assert a.params == b.params
        assert (a.predicted[0], a.predicted[1]) == pytest.approx((-b.predicted[0], b.predicted[1]))
    for trial in low[6:]:
        mean, std = trial.predicted
        assert abs(trial.value - mean) < 4 * std + 1.0
        assert std < 60


def test_regions_that_fail_are_left_alone():
    """The objective falls towards a cliff; beyond it there is no value."""

    def cliff(params):
        return None if params["x"] > 0.6 else 1.0 - params["x"] + 0.1 * params["y"]

    for surrogate in ("gp", SMALL_FOREST):
        search = run(SurrogateSearch(PLANE, surrogate=surrogate, num_initial=6, seed=0), cliff, 26)
        late = search.trials[-12:]
        assert sum(trial.state is TrialState.FAILED for trial in late) <= 5  # chance: 4.8
        assert search.best.value < 0.46


@pytest.mark.parametrize("value", [None, 2.3])
def test_where_nothing_tells_points_apart_it_looks_elsewhere(value):
    search = run(SurrogateSearch(PLANE, seed=0), lambda params: value, 12)
    points = np.stack([PLANE.to_unit(trial.params) for trial in search.trials])
    distances = np.linalg.norm(points[:, None] - points, axis=2)[np.triu_indices(12, 1)]
    assert distances.min() > 0.14  # of 12 random points the nearest two are about 0.05 apart
    assert {trial.predicted for trial in search.trials} == {None}


def test_pending_trials_are_kept_away_from():
    for surrogate in ("gp", SMALL_FOREST):
        search = run(SurrogateSearch(PLANE, surrogate=surrogate, seed=0), bowl, 8)
        points = [PLANE.to_unit(search.ask().params) for _ in range(4)]
        assert len({tuple(point) for point in points}) == 4
    table = SurrogateSearch(TABLE, seed=0)
    assert len({TABLE.index_of(table.ask().params) for _ in range(24)}) == 24
    assert table.ask() is None


def test_more_points_than_can_be_listed():
    space = SearchSpace({name: Int(1, 10**6, log=True) for name in "abc"})
    search = run(SurrogateSearch(space, surrogate=SMALL_FOREST), lambda params: params["a"] / params["b"], 8)
    assert len({space.index_of(trial.params) for trial in search.trials}) == 8


@given(space=spaces(), seed=st.integers(0, 3), batch_size=st.integers(1, 3))
@settings(max_examples=20)
def test_any_space_is_searched_without_repeats_to_its_end(space, seed, batch_size):
    search = SurrogateSearch(space, surrogate=RandomForest(num_trees=3), seed=seed, batch_size=batch_size)
    for value in (0.5, None, 1e300, float("nan"), -3.0, 0.5, 2.0, 0.1):
        trial = search.ask()
        if trial is None:
            assert len(search.trials) == space.num_points
            break
        assert space.contains(trial.params)
        search.tell(trial.number, value)
    if space.num_points is not None:
        points = [space.index_of(trial.params) for trial in search.trials]
        assert len(points) == len(set(points))
        assert search.is_exhausted == (len(points) == space.num_points)


def test_evidence_of_failed_and_pending_trials():
    done = [Trial(number=i, params={}, state=TrialState.DONE, value=v) for i, v in enumerate((1.0, 2.0, 3.0))]
    failed = Trial(number=3, params={}, state=TrialState.FAILED)
    pending = Trial(number=4, params={})
    evidence = Evidence.of([*done, failed, pending], lambda trial: trial.value)
    losses = evidence.losses * evidence.scale.scale + evidence.scale.center
    assert losses == pytest.approx([1.0, 2.0, 3.0, 3.0, 2.25])
    assert evidence.is_done.tolist() == [True] * 3 + [False] * 2
    assert not Evidence.of([failed, pending], lambda trial: trial.value).losses.any()


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=12))
def test_losses_of_any_size_have_a_scale(losses):
    losses = np.array(losses)
    with np.errstate(all="raise", under="ignore"):
        scale = LossScale.of(losses)
        unit = scale.to_unit(losses)
    assert np.isfinite(unit).all()
    assert np.argmin(unit) == np.argmin(losses) or unit[np.argmin(losses)] == unit.min()
    assert np.abs(unit).max() < 10


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"surrogate": "tree"}, "surrogate must be one of gp, random_forest, got 'tree'"),
        ({"acquisition": "best"}, "acquisition must be one of log_ei, ei, pi, lcb, mean, got 'best'"),
        ({"initial": "none"}, "initial must be one of sobol"),
        ({"num_initial": 0}, "num_initial must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"direction": "down"}, "direction must be"),
    ],
)
def test_settings_that_are_none_are_refused(settings, rule):
    with pytest.raises(ValueError, match=rule):
        SurrogateSearch(PLANE, **settings)


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"SurrogateSearch needs scipy and scikit-learn .*autotunenet\[hpo\]"):
        SurrogateSearch(PLANE)
