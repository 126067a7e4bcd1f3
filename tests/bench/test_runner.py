"""The runners: the same spec gives the same run, cut off and resumed or not."""

from __future__ import annotations

import copy
import random
import shutil
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from autotunenet import Action, Decision, Tuner
from autotunenet_bench import runners
from autotunenet_bench.config import RunSpec
from autotunenet_bench.controllers import CONTROLLERS, DIRECTIONS
from autotunenet_bench.data import DataSource
from autotunenet_bench.metrics import METRICS, summarize
from autotunenet_bench.regimes import REGIMES
from autotunenet_bench.results import RunFolder
from autotunenet_bench.runners import base
from autotunenet_bench.runners.online import Training
from autotunenet_bench.tasks import TASKS, DigitsMlp

NUM_EPOCHS = 5
SOURCE = DataSource()


def make_spec(controller="fixed", regime="data_shift", seed=0, *, task="digits_mlp", **options):
    """Return a spec; `config` is the controller's, and what is left of the options is the task's."""
    num_epochs, config = options.pop("num_epochs", NUM_EPOCHS), options.pop("config", {})
    task = TASKS[task](**options)
    _, data = task.load(SOURCE)
    return RunSpec(
        task=task,
        regime=REGIMES[regime](),
        controller=CONTROLLERS[controller](**config),
        seed=seed,
        num_epochs=num_epochs,
        num_threads=1,
        space={},
        data=data,
        labels={"task": task.name, "regime": regime, "controller": controller},
    )


def run(spec, path, on_event=None) -> RunFolder:
    folder = RunFolder(path)
    runners.run(spec, SOURCE, folder, on_event)
    return folder


def rows(folder):
    """Everything that the run wrote, without what a clock has touched."""
    return [{key: value for key, value in event.items() if key != "clock"} for event in folder.events()]


class CutError(Exception):
    """Stands for whatever ends a process."""


def cut_after(epoch):
    def on_event(event):
        if event["event"] == "epoch" and event["epoch"] == epoch:
            raise CutError

    return on_event


# The one left out needs another environment: tests/bench/test_autotunenet_1_0_2.py resumes it.
every_controller = pytest.mark.parametrize("controller", [name for name in CONTROLLERS if name != "autotunenet_1_0_2"])


def short(controller):
    """Return what fits a method into a run of three epochs or more: a search has two trials in it."""
    fields = {"num_trials": 2, "search_share": 0.7, "num_random": 1, "num_initial": 1}
    return {key: value for key, value in fields.items() if key in CONTROLLERS[controller].model_fields}


@every_controller
def test_resumed_at_any_epoch_the_run_ends_bit_for_bit_the_same(controller, tmp_path):
    spec = make_spec(controller, config=short(controller), data_fraction=0.5)

    def copy_as_a_kill_would_leave_it(event):
        if event["event"] == "epoch":
            shutil.copytree(tmp_path / "whole", tmp_path / f"cut-{event['epoch']}")

    whole = run(spec, tmp_path / "whole", copy_as_a_kill_would_leave_it)
    for epoch in range(1, NUM_EPOCHS):
        path = tmp_path / f"cut-{epoch}"
        assert RunFolder(path).status() == "running"
        assert [e["epoch"] for e in RunFolder(path).events() if e["event"] == "epoch"][-1] == epoch
        resumed = run(spec, path)
        assert rows(resumed) == rows(whole)
    assert whole.trace().weights_sha256


