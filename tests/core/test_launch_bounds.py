"""What a launch leaves alone: broken signals, lrs outside of the space, and short runs; and harm done bit by bit."""

import itertools
import logging
import math
import random

import pytest
from doubles import NumberRun, new_tuner
from launch_drive import INF, MAX_STEPS, NAN, WINDOW, Drive, Given, Law, Quadratic
from trials import Inspected

from autotunenet import Float, SearchSpace
from autotunenet.launch import Launch, Move
from autotunenet.launching import Launching

# -- losses that are not finite --------------------------------------------------------------------------------------


def disturbed(at, value=NAN, gaps=(), training=None):
    """A drive whose training reports `value` instead of its loss at these steps, from 1; nothing else is broken."""
    drive = Drive(training or Law(), lr=0.1, gaps=gaps)
    pure = drive.training.step

    def step(lr):
        loss = pure(lr)
        return value if drive.num_steps + 1 in at else loss

    drive.training.step = step
    return drive


def first_steps_of_trials():
    drive, found = Drive(Law(), lr=0.1), []
    while not drive.launch.is_done:
        if not drive.launch._losses and drive.num_steps:
            found.append(drive.num_steps + 1)
        drive.step()
    return found


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("num", [1, 4])
def test_a_first_loss_that_is_no_number_is_no_fault_of_the_lr_that_follows(num, value):
    first = first_steps_of_trials()
    assert len(first) >= 3
    for at in first:
        drive = disturbed(range(at, at + num), value)
        while drive.num_steps < at - 1:
            drive.step()
        lr = drive.launch.lr
        for _ in range(num):
            assert drive.step() is Move.RETURN
            assert drive.launch.lr == lr
            assert f"gives {value}, before lr {lr:.3g} has moved it: again" in drive.launch.reason
        assert drive.run() == Drive(Law(), lr=0.1).run()
        assert lr not in drive.failed or lr in undisturbed_failures()


def undisturbed_failures():
    drive = Drive(Law(), lr=0.1)
    drive.run()
    return drive.failed


def test_where_the_first_state_gives_nothing_but_nan_the_users_lr_is_the_answer_in_time():
    drive = Drive(Given(itertools.chain([1.0] * 4, itertools.repeat(NAN))))
    assert drive.run() == 0.1
    assert drive.num_steps == MAX_STEPS
    assert drive.failed == []


def test_a_state_that_was_kept_and_gives_nothing_but_nan_is_left_for_the_first_one():
    """Its own last step has ruined it: what the trial had shown before was well."""
    drive = disturbed(())
    while drive.launch.lr < 1.0:
        drive.step()
    spoilt = drive.launch._good
    drive.training.state = drive.kept = NAN
    moves = [drive.step() for _ in range(5)]
    assert moves == [Move.RETURN] * 4 + [Move.RESTART]
    assert f"lr {spoilt:.3g} has left a state that gives nan" in drive.launch.reason
    assert drive.launch.lr == pytest.approx(spoilt / 16)
    assert drive.run() < spoilt
    assert math.isfinite(drive.training.state)


@pytest.mark.parametrize("num", [1, 4])
def test_gaps_in_the_middle_of_a_trial_are_passed_over(num):
    for at in (6, 12, 20):
        assert at not in first_steps_of_trials()
        gaps = range(at, at + num)
        drive = Drive(Given(itertools.chain([1.0] * (at - 1), [NAN] * num, itertools.repeat(1.0))), lr=0.1, gaps=gaps)
        smooth = Drive(Given(lambda lr: 1.0), lr=0.1)
        while drive.num_steps < at - 1:
            drive.step()
            smooth.step()
        assert [drive.step() for _ in gaps] == [Move.GO_ON] * num
        assert (drive.launch.lr, drive.launch._losses) == (smooth.launch.lr, smooth.launch._losses)
        assert drive.run() == smooth.run()
        assert drive.failed == []


