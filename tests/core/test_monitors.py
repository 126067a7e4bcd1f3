"""Is it healthy: what the monitors see, when, and what they do not take for trouble."""

import math

import numpy as np
import pytest

from autotunenet import Health
from autotunenet.monitors import NonFinite, Overshoot, Regression, Spike, WorstOf

STABLE, SUSPECT, UNSTABLE = Health.STABLE, Health.SUSPECT, Health.UNSTABLE
NAN, INF = math.nan, math.inf


def default():  # the one of the tuner
    return WorstOf(NonFinite(), Overshoot(), Regression(), Spike())


def verdicts(monitor, losses, first_step=1):
    return [monitor.update(loss, step) for step, loss in enumerate(losses, start=first_step)]


def training(seed, num_steps=3000, start=2.3, end=0.15, noise=0.25):
    """Batch losses of a healthy training: lognormal around a falling curve."""
    t = np.arange(num_steps)
    level = end + (start - end) * np.exp(-t / 300)
    return [float(x) for x in level * np.random.default_rng(seed).lognormal(-(noise**2) / 2, noise, num_steps)]


# -- no false alarms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("seed", range(4))
def test_no_false_alarm_in_a_healthy_training(seed, scale):
    found = verdicts(default(), [scale * loss for loss in training(seed)])
    assert UNSTABLE not in found
    assert found.count(SUSPECT) <= 30


def test_verdicts_do_not_depend_on_the_unit_of_the_loss():
    losses = [*training(0, 400), 9.0, *training(1, 20, start=6.0, end=6.0), NAN, *training(2, 50, start=0.5)]
    found = [verdicts(default(), [scale * loss for loss in losses]) for scale in (1.0, 2.0**-10, 2.0**10)]
    assert found[0] == found[1] == found[2]
    assert set(found[0]) == set(Health)


def test_a_loss_that_nears_zero_needs_an_absolute_tolerance():
    """From 1e-6 to 1e-4 is a factor of 100 and no harm at all in a run that began at 2.3."""
    losses = [2.3 * 0.9**t for t in range(140)]
    assert UNSTABLE not in verdicts(default(), [*losses, *[1e-4] * 50, *[0.0] * 200, *[1e-3] * 50])


@pytest.mark.parametrize("level", [0.0, -5.0, 1.0])
def test_a_constant_loss_is_no_trouble(level):
    assert set(verdicts(default(), [level] * 300)) == {STABLE}


# -- alarms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_spike_is_suspect_at_once_and_three_are_unstable(scale):
    losses = [scale * loss for loss in training(0, 600)]
    monitor = default()
    verdicts(monitor, losses)
    assert verdicts(monitor, [6.0 * scale] * 3, 601) == [SUSPECT, SUSPECT, UNSTABLE]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_lasting_rise_is_unstable_within_the_patience_of_regression(scale):
    monitor = Regression()
    verdicts(monitor, [scale * loss for loss in training(0, 600)])
    assert verdicts(monitor, [1.5 * scale] * 5, 601) == [SUSPECT] * 4 + [UNSTABLE]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_loss_that_is_not_finite_is_unstable_at_once_also_the_first(bad):
    assert default().update(bad, 1) is UNSTABLE
    monitor = default()
    verdicts(monitor, training(0, 100))
    assert monitor.update(bad, 101) is UNSTABLE


# -- no poison -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Regression, Spike, lambda: WorstOf(Regression(), Spike())])
@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_loss_that_is_not_finite_poisons_nothing(make, bad):
    losses = training(0, 300)
    clean, sick = make(), make()
    for step, loss in enumerate(losses, start=1):
        if step % 40 == 0:  # single ones, so far apart that none adds to another
            assert sick.update(bad, 3 * step - 1) is not STABLE
        assert clean.update(loss, 3 * step) is sick.update(loss, 3 * step)
    clean.reset(losses[-1])
    sick.reset(losses[-1])
    rest = [*training(1, 50, start=0.5), 5.0, 5.0, 5.0, 5.0, 5.0, 0.5]
    assert verdicts(clean, rest, 1000) == verdicts(sick, rest, 1000)


def test_nan_from_the_start_then_a_healthy_run():
    monitor = default()
    assert verdicts(monitor, [NAN] * 20) == [UNSTABLE] * 20
    monitor.reset(NAN)
    assert set(verdicts(monitor, training(0, 300, noise=0.05), 21)) == {STABLE}
    assert verdicts(monitor, [30.0], 321) == [SUSPECT]


