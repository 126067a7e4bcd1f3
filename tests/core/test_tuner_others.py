"""The loop beside others that write: the user's scheduler, and controllers that plan absolute values."""

import math

import pytest
from doubles import UNSTABLE, NumberRun, Scripted, broken_at, feed, new_tuner

from autotunenet import Action, Float, SearchSpace
from autotunenet.controllers import Plateau, Schedule
from autotunenet.controllers.schedule import cosine
from autotunenet.guards import chain, within
from autotunenet.launch import Launch

NAN, INF = math.nan, math.inf


# -- what others write -----------------------------------------------------------------------------------------------


def test_a_foreign_write_is_reported_and_taken_over():
    tuner, run = new_tuner(interval=2)
    tuner.step(1.0)
    run.hyperparams["lr"] = 0.3
    decision = tuner.step(1.0)
    assert decision.observation.hyperparams == {"lr": 0.3}
    assert "Somebody else had changed lr 0.1 -> 0.3 since the last decision; that stands." in decision.reason
    assert "Somebody" not in feed(tuner, [1.0, 1.0])[-1].reason


def test_a_state_under_a_foreign_value_is_not_stored_as_good():
    tuner, run = new_tuner(snapshot_every=10, proof_steps=1)
    feed(tuner, [1.0] * 9)
    run.hyperparams["lr"] = 0.9
    feed(tuner, [1.0] * 30)
    assert tuner._snapshots.good.step == 0
    assert tuner._snapshots.candidate is None
    tuner.observe(1.0)  # reported, and from here on the tuner's own
    feed(tuner, [1.0] * 3)
    assert tuner._snapshots.good.hyperparams == {"lr": 0.9}


# -- schedules and the back-off --------------------------------------------------------------------------------------


def test_a_schedule_keeps_the_back_off_and_its_shape():
    plain, broken = (
        new_tuner(
            controller=Schedule(cosine(total=40)),
            guard=chain(),
            space=SearchSpace({"lr": Float(0.0, 1.0)}),
            interval=1,
            verdicts=verdicts,
            snapshot_every=1000,
        )
        for verdicts in ({}, {2: UNSTABLE})
    )
    lrs = [[], []]
    for values, (tuner, run) in zip(lrs, (plain, broken), strict=True):
        for _ in range(40):
            tuner.step(1.0)
            values.append(run.hyperparams["lr"])
    ratio = lrs[1][1] / lrs[0][1]
    assert lrs[1][1] == 0.05
    assert lrs[1][1:] == pytest.approx([ratio * lr for lr in lrs[0][1:]], abs=1e-15)


def test_plateau_goes_on_from_the_value_of_the_rollback():
    tuner, run = broken_at(3, controller=Plateau(factor=0.5, patience=1), guard=chain())
    feed(tuner, [1.0] * 3)
    assert run.hyperparams["lr"] == 0.05
    for _ in range(4):
        tuner.observe(1.0)
    assert run.hyperparams["lr"] == 0.025


def test_the_first_value_of_a_schedule_passes_the_box_but_the_users_own_is_left_alone():
    space = SearchSpace({"lr": Float(1e-3, 1.0, log=True)})
    for controller, first in ((Schedule(lambda t: 1e-3), 1e-3), (Schedule(lambda t: 1.0), 1e-5), (Scripted(), 1e-5)):
        lr = 1e-5 if first == 1e-5 else 0.1
        _, run = new_tuner(run=NumberRun(lr=lr), space=space, controller=controller, guard=within(space))
        assert run.hyperparams == {"lr": first}


# -- in the middle of a launch ---------------------------------------------------------------------------------------


def test_a_launch_ends_where_somebody_else_writes_lr_and_says_so():
    """Its trials would be of an lr that is never in force."""
    run = NumberRun(0.0, lr=0.1)
    space = SearchSpace({"lr": Float(1e-12, 1e12, log=True)})
    tuner, _ = new_tuner(run=run, launch=Launch(), space=space, interval=10)
    for step in range(1, 31):
        run.hyperparams["lr"] = 0.003
        tuner.step(1.0 - step / 100)
    first, *later = tuner.history
    assert (first.observation.step, first.action) == (1, Action.PROBE)
    assert "Somebody else had changed lr 1e-09 -> 0.003 in the middle of the launch" in first.reason
    assert Action.PROBE not in [decision.action for decision in later]
    assert tuner._launching.launch.is_proven


def test_a_rollback_that_cuts_lr_ends_the_proof_of_the_launch():
    """Else the lr that has just broken the run would be put back as the first answer."""
    run = NumberRun(0.0, lr=0.1)
    space = SearchSpace({"lr": Float(1e-12, 1e12, log=True)})
    tuner, _ = new_tuner(run=run, launch=Launch(), space=space, interval=10)
    while not tuner._launching.launch.is_done:
        tuner.step(1.0 if run.hyperparams["lr"] < 3 else 0.95 if run.hyperparams["lr"] < 1000 else 10.0)
    found = run.hyperparams["lr"]
    tuner._recovery.monitor.verdicts = {tuner._num_steps + 3: UNSTABLE}
    for _ in range(200):
        tuner.step(0.95)
    assert tuner._launching.launch.is_proven
    assert run.hyperparams["lr"] < found
    assert not any("back to the start" in decision.reason for decision in tuner.history)
