"""Offline runs: trainings that begin anew in one world, and a budget that is that of one run."""

from __future__ import annotations

import copy
import math
import shutil
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autotunenet import Action, Decision
from autotunenet.types import Health
from autotunenet_bench.config import RunSpec, expand, parse_config
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.controllers.offline import OfflineConfig
from autotunenet_bench.controllers.random_search import RandomSearch
from autotunenet_bench.data import DataSource, TensorBatches
from autotunenet_bench.metrics import summarize
from autotunenet_bench.regimes import REGIMES
from autotunenet_bench.results import RunFolder
from autotunenet_bench.runners import run, run_offline, run_online
from autotunenet_bench.runners.offline import SearchTraining
from autotunenet_bench.tasks import TASKS, DigitsMlp
from autotunenet_bench.types import TaskData
from training import train_epoch

SOURCE = DataSource()
OFFLINE = [name for name, member in CONTROLLERS.items() if issubclass(member, OfflineConfig)]
every_search = pytest.mark.parametrize("name", OFFLINE)


def make_spec(controller, regime="stationary", *, num_epochs, task=None, space="{}", seed=0):
    """Return a spec from the words of a config, of a training with 4 steps an epoch unless `task` says otherwise."""
    config = parse_config(
        f"{{task: {task or '{name: digits_mlp, batch_size: 400}'}, regime: {regime}, controller: {controller}, "
        f"space: {space}, num_epochs: {num_epochs}, seeds: [{seed}]}}",
        "a.yaml",
    )
    (cell,) = expand(config)
    return cell.resolve(cell.task.load(SOURCE)[1])


def make_training(spec):
    with torch.random.fork_rng(devices=[]):
        return SearchTraining(spec, spec.task.load(SOURCE)[0])


def play(spec):
    """Train to the end; return the training, the decisions and the rows of the epochs."""
    training = make_training(spec)
    training.start_event()
    events = [event for _ in range(spec.num_epochs) for event in training.run_epoch()]
    decisions = [Decision.from_record(event) for event in events if event["event"] == "decision"]
    return training, decisions, [event for event in events if event["event"] == "epoch"]


def rows(folder):
    """Everything that the run wrote, without what a clock has touched; as text, where NaN equals itself."""
    return repr([{key: value for key, value in event.items() if key != "clock"} for event in folder.events()])


WIDE = "{lr: {low: 1e-5, high: 1, log: true}}"


# -- the budget ------------------------------------------------------------------------------------------------------


@every_search
@settings(max_examples=6)
@given(num_trials=st.integers(2, 5), data=st.data())
def test_a_run_has_the_steps_of_its_epochs_whatever_is_tried(name, num_trials, data):
    num_epochs = data.draw(st.integers(num_trials + 1, 12))
    percent = data.draw(st.integers(math.ceil(100 * num_trials / num_epochs), 95))
    fields = {"num_trials": num_trials, "search_share": percent / 100}
    for key in {"num_random", "num_initial"} & CONTROLLERS[name].model_fields.keys():
        fields[key] = data.draw(st.integers(1, num_trials - 1))
    config = CONTROLLERS[name](**fields)
    plan = config.plan(num_epochs)
    spec = make_spec("fixed", num_epochs=num_epochs).model_copy(update={"controller": config})
    training, decisions, epochs = play(spec)
    steps_per_epoch = 4
    assert [row["epoch"] for row in epochs] == list(range(1, num_epochs + 1))
    assert [row["step"] for row in epochs] == [steps_per_epoch * row["epoch"] for row in epochs]
    assert [row["passes"] for row in epochs] == [row["step"] for row in epochs]
    assert sum(len(row["losses"]) for row in epochs) == steps_per_epoch * num_epochs
    assert [d.observation.step for d in decisions] == [
        steps_per_epoch * plan.trial_epochs * number for number in range(1, num_trials + 1)
    ]
    assert training.end_event()["num_restarts"] == num_trials == len(decisions)


def test_a_search_spends_what_the_plain_run_spends(tmp_path):
    values = {}
    for name in ("fixed", "random_search"):
        folder = RunFolder(tmp_path / name)
        run(make_spec(name, num_epochs=10), SOURCE, folder)
        values[name] = summarize(folder.trace())
    for metric in ("optimizer_evaluations", "train_flops", "eval_flops", "total_flops"):
        assert values["random_search"][metric] == values["fixed"][metric] > 0
    assert (values["fixed"]["num_restarts"], values["random_search"]["num_restarts"]) == (0, 5)
    assert (values["fixed"]["discarded_steps"], values["random_search"]["discarded_steps"]) == (0, 5 * 4)
    assert values["random_search"]["rollback_count"] == 0
    assert values["random_search"]["compute_adjusted_val_loss"] == values["random_search"]["final_val_loss"]