@pytest.mark.parametrize("huge", [1e13, 1e160, 1e300])
def test_huge_finite_losses_never_raise_and_do_not_hide_later_spikes(huge):
    """A run that blows up in its first steps, before the spike monitor judges anything, and is brought back."""
    monitor = default()
    verdicts(monitor, [2.3, 2.4, 1e3, huge, -huge, huge])
    monitor.reset(2.3)
    assert UNSTABLE not in verdicts(monitor, training(0, 200), 7)
    assert verdicts(monitor, [50.0] * 3, 207)[-1] is UNSTABLE


def test_a_huge_loss_among_the_first_does_not_raise_later():
    monitor = Spike()
    assert set(verdicts(monitor, [2.3, 1e200, *training(0, 300)])) == {STABLE}


# -- reset -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_before", [0, 1, 30])
def test_regression_anchors_at_the_loss_it_is_reset_to(num_before):
    """One that merely forgot would take 1e13 for the new normal."""
    monitor = Regression()
    verdicts(monitor, [0.1] * num_before)
    monitor.reset(0.1)
    assert verdicts(monitor, [1e13] * 5, 100) == [SUSPECT] * 4 + [UNSTABLE]


def test_after_the_world_changed_the_new_level_is_normal_and_worse_is_not():
    monitor = default()
    verdicts(monitor, training(0, 500))
    assert UNSTABLE in verdicts(monitor, [2.0] * 5, 501)
    monitor.reset(2.0)
    assert set(verdicts(monitor, training(1, 300, start=2.0, end=2.0, noise=0.05), 506)) == {STABLE}
    assert verdicts(monitor, [8.0] * 3, 806)[-1] is UNSTABLE


def test_right_after_a_reset_to_a_new_level_something_still_judges():
    monitor = default()
    verdicts(monitor, training(0, 500))
    monitor.reset(2.0)
    assert verdicts(monitor, [1e13] * 5, 501)[-1] is UNSTABLE


def test_reset_to_a_lower_level_counts_from_there():
    monitor = Regression(atol=0.0, rtol=0.5, patience=1)
    verdicts(monitor, [10.0] * 30)
    monitor.reset(1.0)
    assert verdicts(monitor, [1.4, 1.6], 31) == [STABLE, UNSTABLE]


def test_spike_forgets_what_disagrees_with_the_anchor_in_either_direction():
    for anchor in (0.1, 100.0):
        monitor = Spike(window=64, min_count=8, patience=1)
        verdicts(monitor, [5.0 + 0.1 * math.sin(t) for t in range(64)])
        monitor.reset(anchor)
        assert set(verdicts(monitor, [anchor * (1 + 0.01 * math.sin(t)) for t in range(20)], 65)) == {STABLE}
        assert monitor.update(10 * anchor, 85) is UNSTABLE


# -- counting --------------------------------------------------------------------------------------------------------


def test_patience_counts_breaches_in_a_row():
    monitor = Regression(rtol=0.5, atol=0.0, patience=3, window=1)
    found = verdicts(monitor, [1.0, 2.0, 2.0, 1.0, 2.0, 2.0, 2.0, 2.0, 1.0, 2.0])
    assert [v.value[:2] for v in found] == ["st", "su", "su", "st", "su", "su", "un", "un", "st", "su"]


def test_nan_counts_as_a_breach():
    assert verdicts(Regression(patience=2), [1.0, NAN, 9.0]) == [STABLE, SUSPECT, UNSTABLE]


def test_cooldown_after_a_reset_lets_nothing_become_unstable():
    monitor = Regression(rtol=0.5, atol=0.0, patience=1, window=1, cooldown=3)
    monitor.update(1.0, 1)
    monitor.reset(1.0)
    assert verdicts(monitor, [9.0, 9.0, 9.0, 9.0], 2) == [SUSPECT, SUSPECT, SUSPECT, UNSTABLE]


def test_the_reference_is_a_mean_and_not_the_luckiest_batch():
    monitor = Regression(rtol=0.5, atol=0.0, patience=1, window=4)
    assert set(verdicts(monitor, [1.0, 1.0, 1.0, 0.1, 1.0, 1.1, 1.1])) == {STABLE}


def test_breaches_do_not_raise_the_reference():
    monitor = Regression(rtol=0.5, atol=0.0, patience=1000, window=2)
    found = verdicts(monitor, [1.0, 1.0, *[3.0] * 100])
    assert set(found[2:]) == {SUSPECT}


def test_spikes_must_fall_within_the_span():
    monitor = Spike(window=8, min_count=8, patience=2, span=10)
    calm = [1.0, 1.1] * 4
    verdicts(monitor, calm)
    assert verdicts(monitor, [9.0, *calm, 1.0, 9.0], 9)[-1] is SUSPECT  # ten steps later: out of the span
    assert verdicts(monitor, [*calm, 9.0], 20)[-1] is UNSTABLE  # nine steps later


