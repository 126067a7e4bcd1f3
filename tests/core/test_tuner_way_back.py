"""The way back, one rule a test; `doubles` say what happens, so that only the loop is under test."""

import logging
import math

import numpy as np
import pytest
import torch
from doubles import STABLE, SUSPECT, UNSTABLE, NumberRun, Scripted, actions, broken_at, feed, new_tuner

from autotunenet import Action, Float, Health, SearchSpace
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.guards import chain
from autotunenet.monitors import NonFinite, Regression, WorstOf

NAN, INF = math.nan, math.inf


# -- the way back ----------------------------------------------------------------------------------------------------


def test_a_rollback_restores_cuts_lr_and_says_so(caplog):
    tuner, run = broken_at(4)
    with caplog.at_level(logging.INFO, "autotunenet"):
        feed(tuner, [2.0, 1.9, 1.8])
        run.weight = NAN
        decision = tuner.step(50.0)
    assert run.weight == 1.0
    assert run.hyperparams == dict(decision.applied) == {"lr": 0.05}
    assert (decision.action, decision.health, decision.discarded_steps) == (Action.ROLLBACK, Health.UNSTABLE, 4)
    assert decision.observation.metric == INF
    assert decision.reason == (
        "The loss became 50; after step 0 it was 2. Went back there with lr 0.1 -> 0.05, rollback 1 in a row."
    )
    assert decision.reason in caplog.text


def test_the_back_off_compounds_over_rollbacks_in_a_row():
    tuner, run = broken_at(3, 5, 7)
    feed(tuner, [1.0] * 7)
    assert [d.applied["lr"] for d in tuner.history] == pytest.approx([0.05, 0.025, 0.0125])
    assert run.weight == 1.0


def test_a_new_good_state_ends_the_row():
    tuner, _ = broken_at(3, 5, 60, snapshot_every=20, proof_steps=5)
    decision = feed(tuner, [1.0] * 60)[-1]
    # Captured at 25 and 45, proven at 30 and 50; one cut from the 0.025 of that state.
    assert [d.applied["lr"] for d in tuner.history] == pytest.approx([0.05, 0.025, 0.0125])
    assert decision.reason.endswith("with lr 0.025 -> 0.0125, rollback 1 in a row.")
    assert "after step 45" in decision.reason


@pytest.mark.parametrize("scope", ["full", "hyperparameters"])
def test_a_rollback_is_bounded_by_the_space_and_not_by_the_guard(scope):
    tuner, run = broken_at(2, scope=scope, backoff=0.01, guard=lambda *args: pytest.fail("the guard was asked"))
    feed(tuner, [1.0, 9.0])
    assert run.hyperparams == {"lr": pytest.approx(0.001)}
    tuner, run = broken_at(2, scope=scope, backoff=1e-9)
    feed(tuner, [1.0, 9.0])
    assert run.hyperparams == {"lr": 1e-4}


def test_a_back_off_never_raises_a_value():
    tuner, run = broken_at(2, run=NumberRun(lr=1e-6))
    feed(tuner, [1.0, 9.0])
    assert run.hyperparams["lr"] <= 1e-6


def test_without_lr_every_tuned_value_is_cut():
    tuner, run = broken_at(2, run=NumberRun(momentum=0.8, weight_decay=0.1))
    feed(tuner, [1.0, 9.0])
    assert run.hyperparams == {"momentum": pytest.approx(0.4), "weight_decay": pytest.approx(0.05)}


def test_with_lr_the_other_values_go_back_and_are_not_cut():
    tuner, run = broken_at(4, run=NumberRun(lr=0.1, momentum=0.9), controller=Scripted({"momentum": 0.7}), interval=2)
    feed(tuner, [1.0] * 4)
    assert run.hyperparams == {"lr": 0.05, "momentum": 0.9}


def test_the_proposal_of_an_unstable_interval_is_recorded_and_refused():
    controller = Scripted({"lr": 0.14})
    tuner, run = broken_at(3, controller=controller, interval=100)
    decision = feed(tuner, [1.0] * 3)[-1]
    assert decision.proposed == {"lr": 0.14}
    assert run.hyperparams == {"lr": 0.05}
    assert controller.calls[1:] == [
        ("observe", INF, 3),
        ("propose", {"lr": 0.1}),
        ("follow", {"lr": 0.05}),
    ]


def test_a_rollback_closes_the_interval():
    tuner, _ = broken_at(3, interval=4)
    decisions = feed(tuner, [1.0, 1.0, 99.0, 2.0, 2.0, 2.0, 2.0])
    assert [i for i, d in enumerate(decisions, start=1) if d] == [3, 7]
    assert decisions[-1].observation.metric == 2.0
    assert decisions[-1].health is STABLE


