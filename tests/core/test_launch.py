"""The search for lr as a pure state machine: synthetic losses say what a training would have said."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from launch_drive import INF, MAX_STEPS, NAN, WINDOW, Breaking, Drive, Given, Law, Quadratic

from autotunenet.launch import Move

ODD = st.sampled_from([NAN, INF, -INF, 0.0, -1.0, 1e200, -1e200, 1e-300, 1.0, 1.1, 0.9, 3.0])

# -- what it finds ---------------------------------------------------------------------------------------------------


@given(exponent=st.floats(-4.0, 4.0), floor=st.sampled_from([0.0, 0.1]), seed=st.integers(0, 2**20))
@pytest.mark.parametrize("make", [Quadratic, Law])
def test_without_noise_it_lands_near_the_best_from_eight_decades(make, exponent, floor, seed):
    drive = Drive(make(floor=floor, seed=seed), lr=10**exponent)
    # Once the steep directions are down, a larger lr no longer learns twice as fast: the climb ends below the best.
    assert (0.03 if make is Quadratic else 0.15) <= drive.run() <= 1.01
    assert drive.num_steps <= MAX_STEPS + WINDOW
    assert drive.num_discarded <= 80


def peaks(make, noise, exponent, num=40, **kwargs):
    """The answers of many runs; NaN where there was none."""
    found = []
    for seed in range(num):
        try:
            found.append(Drive(make(noise, seed=seed, **kwargs), lr=10.0**exponent).run())
        except AssertionError:
            found.append(NAN)
    return np.array(found)


@pytest.mark.parametrize("noise", [0.03, 0.1, 0.3])
@pytest.mark.parametrize("exponent", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("make", [Quadratic, Law])
def test_with_noise_too(make, exponent, noise):
    found = peaks(make, noise, exponent)
    assert ((found >= 0.05) & (found <= 3.5)).mean() >= 0.9, sorted(found)


@pytest.mark.parametrize(("noise", "least"), [(0.03, 0.005), (0.1, 0.02), (0.3, 1e-4)])
@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_noise_does_not_end_the_climb_from_far_below(floor, noise, least):
    """Where noise hides all that is learned the user's lr, 1e-4, is the answer."""
    found = peaks(Quadratic, noise, -4, floor=floor)
    assert (found >= least).mean() >= 0.95, sorted(found)


@pytest.mark.parametrize("noise", [0.03, 0.1, 0.3])
def test_noise_alone_does_not_send_lr_down_by_decades(noise):
    for seed in range(100):
        rng = np.random.default_rng(seed)
        drive = Drive(Given(lambda lr, rng=rng: 2.0 * (1 + noise * rng.standard_normal())), lr=1.0)
        assert drive.run() > 1e-2, seed


@pytest.mark.parametrize("noise", [0.1, 0.3])
@pytest.mark.parametrize("exponent", [-1, 0, 2, 4])
@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_noise_in_a_training_that_learns_does_not_send_lr_down_by_decades(floor, exponent, noise):
    """The best lr is 1. A start that is low by chance must not end the search far below it."""
    found = peaks(Law, noise, exponent, num=100, floor=floor)
    assert found.min() > 1e-4, sorted(found)[:5]
    assert (found > 0.05).mean() >= 0.95, sorted(found)[:10]


# -- the level where the training starts ------------------------------------------------------------------------------


def test_the_first_loss_of_each_trial_from_the_start_is_counted_in():
    drive = Drive(Given([1.0, 1.02, 0.99, 1.03, 1.06, 50.0, 1.04, 50.0, 1.05]), lr=1.0)
    moves = [drive.step() for _ in range(9)]
    assert moves[4:] == [Move.GO_ON, Move.RETURN] * 2 + [Move.GO_ON]
    known = [1.0, 1.02, 0.99, 1.03, 1.06, 1.04, 1.05]
    assert drive.launch.level == pytest.approx(np.mean(known))
    assert drive.launch._noise == pytest.approx((1 + 2 / 5) * np.std(known, ddof=1))


def test_the_first_loss_of_a_later_trial_is_not():
    """What has been learned, or may have been, is another level."""
    drive = Drive(Law(), lr=0.1)
    while not drive.launch._has_learned:
        drive.step()
    known, level = drive.launch._start, drive.launch.level
    drive.step()
    assert (drive.launch._start, drive.launch.level) == (known, level)


