"""Change points and collapses: what they see, when, and what they leave alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotunenet import Health
from autotunenet.monitors import ChangePoint, Collapse, Regression, default_monitor

STABLE, SUSPECT, UNSTABLE = Health.STABLE, Health.SUSPECT, Health.UNSTABLE
NAN, INF = math.nan, math.inf


def verdicts(monitor, losses, first_step=1):
    return [monitor.update(loss, step) for step, loss in enumerate(losses, start=first_step)]


def noisy(level, num_steps, seed=0, sigma=0.2):
    return [float(x) for x in level * np.random.default_rng(seed).lognormal(0.0, sigma, num_steps)]


# -- change points: against the textbook -----------------------------------------------------------------------------


def page(losses, *, threshold=12.0, slack=0.75, cap=4.0, weight=0.05, min_count=32, min_sigma=0.1, resolution=0.2):
    """Page's test, written down plainly; positive finite losses only."""
    xs = [math.asinh(loss / (resolution * losses[0])) for loss in losses]
    mean, variance = float(np.mean(xs[:min_count])), float(np.var(xs[:min_count]))
    total, sums = 0.0, [0.0] * min_count
    for x in xs[min_count:]:
        sigma = max(variance**0.5, min_sigma)
        r = min((x - mean) / sigma, cap)
        total = min(max(0.0, total + r - slack), threshold + cap)
        sums.append(total)
        if r < cap:
            d = max(r, -cap) * sigma
            mean, variance = mean + weight * d, (1 - weight) * (variance + weight * d * d)
    return sums


@pytest.mark.parametrize("seed", range(5))
def test_the_sum_is_that_of_pages_test(seed):
    losses = [*noisy(1.0, 80, seed), *noisy(1.5, 40, seed + 10), *noisy(0.3, 100, seed + 20), *noisy(3.0, 20, seed)]
    monitor, expected = ChangePoint(), page(losses)
    for step, (loss, total) in enumerate(zip(losses, expected, strict=True), start=1):
        verdict = monitor.update(loss, step)
        assert monitor.state_dict()["_sum"] == pytest.approx(total, rel=1e-9, abs=1e-9)
        assert verdict is (UNSTABLE if total > 12 else SUSPECT if total > 6 else STABLE)
    assert max(expected) > 12


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_step_up_is_an_alarm_at_its_fourth_loss_and_suspect_at_its_second(scale):
    monitor = ChangePoint()
    assert set(verdicts(monitor, noisy(scale, 400, sigma=0.1))) == {STABLE}
    assert verdicts(monitor, [3 * scale] * 4, 401) == [STABLE, SUSPECT, SUSPECT, UNSTABLE]


def test_a_rise_by_a_third_that_regression_tolerates_is_seen():
    losses = [*noisy(1.0, 400, sigma=0.05), *noisy(1.35, 20, 1, sigma=0.05)]
    assert UNSTABLE in verdicts(ChangePoint(), losses)[400:]
    assert UNSTABLE not in verdicts(Regression(), losses)


@given(num=st.integers(1, 2), size=st.floats(2.0, 1e300))
def test_one_or_two_outliers_are_no_change(num, size):
    monitor = ChangePoint()
    verdicts(monitor, noisy(1.0, 100))
    assert UNSTABLE not in verdicts(monitor, [size] * num, 101)
    assert set(verdicts(monitor, [1.0] * 50, 101 + num)[10:]) == {STABLE}


def test_a_change_does_not_become_normal():
    monitor = ChangePoint()
    verdicts(monitor, noisy(1.0, 100))
    assert set(verdicts(monitor, [9.0] * 500, 101)[4:]) == {UNSTABLE}


def test_the_alarm_ends_soon_after_the_change_does():
    monitor = ChangePoint()
    verdicts(monitor, noisy(1.0, 100))
    verdicts(monitor, [9.0] * 500, 101)
    assert set(verdicts(monitor, [1.0] * 40, 601)[20:]) == {STABLE}


def test_close_to_zero_ratios_mean_nothing():
    """From 1e-6 to 1e-3 is a factor of 1000, and no harm in a run that began at 2.3."""
    monitor = ChangePoint()
    verdicts(monitor, [2.3 * 0.9**t for t in range(150)])
    assert set(verdicts(monitor, [1e-6, 1e-3, 5e-3] * 50, 151)) == {STABLE}
    assert verdicts(monitor, [0.5] * 5, 301)[-1] is UNSTABLE


