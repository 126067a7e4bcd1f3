"""Profiles and ranks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autotunenet_bench.statistics import bootstrap, mean, mean_ranks, profile, ranks, ratio_to_best

NAN, INF = math.nan, math.inf
ROWS = st.lists(st.sampled_from([0.0, 0.1, 0.2, 1.0, 3.5, INF]), min_size=1, max_size=12)


def test_profile_by_hand():
    found = profile([[0.1, 0.4, INF], [0.2]], [0.0, 0.1, 0.3, 0.4, 1e9, INF], seed=0)
    assert found.shares.tolist() == [0.0, 0.25, 0.5, 0.75, 0.75, 1.0]
    assert found.taus.tolist()[:2] == [0.0, 0.1]
    assert (found.low[0], found.high[0]) == (0.0, 0.0)
    # The second cell has one run, always in; of the first all or none of three.
    assert (found.low[3], found.high[3]) == (0.25, 1.0)


def test_the_band_is_the_bootstrap_interval_of_each_share():
    scores = np.random.default_rng(0).normal(size=(3, 6))
    taus = [-0.5, 0.0, 0.7]
    found = profile(scores, taus, seed=4, level=0.8)
    for i, tau in enumerate(taus):
        share = bootstrap((scores <= tau).astype(float), mean, seed=4, level=0.8)
        assert (found.shares[i], found.low[i], found.high[i]) == pytest.approx((share.point, share.low, share.high))


@given(ROWS)
def test_a_profile_rises_is_a_share_and_is_scipys_distribution(row):
    taus = [-1.0, 0.0, 0.15, 0.2, 2.0, 9.0]
    found = profile([row], taus, seed=0, num_resamples=50)
    for line in (found.shares, found.low, found.high):
        assert (np.diff(line) >= 0).all()
        assert ((line >= 0) & (line <= 1)).all()
    assert (found.low <= found.high).all()
    big = [1e9 if value == INF else value for value in row]
    assert found.shares == pytest.approx(stats.ecdf(big).cdf.evaluate(taus))


def test_ratios_by_hand():
    """Three methods on four runs; the last is one that nobody solved, the third one that some solved fully."""
    ratios = ratio_to_best([[1.0, 3.0, 0.0, INF], [2.0, 1.5, 0.0, INF], [4.0, INF, 0.5, INF]])
    assert ratios.tolist() == [[1.0, 2.0, 1.0, INF], [2.0, 1.0, 1.0, INF], [4.0, INF, INF, INF]]
    # Dolan and More's profile of the second method: best on two of four, within a factor of two on three.
    assert profile([ratios[1]], [1.0, 2.0], seed=0).shares.tolist() == [0.5, 0.75]


@given(st.lists(st.floats(1e-3, 1e3), min_size=6, max_size=6), st.floats(1e-2, 1e2))
def test_ratios_have_a_best_and_no_unit(values, unit):
    scores = np.reshape(values, (3, 2))
    ratios = ratio_to_best(scores)
    assert ratios.min(axis=0).tolist() == [1.0, 1.0]
    assert ratio_to_best(scores * unit) == pytest.approx(ratios)


@pytest.mark.parametrize("bad", [[[1.0], [NAN]], [[1.0], [-0.1]], [], 1.0])
def test_ratios_of_what_has_none_are_refused(bad):
    with pytest.raises(ValueError, match="one row a method"):
        ratio_to_best(bad)


@pytest.mark.parametrize("bad", [NAN, -INF])
def test_a_profile_refuses_what_is_no_score(bad):
    with pytest.raises(ValueError, match="scores of cell 0 must be finite"):
        profile([[bad]], [1.0], seed=0)


@pytest.mark.parametrize(("taus", "level"), [([], 0.9), ([NAN], 0.9), (1.0, 0.9), ([[1.0]], 0.9), ([1.0], 0.0)])
def test_a_profile_refuses_wrong_arguments(taus, level):
    with pytest.raises(ValueError, match=r"taus must be|level must be"):
        profile([[1.0]], taus, seed=0, level=level)


@given(ROWS)
def test_ranks_are_scipys(row):
    assert ranks(row).tolist() == stats.rankdata(row, method="average").tolist()


def test_ranks_by_hand_nan_is_last_and_level_with_infinity():
    assert ranks([3.0, NAN, 1.0, INF, 1.0]).tolist() == [3.0, 4.5, 1.5, 4.5, 1.5]
    assert ranks([[1.0, 2.0], [2.0, 1.0]]).tolist() == [[1.0, 2.0], [2.0, 1.0]]
    with pytest.raises(ValueError, match="row of values"):
        ranks(1.0)


def test_mean_ranks_by_hand():
    assert mean_ranks([[0.1, 0.2, 0.2], [0.3, 0.1, 0.2]]).tolist() == [2.0, 1.75, 2.25]


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
def test_mean_ranks_have_a_known_sum_and_know_order_alone(seed, num_cells, num_methods):
    costs = np.random.default_rng(seed).integers(0, 4, size=(num_cells, num_methods))
    found = mean_ranks(costs)
    assert found.sum() == pytest.approx(num_methods * (num_methods + 1) / 2)
    assert mean_ranks(np.exp(costs)).tolist() == found.tolist()


@pytest.mark.parametrize("bad", [[1.0], [], np.zeros((2, 0))])
def test_mean_ranks_need_a_matrix(bad):
    with pytest.raises(ValueError, match="costs must be"):
        mean_ranks(bad)
