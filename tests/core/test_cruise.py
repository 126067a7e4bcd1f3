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


@given(st.lists(st.integers(1, 99), max_size=4).map(sorted), st.floats(1e-6, 1e3))
def test_the_plan_stays_between_zero_and_the_peak(forgets, lr):
    controller = cruise(lr, total_steps=100)
    for step in range(1, 101):
        controller.observe(1.0, step)
        assert 0 <= controller.propose({"lr": lr})["lr"] <= lr * (1 + 1e-12)
        if step in forgets:
            controller.forget(step)
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