def test_objectives_that_can_be_negative_are_judged_on_a_linear_scale():
    rng = np.random.default_rng(0)
    falling = [float(x) for x in 5 - 12 * (1 - np.exp(-np.arange(400) / 60)) + rng.normal(0, 0.2, 400)]
    monitor = ChangePoint()
    assert UNSTABLE not in verdicts(monitor, falling)
    assert verdicts(monitor, [2.0] * 6, 401)[-1] is UNSTABLE
    assert monitor.state_dict()["_is_signed"]


@pytest.mark.parametrize("first", [10.0, -10.0])
def test_around_zero_a_signed_objective_is_measured_by_the_first_loss(first):
    """Seven per cent of the first are no harm, its whole magnitude is."""
    monitor = ChangePoint()
    verdicts(monitor, [first, *[0.01, -0.01] * 100])
    assert set(verdicts(monitor, [0.7] * 20, 202)) == {STABLE}
    assert verdicts(monitor, [10.0] * 4, 222)[-1] is UNSTABLE


@pytest.mark.parametrize("level", [0.0, -5.0, 1.0])
def test_a_constant_loss_is_no_change(level):
    assert set(verdicts(ChangePoint(), [level] * 300)) == {STABLE}


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_losses_that_are_not_finite_count_as_the_cap_and_are_not_averaged(bad):
    monitor = ChangePoint()
    verdicts(monitor, noisy(1.0, 100))
    before = monitor.state_dict()
    assert verdicts(monitor, [bad] * 4, 101) == [STABLE, SUSPECT, SUSPECT, UNSTABLE]
    assert {**monitor.state_dict(), "_sum": 0.0} == {**before, "_sum": 0.0}


@pytest.mark.parametrize("huge", [1e300, -1e300])
def test_a_huge_loss_in_the_warm_up_does_not_blind_it_for_ever(huge):
    monitor = ChangePoint()
    verdicts(monitor, [1.0, huge, *noisy(1.0, 400)])
    assert verdicts(monitor, [20.0] * 6, 403)[-1] is UNSTABLE


def test_reset_keeps_what_agrees_with_the_anchor_and_learns_a_new_level():
    monitor = ChangePoint()
    verdicts(monitor, noisy(1.0, 200))
    verdicts(monitor, [5.0] * 4, 201)
    monitor.reset(1.05)
    assert verdicts(monitor, [5.0] * 4, 205)[-1] is UNSTABLE, "the level was known: it judges at once"
    monitor.reset(5.0)
    assert set(verdicts(monitor, noisy(5.0, 100, 3), 209)) == {STABLE}
    assert verdicts(monitor, [25.0] * 4, 309)[-1] is UNSTABLE


# -- collapse --------------------------------------------------------------------------------------------------------


def descent(to=0.75, num_steps=100, start=2.3, noise=0.03, seed=0):
    level = start * (to + (1 - to) * np.exp(-np.arange(num_steps) / 15))
    return [float(x) for x in level + start * np.random.default_rng(seed).normal(0, noise, num_steps)]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("to", [0.1, 0.6, 0.75, 0.8])
def test_back_at_the_first_level_is_suspect_within_three_steps_and_unstable_within_ten(to, scale):
    monitor = Collapse()
    assert set(verdicts(monitor, [scale * x for x in descent(to)])) == {STABLE}
    dead = [scale * x for x in noisy(2.3, 10, sigma=0.005)]
    assert verdicts(monitor, dead, 101) == [STABLE] * 2 + [SUSPECT] * 7 + [UNSTABLE]


def test_regression_does_not_see_a_collapse_from_three_quarters():
    losses = [*descent(0.75), *noisy(2.3, 100, sigma=0.005)]
    assert UNSTABLE not in verdicts(Regression(), losses)
    assert UNSTABLE in verdicts(Collapse(), losses)