def test_gaps_do_not_keep_a_launch_from_ending():
    drive = Drive(Given(itertools.chain([1.0] * 6, itertools.repeat(NAN))), gaps=range(7, 1000))
    drive.run()
    assert drive.num_steps == MAX_STEPS


def launching(run, num_steps=6):
    """A tuner in the middle of the second trial step of its launch."""
    space = SearchSpace({"lr": Float(1e-12, 1e12, log=True)})
    tuner, _ = new_tuner(run=run, launch=Launch(), space=space, interval=10)
    for _ in range(num_steps):
        tuner.step(1.0)
    return tuner


def test_four_gaps_are_passed_over_while_the_weights_are_finite_and_no_fifth():
    tuner = launching(Inspected(0.0))
    assert [tuner.step(NAN) for _ in range(4)] == [None] * 4
    assert tuner.step(NAN).reason == "lr 0.1 failed: the loss became nan. Taken back."


def test_a_finite_loss_closes_the_gap():
    tuner = launching(Inspected(0.0))
    for _ in range(3):
        assert [tuner.step(NAN) for _ in range(4)] == [None] * 4
        tuner.step(1.0)
    assert tuner.history[-1].applied == {"lr": 0.1}


@pytest.mark.parametrize("run", [Inspected(NAN), NumberRun(0.0)], ids=["broken", "not known"])
def test_weights_that_are_not_known_to_be_finite_tell_against_the_lr(run):
    tuner = launching(run)
    assert tuner.step(NAN).reason.startswith("lr 0.1 failed: the loss became nan.")


def test_a_gap_is_remembered_on_resume():
    tuner, resumed = launching(Inspected(0.0)), launching(Inspected(0.0))
    for _ in range(3):
        tuner.step(NAN)
    resumed.load_state_dict(tuner.state_dict())
    assert resumed.step(NAN) is None
    assert resumed.step(NAN) is not None


def test_a_rise_is_told_in_numbers_and_a_loss_that_is_none_as_such():
    drive = Drive(Given([1.0] * 5 + [50.0]), lr=1.0)
    for _ in range(6):
        drive.step()
    assert drive.launch.reason == "lr 1 failed: the loss rose, from 1 to 50. Taken back."


def test_a_loss_that_is_no_number_neither_proves_nor_revokes():
    drive = Drive(Given(lambda lr: 1.0 if lr < 3 else 0.95))
    drive.run()
    falling = [0.949 - 1e-3 * i for i in range(4 * WINDOW - 1)]
    launch = drive.launch
    launch._noise = 1e-9
    for loss in [*falling[:-2], NAN, INF, *falling[-2:]]:
        assert launch.prove(loss) is Move.GO_ON
    assert launch.prove(0.9) in (Move.GO_ON, Move.KEEP)
    assert launch.is_done


# -- the space -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lr", "box", "first"), [(0.1, (1e-5, 1e-3), 1e-3), (1e-9, (1e-2, 1.0), 1e-2)])
def test_an_lr_outside_of_the_space_is_never_tried(lr, box, first):
    drive = Drive(Law(), lr=lr, box=box)
    assert drive.launch.lr == pytest.approx(1e-8 * first)
    peak = drive.run()
    assert drive.lrs[4] == first
    assert box[0] <= min(drive.lrs[4:])
    assert max(drive.lrs[4:]) <= box[1]
    assert box[0] <= peak <= box[1]
    words = f"lr {lr:.3g} is outside of the space: the search begins at {first:.3g}."
    assert drive.reasons[0].endswith(words)


def test_where_nothing_is_learned_the_answer_lies_in_the_space():
    assert Drive(Given(lambda lr: 1.0), lr=0.1, box=(1e-5, 1e-3)).run() == 1e-3


def test_an_lr_in_the_space_needs_no_words():
    drive = Drive(Law(), lr=0.1, box=(0.1, 1.0))
    drive.run()
    assert "outside" not in drive.reasons[0]


