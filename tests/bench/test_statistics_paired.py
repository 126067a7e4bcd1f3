"""Paired comparisons and what may be claimed of them."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autotunenet_bench.statistics import (
    Claim,
    Comparison,
    Interval,
    claim,
    compare,
    compare_all,
    holm,
    improvement,
    limits,
    sign_flip,
)
from autotunenet_bench.statistics.paired import NUM_FLIPS, smallest_p
from autotunenet_bench.statistics.resampling import resamples

NAN, INF = math.nan, math.inf
DIFFERENCES = st.lists(st.floats(-1e3, 1e3).map(lambda value: round(value, 3)), min_size=1, max_size=9)
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=7)


def runs(*cells):
    """Scores by (cell, seed)."""
    return {(f"cell {i}", seed): score for i, cell in enumerate(cells) for seed, score in enumerate(cell)}


# -- sign flips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [
        ([1, 2, 3], 2 / 8),
        ([-1, -2, -3], 2 / 8),
        ([1, 2, -1], 6 / 8),  # |sums| are 4, 2, 0, 2 and mirrored; 2 was seen
        ([0.1, 0.2, -0.3], 1.0),  # a sum of 0 but for rounding
        ([0.1, 0.2, 0.3, -0.6, 0.6], 20 / 32),  # 6 and -6 agree: 16, all at least 0.6; else +++ and ---: 4
        ([5], 1.0),
        ([0, 0, 0], 1.0),
        ([1e308, 1e308, 1e308], 2 / 8),
        ([1e-320, 1e-320], 2 / 4),
    ],
)
def test_sign_flip_by_hand(differences, p_value):
    assert sign_flip(differences, seed=0) == p_value


@given(DIFFERENCES)
def test_sign_flip_is_scipys_permutation_test(differences):
    """Dyadic, so that scipy's narrower tolerance of rounding does not matter."""
    whole = [round(value * 8) / 8 for value in differences]
    if len(whole) < 2:
        return
    theirs = stats.permutation_test(
        (whole,), lambda x, axis: np.sum(x, axis=axis), permutation_type="samples", n_resamples=INF, vectorized=True
    )
    assert sign_flip(whole, seed=0) == pytest.approx(min(1.0, theirs.pvalue))


@given(DIFFERENCES, st.floats(1e-3, 1e3))
def test_sign_flip_knows_no_sign_no_order_no_unit_and_is_in_its_range(differences, unit):
    p_value = sign_flip(differences, seed=0)
    assert smallest_p(len(differences)) <= p_value <= 1
    assert sign_flip([-value for value in differences], seed=0) == p_value
    assert sign_flip(differences[::-1], seed=0) == p_value
    assert sign_flip([value * unit for value in differences], seed=0) == pytest.approx(p_value)


@pytest.mark.parametrize("num", [1, 5, 6, 16])
def test_the_smallest_p_is_reached_where_all_agree(num):
    assert sign_flip(np.arange(1.0, num + 1), seed=0) == smallest_p(num) == 2 / 2**num


def test_above_sixteen_pairs_p_is_estimated_and_never_zero():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.8, 1.0, size=17)
    every = np.array(list(itertools.product([1.0, -1.0], repeat=17))) @ differences
    exact = np.mean(np.abs(every) >= abs(differences.sum()) - 1e-9)
    assert 0.01 < exact < 0.5
    estimated = sign_flip(differences, seed=1)
    assert estimated == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / NUM_FLIPS))
    assert sign_flip(differences, seed=1) == estimated != sign_flip(differences, seed=2)
    assert sign_flip(-differences, seed=1) == estimated
    assert sign_flip(np.ones(60), seed=0) == smallest_p(60) == 1 / (NUM_FLIPS + 1)
    assert smallest_p(5000) == 1 / (NUM_FLIPS + 1)


