"""After an alarm: the suspect state is set aside, the good one watched, and the verdict carried out."""

import math

import pytest
from doubles import SUSPECT, UNSTABLE, Scripted, actions
from trials import ALARM, INF, NAN, Hearing, Inspected, Rewarming, Trial, alarmed

from autotunenet import Action, Float, SearchSpace
from autotunenet.guards import within
from autotunenet.types import Cause

# -- the alarm -------------------------------------------------------------------------------------------------------


def test_an_alarm_sets_the_suspect_aside_and_watches_the_good_state():
    trial, decision = alarmed(lr=0.8)
    assert (decision.action, decision.cause, decision.discarded_steps) == (Action.PROBE, None, 0)
    assert decision.observation.hyperparams == {"lr": 0.8}
    assert (trial.run.weight, trial.run.hyperparams) == (50.0, {"lr": 0.1})
    assert "the suspect state is kept" in decision.reason
    assert "The loss became 9; after step 50 it was 1." in decision.reason
    assert trial.feed(*[1.0] * 5) == [None] * 5


def test_in_a_trial_no_control_step_is_made_and_a_validation_metric_is_not_used():
    trial, _ = alarmed(interval=3)
    asked = len(trial.controller.calls)
    trial.feed(*[1.0] * 5)
    assert trial.tuner.observe(1.0) is None
    assert len(trial.controller.calls) == asked
    without = alarmed(interval=None)[0].tuner
    assert without.observe(1.0) is None


@pytest.mark.parametrize("scope", ["hyperparameters", "none"])
def test_there_is_no_trial_where_weights_are_not_restored(scope):
    trial, decision = alarmed(scope=scope)
    assert decision is None if scope == "none" else decision.action is Action.ROLLBACK
    trial.feed(*[1.0] * 20)
    assert not {"probe", "restore suspect"} & set(actions(trial.tuner))


def test_before_anything_was_proven_an_alarm_is_a_rollback():
    trial = Trial(3)
    assert trial.feed(9.0, 9.0, 9.0)[-1].action is Action.ROLLBACK


def test_one_or_two_losses_that_stand_out_set_off_nothing():
    trial, _ = alarmed()
    trial.feed(*[1.0] * 6)
    before = len(trial.tuner.history)
    trial.tuner._recovery.monitor.verdicts = {trial.num_steps + i: UNSTABLE for i in (1, 2, 5, 9, 10)}
    assert trial.feed(*[1.0] * 20) == [None] * 20
    assert len(trial.tuner.history) == before


def test_no_numbers_need_four_in_a_row_while_the_weights_are_finite():
    trial = Trial(run=Inspected(0.0))
    trial.tuner._recovery.monitor.verdicts = dict.fromkeys([*range(60, 63), *range(70, 75)], UNSTABLE)
    trial.feed(*[1.0] * 59)
    assert trial.feed(NAN, NAN, NAN, *[1.0] * 7, NAN, NAN, NAN) == [None] * 13
    assert trial.feed(NAN)[0].action is Action.PROBE


def test_no_numbers_from_broken_weights_need_one():
    trial = Trial(run=Inspected(0.0))
    trial.tuner._recovery.monitor.verdicts = {60: UNSTABLE}
    trial.feed(*[1.0] * 59)
    trial.run.weight = NAN
    assert trial.feed(NAN)[0].action in (Action.PROBE, Action.ROLLBACK)


def test_gaps_in_the_signal_of_a_trial_are_passed_over():
    trial, _ = alarmed(run=Inspected(0.0), lr=0.8)
    decision = trial.feed(NAN, 1.0, NAN, *[1.0] * 5)[-1]
    assert (decision.action, decision.cause) == (Action.ROLLBACK, Cause.KNOB)
    assert dict(decision.applied) == {"lr": 0.1}


# -- the verdicts in line --------------------------------------------------------------------------------------------


def test_a_knob_that_was_turned_goes_back_to_the_old_value():
    trial, _ = alarmed(lr=0.8)
    decision = trial.feed(*[1.0] * 6)[-1]
    assert (decision.action, decision.cause, decision.discarded_steps) == (Action.ROLLBACK, Cause.KNOB, ALARM - 50)
    assert dict(decision.applied) == {"lr": 0.1}
    assert trial.run.weight == 56.0  # what the trial has learned is kept
    assert decision.reason.endswith("Goes on from step 50 with the values it had there, rollback 1 in a row.")
    assert decision.evidence["suspect_loss"] == 9.0


@pytest.mark.parametrize("lr", [None, 0.119, 0.05])
def test_a_knob_that_was_not_turned_up_is_cut(lr):
    trial, _ = alarmed(lr=lr)
    decision = trial.feed(*[1.0] * 6)[-1]
    assert dict(decision.applied) == trial.run.hyperparams == {"lr": 0.05}


