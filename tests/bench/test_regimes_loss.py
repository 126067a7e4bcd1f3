"""The kinds of `loss_noise`: what is multiplied by what, and for whom."""

import itertools
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from autotunenet_bench.regimes import LossNoise
from autotunenet_bench.types import Horizon

LONG = Horizon(num_epochs=1000, steps_per_epoch=40)
TEN = Horizon(num_epochs=10, steps_per_epoch=4)
KINDS = ("gaussian", "outliers", "nan_bursts")
TARGETS = ("controller", "training", "both")
SEEDS = st.integers(0, 2**32 - 1)

every_kind = pytest.mark.parametrize("kind", KINDS)


def noise(kind="gaussian", horizon=LONG, seed=0, **fields):
    return LossNoise(kind=kind, **{"trigger_epoch": 1, **fields}).start(horizon, seed)


def factors(regime, num_steps=4000):
    return np.array([regime.step_factor(step) for step in range(1, num_steps + 1)])


@every_kind
def test_the_noise_begins_with_the_first_step_of_its_epoch(kind):
    regime = noise(kind, severity=1.0, trigger_epoch=26)
    assert (factors(regime, 1000) == 1).all()
    assert not (factors(regime, 2000)[1000:] == 1).all()
    early = noise("gaussian", TEN, trigger_epoch=3)
    assert [early.step_factor(step) == 1 for step in (7, 8, 9, 10)] == [True, True, False, False]
    assert [early.shown_metric(2.0, epoch) == 2.0 for epoch in (1, 2, 3, 4)] == [True, True, False, False]


@every_kind
def test_it_depends_on_the_seed_and_the_number_alone(kind):
    regime, again, other = noise(kind, severity=1.0), noise(kind, severity=1.0), noise(kind, severity=1.0, seed=1)
    expected = factors(regime, 400)
    backwards = [again.step_factor(step) for step in range(400, 0, -1)][::-1]
    np.testing.assert_array_equal(backwards, expected)
    assert not np.array_equal(factors(other, 400), expected, equal_nan=True)


@every_kind
@given(step=st.integers(1, 10**6), seed=SEEDS, loss=st.floats(0, 1e6))
def test_severity_zero_has_no_effect_at_all(kind, step, seed, loss):
    regime = LossNoise(kind=kind, severity=0.0, trigger_epoch=1).start(LONG, seed)
    tensor = torch.tensor(loss, requires_grad=True)
    assert regime.shown_loss(loss, step) == loss
    assert regime.shown_metric(loss, step) == loss
    assert regime.training_loss(tensor, step) is tensor


@every_kind
def test_global_generators_are_left_alone(kind):
    def states():
        return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002

    before = states()
    factors(noise(kind), 100)
    noise(kind).shown_metric(1.0, 1)
    assert states() == before


# -- kinds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("severity", [0.2, 1.0])
def test_gaussian_noise_is_log_normal_with_mean_one(severity):
    logs = np.log(factors(noise(severity=severity)))
    # Standard error of the mean of 4,000 draws: severity / 63; of the deviation: severity / 89.
    assert abs(logs.mean() + severity**2 / 2) < 0.06 * severity
    assert abs(logs.std() - severity) < 0.05 * severity
    assert abs(np.corrcoef(logs[:-1], logs[1:])[0, 1]) < 0.06


@given(step=st.integers(1, 40_000), seed=SEEDS, severities=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)))
def test_gaussian_noise_of_one_step_is_one_draw_at_every_severity(step, seed, severities):
    draws = [
        (math.log(noise(severity=severity, seed=seed).step_factor(step)) + severity**2 / 2) / severity
        for severity in severities
    ]
    assert draws[0] == pytest.approx(draws[1], abs=1e-9)


def test_outliers_are_ten_times_rare_and_nested():
    mild, strong = (factors(noise("outliers", severity=severity)) == 10 for severity in (0.4, 1.0))
    assert set(factors(noise("outliers"))) == {1.0, 10.0}
    assert not (mild & ~strong).any()
    # Binomial(4000, 0.02): mean 80, deviation 9; Binomial(4000, 0.05): mean 200, deviation 14.
    assert 45 < mild.sum() < 115
    assert 145 < strong.sum() < 255


