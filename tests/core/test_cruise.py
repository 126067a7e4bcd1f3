"""Hold and land: the plan's formula, and going on after others."""

import numpy as np
import pytest
from cruises import cruise, floor, play, respond
from hypothesis import given
from hypothesis import strategies as st

# -- with a known end ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hold", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("total", [1, 7, 100])
def test_it_holds_and_then_falls_linearly_to_zero(total, hold):
    """Against numpy's interpolation between (0, peak), (hold x total, peak), (total, 0)."""
    lrs = play(cruise(total_steps=total, hold=hold), [1.0] * (total + 5))
    expected = np.interp(np.arange(1, total + 6), [0, hold * total, total], [0.4, 0.4, 0.0])
    assert lrs == pytest.approx(expected, abs=1e-12)


def test_the_golden_landing():
    controller = cruise(1.0, total_steps=20, hold=0.5)
    assert play(controller, [1.0] * 5, every=4) == pytest.approx([1.0, 1.0, 0.8, 0.4, 0.0])
    assert cruise(total_steps=20, hold=0.5).is_landing is False
    assert controller.is_landing


def test_the_loss_has_no_say_where_the_end_is_known():
    quiet = play(cruise(total_steps=100), [1.0] * 100)
    wild = play(cruise(total_steps=100), np.random.default_rng(0).standard_normal(100))
    assert quiet == wild


def test_the_reason_says_how_much_is_left():
    controller = cruise(total_steps=100)
    play(controller, [1.0] * 50)
    assert controller.reason == ""
    play(controller, [1.0] * 25, first=51)
    assert controller.reason == "Landing: 50 % of the way to go."


@pytest.mark.parametrize("total", [None, 100])
def test_without_landing_it_holds_for_ever(total):
    assert set(play(cruise(total_steps=total, land=False), [1.0] * 300)) == {0.4}


def test_forget_takes_off_and_plans_the_landing_for_the_steps_that_are_left():
    controller = cruise(total_steps=100, hold=0.5)
    assert play(controller, [1.0] * 80)[-1] == pytest.approx(0.16)
    controller.forget(80)
    assert play(controller, [1.0] * 20, first=81) == pytest.approx(
        np.interp(np.arange(81, 101), [80, 90, 100], [0.4, 0.4, 0.0]), abs=1e-12
    )


@pytest.mark.parametrize("step", [100, 101, 150])
def test_forget_at_or_after_the_end_raises_nothing(step):
    """A training that goes on for longer than was said, and a change of the world in it."""
    controller = cruise(total_steps=100)
    play(controller, [1.0] * step)
    controller.forget(step)
    assert all(0 <= lr <= 0.4 for lr in play(controller, [1.0] * 10, first=step + 1))


# -- warming up again ------------------------------------------------------------------------------------------------


def rewarmed(step=400, **kwargs):
    """A plan that begins to warm up at `step`."""
    controller = cruise(**{"total_steps": 10_000, **kwargs})
    play(controller, [1.0], first=step)
    controller.forget(step)
    assert controller.rewarm({"lr": 0.4}) == {"lr": pytest.approx(0.4 * controller.warmth)}
    return controller


@pytest.mark.parametrize("warmth", [0.5, 0.1, 1.0])
def test_it_warms_up_geometrically(warmth):
    """Against numpy's interpolation of logarithms between (400, warmth) and (424, 1)."""
    lrs = play(rewarmed(warmth=warmth), [1.0] * 30, first=401)
    expected = np.interp(np.arange(401, 431), [400, 424], np.log([0.4 * warmth, 0.4]))
    assert np.log(lrs) == pytest.approx(expected)


def test_it_warms_up_for_no_more_than_a_fifth_of_what_is_left():
    lrs = play(rewarmed(40, total_steps=100), [1.0] * 15, first=41)
    assert np.log(lrs) == pytest.approx(np.interp(np.arange(41, 56), [40, 52], np.log([0.2, 0.4])))


def test_it_warms_up_for_two_intervals_at_the_least():
    """So that a guard that lets lr double, at the most, does not hold it back."""
    assert play(rewarmed(warmth=0.25), [1.0] * 3, every=100, first=5) == pytest.approx([0.2, 0.4, 0.4])


def test_the_reason_says_that_it_warms_up():
    controller = rewarmed()
    play(controller, [1.0], first=401)
    assert (controller.is_warming_up, controller.reason) == (True, "Warming up again: the data have changed.")
    play(controller, [1.0] * 24, first=402)
    assert (controller.is_warming_up, controller.reason) == (False, "")


def test_a_rollback_ends_the_warm_up_where_it_has_led():
    controller = rewarmed()
    play(controller, [1.0] * 5, first=401)
    controller.follow({"lr": 0.03})
    assert play(controller, [1.0] * 5, first=406) == pytest.approx([0.03] * 5)


def test_what_changes_no_lr_does_not_end_the_warm_up():
    controller = rewarmed()
    lr = play(controller, [1.0] * 5, first=401)[-1]
    controller.follow({"lr": lr})
    assert play(controller, [1.0] * 19, first=406)[-1] == pytest.approx(0.4)


def test_another_change_warms_up_anew():
    controller = rewarmed()
    play(controller, [1.0] * 12, first=401)
    controller.forget(412)
    assert controller.planned_lr == pytest.approx(0.4)
    assert controller.rewarm({"lr": 0.4}) == {"lr": pytest.approx(0.2)}


@pytest.mark.parametrize("warmth", [0.0, -0.1, 1.1, np.nan])
def test_warmth_out_of_range_is_refused(warmth):
    with pytest.raises(ValueError, match=r"warmth must lie in \(0, 1\]"):
        cruise(warmth=warmth)


@given(st.lists(st.integers(1, 99), max_size=4).map(sorted), st.floats(1e-6, 1e3))
def test_the_plan_stays_between_zero_and_the_peak(forgets, lr):
    controller = cruise(lr, total_steps=100)
    for step in range(1, 101):
        controller.observe(1.0, step)
        assert 0 <= controller.propose({"lr": lr})["lr"] <= lr * (1 + 1e-12)
        if step in forgets:
            controller.forget(step)
            controller.rewarm({"lr": lr})
    assert controller.propose({"lr": lr})["lr"] == 0.0


# -- follow ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 99), st.floats(1e-9, 1e3))
def test_follow_meets_the_lr_in_force_and_keeps_the_shape(step, lr):
    controller, plain = (cruise(total_steps=100) for _ in range(2))
    play(controller, [1.0] * step)
    before = play(plain, [1.0] * 100)
    controller.follow({"lr": lr})
    assert controller.propose({"lr": lr})["lr"] == pytest.approx(lr)
    after = play(controller, [1.0] * (100 - step), first=step + 1)
    assert after == pytest.approx([lr / before[step - 1] * x for x in before[step:]], abs=1e-12)


def test_follow_after_the_landing_changes_nothing():
    controller = cruise(total_steps=10)
    play(controller, [1.0] * 10)
    controller.follow({"lr": 1e-8})
    assert controller.propose({"lr": 1e-8}) == {"lr": 0.0}


def test_follow_keeps_the_cuts():
    controller = cruise(min_intervals=4)
    assert respond(controller, floor, 12)[-1] == 0.1
    controller.follow({"lr": 7.0})
    assert controller.propose({"lr": 7.0}) == {"lr": pytest.approx(7.0)}
    controller.forget(12)
    assert controller.propose({"lr": 7.0}) == {"lr": pytest.approx(28.0)}