def test_cuts_compound_over_trials_in_a_row_and_the_trial_itself_runs_at_the_last():
    trial, _ = alarmed(ALARM, ALARM + 10, ALARM + 20)
    lrs = []
    for _ in range(3):
        trial.feed(*[1.0] * 6)
        lrs.append(trial.run.hyperparams["lr"])
        trial.feed(1.0, 9.0, 9.0, 9.0)
        lrs.append(trial.run.hyperparams["lr"])
    assert lrs == pytest.approx([0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125])


@pytest.mark.parametrize(("lr", "expected", "num_watched"), [(0.15, 0.1, 6), (0.1, 0.1, 2), (0.02, 0.02, 2)])
def test_data_bring_the_suspect_back_with_an_lr_that_is_no_larger_than_the_good_one(lr, expected, num_watched):
    """Where no knob has moved, two losses tell."""
    trial, _ = alarmed(lr=lr)
    *_, decision = trial.feed(*[9.0] * num_watched)
    assert (decision.action, decision.cause) == (Action.RESTORE_SUSPECT, Cause.DATA)
    assert decision.discarded_steps == num_watched
    assert (trial.run.weight, trial.run.hyperparams) == (ALARM, {"lr": expected})
    assert decision.reason.endswith("Went back to where the alarm was, and judge from that level on.")
    assert trial.tuner._recovery.monitor.resets == [9.0]


def test_new_data_are_begun_with_what_the_controller_asks_for_at_once_inside_the_guard():
    trial, _ = alarmed(controller=Rewarming(), guard=within(SearchSpace({"lr": Float(0.01, 1.0)})))
    *_, decision = trial.feed(9.0, 9.0)
    assert dict(decision.applied) == trial.run.hyperparams == {"lr": 0.01}
    assert decision.reason.endswith("judge from that level on. Warms up again on the new data: lr 0.1 -> 0.01.")


def test_a_gap_in_the_rise_is_no_evidence():
    """Of a rise to 1.1 with losses that are no numbers in between, while the weights are: it was noise."""
    for gap, cause in ((1.1, Cause.NOISE), (NAN, Cause.NOISE), (INF, Cause.NOISE), (9.0, Cause.KNOB)):
        trial = Trial(run=Inspected(0.0))
        trial.feed(*[1.0] * (ALARM - 3), gap, gap, 1.1)
        decision = trial.feed(*[1.0] * 6)[-1]
        assert decision.cause is cause, gap


def test_one_bad_loss_of_the_good_state_is_not_clear_yet():
    trial, _ = alarmed()
    decision = trial.feed(9.0, 1.0, 9.0, *[1.0] * 3)[-1]
    assert (decision.action, decision.cause) == (Action.ROLLBACK, Cause.KNOB)


@pytest.mark.parametrize(("again", "cause"), [(9.0, Cause.BOTH), (40.0, Cause.DATA), (1.0, Cause.KNOB)])
def test_a_knob_that_was_turned_up_has_the_burden_of_proof(again, cause):
    """On new data the old values go on, unless the state under the new ones is clearly better."""
    trial, _ = alarmed(lr=0.2)
    decision = trial.feed(*[again] * 6)[-1]
    assert decision.cause is cause
    assert trial.run.hyperparams == {"lr": 0.1}


def test_half_of_the_margin_is_enough_to_blame_a_knob_that_was_turned_up():
    for lr, cause in ((0.2, Cause.KNOB), (0.19, Cause.NOISE)):
        trial, _ = alarmed(loss=1.2, lr=lr)
        assert trial.feed(*[1.0] * 6)[-1].cause is cause


def test_both_stay_back_and_are_judged_from_the_new_level():
    trial, _ = alarmed(loss=90.0, lr=0.15)
    decision = trial.feed(9.0, 9.0, 9.0, 4.0, 3.0, 2.0)[-1]
    assert (decision.action, decision.cause) == (Action.ROLLBACK, Cause.BOTH)
    assert trial.run.weight == 56.0
    assert trial.tuner._recovery.monitor.resets == [3.0]
    assert trial.tuner._snapshots.candidate.step == trial.num_steps


def test_noise_brings_the_suspect_back_and_nothing_is_forgotten():
    trial, _ = alarmed(loss=1.1, controller=Hearing())
    decision = trial.feed(*[1.0] * 6)[-1]
    assert (decision.action, decision.cause, decision.discarded_steps) == (Action.RESTORE_SUSPECT, Cause.NOISE, 6)
    assert trial.run.weight == ALARM
    assert not trial.controller.called("forget")
    assert trial.controller.called("follow")


