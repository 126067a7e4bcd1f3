"""What follows on the search for lr: proof and revocation of the answer; resume and arguments of the launch."""

import io

import pytest
import torch
from launch_drive import INF, NAN, WINDOW, Drive, Given, Law, Quadratic

from autotunenet.launch import Launch, Move
from autotunenet.testing import same

# -- proof and revocation ---------------------------------------------------------------------------------------------


def done(losses=lambda lr: 1.0 if lr < 3 else 0.95 if lr < 1000 else 10.0):
    drive = Drive(Given(losses))
    drive.run()
    return drive


def test_a_loss_that_has_come_down_by_a_tenth_proves_the_answer():
    drive = Drive(Quadratic(), lr=0.1)
    drive.run()
    peak = drive.launch.peak
    while not drive.launch.is_proven:
        assert drive.step() in (Move.GO_ON, Move.KEEP)
        assert drive.num_steps < 200
    assert drive.launch.lr == drive.launch.peak == peak
    assert drive.launch._losses == []


@pytest.mark.parametrize(("level", "expected"), [(0.89, Move.KEEP), (0.91, Move.GO_ON)])
def test_the_tenth_is_a_tenth_of_the_first_loss(level, expected):
    launch = done().launch
    assert [launch.prove(level) for _ in range(WINDOW)] == [Move.GO_ON] * (WINDOW - 1) + [expected]
    assert launch.is_proven == (expected is Move.KEEP)


def test_a_loss_that_saturates_revokes_the_answer_after_four_windows():
    drive = done()
    peak = drive.launch.peak
    moves = [drive.step() for _ in range(4 * WINDOW)]
    assert moves == [Move.GO_ON] * (4 * WINDOW - 1) + [Move.RESTART]
    assert not drive.launch.is_done
    assert drive.launch.lr == pytest.approx(peak / 16)
    assert drive.launch.level == 1.0
    assert "has not brought the loss below 0.95: back to the start, from lower" in drive.launch.reason
    drive.run(limit=1000)
    assert drive.launch.peak < peak


def test_a_loss_that_still_falls_is_given_time():
    launch = done().launch
    loss = 0.999
    for _ in range(30 * WINDOW):
        loss -= 4e-4
        if launch.prove(loss) is Move.KEEP:
            break
    assert launch.is_proven


def test_an_answer_is_revoked_only_once_and_the_first_stands_where_lower_teaches_nothing_either():
    drive = done()
    first = drive.launch.peak
    while not drive.launch.is_proven:
        drive.step()
        assert drive.num_steps < 1000
    assert len(drive.answers) == 2
    assert drive.launch.lr == drive.launch.peak == first
    assert "the first answer stands" in drive.launch.reason


def test_where_lower_does_learn_the_second_answer_stands():
    drive = done()
    while drive.launch.is_done:
        drive.step()
    drive.training.law = lambda lr: 1.0 if lr < 0.3 else 0.92 if lr < 1000 else 10.0
    while not drive.launch.is_proven:
        drive.step()
        assert drive.num_steps < 1000
    assert drive.launch.lr == drive.launch.peak == drive.answers[-1] != drive.answers[0]


def test_an_answer_that_is_too_low_is_not_revoked_downwards():
    """Where the loss has hardly moved at all it cannot be told that lr was too high."""
    num_low = 0
    for seed in range(60):
        drive = Drive(Quadratic(0.3, floor=1.0, seed=seed), lr=1e-4)
        drive.run(limit=1000)
        num_low += drive.launch.peak <= 1e-2
        while not drive.launch.is_proven:
            assert drive.num_steps < 1000
            drive.step()
        if drive.answers[0] <= 1e-2:
            assert drive.launch.lr >= drive.answers[0], seed
    assert num_low >= 5, "the test would show little"


def test_the_users_own_lr_is_proven_where_it_learns():
    drive = Drive(Law(floor=1.0), lr=1.0)
    assert drive.run() == 1.0
    assert [drive.launch.prove(1.99) for _ in range(WINDOW)] == [Move.GO_ON] * (WINDOW - 1) + [Move.KEEP]
    assert drive.launch.is_proven
    assert "the user's own lr" in drive.launch.reason


def test_the_memory_of_the_proof_is_bounded():
    """A loss whose fall is just seen from window to window, but does not reach a tenth, keeps the answer in doubt."""
    launch = done().launch
    launch._noise = 1e-9
    for num in range(3000):
        assert launch.prove(0.99 - 1e-5 * num) is Move.GO_ON
        assert len(launch._losses) <= 4 * WINDOW


def test_what_the_proof_forgets_changes_nothing():
    """It still is the last window against the one before: the first standstill after a long fall revokes."""
    launch = done().launch
    moves = [launch.prove(0.999 - 4e-4 * min(num, 10 * WINDOW)) for num in range(12 * WINDOW)]
    assert moves == [Move.GO_ON] * (12 * WINDOW - 1) + [Move.RESTART]


# -- resume and arguments --------------------------------------------------------------------------------------------


def reload(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(
    ("make", "lr"),
    [
        (lambda: Quadratic(0.1, seed=3), 100.0),
        (lambda: Law(0.05, seed=1), 1e-3),
        (lambda: Given(lambda lr: 1.0 if lr < 3 else 0.95 if lr < 1000 else 10.0), 0.1),
    ],
    ids=["from above", "from below", "revoked"],
)
def test_resume_after_every_step(make, lr):
    drive = Drive(make(), lr)
    states, losses, moves = [], [], []
    step = drive.training.step

    def noted(lr):
        losses.append(step(lr))
        return losses[-1]

    drive.training.step = noted
    while not drive.launch.is_proven and drive.num_steps < 400:
        states.append(drive.launch.state_dict())
        moves.append((drive.step(), drive.launch.lr))
    assert drive.launch.is_proven
    expected = drive.launch.state_dict()
    for cut, state in enumerate(states):
        resumed = Launch()
        resumed.load_state_dict(reload(state))
        for loss, (move, following) in zip(losses[cut:], moves[cut:], strict=True):
            assert (resumed.prove(loss) if resumed.is_done else resumed.update(loss)) is move, cut
            assert resumed.lr == following
        assert same(resumed.state_dict(), expected)


def test_a_state_shares_nothing_with_the_launch():
    launch = Launch()
    launch.start(0.1)
    state = launch.state_dict()
    launch.update(1.0)
    assert state["_losses"] == []


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"window": 5}, "window must be at least 6.*got 5"),
        ({"num_calibration": 2}, "num_calibration at least 3.*2"),
        ({"max_steps": 39}, "max_steps at least 40.*39"),
        *[({name: value}, f"{name} must be a finite number above 1, got {value}")
          for name in ("grow", "shrink", "down", "resolution") for value in (1.0, INF, NAN)],
        *[({"gain": value}, f"gain must be a finite number, at least 1, got {value}") for value in (0.99, INF, NAN)],
        *[({"peak_fraction": value}, r"peak_fraction must lie in \(0, 1\]") for value in (0.0, 1.01, NAN)],
    ],
)  # fmt: skip
def test_arguments_are_checked(kwargs, words):
    with pytest.raises(ValueError, match=f"Launch: .*{words}"):
        Launch(**kwargs)


@pytest.mark.parametrize("lr", [0.0, -0.1, NAN, INF])
def test_an_lr_that_cannot_be_searched_from_is_refused(lr):
    with pytest.raises(ValueError, match="lr"):
        Launch().start(lr)