def test_a_trial_that_teaches_nothing_is_counted_in_as_a_whole_and_once():
    losses = [1.0, 1.02, 0.98, 1.0, 1.01, 1.0, 0.99, 1.0, 1.02, 1.0, 1.0, 0.98, 1.0, 1.01, 0.99, 1.01]
    drive = Drive(Given(losses), lr=1.0)
    moves = [drive.step() for _ in losses]
    assert moves.count(Move.KEEP) == 3
    assert drive.launch._start == losses
    assert drive.launch.level == pytest.approx(np.mean(losses))


def test_a_small_but_certain_fall_is_another_level():
    losses = [1.0] * 5 + [0.975] * 5
    drive = Drive(Given(losses), lr=1.0)
    moves = [drive.step() for _ in losses]
    assert moves[-1] is Move.KEEP
    assert drive.launch._start == [1.0] * 5
    assert drive.launch.level == pytest.approx(np.mean(losses[4:]))


def test_a_first_loss_that_is_far_too_high_is_no_fault_of_the_lr_but_moves_the_level_only_so_far():
    drive = Drive(Given([1.0] * 4 + [1e6] + [1.0] * 6), lr=1.0)
    moves = [drive.step() for _ in range(11)]
    assert moves[4] is Move.RETURN
    assert "before lr 1 has moved it: again" in drive.reasons[1]
    assert drive.lrs[4:] == [1.0] * 7
    assert drive.failed == []
    assert moves[-1] is Move.KEEP
    assert drive.launch.level < 1.1


@pytest.mark.parametrize("level", [1.3, 3.0, 30.0])
def test_where_the_level_itself_has_changed_lr_stays(level):
    drive = Drive(Given(itertools.chain([1.0] * 4, itertools.repeat(level))))
    assert drive.run() == 0.1
    assert drive.failed == []
    assert drive.num_discarded <= WINDOW


@pytest.mark.parametrize("loss", [1e6, -1e6])
def test_an_odd_first_loss_is_clipped_on_either_side(loss):
    drive = Drive(Given([1.0] * 4 + [loss]), lr=1.0)
    for _ in range(5):
        drive.step()
    jump = 0.5 + 0.05
    assert drive.launch.level == pytest.approx((4 + 1 + math.copysign(jump, loss)) / 5)


VARIED = (0.95, 1.05, 0.95, 1.05, 1.0)  # mean 1, standard deviation 0.05: with five losses, noise 0.0833


def test_that_the_level_itself_is_uncertain_counts_before_anything_is_called_learned():
    """0.16 is 2.5 errors of the mean of two losses, but not of its difference to a level known from five."""
    drive = Drive(Given([*VARIED, 1.0, 0.95, 0.9, 0.84, 0.84]), lr=1.0)
    moves = [drive.step() for _ in range(10)]
    assert moves[-1] is Move.KEEP
    assert not drive.launch._has_learned


def test_a_level_that_is_known_better_lets_a_smaller_rise_be_seen():
    """0.25 is 3.5 errors where five losses tell the level, but not where two do."""
    drive = Drive(Given([*VARIED, 1.0, 1.0, 1.0, 1.25, 1.25]), lr=1.0)
    moves = [drive.step() for _ in range(10)]
    assert moves[-1] is Move.RETURN
    assert "the loss ended higher" in drive.launch.reason


def test_first_losses_that_vary_by_more_than_a_tenth_are_measured_three_times_as_long():
    steady, unsteady = (Drive(Given([2.0, 2.0 + by, 2.0 - by] * 4), lr=0.5) for by in (0.2, 0.3))
    moves = [[drive.step() for _ in range(12)] for drive in (steady, unsteady)]
    assert [kinds.index(Move.KEEP) + 1 for kinds in moves] == [4, 12]


class Ragged(Law):
    """Losses under log-normal noise of mean 1, as of policy gradients or tiny batches."""

    def step(self, lr):
        sigma, self.noise = self.noise, 0.0
        loss, self.noise = super().step(lr), sigma
        return loss * math.exp(sigma * self.rng.standard_normal() - sigma**2 / 2)


@pytest.mark.parametrize("noise", [0.5, 1.0])
@pytest.mark.parametrize("exponent", [-3, -1, 0])
def test_losses_that_vary_too_much_let_nothing_larger_than_the_users_lr_be_tried(noise, exponent):
    """1 is the best lr, and what is above 3 breaks the training."""
    lr, answers = 10.0**exponent, []
    for seed in range(40):
        drive = Drive(Ragged(noise, seed=seed, floor=0.1), lr=lr)
        answers.append(drive.run())
        if drive.launch._is_blind:
            assert max(drive.lrs) <= lr
            assert "none above" in " ".join(drive.reasons)
    assert np.mean(np.isclose(answers, lr)) >= 0.9, sorted(answers)