@every_controller
def test_a_kill_between_events_and_checkpoint_repeats_the_epoch(controller, tmp_path, monkeypatch):
    spec = make_spec(controller, num_epochs=3, config=short(controller), data_fraction=0.5)
    whole = run(spec, tmp_path / "whole")
    save = RunFolder.save_checkpoint

    def save_until_second(self, state):
        if state["epoch"] == 2:
            raise CutError
        save(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_checkpoint", save_until_second)
        with pytest.raises(CutError):
            run(spec, tmp_path / "cut")
    assert [e["epoch"] for e in RunFolder(tmp_path / "cut").events() if e["event"] == "epoch"] == [1, 2]
    assert rows(run(spec, tmp_path / "cut")) == rows(whole)


def test_equal_specs_give_equal_rows_and_other_seeds_other_ones(tmp_path):
    first, second, other = (
        rows(run(make_spec("heuristic", seed=seed), tmp_path / str(i))) for i, seed in enumerate((1, 1, 2))
    )
    assert first == second
    assert first != other


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_every_optimizer_of_the_tasks_learns(optimizer, tmp_path):
    trace = run(make_spec(regime="stationary", optimizer=optimizer, num_epochs=8), tmp_path / "run").trace()
    assert trace.epochs[-1].val["loss"] < 0.5 * trace.initial_val["loss"]


def test_controllers_are_paired_they_see_the_same_world_until_they_act(tmp_path):
    """Same initial weights, same batches: a controller that changes nothing gives the same losses as any other."""
    traces = {name: run(make_spec(name), tmp_path / name).trace() for name in ("fixed", "constant", "plateau")}
    assert traces["fixed"].losses == traces["constant"].losses
    assert traces["plateau"].epochs[0].losses == traces["fixed"].epochs[0].losses


def test_the_trigger_is_reported_at_its_epoch_and_has_no_effect_before(tmp_path):
    shifted = run(make_spec(regime="data_shift"), tmp_path / "shifted").trace()
    stationary = run(make_spec(regime="stationary"), tmp_path / "stationary").trace()
    assert stationary.trigger is None
    assert shifted.trigger is not None
    before = shifted.trigger.epoch - 1
    assert shifted.trigger.step == shifted.epochs[before - 1].step + 1
    assert "40 %" in shifted.trigger.description
    for a, b in zip(shifted.epochs[:before], stationary.epochs[:before], strict=True):
        assert a.losses == b.losses
    assert shifted.epochs[before].losses != stationary.epochs[before].losses


def test_a_baseline_is_bare_and_an_online_method_is_guarded(tmp_path):
    bare = run(make_spec("fixed"), tmp_path / "fixed").trace()
    assert not bare.rollbacks
    guarded = run(make_spec("random_walk"), tmp_path / "walk").trace()
    assert guarded.rollbacks, "40 % label noise is a jump of the loss that the monitor has to see"
    changes = [d for d in guarded.decisions if d.action is Action.ADAPT]
    assert changes
    for decision in changes:
        ratio = decision.applied["lr"] / decision.observation.hyperparams["lr"]
        assert 1 / 1.5 - 1e-12 <= ratio <= 1.5 + 1e-12


def test_schedules_reach_the_optimizer_at_every_step(tmp_path):
    trace = run(make_spec("cosine", regime="stationary"), tmp_path / "run").trace()
    num_steps = trace.epochs[-1].step
    assert [d.observation.step for d in trace.decisions] == list(range(1, num_steps + 1))
    assert trace.decisions[-1].applied["lr"] == 0.0
    lrs = [d.applied["lr"] for d in trace.decisions]
    assert lrs == sorted(lrs, reverse=True)


def test_global_generators_are_left_alone(tmp_path):
    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002

    before = copy.deepcopy(states())
    run(make_spec("random_walk"), tmp_path / "run")
    assert states() == before


def test_other_data_than_the_specs_are_refused(tmp_path):
    spec = make_spec()
    forged = spec.model_copy(
        update={
            "data": make_spec(task="digits_mlp").data.__class__(
                name="digits", source="elsewhere", num_train=1, num_val=1, sha256="0" * 64
            )
        }
    )
    with pytest.raises(ValueError, match="are not those of the spec"):
        run(forged, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_number_of_threads_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the spec pins 2 CPU threads.*torch\.set_num_threads\(2\)"):
        run(make_spec().model_copy(update={"num_threads": 2}), tmp_path / "run")


def test_a_finished_run_keeps_no_checkpoint_and_its_metrics_are_finite(tmp_path):
    folder = run(make_spec("heuristic", num_test=200), tmp_path / "run")
    assert folder.status() == "done"
    assert not (folder.path / "checkpoint.pt").exists()
    summary = summarize(folder.trace())
    assert {name for name, value in summary.items() if not is_told(name, value)} == set()


def test_a_diverging_run_is_written_to_its_end(tmp_path):
    spec = make_spec("fixed", regime="stationary", optimizer="sgd", lr=100.0, num_test=200)
    trace = run(spec, tmp_path / "run").trace()
    assert trace.finished
    assert len(trace.epochs) == NUM_EPOCHS
    unknown = {name for name, value in summarize(trace).items() if not is_told(name, value)}
    assert unknown == {"recovery_steps", "settling_steps", "post_shift_degradation"}  # nothing triggers


# -- every key of a controller reaches the run -----------------------------------------------------------------------


def is_told(name, value):
    return np.isfinite(value) or (METRICS[name].may_miss and value == np.inf)


def make_training(*args, **options):
    spec = make_spec(*args, **options)
    return Training(spec, spec.task.load(SOURCE)[0])


def play(*args, regime="stationary", num_epochs=4, **options):
    """Train without a folder; return the decisions and the rows of the epochs."""
    training = make_training(*args, regime=regime, num_epochs=num_epochs, **options)
    events = [event for _ in range(num_epochs) for event in training.run_epoch()]
    decisions = [Decision.from_record(event) for event in events if event["event"] == "decision"]
    return decisions, [event for event in events if event["event"] == "epoch"]


def lrs(decisions):
    return [decision.applied["lr"] for decision in decisions]


TEN_TIMES_LESS = {"period": 1, "gamma": 0.1}
"""A schedule that asks for a tenth of lr at every epoch: nothing about it is a matter of luck."""


@pytest.fixture
def broken_at_step_60(monkeypatch):
    """One loss is NaN and moves no weight; nothing else about the run is bad."""
    loss, calls = DigitsMlp.loss, []

    def broken(self, model, batch):
        calls.append(1)
        value = loss(self, model, batch)
        return value * 0 + torch.nan if len(calls) == 60 else value

    monkeypatch.setattr(DigitsMlp, "loss", broken)


@pytest.mark.parametrize("observed", DIRECTIONS)
def test_the_controller_sees_the_metric_it_observes_as_lower_is_better(observed):
    decisions, rows = play("plateau", config={"observe": observed})
    expected = {
        "val_loss": [row["val"]["loss"] for row in rows],
        "val_accuracy": [-row["val"]["accuracy"] for row in rows],
        "train_loss": [sum(row["losses"]) / len(row["losses"]) for row in rows],
    }
    assert [decision.observation.metric for decision in decisions] == expected[observed]


def test_a_rising_accuracy_is_no_plateau():
    decisions, rows = play("plateau", num_epochs=2, config={"observe": "val_accuracy", "patience": 0})
    accuracies = [row["val"]["accuracy"] for row in rows]
    assert accuracies[1] > accuracies[0]
    assert lrs(decisions) == [1e-3, 1e-3]
    decisions, _ = play("heuristic", num_epochs=2, config={"observe": "val_accuracy", "raise_patience": 1})
    assert lrs(decisions) == [1e-3, pytest.approx(1.05e-3)]


@pytest.mark.usefixtures("broken_at_step_60")
@pytest.mark.parametrize("backoff", [0.5, 0.25])
def test_the_backoff_is_the_cut_of_a_rollback(backoff):
    decisions, _ = play("fixed", config={"rollback": "full", "backoff": backoff})
    (rollback,) = (decision for decision in decisions if decision.action is Action.ROLLBACK)
    assert rollback.applied["lr"] == pytest.approx(1e-3 * backoff)


@pytest.mark.usefixtures("broken_at_step_60")
@pytest.mark.parametrize(
    ("rollback", "num_rollbacks", "discards"), [("none", 0, False), ("hyperparameters", 1, False), ("full", 1, True)]
)
def test_the_rollback_restores_what_the_config_says(rollback, num_rollbacks, discards):
    decisions, _ = play("fixed", config={"rollback": rollback})
    rollbacks = [decision for decision in decisions if decision.action is Action.ROLLBACK]
    assert len(rollbacks) == num_rollbacks
    assert any(decision.discarded_steps for decision in rollbacks) is discards


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [1e-4, 1e-5, 1e-6, 1e-7]),
        ({"warmup": 2}, [1e-3, 1e-3, 1e-6, 1e-7]),
        ({"cooldown": 1}, [1e-4, 1e-4, 1e-6, 1e-6]),
        ({"cooldown": 2}, [1e-4, 1e-4, 1e-4, 1e-7]),
        ({"max_delta": 1.0}, [5e-4, 2.5e-4, 1.25e-4, 6.25e-5]),
        ({"within_space": True, "gamma": 1e-3}, [1e-6, 1e-8, 1e-8, 1e-8]),
    ],
)
def test_the_guard_is_the_one_that_the_config_asks_for(config, expected):
    decisions, _ = play("step_decay", config={**TEN_TIMES_LESS, **config})
    assert lrs(decisions) == pytest.approx(expected, rel=1e-9)