def test_a_reset_forgets_the_spikes_that_led_to_it():
    monitor = Spike(window=8, min_count=8, patience=2)
    verdicts(monitor, [1.0, 1.1] * 4)
    assert verdicts(monitor, [9.0, 9.0], 9) == [SUSPECT, UNSTABLE]
    monitor.reset(1.0)
    assert verdicts(monitor, [9.0, 9.0], 11) == [SUSPECT, UNSTABLE]


def test_spike_needs_a_rise_that_matters_for_the_run():
    monitor = Spike(window=8, min_count=4, patience=1, min_rise=0.05)
    verdicts(monitor, [1.0, *[0.001, 0.0011] * 8])
    assert verdicts(monitor, [0.04, 0.2], 18) == [STABLE, UNSTABLE]


def test_spike_looks_up_only():
    monitor = Spike(window=8, min_count=8, patience=1)
    verdicts(monitor, [1.0, 1.1] * 4)
    assert monitor.update(-1e6, 9) is STABLE


def test_worst_of_tells_every_monitor_and_gives_the_worst():
    first, second = Regression(patience=1, window=1), Regression(patience=2, window=1)
    both = WorstOf(first, second)
    assert verdicts(both, [1.0, 9.0]) == [STABLE, UNSTABLE]
    assert second.update(9.0, 3) is UNSTABLE  # it had heard of the breach before, although the verdict was clear
    assert WorstOf().update(NAN, 1) is STABLE


def test_worst_of_refuses_the_state_of_others_in_another_order():
    state = WorstOf(NonFinite(), Regression()).state_dict()
    for other in (WorstOf(Regression(), NonFinite()), WorstOf(NonFinite()), WorstOf(NonFinite(), Spike())):
        with pytest.raises(ValueError, match="no state of WorstOf"):
            other.load_state_dict(state)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Regression(rtol=-0.1),
        lambda: Regression(rtol=NAN),
        lambda: Regression(atol=-1.0),
        lambda: Regression(patience=0),
        lambda: Regression(window=0),
        lambda: Regression(cooldown=-1),
        lambda: Regression(num_sigmas=-1.0),
        lambda: Spike(num_sigmas=0.0),
        lambda: Spike(min_count=1),
        lambda: Spike(window=8, min_count=9),
        lambda: Spike(patience=0),
        lambda: Spike(patience=5, span=4),
        lambda: Spike(min_rise=-0.1),
    ],
)
def test_bad_arguments_are_refused(make):
    with pytest.raises(ValueError, match="got"):
        make()


def test_a_jump_far_below_the_first_loss_is_seen():
    """A regression loss falls over seven decades; what is small against its beginning can still be a wreck."""
    losses = [1000.0 * 0.9**t + 2.5e-4 for t in range(400)]
    found = verdicts(default(), [*losses, *[40.0] * 3])
    assert found[:400].count(STABLE) == 400
    assert found[-1] is UNSTABLE


def test_a_first_loss_of_zero_gives_no_scale():
    assert set(verdicts(default(), [0.0, *[1e-6] * 30])) == {STABLE}


# -- overshoot -------------------------------------------------------------------------------------------------------


def test_an_lr_wrong_by_orders_of_magnitude_is_seen_at_its_first_loss():
    """Measured: Adam at lr 0.1 on a small CNN. Two steps later it is dead, and its loss looks like the first."""
    found = verdicts(Overshoot(), [2.3, 1715.85, 53.49, 2.35, 2.46])
    assert found == [STABLE, UNSTABLE, UNSTABLE, STABLE, STABLE]


def test_overshoot_asks_for_two_in_a_row_where_it_is_less_clear():
    assert verdicts(Overshoot(), [2.0, 9.0, 2.0, 9.0, 9.0]) == [STABLE, SUSPECT, STABLE, SUSPECT, UNSTABLE]


def test_overshoot_rises_with_the_level_and_not_with_the_wreck():
    climbing = [1.0 * 1.02**t for t in range(200)]  # a loss that is meant to rise, as in a curriculum
    assert set(verdicts(Overshoot(), climbing)) == {STABLE}
    monitor = Overshoot()
    assert verdicts(monitor, [1.0, *[5.0] * 50])[-1] is UNSTABLE, "what is refused must not become normal"


def test_overshoot_after_a_lucky_first_loss_follows_the_level():
    monitor = Overshoot()
    verdicts(monitor, [1e-3])
    monitor.reset(0.5)
    assert set(verdicts(monitor, [0.5, 1.0, 1.9, 0.3])) == {STABLE}


@pytest.mark.parametrize(
    "arguments", [{"factor": 1.0}, {"factor": 9.0, "hard_factor": 5.0}, {"patience": 0}, {"smoothing": 0.0}]
)
def test_overshoot_refuses(arguments):
    with pytest.raises(ValueError, match="Overshoot: "):
        Overshoot(**arguments)