def test_a_loss_that_creeps_back_is_seen_when_it_arrives():
    creeping = [2.3 * (0.7 + 0.3 * t / 400) for t in range(401)]
    monitor = Collapse()
    verdicts(monitor, descent(0.7))
    found = verdicts(monitor, [*creeping, *[2.3] * 10], 101)
    first_above = next(t for t, loss in enumerate(creeping) if loss >= 0.95 * 2.3)
    assert set(found[:200]) == {STABLE}
    assert UNSTABLE in found[first_above - 150 :]


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.4])
def test_a_run_that_has_not_begun_to_learn_is_not_called_unstable(sigma):
    found = [v for seed in range(10) for v in verdicts(Collapse(), noisy(100.0, 1000, seed, sigma))]
    assert UNSTABLE not in found
    assert found.count(SUSPECT) <= 50, "the first level itself is uncertain; once in a while it was a lucky one"


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_run_that_learns_little_is_left_alone(seed):
    assert UNSTABLE not in verdicts(Collapse(), descent(0.85, 3000, noise=0.1, seed=seed))


def test_losses_above_the_first_count_and_those_below_count_back():
    monitor = Collapse(patience=4)
    verdicts(monitor, descent(0.5))
    assert verdicts(monitor, [9.0, NAN, 2.3, 1.2, 2.3, 2.3], 101)[2:] == [SUSPECT, STABLE, SUSPECT, UNSTABLE]


def test_a_wild_loss_among_the_first_does_not_set_the_level():
    monitor = Collapse()
    verdicts(monitor, [2.3, 1715.85, 2.3, 2.3, 2.2, *[1.6] * 80])
    assert verdicts(monitor, [2.3] * 10, 90)[-1] is UNSTABLE


def test_after_a_return_to_a_learnt_state_it_judges_on_and_after_one_to_the_start_it_waits():
    monitor = Collapse()
    verdicts(monitor, descent(0.6))
    verdicts(monitor, [2.3] * 9, 101)
    monitor.reset(1.4)
    assert verdicts(monitor, [2.3] * 10, 110) == [STABLE] * 2 + [SUSPECT] * 7 + [UNSTABLE]
    monitor.reset(2.3)
    assert set(verdicts(monitor, [2.3] * 200, 120)) == {STABLE}


def test_a_world_that_became_harder_is_the_new_beginning():
    monitor = Collapse()
    verdicts(monitor, descent(0.5))
    monitor.reset(4.0)
    assert set(verdicts(monitor, noisy(4.0, 50, sigma=0.02), 101)) == {STABLE}
    verdicts(monitor, [2.5] * 50, 151)
    assert verdicts(monitor, [4.0] * 10, 201)[-1] is UNSTABLE


def test_negative_objectives_collapse_upwards_too():
    monitor = Collapse()
    verdicts(monitor, [-10.0 - 10 * (1 - 0.9**t) for t in range(100)])
    assert verdicts(monitor, [-10.0] * 10, 101)[-1] is UNSTABLE


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (ChangePoint, {"threshold": 0.0}),
        (ChangePoint, {"slack": -0.1}),
        (ChangePoint, {"slack": 4.0}),
        (ChangePoint, {"cap": INF}),
        (ChangePoint, {"smoothing": 1.0}),
        (ChangePoint, {"min_count": 1}),
        (ChangePoint, {"min_sigma": 0.0}),
        (ChangePoint, {"resolution": NAN}),
        (Collapse, {"depth": 1.0}),
        (Collapse, {"tolerance": 0.1}),
        (Collapse, {"suspect_after": 0}),
        (Collapse, {"patience": 2}),
        (Collapse, {"num_first": 0}),
        (Collapse, {"smoothing": 0.0}),
    ],
)
def test_bad_arguments_are_refused(kind, arguments):
    with pytest.raises(ValueError, match=rf"{kind.__name__}: .*got"):
        kind(**arguments)


# -- the noise of small batches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variation", [0.1, 0.4, 1.0])
@pytest.mark.parametrize("kind", ["gamma", "lognormal", "normal"])
def test_noise_alone_raises_hardly_any_alarm(kind, variation):
    """Losses of small batches vary by half of their level and more; one alarm in 10,000 steps is too many."""
    rng = np.random.default_rng(0)
    losses = {
        "gamma": lambda: rng.gamma(1 / variation**2, variation**2, 20_000),
        "lognormal": lambda: np.exp(math.sqrt(math.log(1 + variation**2)) * rng.standard_normal(20_000)),
        "normal": lambda: 1 + variation * rng.standard_normal(20_000),
    }[kind]()
    found = verdicts(default_monitor(), [3.0, *map(float, losses)])
    assert found.count(UNSTABLE) <= 1