def test_bursts_are_one_to_three_steps_long_at_most_one_in_forty_and_nested():
    mild, strong = (np.isnan(factors(noise("nan_bursts", severity=severity))) for severity in (0.4, 1.0))
    assert not (mild & ~strong).any()
    for hits, num_bursts in ((strong, 100), (mild, 40)):
        lengths = [len(list(run)) for is_nan, run in itertools.groupby(hits) if is_nan]
        assert set(lengths) == {1, 2, 3}
        assert abs(len(lengths) - num_bursts) <= (0 if num_bursts == 100 else 20)  # Binomial(100, 0.4): deviation 5
    assert set(factors(noise("nan_bursts"))[~mild]) == {1.0}
    assert (strong.reshape(100, 40).sum(axis=1) >= 1).all()


def test_the_noise_of_a_seed_never_changes():
    # Golden: a change here changes every published run.
    assert [noise(severity=1.0).step_factor(step) for step in (1, 2, 3)] == pytest.approx(
        [0.35576183575838005, 1.1736082668083059, 0.43908381580736616]
    )
    assert [step for step in range(1, 81) if math.isnan(noise("nan_bursts", severity=1.0).step_factor(step))] == [
        20,
        67,
    ]


def test_a_ramp_is_a_growing_share_of_the_severity():
    regime = noise(severity=0.8, profile="ramp", ramp_epochs=4)
    for epoch in (1, 2, 3, 4, 5):
        step = (epoch - 1) * LONG.steps_per_epoch + 7
        assert regime.step_factor(step) == pytest.approx(noise(severity=0.2 * min(epoch, 4)).step_factor(step))
    waves = noise(profile="recurring", period_epochs=2)
    is_on = [waves.shown_metric(1.0, epoch) != 1 for epoch in (1, 2, 3, 4)]
    assert is_on == [True, False, True, False]


# -- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gaussian", "outliers"])
@pytest.mark.parametrize("target", TARGETS)
def test_noise_goes_where_the_target_says(kind, target):
    regime = noise(kind, target=target, severity=1.0)
    seen = {"controller": set(), "training": set(), "metric": set()}
    for step in range(1, 200):
        weight = torch.tensor(3.0, requires_grad=True)
        regime.training_loss(weight * 2, step).backward()
        trained, shown, factor = weight.grad.item() / 2, regime.shown_loss(4.0, step) / 4, regime.step_factor(step)
        assert trained == pytest.approx(factor if target != "controller" else 1.0)
        assert shown == pytest.approx(factor if target != "training" else 1.0)
        seen["training"].add(trained)
        seen["controller"].add(shown)
        seen["metric"].add(regime.shown_metric(4.0, step))
    assert (len(seen["training"]) > 1) == (target != "controller")
    assert (len(seen["controller"]) > 1) == (target != "training")
    assert (len(seen["metric"]) > 1) == (target != "training")


def test_metrics_and_steps_have_noise_of_their_own():
    regime = noise()
    assert regime.shown_metric(1.0, 5) != regime.step_factor(5)


def test_bursts_leave_training_and_metrics_alone():
    regime = noise("nan_bursts", severity=1.0)
    loss = torch.tensor(1.0, requires_grad=True)
    assert all(regime.training_loss(loss, step) is loss for step in range(1, 200))
    assert all(regime.shown_metric(0.5, epoch) == 0.5 for epoch in range(1, 200))
    assert any(math.isnan(regime.shown_loss(0.5, step)) for step in range(1, 200))


@pytest.mark.parametrize("target", ["training", "both"])
def test_bursts_that_would_be_trained_on_are_refused(target):
    with pytest.raises(ValidationError, match=f"kind nan_bursts with target {target} would destroy"):
        LossNoise(kind="nan_bursts", target=target)


def test_a_loss_that_is_broken_by_itself_stays_so():
    assert math.isnan(noise().shown_loss(math.nan, 1))
    assert noise().shown_loss(math.inf, 1) == math.inf


def test_descriptions_say_what_and_for_whom():
    descriptions = [noise(kind, severity=0.5).description for kind in KINDS]
    descriptions += [noise(target=target).description for target in TARGETS]
    assert descriptions == [
        "losses as the tuner sees them multiplied by log-normal noise of sigma 0.5 and mean 1",
        "losses as the tuner sees them multiplied by 10 with probability 0.025",
        "losses as the tuner sees them NaN for 1 to 3 steps in a row, with probability 0.5 once in 40 steps",
        "losses as the tuner sees them multiplied by log-normal noise of sigma 0.4 and mean 1",
        "losses as they are differentiated multiplied by log-normal noise of sigma 0.4 and mean 1",
        "losses as they are differentiated and as the tuner sees them multiplied by log-normal noise of sigma 0.4 and "
        "mean 1",
    ]