def test_seeds_have_noise_and_walks_of_their_own():
    worlds, walks = [], []
    for seed in (0, 0, 1):
        training = make_training("random_walk", seed=seed, num_epochs=1)
        events = training.run_epoch()
        walks.append(events[-1]["applied"]["lr"])
        data = training._workload.data.train
        worlds.append((data.targets != data.pristine.targets).tolist())
    assert sum(worlds[0]) == round(0.4 * len(worlds[0]))
    assert worlds[0] == worlds[1] != worlds[2]
    assert walks[0] == walks[1] != walks[2]


def test_an_epoch_has_the_values_that_it_was_trained_with():
    """Not those that the controller chose after hearing how well they did."""
    decisions, rows = play("step_decay", config=TEN_TIMES_LESS)
    assert [row["hyperparams"]["lr"] for row in rows] == [1e-3, *lrs(decisions)[:-1]]


def test_seconds_are_those_of_training_validation_and_control(monkeypatch):
    now = [0.0]

    def taking(seconds, method):
        def slow(*args, **options):
            now[0] += seconds
            return method(*args, **options)

        return slow

    monkeypatch.setattr(base, "perf_counter", lambda: now[0])
    monkeypatch.setattr(DigitsMlp, "loss", taking(0.25, DigitsMlp.loss))
    monkeypatch.setattr(DigitsMlp, "evaluate", taking(1000.0, DigitsMlp.evaluate))
    monkeypatch.setattr(Tuner, "step", taking(1.0, Tuner.step))
    monkeypatch.setattr(Tuner, "observe", taking(100.0, Tuner.observe))
    _, rows = play("heuristic", num_epochs=1)
    steps = rows[0]["step"]
    assert rows[0]["clock"] == {
        "train_seconds": 0.25 * steps,
        "eval_seconds": 1000.0,
        "control_seconds": 1.0 * steps + 100.0,
    }