def test_what_varies_a_little_does_not_forbid_to_climb():
    drive = Drive(Ragged(0.1, floor=0.1), lr=1e-3)
    assert drive.run() > 1e-2


def test_time_is_up_at_the_first_loss_of_a_trial():
    drive = Drive(Given(itertools.chain([1.0] * 4, itertools.cycle([1.0, NAN]))), max_steps=41)
    drive.run()
    assert drive.num_steps == 41
    assert drive.launch.reason.startswith("Time is up")


# -- odd losses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1.0, 0.0, -3.0, 1e200, -1e200, 1e-300])
def test_a_constant_loss_comes_to_an_end(value):
    drive = Drive(Given(lambda lr: value))
    drive.run()
    assert drive.num_discarded <= WINDOW


@pytest.mark.parametrize("value", [1.0, 0.0, -3.0])
def test_where_nothing_can_be_learned_the_users_lr_is_the_answer(value):
    assert Drive(Given(lambda lr: value)).run() == 0.1


@pytest.mark.parametrize("first", [NAN, INF, -INF])
def test_a_loss_that_is_no_number_from_the_start_ends_in_words(first):
    drive = Drive(Given(lambda lr: first))
    assert drive.run(limit=MAX_STEPS) == 0.1
    assert drive.launch.is_proven
    assert "before any lr was tried: look at the data" in drive.reasons[0]
    assert str(first) in drive.reasons[-1]


@given(st.lists(st.sampled_from([NAN, INF, -INF]), min_size=1, max_size=20), st.integers(0, 4))
def test_some_that_are_no_numbers_before_anything_was_tried_do_no_harm(odd, place):
    losses = [1.0] * place + odd
    drive = Drive(Quadratic(), lr=1e-2)
    pure = drive.training.step
    drive.training.step = lambda lr: losses[drive.num_steps] if drive.num_steps < len(losses) else pure(lr)
    peak = drive.run(limit=MAX_STEPS + WINDOW + len(odd))
    if place < drive.launch.num_calibration:
        assert 0.25 <= peak / Drive(Quadratic(), lr=1e-2).run() <= 4


@pytest.mark.parametrize("after", [NAN, INF, 1e6])
def test_where_every_lr_fails_the_search_ends_all_the_same(after):
    drive = Drive(Given(itertools.chain([1.0] * 4, itertools.cycle([1.0, after]))))
    drive.run()
    assert drive.num_steps == MAX_STEPS
    assert len(drive.failed) == (MAX_STEPS - 4) // 2


def test_no_trial_leaves_the_box():
    for after, low, high, expected in ((NAN, 1e-3, INF, 1e-3), (1.0, 0.0, 2.0, 0.1)):
        drive = Drive(Given(itertools.chain([1.0] * 4, itertools.cycle([1.0, after]))), box=(low, high))
        assert drive.run() == expected
        assert min(drive.lrs[4:]) >= low
        assert max(drive.lrs) <= high
        assert low in drive.lrs or high in drive.lrs


@pytest.mark.parametrize("rest", [1e-9, 1.2e-7])
def test_a_start_that_has_converged_to_zero_is_left_alone(rest):
    rng = np.random.default_rng(0)
    losses = itertools.chain([0.0] * 4, iter(lambda: abs(float(rng.normal(0, rest))), None))
    drive = Drive(Given(losses))
    assert drive.run() == 0.1
    assert drive.failed == []


def test_the_least_step_above_zero_that_single_precision_knows_is_no_rise():
    drive = Drive(Given(itertools.chain([0.0] * 5, itertools.repeat(1.2e-7))), lr=1.0)
    for _ in range(10):
        drive.step()
    assert drive.failed == []
    assert drive.launch.lr == 4.0


def test_a_rise_from_zero_is_seen():
    drive = Drive(Given(itertools.chain([0.0] * 4, itertools.cycle([0.0, 1e-4]))), lr=1.0)
    for _ in range(6):
        drive.step()
    assert drive.failed == [1.0]


