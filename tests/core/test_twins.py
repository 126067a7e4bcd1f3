"""With stored batches: the good state is trained through what it has missed, and the two are compared."""

import math

import pytest
import torch
from trials import ALARM, FarHarm, Harm, Twins

from autotunenet import Action
from autotunenet.types import Cause


def test_a_knob_that_did_harm_is_found_out_at_once_and_nothing_is_lost():
    twins = Twins()
    twins.feed(ALARM - 4)
    decision = twins.feed(4, lr=0.8)
    assert (decision.action, decision.cause) == (Action.ROLLBACK, Cause.KNOB)
    assert (twins.run.weight, twins.run.hyperparams) == (ALARM, {"lr": 0.1})
    assert decision.evidence["mean_difference"] == 8.0
    assert decision.evidence["twin_loss"] == 1.0
    assert not twins.tuner._recovery.is_on_trial


@pytest.mark.parametrize(("batch", "cause"), [(8.0, Cause.DATA), (0.1, Cause.NOISE)])
def test_where_the_twin_is_no_better_the_suspect_goes_on_at_once(batch, cause):
    twins = Twins()
    twins.feed(ALARM - 3)
    decision = twins.feed(3, batch)
    assert (decision.action, decision.cause, decision.discarded_steps) == (Action.RESTORE_SUSPECT, cause, 0)
    assert (twins.run.weight, twins.run.hyperparams) == (ALARM, {"lr": 0.1})
    assert twins.feed(30, batch) is None


def test_data_and_knob_are_told_by_a_twin():
    """The data are worse by 8 for all, and the suspect by 8 more: a race tells, or the twin itself."""
    twins = Twins()
    twins.feed(ALARM - 4)
    twins.feed(1, lr=0.8)
    decision = twins.feed(3, 8.0)
    for _ in range(24):
        decision = decision if decision and decision.cause else twins.feed(1, 8.0)
    assert (decision.action, decision.cause) == (Action.ROLLBACK, Cause.BOTH)
    assert twins.run.weight < 1000
    assert twins.run.hyperparams["lr"] <= 0.1


@pytest.mark.parametrize(("lr", "cause"), [(0.15, Cause.DATA), (0.4, Cause.BOTH)])
def test_under_a_raised_lr_new_data_start_a_race(lr, cause):
    """Both end level: the suspect goes on, but where its lr had been turned up the old values do. Nothing is lost."""
    twins = Twins()
    twins.feed(ALARM - 4)
    twins.feed(1, lr=lr)
    decision = twins.feed(3, 8.0)
    assert decision.action is Action.PROBE
    assert twins.run.hyperparams == {"lr": 0.1}  # the twin's
    assert [twins.feed(1, 8.0) for _ in range(23)] == [None] * 23
    twins.replayed.clear()
    twins.lrs.clear()
    decision = twins.feed(1, 8.0)
    assert (twins.replayed, twins.lrs) == ([8.0] * 24, [0.1] * 24)  # the suspect, with the twin's values in it
    assert (decision.cause, decision.discarded_steps) == (cause, 0)
    assert (twins.run.weight, twins.run.hyperparams) == (ALARM + 24, {"lr": 0.1})


def test_the_twin_has_trained_on_every_batch_since_the_good_state():
    twins = Twins()
    for step in range(1, ALARM - 3):
        twins.feed(1, step * 1e-6)
    twins.feed(4, 0.0, lr=0.8)
    assert twins.replayed[3 : 3 + ALARM - 50] == [step * 1e-6 for step in range(51, ALARM - 3)] + [0.0] * 4


def test_where_losses_are_heard_late_the_batches_are_still_those_of_the_rise():
    twins = Twins(run=FarHarm(0.0), lag=2)
    twins.feed(ALARM - 5)
    twins.feed(3, 8.0)
    decision = twins.feed(2)  # the alarm is about the three before these
    assert twins.replayed[:5] == [8.0, 8.0, 8.0, 0.0, 0.0]
    assert (decision.action, decision.cause) == (Action.RESTORE_SUSPECT, Cause.DATA)


@pytest.mark.parametrize("missing", ["replay", "batches"])
def test_without_replay_or_batches_it_is_judged_in_line(missing):
    twins = Twins(replay=missing != "replay")
    if missing == "batches":
        step = twins.tuner.step
        twins.tuner.step = lambda loss, batch: step(loss)
    twins.feed(ALARM - 4)
    decision = twins.feed(4, lr=0.8)
    assert decision.action is Action.PROBE
    assert twins.replayed == []
    assert twins.feed(6).cause is Cause.KNOB