# -- trainings from scratch ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_every_training_is_a_plain_one_from_the_first_weights_in_the_order_of_the_world(optimizer):
    """Loss for loss against trainings made by hand, each with a fresh model and optimizer."""
    task = f"{{name: digits_mlp, batch_size: 200, optimizer: {optimizer}, weight_decay: 0.01}}"
    spec = make_spec("{name: random_search, num_trials: 2, search_share: 0.6}", num_epochs=7, task=task, space=WIDE)
    training, decisions, epochs = play(spec)
    lrs = [epochs[0]["hyperparams"]["lr"], *(decision.applied["lr"] for decision in decisions)]
    assert len(set(lrs)) >= 2
    data, _ = spec.task.load(SOURCE)
    for lr, numbers in zip(lrs, [(1, 2), (3, 4), (5, 6, 7)], strict=True):
        workload = spec.task.build({"lr": lr}, spec.seed, data)
        for number in numbers:
            assert epochs[number - 1]["losses"] == train_epoch(spec.task, workload, number)
            assert epochs[number - 1]["val"] == spec.task.evaluate(workload.model, workload.data.val)
            assert epochs[number - 1]["hyperparams"] == {"lr": lr}
    for one, other in zip(training._workload.model.parameters(), workload.model.parameters(), strict=True):
        assert torch.equal(one, other)  # the final weights are those of the last training


def test_buffers_begin_anew_too(monkeypatch):
    class Normed(DigitsMlp):
        def build_model(self):
            return torch.nn.Sequential(torch.nn.BatchNorm1d(64), super().build_model())

    monkeypatch.setitem(TASKS, "digits_mlp", Normed)
    training = make_training(make_spec("{name: random_search, num_trials: 1}", num_epochs=4))
    first = copy.deepcopy(training._workload.model.state_dict())
    training.run_epoch()
    assert training._workload.model.state_dict()["0.num_batches_tracked"] == 4
    training.run_epoch()
    now = training._workload.model.state_dict()
    assert now.keys() == first.keys()
    assert all(torch.equal(now[key], first[key]) for key in first)
    assert not training._workload.optimizer.state


def test_seeds_have_searches_and_weights_of_their_own(tmp_path):
    first, again, other = (play(make_spec("random_search", num_epochs=10, seed=seed))[2] for seed in (1, 1, 2))
    assert [row["losses"] for row in first] == [row["losses"] for row in again]
    assert first[0]["hyperparams"] != other[0]["hyperparams"]


# -- what the search is told, and what is done with it ---------------------------------------------------------------


@pytest.fixture
def told(monkeypatch):
    """What random search was told, in order."""
    heard = []
    monkeypatch.setattr(RandomSearch, "tell", lambda self, params, value: heard.append((params["lr"], value)))
    return heard


@pytest.mark.parametrize("observe", ["val_loss", "val_accuracy", "train_loss"])
def test_a_trial_is_worth_its_last_epoch_and_the_best_one_is_trained_last(observe, told):
    controller = f"{{name: random_search, num_trials: 3, search_share: 0.7, observe: {observe}}}"
    _, decisions, epochs = play(make_spec(controller, num_epochs=9, space=WIDE))
    ends = [epochs[number - 1] for number in (2, 4, 6)]
    values = {
        "val_loss": [row["val"]["loss"] for row in ends],
        "val_accuracy": [-row["val"]["accuracy"] for row in ends],
        "train_loss": [sum(row["losses"]) / len(row["losses"]) for row in ends],
    }[observe]
    assert told == [(row["hyperparams"]["lr"], value) for row, value in zip(ends, values, strict=True)]
    assert [decision.observation.metric for decision in decisions] == values
    best = min(zip(values, ends, strict=True), key=lambda pair: pair[0])[1]
    assert decisions[-1].proposed == decisions[-1].applied == best["hyperparams"]
    assert all(row["hyperparams"] == best["hyperparams"] for row in epochs[6:])


def test_the_search_is_shown_what_a_regime_shows(told):
    """Noise on the feedback misleads a search as it misleads a controller."""
    regime, space = "{name: loss_noise, trigger_epoch: 1, severity: 0.3}", "{lr: {low: 1e-4, high: 1e-2, log: true}}"
    _, decisions, epochs = play(make_spec("{name: random_search, num_trials: 3}", regime, num_epochs=6, space=space))
    recorded = [row["val"]["loss"] for row in epochs[:3]]
    assert [value for _, value in told] == [decision.observation.metric for decision in decisions]
    assert all(value != loss for (_, value), loss in zip(told, recorded, strict=True))


