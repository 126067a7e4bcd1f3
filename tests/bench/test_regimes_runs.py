"""Regimes inside real runs: before the trigger, at severity 0, and cut off and resumed."""

import math

import pytest
import torch

from autotunenet import Action
from autotunenet_bench.config import expand, parse_config
from autotunenet_bench.data import DataSource
from autotunenet_bench.regimes import REGIMES
from autotunenet_bench.regimes.compound import DEFAULT_PARTS
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
    "clipping_removed": {"name": "optimizer_shift", "kind": "clipping_removed", "severity": 1.0, "max_norm": 0.1},
    "lr_jump": {"name": "optimizer_shift", "kind": "lr_jump"},
    "easy_to_all": {"name": "curriculum_shift"},
    "classes": {"name": "curriculum_shift", "kind": "classes"},
    "null": {"name": "null"},
    "compound": {"name": "compound"},
    "jitter": {"name": "compound", "trigger_epoch": 3, "trigger_jitter": 1.0, "parts": ["data_shift", "loss_noise"]},
    "gaussian": {"name": "loss_noise"},
    "outliers": {"name": "loss_noise", "kind": "outliers", "target": "both", "severity": 1.0},
    "nan_bursts": {"name": "loss_noise", "kind": "nan_bursts", "severity": 1.0},
    "training": {"name": "loss_noise", "target": "training"},
    "ramp": {"name": "data_shift", "kind": "inversion", "profile": "ramp", "ramp_epochs": 2},
    "recurring": {"name": "optimizer_shift", "profile": "recurring", "period_epochs": 2},
    "ramp of a removal": {"name": "curriculum_shift", "kind": "classes", "profile": "ramp", "ramp_epochs": 3},
    "recurring removal": {"name": "curriculum_shift", "profile": "recurring", "period_epochs": 2},
    "ramp in a compound": {
        "name": "compound",
        "parts": [{"name": "data_shift", "profile": "ramp", "ramp_epochs": 3}, {"name": "curriculum_shift"}],
    },
}
SHOWN_ONLY = ("gaussian", "nan_bursts", "null")
"""Worlds in which nothing but what the tuner sees is other, or nothing at all."""
REMOVALS = (
    "clipping_removed",
    "easy_to_all",
    "classes",
    "ramp of a removal",
    "recurring removal",
    "ramp in a compound",
)
"""Worlds that are other before the trigger."""

every_world = pytest.mark.parametrize("world", WORLDS)


class CutError(Exception):
    """Stands for whatever ends a process."""


def cut_after(epoch):
    def on_event(event):
        if event["event"] == "epoch" and event["epoch"] == epoch:
            raise CutError

    return on_event


def make_spec(regime, controller="heuristic", optimizer="adam"):
    config = parse_config(
        f"{{task: {{name: digits_mlp, optimizer: {optimizer}}}, regime: stationary, controller: {controller}, "
        f"num_epochs: {NUM_EPOCHS}, seeds: [0]}}",
        "test.yaml",
    )
    (cell,) = expand(config)
    spec = cell.resolve(cell.task.load(SOURCE)[1])
    fields = {key: value for key, value in regime.items() if key != "name"}
    if regime["name"] != "stationary":
        fields = {"trigger_epoch": TRIGGER, **fields}
    return spec.model_copy(update={"regime": REGIMES[regime["name"]](**fields)})