# -- a model that draws random numbers -------------------------------------------------------------------------------


class DigitsDropout(DigitsMlp):
    """Draws from torch's global generator at every training step, which no registered task does."""

    name: Literal["digits_dropout"] = "digits_dropout"

    def build_model(self):
        return nn.Sequential(nn.Linear(64, 32), nn.Dropout(0.5), nn.Linear(32, self.num_classes))


@pytest.fixture
def _dropout(monkeypatch):
    monkeypatch.setitem(TASKS, "digits_dropout", DigitsDropout)


@pytest.mark.usefixtures("_dropout")
def test_a_run_that_draws_random_numbers_resumes_bit_for_bit(tmp_path):
    spec = make_spec("heuristic", task="digits_dropout", num_epochs=3)
    whole = run(spec, tmp_path / "whole")
    assert rows(run(spec, tmp_path / "again")) == rows(whole)
    for epoch in (1, 2):
        with pytest.raises(CutError):
            run(spec, tmp_path / f"cut-{epoch}", cut_after(epoch))
        assert rows(run(spec, tmp_path / f"cut-{epoch}")) == rows(whole)


@pytest.mark.usefixtures("_dropout")
def test_a_saved_state_holds_the_random_generator():
    with torch.random.fork_rng(devices=[]):
        training = make_training(regime="stationary", task="digits_dropout")
        training.run_epoch()
        saved = copy.deepcopy(training.state_dict())
        expected = training.run_epoch()[0]["losses"]
        resumed = make_training(regime="stationary", task="digits_dropout")
        resumed.load_state_dict(saved)
        assert resumed.run_epoch()[0]["losses"] == expected


