"""Interquartile mean, bootstrap and Wilson: by hand, against scipy, and what must hold for any numbers."""

import math
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autotunenet_bench.statistics import Interval, bootstrap, interquartile_mean, iqm, mean, wilson
from autotunenet_bench.statistics.resampling import NUM_RESAMPLES, as_strata, resamples

NAN, INF = math.nan, math.inf
NUMBERS = st.floats(-1e6, 1e6)
METHODS = ("percentile", "bca")


def normal_scores(*lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.gamma(2.0, size=length) + i for i, length in enumerate(lengths)]


def drawn(strata, statistic, seed, num=NUM_RESAMPLES):
    return np.concatenate([statistic(rows) for rows in resamples(as_strata(strata), seed=seed, num_resamples=num)])


# -- interquartile mean ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[7.0]], 7.0),
        ([[1.0, 2.0, 6.0]], 3.0),  # fewer than four: nothing is left out
        ([[100.0, 2.0], [4.0, -100.0]], 3.0),
        ([[1.0, 2.0, 3.0, 4.0, 50.0]], 3.0),  # floor(5/4) = 1 at either end
        ([[0.0, 0.0], [1.0, 2.0, 3.0, 4.0], [9.0, 9.0]], 2.5),  # rows of different lengths
    ],
)
def test_interquartile_mean_by_hand(scores, expected):
    assert iqm(scores) == expected


@given(st.lists(NUMBERS, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_interquartile_mean_is_scipys_trimmed_mean_and_knows_no_order(values, random):
    expected = stats.trim_mean(values, 0.25)
    assert iqm([values]) == pytest.approx(expected, rel=1e-9, abs=1e-6)
    shuffled = random.sample(values, len(values))
    assert iqm([shuffled]) == iqm([values])
    cut = len(values) // 2
    if cut > 0:
        assert iqm([shuffled[:cut], shuffled[cut:]]) == iqm([values])


def test_interquartile_mean_works_on_the_last_axis():
    values = np.random.default_rng(0).normal(size=(3, 5, 9))
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25, axis=-1))


# -- bootstrap -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("statistic", [mean, interquartile_mean])
def test_one_cell_is_scipys_interval_of_the_same_resamples(statistic, method):
    (row,) = scores = normal_scores(11)
    ours = bootstrap(scores, statistic, seed=3, method=method, level=0.9)
    theirs = stats.bootstrap(
        (row,),
        lambda values, axis: statistic(np.moveaxis(values, axis, -1)),
        n_resamples=0,
        method=method,
        confidence_level=0.9,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=drawn(scores, statistic, 3)),
    ).confidence_interval
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, rel=1e-9), pytest.approx(theirs.high, rel=1e-9))


@pytest.mark.parametrize("method", METHODS)
def test_two_cells_are_scipys_interval_of_two_samples(method):
    """Lengths differ, so that a mean over all runs weighs the cells, and acceleration needs its N_m."""
    scores = normal_scores(5, 12)
    ours = bootstrap(scores, mean, seed=1, method=method)
    theirs = stats.bootstrap(
        scores,
        lambda a, b, axis: (5 * a.mean(axis=axis) + 12 * b.mean(axis=axis)) / 17,
        n_resamples=0,
        method=method,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=drawn(scores, mean, 1)),
    ).confidence_interval
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, rel=1e-9), pytest.approx(theirs.high, rel=1e-9))


def test_resamples_have_the_distribution_of_all_that_there_are():
    """Three runs of one cell and two of another: 27 x 4 equally likely resamples, whose mean can be listed."""
    cells = [[0.0, 1.0, 5.0], [2.0, 9.0]]
    every = [np.mean([*a, *b]) for a, b in product(product(cells[0], repeat=3), product(cells[1], repeat=2))]
    ours = drawn(cells, mean, seed=0, num=200_000)
    for quantile in (0.0, 0.1, 0.37, 0.62, 0.9, 1.0):
        at = np.quantile(every, quantile, method="inverted_cdf")
        assert np.mean(ours <= at + 1e-9) == pytest.approx(np.mean(np.array(every) <= at + 1e-9), abs=0.005)


