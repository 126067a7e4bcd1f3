"""Losses made comparable; a lost run is never dropped."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotunenet_bench.statistics import at_worst, lr_sensitivity, normalised_regret, worst_decile

NAN, INF = math.nan, math.inf
ANY_LOSS = st.floats(width=32) | st.sampled_from([NAN, INF, -INF])


@pytest.mark.parametrize(
    ("loss", "failed", "expected"),
    [(0.3, False, 0.3), (NAN, False, 2.3), (INF, False, 2.3), (-INF, False, 2.3), (9.0, False, 2.3), (0.3, True, 2.3)],
)
def test_a_lost_run_counts_as_the_loss_that_it_began_with(loss, failed, expected):
    assert at_worst(loss, 2.3, failed) == expected


def test_every_run_has_its_own_initial_loss():
    assert at_worst([[NAN, 0.1], [5.0, NAN]], [[2.0], [3.0]], [[False, True], [False, False]]).tolist() == [
        [2.0, 2.0],
        [3.0, 3.0],
    ]


@given(st.lists(ANY_LOSS, min_size=1), st.floats(-10, 10))
def test_no_run_is_dropped_none_counts_above_its_start_and_none_gains_by_being_lost(losses, initial):
    charged = at_worst(losses, initial)
    assert charged.shape == (len(losses),)
    assert np.isfinite(charged).all()
    assert (charged <= initial).all()
    assert (at_worst(losses, initial, True) == initial).all()
    assert at_worst(charged, initial).tolist() == charged.tolist()


@pytest.mark.parametrize("initial", [NAN, INF, [1.0, NAN], []])
def test_without_an_initial_loss_there_is_no_worst(initial):
    with pytest.raises(ValueError, match="initial losses must be finite"):
        at_worst([0.1, 0.2], initial)


def test_no_loss_at_all_is_an_error():
    for call in (lambda: at_worst([], 1.0), lambda: worst_decile([])):
        with pytest.raises(ValueError, match="at least one number"):
            call()


def test_regret_by_hand():
    losses = [0.1, 0.6, 2.1, 3.0, NAN, -1.0, 0.1]
    failed = [False] * 6 + [True]
    found = normalised_regret(losses, initial=2.1, oracle=0.1, failed=failed)
    assert found.tolist() == pytest.approx([0.0, 0.25, 1.0, 1.0, 1.0, 0.0, 1.0])
    cells = normalised_regret([[1.0, 2.0], [1.0, NAN]], initial=[[3.0], [5.0]], oracle=[[1.0], [0.0]])
    assert cells == pytest.approx(np.array([[0.0, 0.5], [0.2, 1.0]]))


@given(st.lists(ANY_LOSS, min_size=1), st.floats(0.1, 10), st.floats(-5, 5))
def test_regret_is_in_its_range_and_has_no_unit(losses, unit, shift):
    losses = [value for value in losses if not abs(value) > 1e3] or [0.0]
    found = normalised_regret(losses, initial=2.0, oracle=0.5)
    assert ((found >= 0) & (found <= 1)).all()
    moved = [value * unit + shift for value in losses]
    other = normalised_regret(moved, initial=2.0 * unit + shift, oracle=0.5 * unit + shift)
    assert other == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("oracle", [2.1, 3.0, NAN, -INF])
def test_an_oracle_that_is_no_better_than_the_start_is_refused(oracle):
    with pytest.raises(ValueError, match="oracle's losses must be"):
        normalised_regret([0.1], initial=2.1, oracle=oracle)


def test_lr_sensitivity_by_hand():
    # 0.5, 0.1, 0.3 and one that blew up, which counts 2.1: the mean of 0.4, 0, 0.2, 2.0.
    assert lr_sensitivity([0.5, 0.1, 0.3, INF], 2.1) == pytest.approx(0.65)
    assert lr_sensitivity([0.5, 0.1, 0.3, 7.0], 2.1, best=0.05) == pytest.approx(0.70)
    assert lr_sensitivity([[0.2, 0.2], [NAN, 0.2]], [[1.0], [2.2]]).tolist() == pytest.approx([0.0, 1.0])
    assert lr_sensitivity([NAN, NAN], 2.0) == 0.0


@given(st.lists(st.floats(0, 5), min_size=2, max_size=9), st.randoms(use_true_random=False))
def test_lr_sensitivity_is_never_negative_and_knows_no_order(losses, random):
    found = lr_sensitivity(losses, 3.0)
    assert 0 <= found <= 3.0
    assert lr_sensitivity(random.sample(losses, len(losses)), 3.0) == pytest.approx(found)


@pytest.mark.parametrize(("losses", "best"), [([0.1], None), (0.1, None), ([0.1, 0.2], NAN)])
def test_lr_sensitivity_needs_a_grid_and_a_finite_best(losses, best):
    with pytest.raises(ValueError, match=r"two lrs|best must be finite"):
        lr_sensitivity(losses, 2.0, best=best)


@pytest.mark.parametrize(
    ("num", "expected"), [(1, 0.0), (9, 8.0), (10, 9.0), (11, 9.5), (20, 18.5), (21, 19.0), (30, 28.0)]
)
def test_worst_decile_by_hand(num, expected):
    """Of 0, 1, ..., n - 1 the mean of the ceil(n / 10) largest."""
    assert worst_decile(range(num)) == expected
    assert worst_decile(np.arange(num)[::-1].reshape(1, -1)) == expected


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_worst_decile_is_between_the_mean_and_the_worst(scores):
    assert np.mean(scores) - 1e-6 <= worst_decile(scores) <= max(scores)


@pytest.mark.parametrize("bad", [NAN, INF])
def test_worst_decile_refuses_what_is_not_finite(bad):
    with pytest.raises(ValueError, match="at_worst"):
        worst_decile([0.1, bad])
