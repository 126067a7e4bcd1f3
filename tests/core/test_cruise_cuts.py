"""Where the end is not known: when lr is cut, when a cut is undone, and when the question is asked."""

import itertools
import math

import numpy as np
import pytest
from cruises import INF, NAN, RISING, cruise, floor, play, respond

from autotunenet.controllers import Cruise
from autotunenet.testing import check_controller, same

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
        lr = respond(cruise(), lambda lr, i: float(1.0 + lr + noise * rng.standard_normal()), 120)[-1]
        num_cuts.append(round(math.log2(0.4 / lr)))
        assert lr == pytest.approx(0.4 * 0.5 ** num_cuts[-1])
    assert min(num_cuts) >= 1


def test_a_fall_within_the_error_of_the_slope_is_none():
    wavy = [1.0 - 1e-5 * i + 0.01 * (-1) ** i for i in range(60)]  # a twelfth of the error in 40 of them
    assert play(cruise(), wavy)[-1] < 0.4


def test_a_loss_that_does_not_move_at_all_has_stalled():
    assert play(cruise(), [1.0] * 50)[-1] < 0.4


def intervals_of_changes(lrs):
    lrs = [0.4, *lrs]
    return [i for i in range(1, len(lrs)) if lrs[i] != lrs[i - 1]]


def test_the_first_cut_of_a_stalled_loss_comes_after_41_intervals():
    controller = cruise()
    lrs = play(controller, RISING[:41])
    assert lrs == [0.4] * 40 + [0.2]
    assert controller.reason == "The loss has not fallen for 41 steps."
    assert play(controller, [x - 0.5 for x in RISING[:41]], first=42) == [0.2] * 40 + [0.1]
    assert controller.reason == "The loss has not fallen for 41 steps."


def test_the_smallest_number_of_intervals_can_be_given():
    assert intervals_of_changes(play(cruise(min_intervals=20), RISING[:42])) == [21, 42]


def test_the_window_does_not_become_shorter_by_a_cut():
    """A loss that stalls again after every cut is cut once in a quarter of the run: as a power of time."""
    lrs = respond(cruise(), floor, 399)
    assert intervals_of_changes(lrs) == [41, 82, 123, 166, 223, 299]
    assert lrs[-1] == 0.4 * 0.5**6


# -- a cut has to pay ------------------------------------------------------------------------------------------------


def test_a_cut_that_does_not_pay_is_undone_and_says_so():
    controller = cruise()
    assert play(controller, [1.0] * 41 + [1.25] * 40) == [0.4] * 40 + [0.2] * 41
    assert controller.reason == ""
    assert play(controller, [1.25], first=82) == [0.4]
    assert controller.reason == (
        "The cut at step 41 did not pay and is undone: the loss was 1 before it and 1.25 after it."
    )


@pytest.mark.parametrize("cut", [0.1, 0.4])
def test_an_undone_cut_leaves_the_very_lr_of_before(cut):
    """One that has paid and one that has not; the lr divided by `cut` would be another in the last bit."""
    lrs = respond(cruise(1.0, cut=cut), lambda lr, i: RISING[i] + (lr > 0.9), 123)
    assert lrs[81] < lrs[80] == lrs[122] < lrs[0]