def test_states_of_a_trial_are_let_go():
    twins = Twins()
    twins.feed(ALARM - 4)
    twins.feed(4, lr=0.8)
    assert twins.tuner._recovery._trial._batches == []
    assert set(twins.tuner._snapshots._slots) == {"good"}
    assert len(twins.run.allocated) <= 4


@pytest.mark.filterwarnings("error")
def test_a_replay_may_return_the_loss_with_its_graph(warn_always):
    twins = Twins()
    pure = twins.run.train
    twins.tuner._recovery._trial._twin._replay = lambda batch: torch.tensor(pure(batch), requires_grad=True) * 1.0
    twins.feed(ALARM - 4)
    assert twins.feed(4, lr=0.8).cause is Cause.KNOB


def test_batches_that_were_thrown_away_are_not_replayed():
    twins = Twins()
    twins.feed(ALARM - 3)
    recovery = twins.tuner._recovery
    recovery._num_futile_in_row = 99  # what two bad starts make of it
    recovery._roll_back(9.0, ALARM - 3)
    assert recovery.way_back.batches_since_good() is None
    twins.feed(1)
    assert recovery.way_back.batches_since_good() == [0.0]


def test_after_a_verdict_the_next_twin_is_exact_too():
    """The live state is the good one and 21 batches; a twin without them is no twin."""
    twins = Twins(ALARM, ALARM + 10)
    twins.feed(ALARM - 4)
    twins.feed(4, lr=0.8)
    assert twins.run.weight == ALARM
    twins.feed(6)
    twins.feed(4, lr=0.8)
    assert twins.run.weight == ALARM + 10


def test_a_twin_that_is_broken_too_is_not_gone_on_from():
    twins = Twins()
    pure = twins.run.train

    def poisoned(batch):  # a batch that wrecks whoever trains on it, a little less at a smaller lr
        loss = pure(batch) - 0.01 * (twins.run.hyperparams["lr"] < 0.2)
        twins.run.weight += 1000 * (batch == 0.5)
        return loss

    twins.run.train = poisoned
    twins.feed(ALARM - 5)
    twins.feed(1, 0.5, lr=0.4)
    decision = twins.feed(4)
    assert decision.action is Action.ROLLBACK
    assert twins.run.weight < 1000


@pytest.mark.parametrize(("harm", "cause"), [(0.01, Cause.KNOB), (-0.01, Cause.NOISE)])
def test_an_lr_that_somebody_else_has_turned_up_is_compared_with_the_old_one_without_an_alarm(harm, cause):
    """Whichever is better goes on; both have trained on all batches."""
    twins = Twins(interval=10, guard=lambda old, new, step: dict(new))
    twins.tuner._recovery.monitor.verdicts = {}
    twins.run.harm = harm
    twins.feed(70)
    decision = twins.feed(10, lr=0.8)
    assert (decision.cause, decision.discarded_steps) == (cause, 0)
    assert (twins.run.weight < 1000) is (cause is Cause.KNOB)
    assert (twins.run.hyperparams == {"lr": 0.1}) is (cause is Cause.KNOB)


class Wreckable(Harm):
    """A batch that is no number makes the weights none."""

    def train(self, batch):
        loss = 0.0 * self.weight + super().train(batch)
        self.weight += 0.0 * batch
        return loss

    def has_finite_weights(self):
        return math.isfinite(self.weight)


@pytest.mark.parametrize("lr", [0.1, 0.15, 0.4])
def test_no_weights_that_are_no_numbers_are_gone_back_to(lr):
    """The batch that has wrecked the suspect wrecks its twin as well."""
    twins = Twins()
    twins.run.__class__ = Wreckable
    twins.feed(ALARM - 4)
    twins.feed(1, lr=lr)
    twins.feed(1, math.nan)
    for _ in range(40):
        twins.feed(1)
    assert twins.run.weight < 1000
    assert twins.run.hyperparams == {"lr": 0.1}


def test_a_replay_that_calls_the_tuner_is_refused():
    twins = Twins()
    twins.tuner._recovery._trial._twin._replay = lambda batch: twins.tuner.step(1.0, batch)
    twins.feed(ALARM - 1)
    with pytest.raises(RuntimeError, match="replay called"):
        twins.feed(1)
