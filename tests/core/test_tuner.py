"""The loop, one rule a test; `doubles` say what happens, so that only the loop is under test."""

import json
import math

import numpy as np
import pytest
import torch
from doubles import STABLE, SUSPECT, UNSTABLE, NumberRun, Scripted, Verdicts, broken_at, feed, new_tuner

from autotunenet import Action, Decision, Float, SearchSpace, SnapshotBuffer
from autotunenet.controllers import Fixed, Plateau
from autotunenet.monitors import Regression

NAN, INF = math.nan, math.inf


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
    with pytest.raises(TypeError, match="loss must be one number"):
        tuner.step(torch.ones(3))
    assert feed(tuner, [1.0, 1.0])[-1].observation.step == 2


def test_a_loss_in_a_graph_lets_the_graph_go():
    weight = torch.ones(1, requires_grad=True)
    tuner, _ = new_tuner(interval=5)
    tuner.step((weight * 2).sum())
    assert all(type(value) is float for value in tuner.state_dict()["control"]["_losses"])


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
    for foreign in ({}, {**state, "more": 1}, {k: v for k, v in state.items() if k != "recovery"}):
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


def test_a_class_in_place_of_a_controller_is_refused():
    with pytest.raises(TypeError, match=r"not the class Fixed: write Fixed\(\)"):
        new_tuner(controller=Fixed)
