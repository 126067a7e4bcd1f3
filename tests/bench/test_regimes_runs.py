"""Regimes inside real runs: before the trigger, at severity 0, and cut off and resumed."""

import math

import pytest
import torch

from autotunenet import Action
from autotunenet_bench.config import expand, parse_config
from autotunenet_bench.data import DataSource
from autotunenet_bench.regimes import REGIMES
from autotunenet_bench.results import RunFolder
from autotunenet_bench.runners import run_online

NUM_EPOCHS, TRIGGER = 4, 2
SOURCE = DataSource()

WORLDS = {
    "label_noise": {"name": "data_shift"},
    "class_conditional_label_noise": {"name": "data_shift", "kind": "class_conditional_label_noise"},
    "pixel_permutation": {"name": "data_shift", "kind": "pixel_permutation"},
    "inversion": {"name": "data_shift", "kind": "inversion"},
    "contrast_noise": {"name": "data_shift", "kind": "contrast_noise"},
    "class_prior": {"name": "data_shift", "kind": "class_prior"},
    "update_gain": {"name": "optimizer_shift"},
    "gradient_noise": {"name": "optimizer_shift", "kind": "gradient_noise"},
    "weight_decay": {"name": "optimizer_shift", "kind": "weight_decay"},
    "momentum": {"name": "optimizer_shift", "kind": "momentum"},
    "gaussian": {"name": "loss_noise"},
    "outliers": {"name": "loss_noise", "kind": "outliers", "target": "both", "severity": 1.0},
    "nan_bursts": {"name": "loss_noise", "kind": "nan_bursts", "severity": 1.0},
    "training": {"name": "loss_noise", "target": "training"},
    "ramp": {"name": "data_shift", "kind": "inversion", "profile": "ramp", "ramp_epochs": 2},
    "recurring": {"name": "optimizer_shift", "profile": "recurring", "period_epochs": 2},
}
SHOWN_ONLY = ("gaussian", "nan_bursts")
"""Worlds in which nothing but what the tuner sees is other."""

every_world = pytest.mark.parametrize("world", WORLDS)


class CutError(Exception):
    """Stands for whatever ends a process."""


def cut_after(epoch):
    def on_event(event):
        if event["event"] == "epoch" and event["epoch"] == epoch:
            raise CutError

    return on_event


def make_spec(regime, controller="heuristic"):
    config = parse_config(
        f"{{task: digits_mlp, regime: stationary, controller: {controller}, num_epochs: {NUM_EPOCHS}, seeds: [0]}}",
        "test.yaml",
    )
    (cell,) = expand(config)
    spec = cell.resolve(cell.task.load(SOURCE)[1])
    fields = {key: value for key, value in regime.items() if key != "name"}
    if regime["name"] != "stationary":
        fields = {"trigger_epoch": TRIGGER, **fields}
    return spec.model_copy(update={"regime": REGIMES[regime["name"]](**fields)})


def run(spec, path, on_event=None):
    folder = RunFolder(path)
    run_online(spec, SOURCE, folder, on_event)
    return folder


def rows(folder, without=()):
    """Everything that the run wrote, without what a clock has touched."""
    events = [{key: value for key, value in event.items() if key != "clock"} for event in folder.events()]
    return repr([event for event in events if event["event"] not in without])  # as text: NaN equals itself there


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The same runs where nothing changes, by controller."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("calm")
    folders = {name: run(make_spec({"name": "stationary"}, name), path / name) for name in ("fixed", "heuristic")}
    torch.set_num_threads(before)
    return folders


@every_world
def test_resumed_at_any_epoch_the_run_ends_bit_for_bit_the_same(world, tmp_path):
    spec = make_spec(WORLDS[world])
    whole = run(spec, tmp_path / "whole")
    for epoch in range(1, NUM_EPOCHS):
        with pytest.raises(CutError):
            run(spec, tmp_path / f"cut-{epoch}", cut_after(epoch))
        assert rows(run(spec, tmp_path / f"cut-{epoch}")) == rows(whole)
    assert whole.trace().weights_sha256


@every_world
def test_before_the_trigger_the_run_is_the_calm_one_and_after_it_another(world, tmp_path, calm):
    trace, expected = run(make_spec(WORLDS[world]), tmp_path / "run").trace(), calm["heuristic"].trace()
    assert (trace.trigger.epoch, trace.trigger.step) == (TRIGGER, expected.epochs[TRIGGER - 2].step + 1)
    for epoch in range(TRIGGER - 1):
        assert trace.epochs[epoch].losses == expected.epochs[epoch].losses
        assert trace.epochs[epoch].val == expected.epochs[epoch].val
    seen = [[(decision.observation.metric, decision.action) for decision in one.decisions] for one in (trace, expected)]
    assert seen[0] != seen[1]


@every_world
def test_severity_zero_is_the_calm_run_bit_for_bit(world, tmp_path, calm):
    folder = run(make_spec({**WORLDS[world], "severity": 0.0}), tmp_path / "run")
    assert rows(folder, ("trigger",)) == rows(calm["heuristic"])


@every_world
def test_a_run_that_listens_to_nothing_feels_only_what_is_real(world, tmp_path, calm):
    trace, expected = run(make_spec(WORLDS[world], "fixed"), tmp_path / "run").trace(), calm["fixed"].trace()
    assert (trace.weights_sha256 == expected.weights_sha256) == (world in SHOWN_ONLY)
    if world in SHOWN_ONLY:
        assert trace.losses == expected.losses
        assert [epoch.val for epoch in trace.epochs] == [epoch.val for epoch in expected.epochs]


def test_what_is_recorded_is_true_and_what_is_shown_is_noisy(tmp_path):
    spec = make_spec(WORLDS["gaussian"], "fixed")
    trace = run(spec, tmp_path / "run").trace()
    ratios = [
        decision.observation.metric / epoch.val["loss"]
        for decision, epoch in zip(trace.decisions, trace.epochs, strict=True)
    ]
    assert ratios[0] == 1
    assert all(ratio != 1 for ratio in ratios[TRIGGER - 1 :])


def test_a_burst_of_nan_is_seen_by_the_tuner_and_by_nobody_else(tmp_path):
    trace = run(make_spec(WORLDS["nan_bursts"]), tmp_path / "run").trace()
    assert all(math.isfinite(loss) for loss in trace.losses)
    assert [d for d in trace.decisions if d.action is Action.ROLLBACK]


def test_a_regime_that_does_not_fit_the_task_stops_the_run_at_its_first_epoch(tmp_path):
    with pytest.raises(TypeError, match="rotation needs images"):
        run(make_spec({"name": "data_shift", "kind": "rotation", "trigger_epoch": 4}), tmp_path / "run")
