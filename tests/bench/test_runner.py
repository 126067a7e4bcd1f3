"""The online runner: the same spec gives the same run, cut off and resumed or not."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch

from autotunenet import Action
from autotunenet_bench.config import RunSpec
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.data import DataSource
from autotunenet_bench.metrics import summarize
from autotunenet_bench.regimes import REGIMES
from autotunenet_bench.results import RunFolder
from autotunenet_bench.runners import run_online
from autotunenet_bench.tasks import TASKS

NUM_EPOCHS = 5
SOURCE = DataSource()


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_spec(controller="fixed", regime="data_shift", seed=0, task="digits_mlp", num_epochs=NUM_EPOCHS, **options):
    task = TASKS[task](**options)
    _, data = task.load(SOURCE)
    return RunSpec(
        task=task,
        regime=REGIMES[regime](),
        controller=CONTROLLERS[controller](),
        seed=seed,
        num_epochs=num_epochs,
        num_threads=1,
        space={},
        data=data,
        labels={"task": task.name, "regime": regime, "controller": controller},
    )


def run(spec, path, on_event=None) -> RunFolder:
    folder = RunFolder(path)
    run_online(spec, SOURCE, folder, on_event)
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


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_resumed_at_any_epoch_the_run_ends_bit_for_bit_the_same(controller, tmp_path):
    spec = make_spec(controller)
    whole = run(spec, tmp_path / "whole")
    for epoch in range(1, NUM_EPOCHS):
        path = tmp_path / f"cut-{epoch}"
        with pytest.raises(CutError):
            run(spec, path, cut_after(epoch))
        assert RunFolder(path).status() == "running"
        resumed = run(spec, path)
        assert rows(resumed) == rows(whole)
    assert whole.trace().weights_sha256


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_a_kill_between_events_and_checkpoint_repeats_the_epoch(controller, tmp_path, monkeypatch):
    spec = make_spec(controller, num_epochs=3)
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
    folder = run(make_spec("heuristic"), tmp_path / "run")
    assert folder.status() == "done"
    assert not (folder.path / "checkpoint.pt").exists()
    summary = summarize(folder.trace())
    assert all(np.isfinite(value) for value in summary.values()), summary


def test_a_diverging_run_is_written_to_its_end(tmp_path):
    spec = make_spec("fixed", regime="stationary", optimizer="sgd", lr=100.0)
    trace = run(spec, tmp_path / "run").trace()
    assert trace.finished
    assert len(trace.epochs) == NUM_EPOCHS
    assert all(np.isfinite(value) for value in summarize(trace).values())


@pytest.mark.slow
def test_the_cnn_on_real_images_resumes_bit_for_bit(tmp_path):
    spec = make_spec("heuristic", task="mnist_cnn", num_epochs=2)
    whole = run(spec, tmp_path / "whole")
    with pytest.raises(CutError):
        run(spec, tmp_path / "cut", cut_after(1))
    assert rows(run(spec, tmp_path / "cut")) == rows(whole)
    assert whole.trace().epochs[-1].val["accuracy"] > 0.9