def test_the_monitor_is_anchored_at_what_the_good_state_gave():
    tuner, _ = broken_at(4)
    feed(tuner, [2.5, 1.0, 1.0, 99.0])
    assert tuner._recovery.monitor.resets == [2.5]


def test_a_snapshot_needs_proof_by_the_losses_that_follow_it():
    tuner, run = broken_at(60, snapshot_every=50, proof_steps=10)
    for step in range(1, 60):
        run.weight = float(step)
        tuner.step(1.0 + step / 100)
    assert tuner._snapshots.candidate.step == 50
    tuner.step(9.0)  # nine losses were good, the tenth is not
    assert run.weight == 1.0

    tuner, run = broken_at(61, snapshot_every=50, proof_steps=10)
    for step in range(1, 61):
        run.weight = float(step)
        tuner.step(1.0 + step / 100)
    tuner.step(9.0)
    assert run.weight == 50.0
    assert tuner._snapshots.good.loss == pytest.approx(np.mean([1.0 + step / 100 for step in range(51, 61)]))


def test_an_alarm_in_the_proof_drops_the_candidate():
    tuner, run = broken_at(55)
    for _ in range(100):
        tuner.step(1.0)
        run.weight += 1
    assert tuner._snapshots.good.step == 0


def test_a_doubtful_step_in_the_proof_does_not_count_and_does_not_drop():
    """A healthy training has odd batches now and then; if each undid a proof, there would be no way back."""
    tuner, _ = new_tuner(verdicts=dict.fromkeys(range(50, 200, 3), SUSPECT))
    feed(tuner, [1.0] * 65)
    assert (tuner._snapshots.good.step, tuner._snapshots.candidate.step) == (0, 51)  # 50 itself was odd: not captured
    feed(tuner, [1.0])  # the tenth that is stable
    assert tuner._snapshots.good.step == 51


def test_a_state_after_which_every_step_is_doubtful_is_never_good():
    tuner, _ = new_tuner(verdicts=dict.fromkeys(range(51, 500), SUSPECT))
    feed(tuner, [1.0] * 499)
    assert tuner._snapshots.good.step == 0


def test_lr_blown_up_right_before_a_snapshot_is_not_stored_as_good():
    """The loss of a step is computed before its update: the step that ruins the weights still looks healthy."""
    for when in range(1, 45):
        run = NumberRun(1.0)
        monitor = WorstOf(NonFinite(), Regression(patience=2))
        tuner, _ = new_tuner(run=run, monitor=monitor, snapshot_every=5, proof_steps=3)
        for step in range(1, 50):
            loss = run.weight
            run.weight *= 1e4 if step == when else 0.99
            tuner.step(loss)
            if run.weight > 2 and step > when + 3:
                pytest.fail(f"broken at {when} and not back at {step}")
        assert actions(tuner).count("rollback") == 1


def test_nan_at_the_very_first_step_goes_back_to_the_users_own_state():
    run = NumberRun(1.0)
    tuner, _ = new_tuner(run=run, monitor=None)
    run.weight = NAN
    decision = tuner.step(NAN)
    assert (decision.action, run.weight, run.hyperparams) == (Action.ROLLBACK, 1.0, {"lr": 0.05})
    assert "rollback 1 in a row" in decision.reason
    assert feed(tuner, [2.0] * 100) == [None] * 100
    assert tuner._snapshots.good.step > 0


def test_one_nan_later_does_not_poison_what_follows():
    tuner, _ = new_tuner(monitor=None, interval=10)
    feed(tuner, [*[1.0] * 85, NAN, *[1.0] * 400])
    assert actions(tuner).count("rollback") == 1
    assert set(actions(tuner)[9:]) == {"hold"}
    assert all(math.isfinite(d.observation.metric) for d in list(tuner.history)[9:])


def test_a_monitor_that_is_anchored_does_not_take_the_wreck_for_normal():
    """From the first good loss on, 1e13 never becomes what is stored as good."""
    run = NumberRun(1.0)
    tuner, _ = new_tuner(run=run, monitor=None)
    feed(tuner, [2.3] * 3)
    run.weight = 7.0
    for _ in range(4):
        tuner.step(1e13)
    tuner.step(1e13)
    assert run.weight == 1.0
    assert tuner._snapshots.good.loss == 2.3


# -- the world changes -----------------------------------------------------------------------------------------------


def changed_world(num_steps=400, **kwargs):
    run = NumberRun(1.0)
    tuner, _ = new_tuner(run=run, monitor=WorstOf(NonFinite(), Regression()), **kwargs)
    feed(tuner, [1.0] * 100)
    return tuner, run, feed(tuner, [4.0] * num_steps)