def test_under_the_null_p_is_below_a_twentieth_as_rarely_as_it_should_be():
    """Of n = 8 the attainable levels are multiples of 1/128; 6/128 is the last below 0.05."""
    rng = np.random.default_rng(0)
    rejected = np.mean([sign_flip(rng.standard_t(3, size=8), seed=0) < 0.05 for _ in range(2000)])
    assert rejected == pytest.approx(6 / 128, abs=0.015)


# -- P(improvement) and Holm -----------------------------------------------------------------------------------------


def test_improvement_by_hand():
    assert improvement([[1.0, 2.0], [3.0, 4.0]], [[2.0, 2.0], [4.0, 3.0]]) == (1 + 0.5 + 1 + 0) / 4


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20))
def test_improvement_of_both_sides_adds_up_to_one(pairs):
    a, b = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    assert improvement(a, b) + improvement(b, a) == pytest.approx(1.0)
    assert improvement(a, a) == 0.5


def test_holm_by_hand():
    # Sorted 0.01, 0.015, 0.03, 0.2: times 4, 3, 2, 1 = 0.04, 0.045, 0.06, 0.2.
    assert holm([0.03, 0.2, 0.01, 0.015]) == pytest.approx([0.06, 0.2, 0.04, 0.045])
    # 0.04 x 2 = 0.08, and 0.045 x 1 may not be below it.
    assert holm([0.045, 0.04]) == pytest.approx([0.08, 0.08])
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]


@given(P_VALUES)
def test_holm_is_the_closed_test_over_bonferroni(p_values):
    """Marcus, Peritz and Gabriel (1976): a hypothesis falls where every set of hypotheses that holds it does."""
    sets = [s for k in range(1, len(p_values) + 1) for s in itertools.combinations(range(len(p_values)), k)]
    for i, corrected in enumerate(holm(p_values)):
        assert corrected == pytest.approx(max(min(1, len(s) * min(p_values[j] for j in s)) for s in sets if i in s))


@given(P_VALUES, st.randoms(use_true_random=False))
def test_holm_is_above_raw_p_keeps_the_order_and_knows_no_places(p_values, random):
    corrected = holm(p_values)
    assert (corrected >= p_values).all()
    assert (corrected <= 1).all()
    assert (np.diff(corrected[np.argsort(p_values)]) >= 0).all()
    places = random.sample(range(len(p_values)), len(p_values))
    assert holm([p_values[i] for i in places]).tolist() == [corrected[i] for i in places]


@pytest.mark.parametrize("bad", [[], [NAN], [-0.1], [1.1], [[0.5]]])
def test_holm_refuses_what_is_no_p_value(bad):
    with pytest.raises(ValueError, match="p values must be"):
        holm(bad)


# -- comparisons -----------------------------------------------------------------------------------------------------


def test_a_comparison_by_hand():
    ours, other = runs([1.0, 2.0, 3.0], [4.0, 5.0]), runs([2.0, 4.0, 6.0], [4.0, 4.0])
    result = compare(ours, other, seed=0)
    assert (result.num_pairs, result.num_cells, result.num_seeds) == (5, 2, 2)
    # Differences -1, -2, -3, 0, +1: their sum of -5 is reached by signs ++++- of 1, 2, 3, 1 and by all alike.
    assert (result.difference.point, result.p_value, result.improvement) == (-1.0, 12 / 32, 0.7)
    assert (result.p_holm, result.num_comparisons, result.num_flips) == (12 / 32, 1, 0)
    assert compare(ours, dict(reversed(other.items())), seed=0) == result


def test_pairs_are_found_by_their_names():
    ours = runs(np.arange(8.0), np.arange(8.0) * 10)
    other = {run: score + 1 for run, score in reversed(ours.items())}
    assert compare(ours, other, seed=0).difference == Interval(point=-1.0, low=-1.0, high=-1.0)


