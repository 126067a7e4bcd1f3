"""The loop, one rule a test; `doubles` say what happens, so that only the loop is under test."""

import json
import logging
import math

import numpy as np
import pytest
import torch
from doubles import STABLE, SUSPECT, UNSTABLE, NumberRun, Scripted, Verdicts, new_tuner

from autotunenet import Action, Decision, Float, Health, SearchSpace, SnapshotBuffer
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.controllers import Fixed, Plateau, Schedule
from autotunenet.controllers.schedule import cosine
from autotunenet.guards import chain
from autotunenet.monitors import NonFinite, Regression, WorstOf

NAN, INF = math.nan, math.inf


def feed(tuner, losses):
    return [tuner.step(loss) for loss in losses]


def actions(tuner):
    return [decision.action.value for decision in tuner.history]


# -- when the controller is asked ------------------------------------------------------------------------------------


def test_every_interval_on_the_mean_training_loss():
    controller = Scripted()
    tuner, _ = new_tuner(controller=controller, interval=3)
    decisions = feed(tuner, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    assert [d is not None for d in decisions] == [False, False, True, False, False, True, False]
    assert controller.called("observe") == [(2.0, 3), (5.0, 6)]
    assert [d.observation.metric for d in tuner.history] == [2.0, 5.0]


def test_without_an_interval_at_every_observe():
    controller = Scripted()
    tuner, _ = new_tuner(controller=controller)
    assert feed(tuner, [1.0] * 5) == [None] * 5
    assert tuner.observe(0.5).observation.metric == 0.5
    feed(tuner, [1.0])
    tuner.observe(torch.tensor(0.25, requires_grad=True))
    assert controller.called("observe") == [(0.5, 5), (0.25, 6)]


def test_observe_is_left_alone_where_the_interval_is_counted_in_steps():
    controller = Scripted()
    tuner, _ = new_tuner({"lr": 0.12}, controller=controller, interval=2)
    assert tuner.observe(0.5) is None
    assert controller.called("observe") == []
    assert len(tuner.history) == 0


def test_mode_max_turns_the_sign_of_the_metric_and_only_of_that():
    controller = Scripted()
    tuner, _ = new_tuner(controller=controller, mode="max")
    tuner.observe(0.9)
    assert controller.called("observe") == [(-0.9, 0)]
    stepwise, _ = new_tuner(controller=controller, mode="max", interval=1)
    stepwise.step(0.7)
    assert controller.called("observe")[1:] == [(0.7, 1)]


def test_propose_follows_observe_exactly_once_whatever_happens():
    controller = Scripted(*[{"lr": 0.11}] * 100)
    tuner, _ = new_tuner(
        controller=controller, verdicts=dict.fromkeys((5, 6, 7, 20, 31), UNSTABLE) | {9: SUSPECT}, interval=4
    )
    feed(tuner, [1.0] * 40)
    order = [name for name, *_ in controller.calls if name != "follow"]
    assert order == ["start", *["observe", "propose"] * (len(order) // 2)]
    assert [step for _, step in controller.called("observe")] == [4, 5, 6, 7, 11, 15, 19, 20, 24, 28, 31, 35, 39]
    assert len(tuner.history) == 13


@pytest.mark.parametrize("loss", [1.5, np.float32(1.5), torch.tensor(1.5), torch.tensor([1.5], requires_grad=True)])
def test_a_loss_may_be_any_number(loss):
    tuner, _ = new_tuner(interval=1)
    assert tuner.step(loss).observation.metric == 1.5


def test_a_loss_that_is_no_number_is_refused_and_not_counted():
    tuner, _ = new_tuner(interval=2)
    with pytest.raises((RuntimeError, ValueError)):
        tuner.step(torch.ones(3))
    assert feed(tuner, [1.0, 1.0])[-1].observation.step == 2


def test_a_loss_in_a_graph_lets_the_graph_go():
    weight = torch.ones(1, requires_grad=True)
    tuner, _ = new_tuner(interval=5)
    tuner.step((weight * 2).sum())
    assert all(type(value) is float for value in tuner.state_dict()["_losses"])


# -- what is put in force --------------------------------------------------------------------------------------------


def test_the_start_values_are_the_controllers():
    controller = Scripted(start={"lr": 0.004})
    _, run = new_tuner(controller=controller)
    assert controller.called("start") == [({"lr": 0.1},)]
    assert run.hyperparams == {"lr": 0.004}


def test_a_proposal_is_bounded_by_delta_and_box_unless_told_otherwise():
    tuner, run = new_tuner({"lr": 9.0}, {"lr": 1e-9}, interval=1)
    up, down = feed(tuner, [1.0, 1.0])
    assert up.applied["lr"] == pytest.approx(0.15)
    assert down.applied["lr"] == pytest.approx(0.1)
    assert run.hyperparams == dict(down.applied)
    assert (up.action, up.proposed) == (Action.ADAPT, {"lr": 9.0})
    assert up.reason == "Asked for lr 0.1 -> 9; bounded to lr 0.1 -> 0.15."


def test_what_was_applied_is_credited_and_not_what_was_asked_for():
    controller = Scripted({"lr": 9.0})
    tuner, _ = new_tuner(controller=controller, interval=1)
    feed(tuner, [1.0, 2.0])
    assert controller.called("propose") == [({"lr": 0.1},), ({"lr": pytest.approx(0.15)},)]
    assert tuner.history[1].observation.hyperparams == {"lr": pytest.approx(0.15)}


def test_a_metric_belongs_to_the_values_in_force_while_it_arose():
    tuner, _ = new_tuner({"lr": 0.12}, {"lr": 0.14})
    for metric in (3.0, 2.0, 1.0):
        tuner.step(metric)
        tuner.observe(metric)
    seen = [(d.observation.metric, d.observation.hyperparams["lr"]) for d in tuner.history]
    assert seen == [(3.0, 0.1), (2.0, 0.12), (1.0, 0.14)]


def test_names_left_out_stay_as_they_are():
    tuner, run = new_tuner({"momentum": 0.8}, run=NumberRun(lr=0.1, momentum=0.9), interval=1)
    assert tuner.step(1.0).proposed == {"lr": 0.1, "momentum": 0.8}
    assert run.hyperparams == {"lr": 0.1, "momentum": 0.8}


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_proposal_that_is_not_finite_is_refused_as_a_whole(bad):
    guard = pytest.fail  # must not even be asked
    tuner, run = new_tuner({"lr": bad, "momentum": 0.5}, run=NumberRun(lr=0.1, momentum=0.9), guard=guard, interval=1)
    decision = tuner.step(1.0)
    assert (decision.action, decision.applied) == (Action.HOLD, {"lr": 0.1, "momentum": 0.9})
    assert "not finite: refused" in decision.reason
    assert run.hyperparams == {"lr": 0.1, "momentum": 0.9}


def test_a_proposal_of_unknown_names_is_an_error_that_lists_the_known():
    tuner, _ = new_tuner({"lrr": 0.1}, run=NumberRun(lr=0.1, momentum=0.9), interval=1)
    with pytest.raises(ValueError, match=r"Scripted proposed lrr, .* it names lr, momentum"):
        tuner.step(1.0)


def test_a_guard_counts_control_steps_from_one():
    steps = []

    def guard(current, proposed, step):
        steps.append(step)
        return dict(proposed)

    tuner, _ = new_tuner(guard=guard, interval=2)
    feed(tuner, [1.0] * 6)
    assert steps == [1, 2, 3]


@pytest.mark.parametrize(
    ("proposal", "lr", "reason"),
    [
        ({}, 0.1, "Nothing was asked for."),
        ({"lr": 0.11}, 0.1, "Changed lr 0.1 -> 0.11."),
        ({}, 5.0, "Nothing was asked for; the guard changed lr 5 -> 1."),
    ],
)
def test_reasons(proposal, lr, reason):
    tuner, _ = new_tuner(proposal, run=NumberRun(lr=lr), interval=1)
    assert tuner.step(1.0).reason == reason


def test_a_guard_that_allows_nothing():
    tuner, _ = new_tuner({"lr": 0.2}, guard=lambda current, proposed, step: dict(current), interval=1)
    assert tuner.step(1.0).reason == "Asked for lr 0.1 -> 0.2; the guard allowed no change."


# -- the way back ----------------------------------------------------------------------------------------------------


def broken_at(*steps, **kwargs):
    """A tuner with the weight 1.0 in its good state; unstable at the steps given."""
    kwargs.setdefault("run", NumberRun(1.0))
    return new_tuner(verdicts=dict.fromkeys(steps, UNSTABLE), **kwargs)


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
    assert tuner._monitor.resets == [2.5]


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
    tuner, _ = new_tuner(run=run, monitor=WorstOf(NonFinite(), Regression()))
    for _ in range(12):
        feed(tuner, [1.0, *[9.0] * 5])
    assert actions(tuner) == ["rollback"] * 12
    assert tuner.history[-1].applied["lr"] == 1e-4


def test_nan_is_never_accepted_as_the_new_level():
    run = NumberRun(1.0)
    tuner, _ = new_tuner(run=run, monitor=None)
    feed(tuner, [1.0] * 10)
    feed(tuner, [NAN] * 50)
    assert set(actions(tuner)) == {"rollback"}
    assert (run.weight, run.hyperparams["lr"]) == (1.0, 1e-4)


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
        run=run, space=space, scope="hyperparameters", monitor=NonFinite(), controller=controller, interval=10
    )
    tuner.step(1.0)
    decisions = feed(tuner, [NAN] * 500)
    assert [d.action.value for d in decisions if d] == ["rollback"] * 10  # 0.1 / 2 ** 10 < 1e-4
    assert len(controller.called("observe")) == 10
    assert len(tuner.state_dict()["_losses"]) <= 10


def test_nan_for_ever_ends_in_silence_also_where_the_bound_is_zero():
    tuner, run = new_tuner(run=NumberRun(momentum=0.8), scope="hyperparameters", monitor=None)
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


# -- what others write -----------------------------------------------------------------------------------------------


def test_a_foreign_write_is_reported_and_taken_over():
    tuner, run = new_tuner(interval=2)
    tuner.step(1.0)
    run.hyperparams["lr"] = 0.3
    decision = tuner.step(1.0)
    assert decision.observation.hyperparams == {"lr": 0.3}
    assert "Somebody else had changed lr 0.1 -> 0.3 since the last decision; that was taken over." in decision.reason
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


# -- history, state, construction ------------------------------------------------------------------------------------


def test_history_is_records_and_forgets_the_oldest():
    tuner, _ = broken_at(7, interval=2, history_size=3)
    feed(tuner, [1.0] * 13)
    assert [d.observation.step for d in tuner.history] == [9, 11, 13]
    tuner, _ = broken_at(7, interval=2)
    feed(tuner, [1.0] * 13)
    records = [json.loads(json.dumps(d.to_record())) for d in tuner.history]
    assert [Decision.from_record(record) for record in records] == list(tuner.history)
    assert [r["action"] for r in records] == ["hold"] * 3 + ["rollback"] + ["hold"] * 3


def test_health_of_a_decision_is_the_worst_of_its_interval():
    tuner, _ = new_tuner(verdicts={2: SUSPECT, 5: SUSPECT}, interval=3)
    feed(tuner, [1.0] * 9)
    assert [d.health for d in tuner.history] == [SUSPECT, SUSPECT, STABLE]


def test_memory_is_constant_where_nobody_observes():
    tuner, _ = new_tuner()
    feed(tuner, [1.0] * 1000)
    assert len(repr(tuner.state_dict())) < 1500


@pytest.mark.parametrize("scope", ["full", "hyperparameters"])
def test_two_tuners_share_nothing(scope):
    tuners = [new_tuner(run=NumberRun(1.0), scope=scope, monitor=None, controller=Fixed(), interval=3) for _ in "ab"]
    (first, _), (second, second_run) = tuners
    before = repr(second.state_dict())
    feed(first, [1.0, NAN, 1.0, 1.0, 1.0])
    assert repr(second.state_dict()) == before
    assert second_run.hyperparams == {"lr": 0.1}


def test_a_resume_keeps_a_foreign_value_and_reports_it_as_the_live_run_would():
    tuner, run = new_tuner(interval=2)
    tuner.step(1.0)
    run.hyperparams["lr"] = 0.3
    state = tuner.state_dict()
    other, other_run = new_tuner(interval=2)
    other.load_state_dict(state)
    assert tuner.step(1.0) == other.step(1.0)
    assert run.hyperparams == other_run.hyperparams == {"lr": 0.3}


def test_a_resume_keeps_the_adapted_value_also_where_the_optimizer_was_made_anew():
    tuner, _ = new_tuner({"lr": 0.12}, interval=1)
    tuner.step(1.0)
    other, other_run = new_tuner(interval=1)
    other.load_state_dict(tuner.state_dict())
    assert other_run.hyperparams == {"lr": 0.12}


def test_states_of_other_tuners_are_refused():
    tuner, _ = new_tuner()
    state = tuner.state_dict()
    for foreign in ({}, {**state, "more": 1}, {k: v for k, v in state.items() if k != "monitor"}):
        with pytest.raises(ValueError, match="no state of Tuner"):
            tuner.load_state_dict(foreign)
    for part in ({"controller": Plateau()}, {"monitor": Regression()}, {"scope": "none"}):
        other, _ = new_tuner(run=NumberRun(), **part)
        with pytest.raises(ValueError, match=r"no state of|scope"):
            other.load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"backoff": 1.0}, "has to change something"),
        ({"backoff": 0.0}, r"\(0, 1\)"),
        ({"backoff": NAN}, r"\(0, 1\)"),
        ({"mode": "loss"}, "'min' or 'max'"),
        ({"interval": 0}, "interval must be at least 1"),
        ({"snapshot_every": 0}, "snapshot_every must be at least 1"),
        ({"proof_steps": 0}, "proof_steps must be at least 1"),
        ({"max_futile": 0}, "max_futile must be at least 1"),
        ({"history_size": 0}, "history_size must be at least 1"),
        (
            {"space": SearchSpace({"lr": Float(0, 1), "momentum": Float(0, 1)})},
            "tunes lr, momentum but the run was made for lr;",
        ),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_touched(arguments, rule):
    run, controller = NumberRun(), Scripted(start={"lr": 0.9})
    with pytest.raises(ValueError, match=rule):
        new_tuner(run=run, controller=controller, **arguments)
    assert run.hyperparams == {"lr": 0.1}


def test_nothing_is_printed(capsys):
    tuner, _ = broken_at(3, 5, interval=2)
    feed(tuner, [1.0] * 9)
    assert capsys.readouterr() == ("", "")


def test_snapshots_of_ones_own_may_be_given():
    run = NumberRun(1.0)
    snapshots = SnapshotBuffer(run, "hyperparameters")
    tuner, _ = new_tuner(run=run, snapshots=snapshots, monitor=Verdicts())
    tuner.step(1.0)
    assert snapshots.good.step == 0