@given(st.lists(ODD, min_size=MAX_STEPS + 4 * WINDOW, max_size=MAX_STEPS + 4 * WINDOW))
def test_no_losses_break_a_contract(losses):
    """No end is asked for here, only that lr is finite and above 0 and that moves come in an order that can be done."""
    drive = Drive(Given(losses))
    while not drive.launch.is_done and drive.num_steps < len(losses):
        drive.step()
    if drive.launch.is_done:
        assert 0 < drive.launch.peak < INF
        assert drive.num_steps >= min(drive.num_steps, drive.launch.num_calibration)


@given(exponent=st.floats(-4.0, 4.0), noise=st.sampled_from([0.0, 0.05, 0.3]), seed=st.integers(0, 2**20))
def test_the_answer_lies_below_every_lr_that_failed_last(exponent, noise, seed):
    """Where a later climb passes an lr that an earlier one failed at, the earlier failure was noise."""
    drive = Drive(Law(noise, seed=seed), lr=10**exponent)
    while not drive.launch.is_done and drive.num_steps < 200:
        ceiling = drive.launch._ceiling
        drive.step()
    if drive.launch.is_done:
        assert drive.launch.peak <= min(ceiling, *drive.failed[-1:], INF)


@given(st.integers(5, 60), st.sampled_from([NAN, INF]))
def test_one_loss_that_is_no_number_in_a_trial_is_taken_back(at, value):
    drive = Drive(Quadratic(), lr=0.1)
    while drive.num_steps < at and not drive.launch.is_done:
        drive.step()
    if drive.launch.is_done:
        return
    drive.training.step = lambda lr: value
    lr, is_first = drive.launch.lr, not drive.launch._losses
    assert drive.step() in (Move.RETURN, Move.RESTART, Move.REWIND)
    if is_first:  # no lr has touched the state since it was kept
        assert drive.launch.lr == lr
        assert drive.failed == []
        return
    assert drive.launch.lr < lr
    if " learned less than " in drive.reasons[-1]:
        return  # in a comparison it only loses
    assert lr in drive.failed
    assert drive.reasons[-1].startswith(f"lr {lr:.3g} failed: the loss became {value}. Taken back.")


# -- moves -----------------------------------------------------------------------------------------------------------


def test_the_calibration_hardly_moves_and_the_first_trial_is_the_users_lr():
    drive = Drive(Given([2.0, 1.9, 2.1, 2.0]), lr=0.5)
    assert [drive.step() for _ in range(4)] == [Move.GO_ON] * 3 + [Move.KEEP]
    assert drive.lrs == pytest.approx([0.5e-8] * 4)
    assert drive.launch.lr == 0.5
    assert drive.launch.level == 2.0
    assert drive.launch.reason.startswith("The loss starts at 2, give or take ")


def test_half_a_trial_is_enough_while_nothing_is_learned_and_the_next_is_four_times_larger():
    drive = Drive(Given(lambda lr: 1.0), lr=0.5)
    moves = [drive.step() for _ in range(4 + 6 + 6)]
    assert [i for i, move in enumerate(moves) if move is Move.KEEP] == [3, 9, 15]
    assert drive.lrs[4:] == [0.5] * 6 + [2.0] * 6
    assert drive.launch.lr == 8.0


def test_from_above_lr_falls_by_eight_and_the_climb_starts_a_sixteenth_below_what_survives():
    drive = Drive(Breaking(lambda lr: 1.0 if lr < 1 else NAN), lr=10.0)
    for _ in range(4):
        drive.step()
    assert [drive.step() for _ in range(4)] == [Move.GO_ON, Move.RETURN] * 2
    assert drive.failed == [10.0, 1.25]
    moves = [drive.step() for _ in range(WINDOW)]
    assert moves == [Move.GO_ON] * (WINDOW - 1) + [Move.RESTART]
    assert drive.launch.lr == pytest.approx(1.25 / 8 / 16)
    assert "survives; the climb starts well below it" in drive.launch.reason


def test_between_what_passed_and_what_failed_it_tries_the_geometric_mean():
    drive = Drive(Law(), lr=1.0)
    while not drive.failed:
        assert not drive.launch.is_done
        drive.step()
    assert drive.failed == [4.0]
    assert drive.launch.lr == 0.25  # first of all it is seen whether less would do
    while drive.launch.lr == 0.25:
        drive.step()
    assert drive.launch.lr == pytest.approx(math.sqrt(1.0 * 4.0))


# -- a smaller lr, from the start ------------------------------------------------------------------------------------


class Paced(Law):
    """A loss that falls by the share that belongs to the lr, and blows up where none does."""

    def __init__(self, shares):
        super().__init__()
        self.shares = shares

    def step(self, lr):
        loss, share = self.state, next((s for at, s in self.shares.items() if math.isclose(at, lr)), 0.0)
        self.state *= (1 - share) if share or lr < 1e-6 else 100.0
        return loss