def test_the_interval_moves_even_with_one_seed_a_cell():
    """Within cells there is nothing to draw; the pairs of all cells are drawn."""
    ours = runs(*[[score] for score in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)])
    interval = compare(ours, dict.fromkeys(ours, 3.0), seed=0).difference
    assert interval.low < 0 < interval.point == 1.0 < interval.high


def test_the_interval_is_scipys_bca():
    rng = np.random.default_rng(5)
    ours, other = runs(rng.gamma(2.0, size=25)), runs(rng.gamma(2.0, size=25) + 1)
    differences = np.array(list(ours.values())) - np.array(list(other.values()))
    means = np.concatenate([rows.mean(axis=1) for rows in resamples([differences], seed=0, num_resamples=10_000)])
    theirs = stats.bootstrap(
        (differences,),
        np.mean,
        method="BCa",
        n_resamples=0,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=means),
    ).confidence_interval
    found = compare(ours, other, seed=0)
    assert (found.difference.low, found.difference.high) == (pytest.approx(theirs.low), pytest.approx(theirs.high))
    assert found.num_flips == NUM_FLIPS


@given(st.integers(0, 2**32 - 1))
def test_both_sides_see_the_same(seed):
    rng = np.random.default_rng(seed)
    ours, other = runs(rng.normal(size=7), rng.normal(size=2)), runs(rng.normal(size=7), rng.normal(size=2))
    there, back = (compare(a, b, seed=seed, num_resamples=2000) for a, b in ((ours, other), (other, ours)))
    assert (there.p_value, there.improvement) == (back.p_value, pytest.approx(1 - back.improvement))
    assert there.difference.point == -back.difference.point
    assert there.difference.low == pytest.approx(-back.difference.high)
    assert there.difference.high == pytest.approx(-back.difference.low)


def test_holm_is_over_all_that_were_compared():
    rng = np.random.default_rng(0)
    ours = runs(rng.normal(size=9))
    others = {name: runs(rng.normal(shift, size=9)) for name, shift in (("a", 2.0), ("b", 0.1), ("c", 1.0))}
    results = compare_all(ours, others, seed=0)
    assert list(results) == ["a", "b", "c"]
    assert [r.p_holm for r in results.values()] == holm([r.p_value for r in results.values()]).tolist()
    assert {r.num_comparisons for r in results.values()} == {3}
    assert results["b"].difference == compare(ours, others["b"], seed=0).difference


@pytest.mark.parametrize(
    ("ours", "other", "message"),
    [
        (runs([1.0, 2.0]), runs([1.0]), r"1 have one only, such as \('cell 0', 1\)"),
        ({}, {}, "at least one run"),
        (runs([NAN]), runs([1.0]), "at_worst"),
        (runs([1.0]), runs([INF]), "at_worst"),
    ],
)
def test_runs_that_are_missing_or_lost_are_told_and_not_dropped(ours, other, message):
    with pytest.raises(ValueError, match=message):
        compare(ours, other, seed=0)


@pytest.mark.parametrize("bad", [[], [1.0, NAN], [INF]])
def test_sign_flip_and_improvement_refuse_what_is_not_finite(bad):
    with pytest.raises(ValueError, match=r"differences must"):
        sign_flip(bad, seed=0)
    with pytest.raises(ValueError, match=r"scores must"):
        improvement(bad, bad)