def test_every_restart_is_a_decision_with_a_sentence():
    controller = "{name: grid_search, num_trials: 3, search_share: 0.7}"
    space = "{lr: {low: 1e-4, high: 1e-2, log: true}}"
    _, decisions, epochs = play(make_spec(controller, num_epochs=9, space=space))
    losses = [epochs[number - 1]["val"]["loss"] for number in (2, 4, 6)]
    assert losses[0] > losses[1] > losses[2]
    one, two, three = (f"validation loss {loss:.4g}" for loss in losses)
    assert [decision.reason for decision in decisions] == [
        f"trial 1 of 3, lr 0.0001, ended with {one}; trial 2 tries lr 0.001 from scratch; best so far: lr 0.0001 with "
        + one,
        f"trial 2 of 3, lr 0.001, ended with {two}; trial 3 tries lr 0.01 from scratch; best so far: lr 0.001 with "
        + two,
        f"trial 3 of 3, lr 0.01, ended with {three}; best of all: lr 0.01 with {three}; the last training, from "
        "scratch for 3 epochs, has the best values",
    ]
    assert {decision.action for decision in decisions} == {Action.ADAPT}
    assert {decision.discarded_steps for decision in decisions} == {2 * 4}


SGD = "{name: digits_mlp, batch_size: 400, optimizer: sgd, lr: 1e3}"


def test_a_trial_that_diverges_is_the_worst_and_the_run_goes_on(tmp_path):
    spec = make_spec(
        "{name: grid_search, num_trials: 2, search_share: 0.7}",
        num_epochs=6,
        task=SGD.replace("lr: 1e3", "lr: 0.5"),
        space="{lr: {low: 0.3, high: 1e4, log: true}}",
    )
    folder = RunFolder(tmp_path / "run")
    run(spec, SOURCE, folder)
    trace = folder.trace()
    assert trace.epochs[3].val["loss"] > 100
    assert [d.health for d in trace.decisions] == [Health.STABLE, Health.UNSTABLE]
    assert "trial 2 of 2, lr 1e+04, diverged; best of all: lr 0.3 with" in trace.decisions[-1].reason
    assert trace.epochs[-1].hyperparams == {"lr": 0.3}
    assert summarize(trace)["failure"] == 0
    assert trace.epochs[-1].val["loss"] < 0.9 * trace.initial_val["loss"]


def test_a_loss_that_is_no_number_is_a_trial_that_diverged(told, monkeypatch):
    evaluate = DigitsMlp.evaluate

    def broken(self, model, batches):
        val = evaluate(self, model, batches)
        return {**val, "loss": math.nan} if val["accuracy"] > 0.5 else val

    monkeypatch.setattr(DigitsMlp, "evaluate", broken)
    space = "{lr: {low: 1e-3, high: 0.1, log: true}}"
    _, decisions, _ = play(make_spec("{name: random_search, num_trials: 3}", num_epochs=12, space=space))
    assert math.inf in [value for _, value in told]
    assert not any(math.isnan(value) for _, value in told)
    assert [d.health is Health.UNSTABLE for d in decisions] == [value == math.inf for _, value in told]


@every_search
def test_where_all_trials_diverge_the_last_training_has_the_initial_values(name):
    spec = make_spec(
        f"{{name: {name}, num_trials: 3, search_share: 0.7}}",
        num_epochs=6,
        task=SGD,
        space="{lr: {low: 999, high: 1e4, log: true}}",
    )
    _, decisions, epochs = play(spec)
    assert all(decision.observation.metric > 100 for decision in decisions)
    assert "diverged; trial 3 tries lr" in decisions[1].reason
    assert "best so far: none, all have diverged" in decisions[1].reason
    assert "from scratch for 3 epochs, has the initial values" in decisions[-1].reason
    assert [row["hyperparams"] for row in epochs[3:]] == [{"lr": 1000.0}] * 3


# -- the world does not begin anew -----------------------------------------------------------------------------------


def test_the_trigger_strikes_at_its_epoch_whatever_is_trained_then(tmp_path):
    folder = RunFolder(tmp_path / "run")
    run(
        make_spec("{name: random_search, num_trials: 3, search_share: 0.4}", "data_shift", num_epochs=8), SOURCE, folder
    )
    trace = folder.trace()
    assert (trace.trigger.epoch, trace.trigger.step) == (5, 17)
    plain = RunFolder(tmp_path / "plain")
    run(make_spec("fixed", "data_shift", num_epochs=8), SOURCE, plain)
    assert trace.trigger == plain.trace().trigger