def test_an_answer_that_began_at_the_bound_is_not_called_the_users_own():
    drive = Drive(Law(floor=1.0), lr=10.0, box=(1e-3, 1.0))
    assert drive.run() == 1.0
    assert [drive.launch.prove(1.99) for _ in range(WINDOW)][-1] is Move.KEEP
    assert drive.launch.reason == "It is the lr that the search began with, and it learns."


@pytest.mark.parametrize("high", [0.0, -1.0, NAN])
def test_a_space_without_room_above_zero_is_refused(high):
    with pytest.raises(ValueError, match=r"room for an lr above 0.*upper bound"):
        Launch().start(0.1, -2.0, high)


# -- harm bit by bit -------------------------------------------------------------------------------------------------


def test_a_small_but_certain_rise_is_another_level():
    drive = Drive(Given([1.0] * 5 + [1.025] * 5), lr=1.0)
    moves = [drive.step() for _ in range(10)]
    assert moves[-1] is Move.KEEP
    assert drive.launch._start == [1.0] * 5
    assert drive.launch._initial == 1.0


def test_trials_that_each_do_a_little_harm_are_stopped_by_what_they_have_done_together():
    drive = Drive(Given([1.0] * 5 + [1.025] * 5 + [1.05] * 6), lr=1.0)
    moves = [drive.step() for _ in range(16)]
    assert moves[9] is Move.KEEP
    assert moves[15] is Move.RETURN
    assert drive.failed == [4.0]


class Creeping:
    """Every lr from 0.05 on does a little harm at every step, well within the noise."""

    state = 1.0

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.worst = 1.0

    def step(self, lr):
        loss = self.state + self.random.gauss(0, 0.25)
        self.state += 0.06 if lr >= 0.05 else 0.0
        self.worst = max(self.worst, self.state)
        return loss


def test_harm_within_the_noise_is_kept_only_so_far_and_does_not_carry_the_level_away():
    for seed in range(60):
        drive = Drive(Creeping(seed), lr=1e-3)
        drive.run(limit=400)
        assert drive.launch._initial < 1.3, seed
        assert drive.training.worst < 2.5, seed  # 6 where nothing stops it


# -- short runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total_steps", [1, 10, 40, 79])
def test_a_short_run_keeps_the_users_lr(total_steps):
    launch = Launch(total_steps=total_steps)
    assert launch.start(0.1) == 0.1
    assert (launch.lr, launch.peak, launch.is_done, launch.is_proven) == (0.1, 0.1, True, True)
    assert launch.reason == f"{total_steps} steps are too few for a launch: it goes on with lr 0.1."


def test_also_in_a_short_run_no_lr_leaves_the_space():
    assert Launch(total_steps=10).start(0.1, 1e-5, 1e-3) == 1e-3


@pytest.mark.parametrize(("total_steps", "most"), [(80, 40), (159, 79), (220, 110), (10**6, 110), (None, 110)])
@pytest.mark.parametrize("make", [lambda: Given(lambda lr: 1.0), lambda: Quadratic(0.3, seed=1)])
def test_a_launch_takes_no_more_than_half_of_the_run(make, total_steps, most):
    drive = Drive(make(), lr=1e-4, total_steps=total_steps)
    drive.run()
    assert 0 < drive.num_steps <= most


def test_a_launch_that_fits_is_not_changed_by_a_known_end():
    plain, known = Drive(Law(), lr=1e-3), Drive(Law(), lr=1e-3, total_steps=220)
    assert plain.run() == known.run()
    assert plain.lrs == known.lrs


def revocable(total_steps):
    drive = Drive(Given(lambda lr: 1.0 if lr < 3 else 0.95 if lr < 1000 else 10.0), total_steps=total_steps)
    drive.run()
    first = drive.num_steps
    while drive.launch.is_done and not drive.launch.is_proven:
        drive.step()
    return drive, first


