"""Hold and land: the plan's formula, the plateau where the end is not known, and going on after others."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotunenet.controllers import Cruise
from autotunenet.testing import check_controller, same

NAN, INF = math.nan, math.inf
RISING = [1 + 1e-6 * i for i in range(400)]  # stalled without a doubt


def cruise(lr=0.4, **kwargs):
    controller = Cruise(**kwargs)
    assert controller.start({"lr": lr}) == {"lr": lr}
    return controller


def play(controller, metrics, every=1, first=1):
    """Feed interval means; return the lr after each."""
    lrs = []
    for i, metric in enumerate(metrics, start=first):
        controller.observe(metric, i * every)
        lrs.append(controller.propose({"lr": lrs[-1] if lrs else 0.4})["lr"])
    return lrs


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
    assert play(controller, RISING[:30])[-1] < 0.4
    controller.follow({"lr": 7.0})
    assert controller.propose({"lr": 7.0}) == {"lr": pytest.approx(7.0)}
    controller.forget(30)
    assert controller.propose({"lr": 7.0})["lr"] >= 14.0


# -- without a known end ---------------------------------------------------------------------------------------------


def falling(num, noise, seed, slope=0.005):
    rng = np.random.default_rng(seed)
    return [float(3.0 - slope * i + noise * rng.standard_normal()) for i in range(num)]


@pytest.mark.parametrize("noise", [0.0, 0.005, 0.01, 0.02, 0.05, 0.1])
def test_a_falling_noisy_loss_is_not_cut(noise):
    """200 intervals, by 0.05 in ten of them."""
    num_cut = sum(play(cruise(), falling(200, noise, seed))[-1] < 0.4 for seed in range(40))
    assert num_cut <= 1


def test_a_long_run_is_not_asked_until_it_errs():
    """3000 intervals: the window grows with the run, so a fall that is seen in the first 200 is seen ever better."""
    assert sum(play(cruise(), falling(3000, 0.05, seed))[-1] < 0.4 for seed in range(10)) == 0


def test_a_power_law_is_not_cut_where_the_window_shows_its_fall():
    rng = np.random.default_rng(0)
    laws = [[float(2 * i**-0.3 + 0.01 * rng.standard_normal()) for i in range(1, 401)] for _ in range(20)]
    assert sum(play(cruise(), law)[-1] < 0.4 for law in laws) <= 1


@pytest.mark.parametrize("noise", [1e-6, 0.05])
def test_a_stalled_loss_is_cut_in_halves(noise):
    rng = np.random.default_rng(0)
    num_cuts = []
    for _ in range(40):
        lr = play(cruise(), [float(1.0 + noise * rng.standard_normal()) for _ in range(120)])[-1]
        num_cuts.append(round(math.log2(0.4 / lr)))
        assert lr == pytest.approx(0.4 * 0.5 ** num_cuts[-1])
    assert min(num_cuts) >= 1


def test_a_fall_within_the_error_of_the_slope_is_none():
    wavy = [1.0 - 1e-5 * i + 0.01 * (-1) ** i for i in range(60)]  # a twelfth of the error in 40 of them
    assert play(cruise(), wavy)[-1] < 0.4


def test_a_loss_that_does_not_move_at_all_has_stalled():
    assert play(cruise(), [1.0] * 50)[-1] < 0.4


def intervals_of_cuts(controller, metrics):
    lrs = [0.4, *play(controller, metrics)]
    return [i for i in range(1, len(lrs)) if lrs[i] != lrs[i - 1]]


def test_the_first_cut_of_a_stalled_loss_comes_after_41_intervals():
    controller = cruise()
    lrs = play(controller, RISING[:41])
    assert lrs == [0.4] * 40 + [0.2]
    assert controller.reason == "The loss has not fallen for 41 steps."
    assert play(controller, RISING[:41], first=42) == [0.2] * 40 + [0.1]


def test_the_smallest_number_of_intervals_can_be_given():
    assert intervals_of_cuts(cruise(min_intervals=20), RISING[:42]) == [21, 42]


def test_the_window_does_not_become_shorter_by_a_cut():
    """A loss that lr cannot help is cut once in a quarter of the run: as a power of time, not exponentially."""
    assert intervals_of_cuts(cruise(), RISING) == [41, 82, 123, 166, 223, 299, 400]


@pytest.mark.parametrize("patience", [0.25, 0.5])
def test_the_question_is_asked_again_when_half_the_window_is_new(patience):
    """A fall up to the first question, and none after it."""
    controller = cruise(patience=patience)
    num = 400
    answers = []
    stalled = controller._has_stalled

    def has_stalled():
        before = controller._num_asked
        answer = stalled()
        if controller._num_asked != before:
            answers.append((controller._num_asked, answer))
        return answer

    controller._has_stalled = has_stalled
    play(controller, falling(num, 0.0, 0))
    asked = [at for at, _ in answers]
    assert asked[0] == 41
    assert not any(answer for _, answer in answers)
    gaps = [(after - before) / max(40, patience * after) for before, after in itertools.pairwise(asked)]
    assert min(gaps) >= 0.5
    assert max(gaps) <= 0.55


def test_the_patience_grows_with_the_run():
    """After 200 good intervals a quarter of the time has to pass, not forty intervals."""
    controller = cruise()
    falls = falling(200, 0.0, 0)
    assert play(controller, falls)[-1] == 0.4
    lrs = play(controller, [falls[-1] + x - 1 for x in RISING[:120]], first=201)
    first_cut = next(i for i, lr in enumerate(lrs) if lr < 0.4)
    assert 50 <= first_cut <= 100  # a third of the time so far, which then is a quarter, and half of that again


@pytest.mark.parametrize("num", [600, 3000])
def test_the_patience_grows_for_longer_than_the_memory_is(num):
    controller = cruise()
    falls = falling(num, 0.0, 0)
    assert play(controller, falls)[-1] == 0.4
    assert len(controller._means) <= 256
    lrs = play(controller, [falls[-1] + x - 1 for x in RISING] * (num // 400), first=num + 1)
    first_cut = next(i for i, lr in enumerate(lrs) if lr < 0.4)
    assert 0.25 * num <= first_cut <= 0.5 * num


def test_coarser_means_are_the_means_of_all_intervals():
    controller = cruise()
    rng = np.random.default_rng(0)
    metrics = [float(x) for x in rng.standard_normal(1400) - 0.1 * np.arange(1400)]
    play(controller, metrics)
    per = controller._per_mean
    assert per == 8
    num = len(metrics) // per
    assert controller._means == pytest.approx(np.reshape(metrics[: num * per], (num, per)).mean(axis=1))
    assert [*controller._part] == metrics[num * per :]


def test_forget_makes_the_patience_short_again():
    controller = cruise()
    play(controller, falling(300, 0.0, 0))
    controller.forget(300)
    assert play(controller, RISING[:40], first=301) == [0.4] * 40
    assert controller._means == RISING[:40]  # one by one again
    assert play(controller, RISING[40:41], first=341) == [0.2]


def test_a_validation_metric_that_improves_speaks_against_a_cut():
    controller = cruise()
    for step in range(1, 100):
        controller.observe(RISING[step], step)
        if step % 4 == 0:
            controller.observe_validation(1.0 - step / 1000, step)
        assert controller.propose({"lr": 0.4}) == {"lr": 0.4}


def test_a_validation_metric_that_does_not_improve_does_not():
    controller = cruise()
    controller.observe_validation(0.5, 1)
    for step in range(1, 60):
        controller.observe(RISING[step], step)
        controller.observe_validation(0.6, step)
        lr = controller.propose({"lr": 0.4})["lr"]
    assert lr < 0.4


def test_forget_undoes_the_cuts():
    controller = cruise()
    assert play(controller, RISING[:100])[-1] < 0.2
    controller.forget(100)
    assert controller.propose({"lr": 0.1}) == {"lr": 0.4}


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_break_starts_the_memory_afresh(bad):
    controller = cruise()
    play(controller, RISING[:20])
    assert play(controller, [bad], first=21) == [0.4]
    assert play(controller, RISING[:41], first=22) == [0.4] * 40 + [0.2]


def test_huge_losses_are_no_error():
    play(cruise(), [1e200 * (1 + i % 3) for i in range(30)])
    controller = cruise()
    assert play(controller, [1.7e308] * 300)[-1] < 0.4
    play(controller, [1.7e308 * (1 - i / 600) for i in range(600)], first=301)
    assert all(map(math.isfinite, controller._means))


@pytest.mark.parametrize("total", [None, 100])
def test_resume_is_exact_with_cuts_changes_and_followed_values(total):
    def go(controller, steps):
        lrs = []
        for step in steps:
            controller.observe(RISING[step], step)
            controller.observe_validation(1.0 + abs(step - 30), step)
            if step in (20, 70):
                controller.follow({"lr": 0.3})
            if step == 45:
                controller.forget(step)
            lrs.append(controller.propose({"lr": 0.1})["lr"])
        return lrs

    expected = go(cruise(total_steps=total), range(1, 101))
    for cut in range(1, 101, 3):
        saved, resumed = cruise(total_steps=total), cruise(9.0, total_steps=total)
        go(saved, range(1, cut))
        resumed.load_state_dict(saved.state_dict())
        assert go(resumed, range(cut, 101)) == expected[cut - 1 :]


@pytest.mark.parametrize("cut", [255, 256, 257, 600])
def test_resume_is_exact_where_the_memory_is_coarse(cut):
    rng = np.random.default_rng(0)
    metrics = [*falling(300, 0.01, 0), *(1.0 + 0.01 * rng.standard_normal(700))]
    expected = play(cruise(), metrics)
    assert expected[-1] < expected[256] == 0.4
    saved, resumed = cruise(), cruise(9.0)
    play(saved, metrics[:cut])
    resumed.load_state_dict(saved.state_dict())
    for first, last in ((cut, cut + 9), (cut + 9, len(metrics))):
        assert play(resumed, metrics[first:last], first=first + 1) == expected[first:last]
        play(saved, metrics[first:last], first=first + 1)
        assert same(resumed.state_dict(), saved.state_dict())


def test_it_keeps_the_contract():
    check_controller(Cruise)
    check_controller(lambda: Cruise(total_steps=100))


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"total_steps": 0}, "total_steps must be at least 1"),
        ({"hold": 1.0}, r"hold must lie in \[0, 1\)"),
        ({"hold": -0.1}, r"hold must lie in \[0, 1\)"),
        ({"cut": 1.0}, r"cut must lie in \(0, 1\)"),
        ({"cut": NAN}, r"cut must lie in \(0, 1\)"),
        ({"patience": 0.0}, r"patience in \(0, 1\]"),
        ({"min_intervals": 3}, "min_intervals must be at least 4"),
    ],
)
def test_arguments_are_checked(kwargs, words):
    with pytest.raises(ValueError, match=f"Cruise: .*{words}"):
        Cruise(**kwargs)