def test_a_slip_of_lr_holds_until_the_next_training_begins():
    controller = "{name: grid_search, num_trials: 3, search_share: 0.7}"
    regime = "{name: optimizer_shift, kind: lr_jump, severity: 0.5, trigger_epoch: 2}"
    space = "{lr: {low: 1e-4, high: 1e-2, log: true}}"
    _, decisions, epochs = play(make_spec(controller, regime, num_epochs=9, space=space))
    lrs = [row["hyperparams"]["lr"] for row in epochs[:4]]
    assert lrs == pytest.approx([1e-4, 1e-3, 1e-3, 1e-3])
    assert decisions[0].observation.hyperparams["lr"] == pytest.approx(1e-3)  # what was in force


def kinds():
    """Yield every kind of every regime, as a config has it."""
    for name, member in REGIMES.items():
        field = member.model_fields.get("kind")
        for kind in get_args(field.annotation) if field else (None,):
            yield pytest.param(f'{{name: "{name}"' + (f", kind: {kind}" if kind else "") + "}", id=f"{name}-{kind}")


class DigitImages(DigitsMlp):
    """The digits as images, which some kinds need."""

    def load(self, source):
        data, info = super().load(source)
        train, val = (
            TensorBatches(part.inputs.view(-1, 1, 8, 8), part.targets, part.batch_size)
            for part in (data.train, data.val)
        )
        return TaskData(train, val), info

    def build_model(self):
        return torch.nn.Sequential(torch.nn.Flatten(), super().build_model())


@pytest.mark.slow
@every_search
@pytest.mark.parametrize("regime", list(kinds()))
def test_every_search_runs_under_every_kind_of_regime(name, regime):
    spec = make_spec(f"{{name: {name}, num_trials: 3, search_share: 0.7}}", regime, num_epochs=5)
    training, decisions, epochs = play(spec.model_copy(update={"task": DigitImages(batch_size=400)}))
    assert len(decisions) == training.num_restarts == 3
    assert len(epochs) == 5


# -- resume ----------------------------------------------------------------------------------------------------------


@every_search
def test_cut_off_in_any_epoch_of_any_trial_the_run_ends_bit_for_bit_the_same(name, tmp_path):
    task = "{name: digits_mlp, batch_size: 400, optimizer: sgd}"
    space = "{lr: {low: 1e-3, high: 1e4, log: true}}"  # some trials diverge: infinity goes through the checkpoint
    spec = make_spec(f"{{name: {name}, num_trials: 4, search_share: 0.8}}", num_epochs=11, task=task, space=space)
    whole = RunFolder(tmp_path / "whole")

    def copy_as_a_kill_would_leave_it(event):
        if event["event"] == "epoch":
            shutil.copytree(whole.path, tmp_path / str(event["epoch"]))

    run(spec, SOURCE, whole, copy_as_a_kill_would_leave_it)
    assert any(d.health is Health.UNSTABLE for d in whole.trace().decisions)
    for epoch in range(1, 11):
        folder = RunFolder(tmp_path / str(epoch))
        assert folder.status() == "running"
        run(spec, SOURCE, folder)
        assert rows(folder) == rows(whole)


def test_a_search_that_answers_otherwise_than_in_the_saved_run_is_refused():
    training = make_training(make_spec("random_search", num_epochs=10))
    training.run_epoch()
    state = copy.deepcopy(training.state_dict())
    state["search"]["told"][0]["params"]["lr"] *= 2
    with pytest.raises(RuntimeError, match=r"random_search answers otherwise than in the saved run: .* Resume with"):
        make_training(make_spec("random_search", num_epochs=10)).load_state_dict(state)


# -- which runner ----------------------------------------------------------------------------------------------------


def test_a_runner_refuses_methods_of_the_other_kind(tmp_path):
    with pytest.raises(ValueError, match="random_search is no online method"):
        run_online(make_spec("random_search", num_epochs=10), SOURCE, RunFolder(tmp_path / "a"))
    with pytest.raises(ValueError, match="fixed is no offline search"):
        run_offline(make_spec("fixed", num_epochs=10), SOURCE, RunFolder(tmp_path / "b"))


@every_search
def test_a_spec_survives_json(name):
    spec = make_spec(f"{{name: {name}, num_trials: 3}}", num_epochs=6)
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec
    assert isinstance(spec.controller, OfflineConfig)
    assert not isinstance(spec.controller, ControllerConfig)