def test_beginning_once_more_takes_no_more_than_half_of_what_is_left():
    drive, first = revocable(220)
    again = drive.num_steps
    assert again == first + 4 * WINDOW
    assert not drive.launch.is_done
    assert drive.launch.max_steps == again + (220 - again) // 2
    drive.run(limit=220)
    assert drive.num_steps <= again + (220 - again) // 2


def test_where_too_few_steps_are_left_the_answer_stands():
    _, first = revocable(None)
    enough = first + 4 * WINDOW + 48
    drive, _ = revocable(enough)
    assert not drive.launch.is_done
    drive, _ = revocable(enough - 1)
    assert drive.launch.is_proven
    assert drive.launch.lr == drive.answers[0]
    assert drive.launch.reason == "There are too few steps left to begin once more: the answer stands."


@pytest.mark.parametrize("total_steps", [0, -1])
def test_a_run_has_steps(total_steps):
    with pytest.raises(ValueError, match=f"Launch: total_steps must be at least 1.*got {total_steps}"):
        Launch(total_steps=total_steps)


class Scheduled(NumberRun):
    """Notes who has the say over lr."""

    has_schedule, schedule_top = True, 2.0
    is_overridden = False

    def override_schedule(self, active):
        self.is_overridden = active


@pytest.mark.parametrize(("total_steps", "is_overridden"), [(79, False), (80, True)])
def test_without_a_launch_the_users_schedule_stays_in_force(total_steps, is_overridden, caplog):
    run = Scheduled(0.0)
    with caplog.at_level(logging.INFO, logger="autotunenet"):
        launch = Launching(Launch(total_steps=total_steps), run, None, None)
        lr = launch.start(0.1, Float(1e-3, 1.0))
    assert run.is_overridden == is_overridden
    assert (lr == 0.1) is (not is_overridden)
    assert ("79 steps are too few" in caplog.text) is (not is_overridden)


def test_a_tuner_in_a_short_run_is_one_without_a_launch():
    def recorded(launch):
        tuner, _ = new_tuner(run=NumberRun(0.0), launch=launch, interval=10)
        for i in range(60):
            tuner.step(1.0 / (1 + i))
        return [decision.to_record() for decision in tuner.history]

    assert recorded(Launch(total_steps=60)) == recorded(None) != recorded(Launch())


# -- the number of steps ---------------------------------------------------------------------------------------------


def test_the_end_of_a_launch_tells_the_steps_of_the_run():
    tuner = launching(NumberRun(0.0), num_steps=300)
    ends = [d for d in tuner.history if "The launch ends after" in d.reason]
    assert len(ends) == 2
    for decision in ends:
        assert f"The launch ends after {decision.observation.step} steps with lr" in decision.reason
    assert tuner._launching.launch.is_proven


class Told(Launch):
    """Notes the steps it is told."""

    def update(self, loss, *, step=None, is_gap=False):
        self.steps = [*getattr(self, "steps", []), step]
        return super().update(loss, step=step, is_gap=is_gap)

    def prove(self, loss, *, step=None):
        self.steps.append(step)
        return super().prove(loss, step=step)


def test_a_launch_is_told_the_steps_of_the_run_so_that_it_counts_those_it_does_not_see():
    launch = Told()
    tuner, _ = new_tuner(run=NumberRun(0.0), launch=launch, interval=10)
    for _ in range(400):
        tuner.step(1.0)
    assert launch.is_proven
    assert launch.steps == list(range(1, len(launch.steps) + 1))
    other = Launch()
    other.start(0.1)
    other.update(1.0, step=7)
    assert other._num_steps == 7


def test_a_launch_that_is_told_no_steps_counts_them_itself_and_those_of_the_proof():
    drive, _ = revocable(None)
    drive.run(limit=1000)
    assert f"The launch ends after {drive.num_steps} steps with lr" in drive.launch.reason