@pytest.mark.usefixtures("_dropout")
def test_validation_draws_nothing_and_training_goes_on_in_its_mode():
    training = make_training(task="digits_dropout")
    model = training._workload.model
    before = torch.get_rng_state()
    first, second = training.start_event()["val"], training.start_event()["val"]
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in model.modules())


def test_a_run_seeds_no_accelerator(tmp_path, monkeypatch):
    """Their generators are the user's, and are not put back at the end."""
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    run(make_spec(num_epochs=1), tmp_path / "run")
    assert seeded == []


@pytest.mark.slow
def test_the_cnn_on_real_images_resumes_bit_for_bit(tmp_path):
    spec = make_spec("heuristic", task="mnist_cnn", num_epochs=2)
    whole = run(spec, tmp_path / "whole")
    with pytest.raises(CutError):
        run(spec, tmp_path / "cut", cut_after(1))
    assert rows(run(spec, tmp_path / "cut")) == rows(whole)
    assert whole.trace().epochs[-1].val["accuracy"] > 0.9


def test_operations_and_passes_are_recorded_and_a_copy_of_the_model_is_nobodys_pass(tmp_path):
    trace = run(make_spec(regime="stationary", num_epochs=2), tmp_path / "run").trace()
    num, batch = trace.spec["data"]["num_train"], trace.spec["task"]["batch_size"]
    per_example = 2 * (64 * 64 + 64 * 10)
    assert trace.flops.train_epoch == num * (2 * per_example + 2 * 64 * 10)
    assert trace.flops.evaluation == trace.spec["data"]["num_val"] * per_example
    assert trace.flops.num_batches == -(-num // batch)
    assert [epoch.passes for epoch in trace.epochs] == [epoch.step for epoch in trace.epochs]
    values = summarize(trace)
    assert values["total_flops"] == 2 * trace.flops.train_epoch + 3 * trace.flops.evaluation
    assert values["compute_adjusted_val_loss"] == values["final_val_loss"]
    assert trace.peak_memory_bytes is None or trace.peak_memory_bytes > 2**20


def test_every_pass_in_training_mode_counts_and_survives_a_resume():
    training = make_training(regime="stationary")
    model = training._workload.model
    inputs, _ = next(training._workload.data.train.epoch(1))
    model(inputs)
    copy.deepcopy(model)(inputs)
    model.eval()
    model(inputs)
    training.start_event()  # counts operations, on a copy
    training.run_epoch()
    assert training._passes == training._step + 1
    resumed = make_training(regime="stationary")
    resumed.load_state_dict(copy.deepcopy(training.state_dict()))
    rows = [row for row in resumed.run_epoch() if row["event"] == "epoch"]
    assert rows[0]["passes"] == rows[0]["step"] + 1


def test_a_checkpoint_of_before_passes_were_counted_goes_on_from_its_steps():
    training = make_training(regime="stationary")
    training.run_epoch()
    state = copy.deepcopy(training.state_dict())
    del state["passes"]
    resumed = make_training(regime="stationary")
    resumed.load_state_dict(state)
    assert resumed._passes == training._step


def test_the_finished_model_is_tested_on_what_no_controller_has_seen(tmp_path):
    spec = make_spec("fixed", "stationary", num_test=200)
    trace = run(spec, tmp_path).trace()
    assert (spec.data.num_train, spec.data.num_val, spec.data.num_test) == (1237, 360, 200)
    assert trace.test.keys() == {"loss", "accuracy"}
    assert trace.test["loss"] < 0.8 * trace.initial_val["loss"]
    assert trace.test != trace.epochs[-1].val
    assert spec.task.display == "digits_mlp"


def test_a_run_without_a_test_part_has_the_id_that_it_had_before_there_were_any():
    spec = make_spec("fixed", "stationary")
    stored = spec.model_dump(mode="json")
    assert "num_test" not in stored["task"] | stored["data"]
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec
    assert make_spec("fixed", "stationary", num_test=5).run_id != spec.run_id