def test_wrong_shapes_are_told():
    with pytest.raises(ValueError, match=r"\(2,\) and \(1,\)"):
        improvement([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="at least 1, got 0"):
        smallest_p(0)
    with pytest.raises(ValueError, match="p values must be"):
        compare_all(runs([1.0]), {}, seed=0)


def test_the_global_generator_is_left_alone():
    np.random.seed(1)  # noqa: NPY002
    before = str(np.random.get_state())  # noqa: NPY002
    ours = runs(np.arange(20.0))
    compare(ours, dict.fromkeys(ours, 9.0), seed=0, num_resamples=100)
    assert str(np.random.get_state()) == before  # noqa: NPY002


# -- claims ----------------------------------------------------------------------------------------------------------


def result(low=-2.0, high=-1.0, p_holm=0.04, num_pairs=6, share=0.75):
    return Comparison(
        num_pairs=num_pairs,
        num_cells=1,
        num_seeds=num_pairs,
        difference=Interval(point=(low + high) / 2, low=low, high=high),
        p_value=0.0,
        num_flips=0,
        p_holm=p_holm,
        num_comparisons=2,
        improvement=share,
    )


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        (result(), Claim.MEANINGFULLY_BETTER),
        (result(share=0.74), Claim.BETTER),
        (result(low=1.0, high=2.0, share=0.25), Claim.MEANINGFULLY_WORSE),
        (result(low=1.0, high=2.0, share=0.26), Claim.WORSE),
        (result(high=0.0), Claim.NOTHING),
        (result(low=0.0, high=1.0), Claim.NOTHING),
        (result(high=0.1), Claim.NOTHING),
        (result(p_holm=0.05), Claim.NOTHING),
        (result(num_pairs=5, p_holm=0.001), Claim.NOTHING),
    ],
)
def test_the_rule(comparison, expected):
    assert claim(comparison) is expected


def test_the_rule_asks_for_p_after_holm():
    """Six pairs that all agree carry one claim, and none where two were compared."""
    ours = runs([0.25] * 6)
    others = {"a": dict.fromkeys(ours, 0.5), "b": dict.fromkeys(ours, 0.6)}
    assert claim(compare(ours, others["a"], seed=0)) is Claim.MEANINGFULLY_BETTER
    assert {claim(comparison) for comparison in compare_all(ours, others, seed=0).values()} == {Claim.NOTHING}


@pytest.mark.parametrize("num", range(1, 14))
@pytest.mark.parametrize("num_comparisons", [1, 2, 5, 30])
def test_limits_say_that_nothing_can_be_claimed_exactly_where_the_best_case_claims_nothing(num, num_comparisons):
    ours = runs([0.25] * num)
    others = {str(i): dict.fromkeys(ours, 0.5) for i in range(num_comparisons)}
    best = compare_all(ours, others, seed=0, num_resamples=10)["0"]
    told = limits(num, num, num_comparisons)
    assert told.startswith("Nothing can be claimed") == (claim(best) is Claim.NOTHING)
    assert bool(told) == (num < 10 or claim(best) is Claim.NOTHING)


def test_limits_in_words():
    assert limits(1, 1).endswith("1 pair is fewer than 6, and its smallest two-sided p is 2/2^1 = 1.")
    assert limits(6, 6, 2) == (
        "Nothing can be claimed: the smallest two-sided p of 6 pairs is 2/2^6 = 0.0312, and after Holm's correction "
        "over 2 comparisons 0.0625."
    )
    assert limits(8, 8, 3) == (
        "8 seeds are fewer than 10: of 8 pairs the smallest two-sided p is 2/2^8 = 0.00781 (0.0234 after Holm's "
        "correction); a mean difference below 0.991 standard deviations of the differences is missed more than once in "
        "five times, so that no claim does not mean equal; P(improvement) differs from one half from 7/8 on."
    )
    assert limits(30, 5).endswith(
        "The pairs of one seed in several cells are not independent, so p may be too small. Of a cell by itself "
        "nothing can be claimed: the smallest two-sided p is 2/2^5 = 0.0625."
    )
    assert "Of a cell" not in limits(40, 8)
    assert limits(9, 4, num_same=1, num_run=5).startswith(
        "5 seeds, of which a cell keeps 4 because 1 pair was the very same runs as others, are fewer than 10: of 9 "
    )
    assert limits(5000, 10, 20) == ""


@pytest.mark.parametrize("bad", [(0, 0, 1), (5, 6, 1), (5, 5, 0), (5, 0, 1)])
def test_limits_of_impossible_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="num_seeds must be"):
        limits(*bad)
