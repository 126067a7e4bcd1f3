"""The online Gaussian process: what must hold whatever the data, and that its state resumes."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autotunenet import surrogates
from autotunenet.surrogates import TimeDecayGP, expected_improvement, probability_below

OBSERVATIONS = st.lists(
    st.tuples(
        st.tuples(st.floats(0, 1), st.floats(0, 1)),
        st.integers(0, 40),
        st.one_of(st.floats(-10, 10), st.sampled_from([0.0, 1e-8, 1e8, -1e60, 1e60])),
        st.sampled_from([None, None, 0.0, 1e-20, 0.5, 1e6]),
    ),
    max_size=12,
)
POINTS = np.array([[0.5, 0.5], [0.0, 1.0], [0.3, 0.2]])


def filled(observations, **arguments):
    gp = TimeDecayGP(2, **arguments)
    for observation in observations:
        gp.add(*observation)
    return gp


def learned(num=12, **arguments):
    rng = np.random.default_rng(0)
    return filled([(x, t, math.sin(4 * x[0]) + x[1]) for t, x in enumerate(rng.random((num, 2)))], **arguments)


@given(OBSERVATIONS, st.sampled_from([None, 1e-6, 3.0]))
def test_predictions_are_finite_whatever_is_added(observations, scale):
    gp = filled(observations, scale=scale)
    mean, std = gp.predict(POINTS, t=41)
    assert mean.shape == std.shape == (3,)
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
    assert (std >= 0).all()
    assert math.isfinite(gp.log_marginal_likelihood())


@given(OBSERVATIONS, st.integers(0, 12))
def test_resumes_bit_for_bit(observations, cut):
    whole, first = filled(observations), filled(observations[:cut])
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    resumed = TimeDecayGP(2)
    resumed.add([0.0, 0.0], 0, 5.0)  # gone when the state is loaded
    resumed.predict(POINTS, 1)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    for observation in observations[cut:]:
        resumed.add(*observation)
    assert resumed.state_dict() == whole.state_dict()
    for ours, theirs in zip(resumed.predict(POINTS, 50), whole.predict(POINTS, 50), strict=True):
        assert ours.tobytes() == theirs.tobytes()
    assert resumed.hyperparams == whole.hyperparams


def test_a_state_shares_nothing_with_the_live_object():
    gp = learned()
    state = gp.state_dict()
    copy = TimeDecayGP(2)
    copy.load_state_dict(state)
    gp.forget(inflation=4.0)
    assert copy.state_dict() == state != gp.state_dict()


@pytest.mark.parametrize(
    ("state", "rule"),
    [({}, "lacks"), ({"_observations": [[[0.0], 0.0, 0.0, None, 1.0]]}, "num_dims=2"), (None, "window=3")],
)
def test_foreign_states_are_refused_and_nothing_is_loaded(state, rule):
    gp = learned(num=3, window=3)
    before = gp.state_dict()
    with pytest.raises(ValueError, match=rule):
        gp.load_state_dict(learned(num=4).state_dict() if state is None else state)
    assert gp.state_dict() == before


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 8))
def test_the_window_holds_the_newest_by_time_in_order(times, window):
    gp = TimeDecayGP(1, window=window)
    for index, t in enumerate(times):
        gp.add([0.5], t, index)
    kept = [(seen[1], seen[2]) for seen in gp.state_dict()["_observations"]]
    assert kept == sorted((t, index) for index, t in enumerate(times))[-window:]
    assert len(gp) == min(len(times), window)


def test_the_window_forgets_the_same_as_if_it_had_never_seen():
    rng = np.random.default_rng(1)
    seen = [(x, t, float(x.sum())) for t, x in enumerate(rng.random((9, 2)))]
    for ours, theirs in zip(
        filled(seen, window=4).predict(POINTS, 9), filled(seen[-4:]).predict(POINTS, 9), strict=True
    ):
        assert ours.tobytes() == theirs.tobytes()


@given(OBSERVATIONS.filter(bool), st.lists(st.floats(0, 500), min_size=2, max_size=6))
def test_uncertainty_grows_with_elapsed_time_up_to_the_prior(observations, delays):
    gp = filled(observations)
    stds = np.array([gp.predict(POINTS, 41 + delay)[1] for delay in sorted(delays)])
    prior = math.sqrt(gp.hyperparams.signal_variance)
    assert (np.diff(stds, axis=0) >= -1e-6 * prior).all()
    assert (stds <= prior * (1 + 1e-12)).all()


@pytest.mark.parametrize(("x", "t"), [([[50.0, -50.0]], 12), ([[0.5, 0.5]], 1e5)])
def test_far_away_in_space_or_time_is_the_prior(x, t):
    gp = learned(mean=7.0)
    mean, std = gp.predict(x, t)
    assert mean == pytest.approx([7.0], abs=1e-9)
    assert std == pytest.approx([math.sqrt(gp.hyperparams.signal_variance)], rel=1e-9)


def test_a_world_that_does_not_change_grows_no_older():
    gp = learned(taus=(math.inf,))
    assert gp.predict(POINTS, 1e6)[1].tolist() == gp.predict(POINTS, 12)[1].tolist()


@pytest.mark.parametrize(("scale", "expected"), [(None, 1.0), (0.25, 0.25)])
def test_without_observations_there_is_the_prior(scale, expected):
    gp = TimeDecayGP(2, mean=3.0, scale=scale)
    mean, std = gp.predict(POINTS, 0)
    assert (len(gp), gp.log_marginal_likelihood()) == (0, 0.0)
    assert (mean.tolist(), std.tolist()) == ([3.0] * 3, [expected] * 3)


@pytest.mark.parametrize("y", [0.0, 1.0, 1e-8, 1e8])
@pytest.mark.parametrize("num", [1, 2, 5])
def test_a_few_equal_values_are_no_certainty(y, num):
    gp = filled([((0.5, 0.5), t, y) for t in range(num)])
    _, std = gp.predict([[0.5, 0.5], [0.9, 0.1]], num)
    scale = y or 1.0
    assert std[0] > (0.3 if num == 1 else 0.1) * scale
    assert std[1] > 0.3 * scale


@pytest.mark.parametrize("size", [1e-8, 1e-3, 1e8])
def test_units_of_y_do_not_matter(size):
    rng = np.random.default_rng(3)
    seen = [(x, t, float(x.sum() + rng.normal())) for t, x in enumerate(rng.random((20, 2)))]
    gp, scaled = filled(seen), filled([(x, t, y * size) for x, t, y in seen])
    for plain, other in zip(gp.predict(POINTS, 20), scaled.predict(POINTS, 20), strict=True):
        np.testing.assert_allclose(other / size, plain, rtol=1e-9)
    assert scaled.log_marginal_likelihood() == pytest.approx(gp.log_marginal_likelihood() - 20 * math.log(size))


def test_more_is_learned_where_the_noise_is_small():
    def std(noise):
        return filled([((0.5, 0.5), 0, 1.0, noise), ((0.1, 0.1), 0, -1.0, 0.1)], scale=1.0).predict([[0.5, 0.5]], 0)[1]

    assert std(1e-4) < 0.1 < std(0.5) < std(10.0)


def test_an_observation_without_noise_gets_the_mean_of_the_others():
    seen = [((0.1, 0.2), 0, 1.0), ((0.5, 0.2), 1, 0.5), ((0.9, 0.9), 2, 0.3)]
    mixed = filled([(*one, noise) for one, noise in zip(seen, (0.1, 0.3, None), strict=True)])
    told = filled([(*one, noise) for one, noise in zip(seen, (0.1, 0.3, 0.2), strict=True)])
    assert mixed.predict(POINTS, 3)[1] == pytest.approx(told.predict(POINTS, 3)[1], rel=1e-12)
    assert mixed.hyperparams.noise_variance == pytest.approx(0.2)


def test_forgetting_all_or_what_is_old():
    gp = learned()
    gp.predict(POINTS, 12)
    gp.forget(before=9)
    assert [seen[1] for seen in gp.state_dict()["_observations"]] == [9.0, 10.0, 11.0]
    assert gp.predict(POINTS, 12)[0].tolist() != learned().predict(POINTS, 12)[0].tolist()
    gp.forget()
    assert len(gp) == 0
    assert gp.predict(POINTS, 12)[0].tolist() == [0.0] * 3


@pytest.mark.parametrize("noise", [None, 0.01])
def test_inflation_trusts_what_is_old_less_and_lets_the_new_win(noise):
    old, new = [((0.5, 0.5), 0, 1.0, noise)] * 3, [((0.5, 0.5), 1, -1.0, noise)]
    settings = {"scale": 1.0, "taus": (math.inf,), "noise_ratios": (0.05,), "signal_ratios": (1.0,)}
    plain, inflated, forgetful = (filled(old, **settings) for _ in range(3))
    inflated.forget(before=1, inflation=10.0)
    inflated.forget(inflation=100.0)
    forgetful.forget()
    means = []
    for gp in (plain, inflated, forgetful):
        gp.add(*new[0])
        means.append(gp.predict([[0.5, 0.5]], 1)[0].item())
    assert means[0] > means[1] + 1.0
    assert means[1] == pytest.approx(means[2], abs=0.05)
    assert [seen[4] for seen in inflated.state_dict()["_observations"]] == [1000.0] * 3 + [1.0]
    for _ in range(40):
        inflated.forget(inflation=1e60)
    assert np.isfinite(inflated.predict(POINTS, 2)).all()


def test_what_was_predicted_before_does_not_matter():
    asked = TimeDecayGP(2)
    for t, x in enumerate(np.random.default_rng(0).random((12, 2))):
        asked.predict(POINTS, t)
        asked.add(x, t, math.sin(4 * x[0]) + x[1])
    assert asked.predict(POINTS, 12)[0].tolist() == learned().predict(POINTS, 12)[0].tolist()


def test_exact_observations_at_one_point_that_disagree_are_averaged():
    gp = filled([((0.5, 0.5), 0, y, 0.0) for y in (1.0, -1.0)], mean=0.25)
    mean, std = gp.predict([[0.5, 0.5]], 0)
    assert mean.item() == pytest.approx(0.0, abs=1e-6)
    assert std.item() == pytest.approx(math.sqrt(gp.hyperparams.signal_variance * 1e-8 / 2), rel=1e-3)


def test_even_an_exact_observation_keeps_a_little_noise():
    gp = filled([((0.5, 0.5), 0, 1.0, 0.0)])
    std = gp.predict([[0.5, 0.5]], 0)[1]
    assert std.item() == pytest.approx(math.sqrt(gp.hyperparams.signal_variance * 1e-8), rel=1e-3)


def test_inputs_are_copied():
    gp, x = TimeDecayGP(2), np.array([0.1, 0.2])
    gp.add(x, 0, 1.0)
    x[:] = 9.0
    assert gp.state_dict()["_observations"][0][0] == [0.1, 0.2]


def test_a_time_for_every_point():
    gp = learned()
    mean, std = gp.predict(POINTS, [12, 20, 30])
    each = [gp.predict(POINTS[i : i + 1], t) for i, t in enumerate([12, 20, 30])]
    assert mean == pytest.approx([m.item() for m, _ in each], rel=1e-12)
    assert std == pytest.approx([s.item() for _, s in each], rel=1e-12)
    assert [part.shape for part in gp.predict(np.empty((0, 2)), 12)] == [(0,), (0,)]


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda gp: gp.add([0.1], 0, 1.0), "2 finite numbers"),
        (lambda gp: gp.add([0.1, math.nan], 0, 1.0), "2 finite numbers"),
        (lambda gp: gp.add([0.1, 0.1], 0, math.nan), "y must be finite"),
        (lambda gp: gp.add([0.1, 0.1], math.inf, 0.0), "t must be finite"),
        (lambda gp: gp.add([0.1, 0.1], 0, 1.0, -1.0), "must not be negative"),
        (lambda gp: gp.add([0.1, 0.1], 0, 1.0, math.nan), "noise must be finite"),
        (lambda gp: gp.predict([0.1, 0.1], 0), "shape"),
        (lambda gp: gp.predict([[0.1, 0.1]], [0, 1]), "shape"),
        (lambda gp: gp.predict([[0.1, math.nan]], 0), "finite"),
        (lambda gp: gp.predict([[0.1, 0.1]], math.nan), "finite"),
        (lambda gp: gp.forget(inflation=0.5), "at least 1"),
        (lambda gp: gp.forget(before=math.nan), "before must be finite"),
        (lambda gp: TimeDecayGP(0), "num_dims"),
        (lambda gp: TimeDecayGP(1, window=0), "window"),
        (lambda gp: TimeDecayGP(1, scale=0.0), "scale"),
        (lambda gp: TimeDecayGP(1, mean=math.inf), "mean must be finite"),
        (lambda gp: TimeDecayGP(1, taus=()), "taus"),
        (lambda gp: TimeDecayGP(1, taus=(0.0, 1.0)), "taus"),
        (lambda gp: TimeDecayGP(1, length_scales=(1.0, 0.5)), "length_scales must be ascending"),
        (lambda gp: TimeDecayGP(1, length_scales=(math.nan,)), "length_scales"),
        (lambda gp: TimeDecayGP(1, noise_ratios=(1e-12,)), "noise_ratios"),
    ],
)
def test_bad_arguments_are_refused_and_change_nothing(call, rule):
    gp = learned(num=3)
    before = gp.state_dict()
    with pytest.raises(ValueError, match=rule):
        call(gp)
    assert gp.state_dict() == before


def test_jitter_is_raised_until_it_helps_and_then_the_error_says_what_to_do():
    singular = np.ones((2, 3, 3))
    factors = surrogates._cholesky(singular)
    np.testing.assert_allclose(factors @ factors.transpose(0, 2, 1), singular, atol=2e-10)
    with pytest.raises(RuntimeError, match=r"0\.0001 on its diagonal. Give larger noise_ratios"):
        surrogates._cholesky(-singular)


def test_acquisitions_at_the_edges():
    mean, std = [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 1e-300, 1e300]
    with np.errstate(all="raise", under="ignore"):
        assert expected_improvement(mean, std, best=1.0)[:3].tolist() == [1.0, 0.0, 1.0]
        assert probability_below(mean, std, threshold=1.0).tolist() == [1.0, 0.0, 1.0, 0.5]
    assert expected_improvement([50.0], [1.0], best=0.0) >= 0
    assert math.isnan(probability_below([math.nan], [1.0], 0.0)[0])


@given(OBSERVATIONS)
def test_the_order_of_arrival_does_not_matter_where_times_differ(observations):
    observations = [(x, t, y, noise) for t, (x, _, y, noise) in enumerate(observations)]
    assert filled(observations).state_dict() == filled(observations[::-1]).state_dict()