@pytest.mark.parametrize("broken", [[1.0, NAN], [1.0, 3.0, 30.0], [1.0, 1.0, INF]])
def test_where_the_good_state_breaks_again_the_trial_ends_at_once_with_a_cut(broken):
    trial, _ = alarmed(lr=0.8)
    decision = trial.feed(*broken)[-1]
    assert (decision.action, decision.cause) == (Action.ROLLBACK, Cause.KNOB)
    assert decision.discarded_steps == ALARM - 50 + len(broken)
    assert (trial.run.weight, trial.run.hyperparams) == (50.0, {"lr": 0.05})


def test_the_sentence_of_a_hopeless_trial_says_why():
    trial, _ = alarmed()
    assert "broke again" in trial.feed(1.0, 3.0, 30.0)[-1].reason


def test_two_batches_that_are_no_numbers_do_not_cut_lr():
    trial, _ = alarmed(loss=NAN)
    decision = trial.feed(NAN, *[1.0] * 20)[0]
    assert decision.cause is Cause.DATA
    assert trial.run.hyperparams == {"lr": 0.1}


@pytest.mark.parametrize("level", [1.0, 9.0], ids=["noise", "data"])
def test_a_suspect_whose_last_loss_is_no_number_is_not_returned_to(level):
    trial = Trial(71, 74)
    trial.tuner._recovery.monitor.verdicts.update(dict.fromkeys(range(68, 74), SUSPECT))
    trial.feed(*[1.0] * 67, *[level] * 6)
    trial.run.weight = NAN
    assert trial.feed(NAN)[0].action is Action.PROBE
    decision = trial.feed(*[level] * 6)[-1]
    assert decision.action is Action.ROLLBACK
    assert math.isfinite(trial.run.weight)


# -- a knob that somebody else has turned up --------------------------------------------------------------------------


def questioned(loss, lr=0.8, **kwargs):
    """Return a run whose lr somebody sets after step 60, with losses from then on that raise no alarm."""
    trial = Trial(interval=10, guard=lambda old, new, step: dict(new), controller=Scripted(), **kwargs)
    trial.tuner._recovery.monitor.verdicts = {}
    trial.feed(*[1.0] * 70)
    trial.run.hyperparams["lr"] = lr
    return trial, trial.feed(*[loss] * 10)[-1]


def test_a_small_rise_begins_a_trial_where_somebody_has_turned_lr_up():
    trial, decision = questioned(1.2)
    assert (decision.action, decision.discarded_steps) == (Action.PROBE, 0)
    decision = trial.feed(*[1.0] * 6)[-1]
    assert (decision.action, decision.cause) == (Action.ROLLBACK, Cause.KNOB)
    assert trial.run.hyperparams == {"lr": 0.1}


@pytest.mark.parametrize(
    ("loss", "lr", "options"),
    [(1.1, 0.8, {}), (1.2, 0.19, {}), (1.2, 0.05, {}), (1.2, 0.8, {"scope": "hyperparameters"})],
    ids=["no rise", "hardly moved", "turned down", "no weights to go back to"],
)
def test_otherwise_it_is_taken_over(loss, lr, options):
    _, decision = questioned(loss, lr, **options)
    assert decision.action in (Action.HOLD, Action.ADAPT)
    assert "Somebody else had changed lr" in decision.reason


def test_what_the_controller_has_raised_is_not_questioned():
    trial = Trial(
        interval=10, guard=lambda old, new, step: dict(new), controller=Scripted(*[{"lr": 0.1}] * 6, {"lr": 0.8})
    )
    trial.tuner._recovery.monitor.verdicts = {}
    trial.feed(*[1.0] * 70)
    assert trial.run.hyperparams == {"lr": 0.8}
    assert trial.feed(*[1.2] * 10)[-1].action is Action.HOLD


# -- probation -------------------------------------------------------------------------------------------------------


def test_a_return_has_to_come_down_to_where_the_good_state_had_come():
    trial, _ = alarmed(lr=0.15)
    trial.feed(9.0, 9.0, 8.0, 8.0, 7.0, 7.0)
    assert trial.feed(*[9.5] * 11) == [None] * 11
    decision = trial.feed(9.5)[-1]
    assert (decision.action, decision.cause) == (Action.ROLLBACK, Cause.BOTH)
    assert decision.evidence["loss_again"] == 7.0
    assert decision.evidence["suspect_loss"] == 9.5
    assert (trial.run.weight, trial.run.hyperparams) == (50.0, {"lr": 0.05})


def test_a_return_that_comes_down_stays_and_is_proven():
    trial, _ = alarmed(lr=0.15)
    trial.feed(9.0, 9.0, 8.0, 8.0, 7.0, 7.0)
    assert trial.feed(*[9.0] * 6, *[7.5] * 30) == [None] * 36
    assert trial.run.hyperparams == {"lr": 0.1}
    assert trial.tuner._snapshots.good.step == ALARM + 6
    assert trial.tuner._snapshots.good.loss == 7.5