def test_after_max_futile_rollbacks_the_new_level_is_accepted_and_said():
    tuner, run, decisions = changed_world()
    said = [d for d in decisions if d]
    assert [d.action.value for d in said] == ["rollback", "rollback", "accept"]
    assert "the data have changed, not the weights. Stayed, with the last good values" in said[-1].reason
    assert said[-1].health is UNSTABLE
    assert said[-1].discarded_steps == 0
    assert run.hyperparams == {"lr": 0.1}  # the back-off was no cure
    assert tuner._snapshots.good.loss == 4.0


def test_the_new_level_gets_a_way_back_at_once():
    tuner, _, decisions = changed_world(num_steps=30)
    accepted = next(d.observation.step for d in decisions if d and d.action is Action.ACCEPT)
    assert (tuner._snapshots.good.step, tuner._snapshots.good.loss) == (accepted, 4.0)


def test_the_new_level_is_defended_like_the_old_one():
    tuner, run, _ = changed_world()
    weight_there = run.weight = 3.0
    feed(tuner, [4.0] * 100)
    run.weight = NAN
    assert feed(tuner, [90.0] * 5)[-1].action is Action.ROLLBACK
    assert run.weight == weight_there


@pytest.mark.parametrize("max_futile", [1, 3])
def test_max_futile_counts(max_futile):
    decisions = [d.action.value for d in changed_world(max_futile=max_futile)[2] if d]
    assert decisions == ["rollback"] * max_futile + ["accept"]


def test_rollbacks_that_help_at_first_are_not_futile():
    """The restored state gives a good loss and breaks again later: that is the update's fault, however often."""
    run = NumberRun(1.0)
    tuner, _ = new_tuner(run=run, monitor=WorstOf(NonFinite(), Regression()), max_rollbacks=100)
    for _ in range(12):
        feed(tuner, [1.0, *[9.0] * 5])
    assert actions(tuner) == ["rollback"] * 12
    assert tuner.history[-1].applied["lr"] == 1e-4


def test_nan_is_never_accepted_as_the_new_level():
    run = NumberRun(1.0)
    tuner, _ = new_tuner(run=run, monitor=None, max_rollbacks=100)
    feed(tuner, [1.0] * 10)
    feed(tuner, [NAN] * 50)
    assert set(actions(tuner)) == {"rollback"}
    assert (run.weight, run.hyperparams["lr"]) == (1.0, 1e-4)


def test_nan_for_ever_is_capped_said_once_and_still_undone():
    run = NumberRun(1.0)
    tuner, _ = new_tuner(run=run, monitor=None, max_rollbacks=3)
    feed(tuner, [1.0] * 10)
    for _ in range(50):
        run.weight = NAN
        tuner.step(NAN)
    assert actions(tuner) == ["rollback"] * 3 + ["hold"]
    assert "3 rollbacks in a row: look at the data. Holds lr = 0.0125, the most careful" in tuner.history[-1].reason
    assert (run.weight, run.hyperparams["lr"]) == (1.0, 0.0125)


def test_after_the_cap_a_bad_level_is_lived_with_and_nobody_raises_lr_before_a_state_is_proven():
    run = NumberRun(1.0)
    controller = Scripted(*[{"lr": 0.1}] * 100)
    monitor = WorstOf(NonFinite(), Regression())
    tuner, _ = new_tuner(run=run, monitor=monitor, max_rollbacks=2, controller=controller, interval=5, proof_steps=10)
    feed(tuner, [1.0] * 20)
    for _ in range(3):
        feed(tuner, [1.0, *[9.0] * 5])
    assert tuner.history[-1].action is Action.ACCEPT
    assert "2 rollbacks in a row have not helped" in tuner.history[-1].reason
    feed(tuner, [9.0] * 5)
    assert tuner.history[-1].proposed == {"lr": 0.1}
    assert run.hyperparams["lr"] == pytest.approx(0.025)
    feed(tuner, [9.0] * 20)
    assert run.hyperparams["lr"] > 0.025


# -- scopes ----------------------------------------------------------------------------------------------------------


def test_scope_hyperparameters_leaves_the_weights_and_discards_nothing():
    tuner, run = broken_at(3, scope="hyperparameters")
    feed(tuner, [1.0, 1.0])
    run.weight = 9.0
    decision = tuner.step(8.0)
    assert (run.weight, run.hyperparams, decision.discarded_steps) == (9.0, {"lr": 0.05}, 0)
    assert "hyperparameters only: the weights stay as they are" in decision.reason