def until_done(drive):
    moves = []
    while not drive.launch.is_done:
        moves.append(drive.step())
    return moves


@pytest.mark.parametrize(("share", "expected"), [(0.10, 0.1), (0.07, 0.1), (0.06, 0.2), (0.0, 0.2)])
def test_near_the_edge_a_quarter_is_the_answer_where_it_brings_the_loss_down_by_three_quarters_as_much(share, expected):
    """Of an lr of 0.4 that takes off a tenth a step; four times as much blows up, twice as much too."""
    drive = Drive(Paced({0.4: 0.1, 0.1: share}), lr=0.4)
    moves = until_done(drive)
    assert drive.launch.peak == pytest.approx(expected)
    assert moves.count(Move.REWIND) == 1
    assert moves[-1] is (Move.KEEP if expected == 0.1 else Move.RETURN)
    assert ("learned as much as 0.4" in drive.launch.reason) is (expected == 0.1)


def test_what_is_given_up_and_what_comes_back():
    """Steps in a state that is live at the end: 12 of the quarter, or 12 of the user's lr."""
    for share in (0.1, 0.02):
        training = Paced({0.4: 0.1, 0.1: share})
        drive = Drive(training, lr=0.4)
        until_done(drive)
        assert training.state == pytest.approx((1 - 0.1) ** 12)


@pytest.mark.parametrize(("fourfold", "compared"), [(0.03, True), (0.07, False), (0.3, False)])
def test_a_larger_lr_that_learns_slower_asks_the_same_question(fourfold, compared):
    drive = Drive(Paced({0.4: 0.1, 1.6: fourfold, 0.1: 0.1, 6.4: 0.0}), lr=0.4)
    moves = until_done(drive)
    assert (Move.REWIND in moves) is compared
    assert (drive.launch.peak == pytest.approx(0.1)) is compared


def test_only_the_users_lr_is_compared_and_only_inside_the_space_and_the_time():
    assert Move.REWIND not in until_done(Drive(Law(), lr=0.01))  # comes from below
    assert Move.REWIND not in until_done(Drive(Law(), lr=100.0))  # and from above
    assert Move.REWIND not in until_done(Drive(Paced({0.4: 0.1, 0.1: 0.1}), lr=0.4, box=(0.2, 10.0)))
    assert Move.REWIND not in until_done(Drive(Paced({0.4: 0.1, 0.1: 0.1}), lr=0.4, total_steps=80, window=24))
    assert Move.REWIND in until_done(Drive(Paced({0.4: 0.1, 0.1: 0.1}), lr=0.4, total_steps=80))


# -- pace ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "third", "options", "expected"),
    [
        (0.965, 0.92, {}, 0.1),
        (0.94, 0.95, {}, 0.4),
        (0.94, 0.92, {}, 1.6),
        (0.94, 0.92, {"gain_beyond": 2.0}, 0.4),
        (0.965, 0.95, {"gain": 1.5}, 1.6),
    ],
)
def test_an_lr_has_to_learn_twice_as_fast_as_the_users_and_as_fast_as_one_after_it(second, third, options, expected):
    """2.5 times as fast at 4 times the user's lr is kept, 1.6 times is not; from there on no slower is enough."""
    speeds = {0.1: 0.98, 0.4: second, 1.6: third}
    training = Law()
    loss = 1.0

    def law(lr):
        nonlocal loss
        loss *= speeds.get(round(lr, 6), 1.0)
        return loss

    training.step = law
    drive = Drive(training, **options)
    assert drive.run() == pytest.approx(expected)
    assert f"learned no faster than {expected}" in drive.launch.reason


def test_time_is_up_in_the_middle_of_a_trial():
    drive = Drive(Given(lambda lr: 1.0), max_steps=40)
    peak = drive.run()
    assert drive.num_steps == 40 + (drive.since > 0)
    assert peak in drive.lrs


@pytest.mark.parametrize("fraction", [0.1, 0.25, 1.0])
def test_the_answer_keeps_its_distance_from_what_failed(fraction):
    drive = Drive(Breaking(lambda lr: 1 - 0.1 * lr if lr <= 1 else NAN), lr=0.5, peak_fraction=fraction)
    peak = drive.run()
    assert drive.failed
    assert peak == min(drive.launch._good, fraction * min(drive.failed))