def test_in_probation_nothing_is_proven():
    for lr, step in ((0.15, 50), (0.1, ALARM + 2)):  # where nobody has turned the knob up there is no probation
        trial, _ = alarmed(lr=lr, proof_steps=2)
        trial.feed(*[9.0] * (6 if lr > 0.1 else 2))
        trial.feed(*[9.0] * 11)
        assert trial.tuner._snapshots.good.step == step


def test_a_knob_that_nobody_turned_up_has_nothing_to_prove_after_new_data():
    trial, _ = alarmed()
    trial.feed(9.0, 9.0)
    assert trial.feed(*[9.5] * 40) == [None] * 40
    assert trial.run.hyperparams == {"lr": 0.1}


def test_an_alarm_in_probation_ends_it():
    trial, _ = alarmed(ALARM, ALARM + 10, lr=0.15)
    trial.feed(*[9.0] * 6)
    assert trial.feed(*[9.0] * 4)[-1].action is Action.PROBE
    trial.feed(*[1.0] * 6)
    assert trial.feed(*[50.0] * 20) == [None] * 20


def test_the_sentence_of_a_revised_verdict_says_why():
    trial, _ = alarmed(lr=0.15)
    trial.feed(9.0, 9.0, 8.0, 8.0, 7.0, 7.0)
    assert "stayed at 9.5" in trial.feed(*[9.5] * 12)[-1].reason


# -- the controller --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("again", "expected"),
    [
        (1.0, ["observe", "propose", "follow"]),
        (9.0, ["follow", "forget", "rewarm"]),
    ],
)
def test_the_controller_hears_of_a_verdict_first_what_is_in_force_then_that_the_world_changed(again, expected):
    controller = Hearing()
    trial, _ = alarmed(controller=controller)
    before = len(controller.calls)
    trial.feed(*[again] * 6)
    assert [call[0] for call in controller.calls[before:]] == expected
    assert controller.called("follow")[-1] == (trial.run.hyperparams,)


def test_a_probe_tells_the_controller_nothing():
    controller = Hearing()
    alarmed(controller=controller)
    assert [call[0] for call in controller.calls] == ["start"]


# -- caps ------------------------------------------------------------------------------------------------------------


def test_too_many_knobs_in_a_row_end_in_staying():
    trial = Trial(*range(ALARM, 400, 10), max_rollbacks=3)
    trial.feed(*[1.0] * (ALARM - 3))
    trial.feed(*([9.0] * 3 + [1.0] * 7) * 4)
    assert [a for a in actions(trial.tuner) if a != "hold"] == ["probe", "rollback"] * 3 + ["accept"]
    assert trial.tuner._recovery.is_holding


def test_no_numbers_for_ever_come_to_rest():
    trial = Trial(max_rollbacks=3)
    trial.tuner._recovery.monitor.verdicts = dict.fromkeys(range(ALARM, 400), UNSTABLE)
    trial.feed(*[1.0] * (ALARM - 1), *[NAN] * 100)
    assert len(trial.tuner.history) <= 2
    assert trial.tuner.history[-1].cause is Cause.DATA
    assert trial.run.weight == 50.0


@pytest.mark.parametrize("num", [2, 20, 60])
def test_broken_data_cost_no_lr_and_are_told_of_once(num):
    trial = Trial()
    trial.tuner._recovery.monitor.verdicts = dict.fromkeys(range(ALARM, ALARM + num), UNSTABLE)
    trial.feed(*[1.0] * (ALARM - 1), *[NAN] * num, *[1.0] * 30)
    assert trial.run.hyperparams == {"lr": 0.1}
    assert [decision.action for decision in trial.tuner.history] == [Action.PROBE, Action.ROLLBACK]
    assert trial.tuner._recovery.num_rollbacks_in_row == 0
    assert trial.run.weight == 50.0 + 30


def test_broken_data_under_a_raised_lr_bring_the_old_one_back():
    trial, _ = alarmed(loss=NAN, lr=0.8)
    trial.feed(NAN)
    assert trial.run.hyperparams == {"lr": 0.1}


def test_a_gap_in_the_signal_is_left_out_of_the_interval():
    trial = Trial(run=Inspected(0.0), interval=10)
    trial.tuner._recovery.monitor.verdicts = {5: UNSTABLE}
    decision = trial.feed(*[2.0] * 4, NAN, *[1.0] * 5)[-1]
    assert decision.observation.metric == pytest.approx((4 * 2.0 + 5 * 1.0) / 9)