@pytest.mark.parametrize("metric", [0.0, 1.0, -1.0, 0.1, 1 / 3, 1e-300, 1.7e308, -1.7e308])
def test_a_loss_that_stays_the_same_to_the_last_bit_pays_for_nothing(metric):
    """Windows of other lengths have the same mean, whatever is rounded."""
    controller = cruise(patience=0.3)
    lrs = play(controller, [metric] * 1000)
    changes = intervals_of_changes(lrs)
    assert len(changes) >= 4
    assert [lrs[i - 1] for i in changes] == [0.2, 0.4] * (len(changes) // 2) + [0.2] * (len(changes) % 2)


def test_the_next_cut_needs_twice_the_window_and_then_twice_that():
    """41 to the cut, as many for the trial, and again with 80, with 160 and so on."""
    lrs = play(cruise(), [1.0] * 1300)
    assert intervals_of_changes(lrs) == [41, 82, 163, 244, 405, 566, 887, 1208]
    assert set(lrs) == {0.2, 0.4}


def test_a_cut_that_pays_sets_the_window_back():
    controller = cruise(patience=0.05)  # so that it is no share of the run that makes the window long
    assert intervals_of_changes(play(controller, [1.0] * 163)) == [41, 82, 163]
    assert play(controller, [x - 0.1 for x in RISING[:81]], first=164) == [0.2] * 80 + [0.1]  # paid, and stalled again
    assert play(controller, [x - 0.2 for x in RISING[:41]], first=245) == [0.1] * 40 + [0.05]


def test_a_paid_cut_stays_while_the_loss_goes_on_falling():
    controller = cruise()
    assert play(controller, RISING[:41])[-1] == 0.2
    assert set(play(controller, [0.9 - 1e-3 * i for i in range(200)], first=42)) == {0.2}
    assert controller._trial == []


@pytest.mark.parametrize(("errors", "lr"), [(1.8, 0.4), (2.2, 0.1)])
def test_a_fall_within_two_errors_of_the_difference_does_not_pay(errors, lr):
    """Two windows of 40 in a noise of +-0.1; the one that pays has stalled again."""
    noise = np.array([0.1 * (-1) ** i for i in range(41)])
    drop = errors * math.sqrt(2 * np.var(noise[1:], ddof=1) / 40)
    controller = cruise()
    assert play(controller, list(1.0 + noise))[-1] == 0.2
    assert play(controller, list(1.0 + noise - drop), first=42)[-1] == lr


def test_the_first_interval_after_the_cut_is_not_counted():
    controller = cruise()
    assert play(controller, [1.0] * 41)[-1] == 0.2
    assert play(controller, [-1e6] + [1.0] * 40, first=42)[-1] == 0.4


@pytest.mark.parametrize(("best", "lr"), [(0.4, 0.2), (0.5, 0.4), (0.6, 0.4)])
def test_a_new_best_of_a_validation_metric_pays_too(best, lr):
    """Right after the cut, so that it is no longer of the last window when the question is asked."""
    controller = cruise()
    controller.observe_validation(0.5, 1)
    assert play(controller, RISING[:41])[-1] == 0.2
    controller.observe_validation(0.9, 41)
    controller.observe_validation(best, 42)
    lrs = play(controller, RISING[41:82], first=42)
    assert lrs[-1] == (0.1 if lr == 0.2 else 0.4)  # paid, and stalled again


def test_a_validation_metric_has_to_be_better_after_the_cut_and_not_before():
    controller = cruise()
    controller.observe_validation(0.5, 1)
    assert play(controller, RISING[:82])[-1] == 0.4


@pytest.mark.parametrize("event", ["follow", "nan", "inf"])
def test_a_rollback_and_a_break_end_the_trial_and_the_cut_stands(event):
    controller = cruise()
    assert play(controller, RISING[:60])[-1] == 0.2
    if event == "follow":
        controller.follow({"lr": 0.2})
    else:
        controller.observe(float(event), 60)
    lrs = play(controller, RISING[60:101], first=61)
    assert lrs == [0.2] * 40 + [0.1]  # the next cut, and nothing compared
    assert play(controller, RISING[101:142], first=102)[-1] == 0.2  # which is on trial itself


def test_a_rollback_leaves_the_window_long():
    controller = cruise()
    play(controller, [1.0] * 82)
    controller.follow({"lr": 0.4})
    assert intervals_of_changes(play(controller, [1.0] * 90, first=83)) == [81]


@pytest.mark.parametrize("num", [60, 82])
def test_forget_ends_the_trial_and_makes_the_window_short(num):
    controller = cruise()
    play(controller, RISING[:num])
    controller.forget(num)
    assert controller.propose({"lr": 0.4}) == {"lr": 0.4}
    assert intervals_of_changes(play(controller, RISING[:90], first=num + 1)) == [41, 82]


def slow_fall(seed, num=400, noise=0.3):
    """Small fresh batches; of a loss of 1.25 all but 0.25 can be learned, at a pace of lr. Return what lr is left."""
    rng, left = np.random.default_rng(seed), [1.0]

    def loss(lr, i):
        left[0] *= 1 - 0.003 * lr / 0.4
        return float((0.25 + left[0]) * (1 + noise * rng.standard_normal()))

    return respond(cruise(), loss, num)[-1] / 0.4


def test_a_slow_fall_in_much_noise_does_not_lose_its_lr():
    """Nearly every other question finds a stall. Where cuts need not pay, five of them are the median."""
    shares = [slow_fall(seed) for seed in range(60)]
    assert np.mean([share >= 0.5 for share in shares]) >= 0.65
    assert min(shares) >= 0.125


@pytest.mark.parametrize(("gain", "noise"), [(0.5, 0.01), (0.5, 0.1), (2.0, 0.5)])
def test_a_training_at_its_noise_floor_gets_its_cuts(gain, noise):
    """An excess of gain x lr over what cannot be learned; on 400 intervals."""
    noises = noise * np.random.default_rng(0).standard_normal((40, 401))
    finals = [respond(cruise(), lambda lr, i, row=row: float(1 + gain * lr + row[i]), 400)[-1] for row in noises]
    assert np.median(finals) <= 0.4 * 0.5**2
    assert np.mean([lr < 0.4 for lr in finals]) >= 0.9


@pytest.mark.parametrize("model", [floor, lambda lr, i: RISING[i], lambda lr, i: floor(lr, i) if i > 200 else 1.0])
def test_resume_is_exact_in_the_middle_of_a_trial(model):
    expected = respond(cruise(), model, 300)
    assert len(intervals_of_changes(expected)) >= 4
    for cut in range(1, 300, 7):
        saved, resumed = cruise(), cruise(9.0)
        respond(saved, model, cut)
        resumed.load_state_dict(saved.state_dict())
        assert respond(resumed, model, 300 - cut, first=cut + 1) == expected[cut:]
        respond(saved, model, 300 - cut, first=cut + 1)
        assert same(resumed.state_dict(), saved.state_dict())


# -- when the question is asked --------------------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [0.25, 0.5])
def test_the_question_is_asked_again_when_half_the_window_is_new(patience):
    controller = cruise(patience=patience)
    asked = []
    for i, metric in enumerate(falling(400, 0.0, 0), start=1):
        assert play(controller, [metric], first=i) == [0.4]
        if controller._num_asked != (asked[-1] if asked else 0):
            asked.append(controller._num_asked)
    assert asked[0] == 41
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
    assert respond(controller, floor, 100)[-1] == 0.1
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
    assert min(play(controller, [1.7e308] * 300)) == 0.2
    play(controller, [-1.7e308 * (-1) ** i for i in range(300)], first=301)
    play(controller, [1.7e308 * (1 - i / 600) for i in range(600)], first=601)
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