def test_bca_by_hand():
    """Of 0, 0, 0, 4 the mean is 1; the jackknife pulls -1, -1, -1 and 3, so a = 24/6 / 12^1.5 = 0.0962."""
    scores = [[0.0, 0.0, 0.0, 4.0]]
    means = drawn(scores, mean, 0)
    normal = stats.norm
    z0 = normal.ppf(np.mean(means < 1) + np.mean(means == 1) / 2)
    a = 4 / 12**1.5
    tails = [normal.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))) for z in normal.ppf([0.025, 0.975])]
    low, high = np.quantile(means, tails)
    ours = bootstrap(scores, mean, seed=0, method="bca")
    assert (ours.point, ours.low, ours.high) == (1.0, pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("unit", [0.1, 0.7])
@pytest.mark.parametrize("whole", [[6, 5, 3, 3, 1, 1, 1, 2, 7], [8, 4, 6, 8, 6, 7, 6, 6, 4], [8, 5, 5, 8, 6, 6, 5, 5]])
def test_ties_that_only_rounding_parts_are_ties(whole, unit):
    """In another order tenths add up to another float, whole numbers to the same one; the unit must not matter."""
    exact = bootstrap([whole], mean, seed=0, method="bca", num_resamples=2000)
    rounded = bootstrap([np.array(whole) * unit], mean, seed=0, method="bca", num_resamples=2000)
    assert (rounded.low, rounded.high) == (pytest.approx(exact.low * unit), pytest.approx(exact.high * unit))


@pytest.mark.parametrize("method", METHODS)
@given(st.integers(0, 2**32 - 1))
def test_the_interval_holds_the_estimate_moves_with_the_scores_and_narrows(method, seed):
    scores = [np.random.default_rng(seed).normal(size=12) + i for i in range(3)]
    wide = bootstrap(scores, mean, seed=seed, method=method, num_resamples=500)
    assert wide.low < wide.point < wide.high
    narrow = bootstrap(scores, mean, seed=seed, method=method, num_resamples=500, level=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high
    moved = bootstrap([row * 2 + 1 for row in scores], mean, seed=seed, method=method, num_resamples=500)
    assert (moved.low, moved.high) == (pytest.approx(wide.low * 2 + 1), pytest.approx(wide.high * 2 + 1))


@pytest.mark.parametrize("method", METHODS)
def test_it_covers_about_as_often_as_it_says(method):
    """200 samples of 20 runs: of nominal 90 % a bootstrap of so few reaches a little less."""
    rng = np.random.default_rng(0)
    intervals = [
        bootstrap(rng.normal(size=(2, 10)), mean, seed=i, method=method, level=0.9, num_resamples=400)
        for i in range(200)
    ]
    assert 0.8 <= np.mean([not interval.excludes(0.0) for interval in intervals]) <= 0.94


@pytest.mark.parametrize("method", METHODS)
def test_cells_stay_as_they_are(method):
    """Cells that differ a lot, seeds that do not: drawn over all runs the interval would be wide."""
    interval = bootstrap([[0.0] * 5, [100.0] * 5], mean, seed=0, method=method)
    assert interval == Interval(point=50.0, low=50.0, high=50.0)
    assert bootstrap([[1.0], [2.0]], mean, seed=0, method=method) == Interval(point=1.5, low=1.5, high=1.5)


def distinct(rows):
    ordered = np.sort(rows, axis=-1)
    return 1.0 + (np.diff(ordered, axis=-1) > 0).sum(axis=-1)


def test_a_statistic_that_all_resamples_miss_has_bounds_nevertheless():
    """Resamples repeat runs, so all have fewer distinct ones, and the bias would be infinite."""
    interval = bootstrap([np.arange(30.0)], distinct, seed=0, method="bca")
    assert (drawn([np.arange(30.0)], distinct, 0) < 30).all()
    assert interval.point == 30 > interval.high == drawn([np.arange(30.0)], distinct, 0).max() >= interval.low


@pytest.mark.parametrize("unit", [0.1, 0.7, 1e-15, 1e15])
def test_a_jackknife_that_only_rounding_moves_gives_no_acceleration(unit):
    """Whichever run is left out, all others are distinct; the unit of the statistic is not that of the scores."""
    for num in range(5, 30):
        scores = [np.arange(float(num))]
        one = bootstrap(scores, distinct, seed=0, method="bca", num_resamples=500)
        other = bootstrap(scores, lambda rows: unit * distinct(rows), seed=0, method="bca", num_resamples=500)
        assert (other.low, other.high) == (pytest.approx(one.low * unit), pytest.approx(one.high * unit))


def test_past_its_pole_bca_stops_at_the_last_resample():
    """All resamples below, one run far above, and a level near 1: a (z0 + z) is above 1."""
    scores = [[*range(19), 1000.0]]

    def statistic(rows):
        return 1000 * distinct(rows) + rows.mean(axis=-1)

    interval = bootstrap(scores, statistic, seed=0, method="bca", level=0.9999)
    assert interval.high == drawn(scores, statistic, 0).max() >= interval.low


def test_seeds_are_all_that_matters_and_the_global_generator_is_left_alone(monkeypatch):
    scores = normal_scores(6, 6)
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()  # noqa: NPY002
    one = bootstrap(scores, seed=0)
    assert str(np.random.get_state()) == str(before)  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert bootstrap(scores, seed=0) == one
    assert bootstrap(scores, seed=1) != one


def test_more_resamples_than_fit_at_once_are_the_number_asked_for(monkeypatch):
    monkeypatch.setattr("autotunenet_bench.statistics.resampling._CHUNK", 50)
    sizes = [len(rows) for rows in resamples(as_strata([[1.0] * 6, [2.0] * 5]), seed=0, num_resamples=10)]
    assert sizes == [4, 4, 2]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_is_not_finite_is_refused_and_the_way_out_named(bad):
    for call in (lambda: iqm([[1.0, bad]]), lambda: bootstrap([[1.0], [bad]], seed=0), lambda: interquartile_mean(bad)):
        with pytest.raises(ValueError, match=r"1 of \d are not; .*at_worst"):
            call()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": []}, "at least one cell"),
        ({"scores": [[1.0], []]}, "scores of cell 1 must hold at least one"),
        ({"scores": [1.0, 2.0]}, "cell 0 has shape"),
        ({"level": 1.0}, "level must be in"),
        ({"num_resamples": 0}, "num_resamples must be at least 1, got 0"),
        ({"method": "basic"}, "got 'basic'"),
        ({"statistic": lambda runs: runs.mean(axis=0)}, "last axis"),
    ],
)
def test_wrong_arguments_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(**{"scores": [[1.0, 2.0, 3.0]], "seed": 0, **arguments})