@pytest.mark.parametrize("tensor_lr", [False, True])
def test_nan_for_ever_with_scope_hyperparameters_ends_in_silence(tensor_lr):
    model = torch.nn.Linear(1, 1)
    lr = torch.tensor(0.1) if tensor_lr else 0.1  # a float32 tensor does not hold the bound 1e-4 exactly
    run = TorchRun(model, torch.optim.Adam(model.parameters(), lr=lr, foreach=False))
    space = SearchSpace({"lr": Float(1e-4, 1.0, log=True)})
    run.hyperparams = run.get_hyperparams()
    controller = Scripted()
    tuner, _ = new_tuner(
        run=run,
        space=space,
        scope="hyperparameters",
        monitor=NonFinite(),
        controller=controller,
        interval=10,
        max_rollbacks=100,
    )
    tuner.step(1.0)
    decisions = feed(tuner, [NAN] * 500)
    assert [d.action.value for d in decisions if d] == ["rollback"] * 10  # 0.1 / 2 ** 10 < 1e-4
    assert len(controller.called("observe")) == 10
    assert len(tuner.state_dict()["control"]["_losses"]) <= 10


def test_nan_for_ever_ends_in_silence_also_where_the_bound_is_zero():
    tuner, run = new_tuner(run=NumberRun(momentum=0.8), scope="hyperparameters", monitor=None, max_rollbacks=100)
    feed(tuner, [1.0, *[NAN] * 200])
    assert len(tuner.history) < 40
    assert run.hyperparams["momentum"] < 1e-8


def test_a_controller_that_has_just_cut_as_much_does_not_stand_in_for_a_back_off():
    """lr is half of the good state's already, which is no reason to think that nothing is left to be cut."""
    tuner, run = broken_at(5, 6, scope="hyperparameters", controller=Scripted({"lr": 0.05}), guard=chain(), interval=4)
    assert [d.action.value for d in feed(tuner, [1.0] * 6) if d] == ["adapt", "rollback", "rollback"]
    assert run.hyperparams == {"lr": 0.025}


def test_nan_from_the_first_step_where_nothing_can_be_done():
    tuner, run = new_tuner(run=NumberRun(lr=1e-4), scope="hyperparameters", monitor=None)
    assert feed(tuner, [NAN] * 5) == [None] * 5
    feed(tuner, [1.0] * 80)
    assert tuner._snapshots.good.step > 0
    assert run.hyperparams == {"lr": 1e-4}


def test_scope_hyperparameters_at_the_bounds_accepts_a_new_level_and_asks_the_controller_again():
    """A loss that stays high while no value is left to be cut must not silence the controller for ever."""
    controller = Scripted()
    tuner, run = new_tuner(
        run=NumberRun(lr=1e-4),
        scope="hyperparameters",
        monitor=WorstOf(NonFinite(), Regression()),
        controller=controller,
        interval=10,
    )
    feed(tuner, [1.0] * 50)
    feed(tuner, [4.0] * 100)
    assert "rollback" not in actions(tuner)
    assert sum("judge from this level on" in d.reason for d in tuner.history) == 1
    assert len(controller.called("observe")) >= 14
    assert tuner._snapshots.good.loss == 4.0
    assert run.hyperparams == {"lr": 1e-4}


def test_nan_inside_the_proof_of_a_candidate_drops_it_also_where_nothing_can_be_done():
    tuner, _ = broken_at(55, run=NumberRun(lr=1e-4), scope="hyperparameters")
    feed(tuner, [*[1.0] * 54, NAN, *[1.0] * 20])
    assert tuner._snapshots.good.step == 0


def test_scope_none_never_goes_back_but_still_says_how_it_was():
    tuner, run = broken_at(3, scope="none", interval=4)
    run.weight = 9.0
    decision = feed(tuner, [1.0, 1.0, NAN, 1.0])[-1]
    assert (decision.health, decision.action, run.weight) == (UNSTABLE, Action.HOLD, 9.0)
    assert math.isnan(decision.observation.metric)
    assert run.allocated == []


def test_steps_are_thrown_away_once_however_often_the_tuner_goes_back():
    """Rollbacks in a row return to the same state; each counts the steps since the one before it."""
    tuner, _ = broken_at(6, 13, 20)
    feed(tuner, [1.0] * 20)
    assert [d.discarded_steps for d in tuner.history] == [6, 7, 7]


def test_after_a_new_good_state_only_the_steps_since_then_are_thrown_away():
    tuner, _ = broken_at(6, 40, snapshot_every=10, proof_steps=2)
    feed(tuner, [1.0] * 40)
    good = tuner._snapshots.good.step
    assert 16 <= good < 40
    assert [d.discarded_steps for d in tuner.history] == [6, 40 - good]