def without_effect(regime):
    """The same world at severity 0."""
    if regime["name"] != "compound":
        return {**regime, **({"severity": 0.0} if regime["name"] != "null" else {})}
    parts = regime.get("parts", DEFAULT_PARTS)
    named = [{"name": part} if isinstance(part, str) else part for part in parts]
    return {**regime, "parts": [{**part, "severity": 0.0} for part in named]}


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
    """The same runs where nothing changes, by controller, or by optimizer under the controller `fixed`."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("calm")
    folders = {name: run(make_spec({"name": "stationary"}, name), path / name) for name in ("fixed", "heuristic")}
    for optimizer in ("sgd", "adamw"):
        folders[optimizer] = run(make_spec({"name": "stationary"}, "fixed", optimizer), path / optimizer)
    torch.set_num_threads(before)
    return folders


@every_world
def test_resumed_at_any_epoch_the_run_ends_bit_for_bit_the_same(world, tmp_path):
    spec = make_spec(WORLDS[world])
    whole = run(spec, tmp_path / "whole")
    for epoch in range(1, NUM_EPOCHS):  # one run that is cut off after every epoch: each part begins where one was cut
        with pytest.raises(CutError):
            run(spec, tmp_path / "cut", cut_after(epoch))
    assert rows(run(spec, tmp_path / "cut")) == rows(whole)
    assert whole.trace().weights_sha256


@pytest.mark.parametrize("world", [world for world in WORLDS if world not in REMOVALS])
def test_before_the_trigger_the_run_is_the_calm_one_and_after_it_another(world, tmp_path, calm):
    trace, expected = run(make_spec(WORLDS[world]), tmp_path / "run").trace(), calm["heuristic"].trace()
    trigger = trace.trigger.epoch
    assert trigger == TRIGGER or world == "jitter"
    assert trace.trigger.step == expected.epochs[trigger - 2].step + 1
    for epoch in range(trigger - 1):
        assert trace.epochs[epoch].losses == expected.epochs[epoch].losses
        assert trace.epochs[epoch].val == expected.epochs[epoch].val
    seen = [[(decision.observation.metric, decision.action) for decision in one.decisions] for one in (trace, expected)]
    assert (seen[0] != seen[1]) == (world != "null")


@pytest.mark.parametrize("world", REMOVALS)
def test_what_is_removed_at_the_trigger_was_there_before_it(world, tmp_path, calm):
    trace, expected = run(make_spec(WORLDS[world]), tmp_path / "run").trace(), calm["heuristic"].trace()
    assert trace.trigger.epoch == TRIGGER
    assert trace.epochs[0].losses != expected.epochs[0].losses
    assert len(trace.epochs[0].losses) == len(expected.epochs[0].losses)


@every_world
def test_severity_zero_is_the_calm_run_bit_for_bit(world, tmp_path, calm):
    folder = run(make_spec(without_effect(WORLDS[world])), tmp_path / "run")
    assert rows(folder, ("trigger",)) == rows(calm["heuristic"])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@every_world
def test_every_world_goes_with_every_optimizer(world, optimizer, tmp_path, calm):
    trace = run(make_spec(WORLDS[world], "fixed", optimizer), tmp_path / "run").trace()
    assert (trace.weights_sha256 == calm[optimizer].trace().weights_sha256) == (world in SHOWN_ONLY)


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


def test_a_jump_of_lr_holds_until_a_controller_writes_lr(tmp_path):
    def lrs(controller):
        trace = run(make_spec(WORLDS["lr_jump"], controller), tmp_path / controller).trace()
        return [epoch.hyperparams["lr"] for epoch in trace.epochs]

    start = 1e-3
    assert lrs("fixed") == pytest.approx([start, *[start * 100**0.4] * 3])
    assert max(lrs("cosine")) <= start  # the schedule writes its own at its next step


def test_a_burst_of_nan_is_seen_by_the_tuner_and_by_nobody_else(tmp_path):
    trace = run(make_spec(WORLDS["nan_bursts"]), tmp_path / "run").trace()
    assert all(math.isfinite(loss) for loss in trace.losses)
    assert [d for d in trace.decisions if d.action is Action.ROLLBACK]


@pytest.mark.parametrize(("name", "kind"), [("data_shift", "rotation"), ("curriculum_shift", "augmentation")])
def test_a_regime_that_does_not_fit_the_task_stops_the_run_at_its_first_epoch(name, kind, tmp_path):
    with pytest.raises(TypeError, match=f"{kind} needs images of shape .* got .* of shape \\(1437, 64\\); use another"):
        run(make_spec({"name": name, "kind": kind, "trigger_epoch": 4}), tmp_path / "run")