# -- Wilson ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "num", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (1, 100, 0.0018, 0.0545)]
)
def test_wilson_against_published_values(hits, num, low, high):
    assert wilson(hits, num) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson_holds_the_share_and_mirrors(hits, misses):
    num = hits + misses
    low, high = wilson(hits, num)
    assert 0 <= low <= high <= 1
    assert num == 0 or low - 1e-12 <= hits / num <= high + 1e-12
    assert wilson(misses, num) == (pytest.approx(1 - high), pytest.approx(1 - low))


@given(st.integers(0, 200), st.integers(0, 200), st.sampled_from([0.5, 0.9, 0.99]))
def test_wilson_is_scipys(hits, misses, level):
    if hits + misses == 0:
        return
    theirs = stats.binomtest(hits, hits + misses).proportion_ci(level, method="wilson")
    ours = wilson(hits, hits + misses, z=stats.norm.ppf((1 + level) / 2))
    assert ours == (pytest.approx(theirs.low, abs=1e-9), pytest.approx(theirs.high, abs=1e-9))


@pytest.mark.parametrize(("hits", "num"), [(-1, 5), (6, 5), (1, 0)])
def test_wilson_refuses_what_is_no_share(hits, num):
    with pytest.raises(ValueError, match=f"got {hits} of {num}"):
        wilson(hits, num)
