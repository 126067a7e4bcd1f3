"""Regimes of several parts, triggers that are drawn, and the trigger at which nothing happens."""

import copy
import json

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from autotunenet_bench.config import ConfigError, expand, parse_config
from autotunenet_bench.data import TensorBatches
from autotunenet_bench.regimes import Compound, CurriculumShift, DataShift, LossNoise, Null, OptimizerShift, Stationary
from autotunenet_bench.types import DataInfo, Horizon, TaskData

TEN = Horizon(num_epochs=10, steps_per_epoch=40)
INFO = DataInfo(name="digits", source="here", num_train=1, num_val=1, sha256="0")


def make_data():
    generator = torch.Generator().manual_seed(0)

    def part(num, seed):
        return TensorBatches(torch.randn(num, 6, generator=generator), torch.arange(num) % 10, 16, seed)

    return TaskData(part(100, 1), part(50, None))


def make_optimizer(lr=0.1):
    return torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=lr)


def enter(regime, epoch, data=None, optimizer=None):
    data = make_data() if data is None else data
    regime.apply(epoch, nn.Module(), data, make_optimizer() if optimizer is None else optimizer)
    return data


def read(regime):
    """The regime as a config has it, and what is stored of it."""
    text = f"{{task: digits_mlp, regime: {regime}, controller: fixed, num_epochs: 10, seeds: [0]}}"
    (cell,) = expand(parse_config(text, "a.yaml"))
    return cell.regime, cell.resolve(INFO)


def complaint(regime):
    with pytest.raises(ConfigError) as caught:
        read(regime)
    return str(caught.value)


# -- compound --------------------------------------------------------------------------------------------------------


def test_a_part_acts_as_it_does_alone_under_the_same_seed():
    parts = (DataShift(kind="pixel_permutation"), OptimizerShift(kind="weight_decay"), LossNoise(target="both"))
    together, alone = Compound(parts=parts).start(TEN, 3), [part.start(TEN, 3) for part in parts]
    data, expected = enter(together, 7), enter(alone[0], 7)
    assert torch.equal(data.train.inputs, expected.train.inputs)
    assert torch.equal(data.val.inputs, expected.val.inputs)
    step = 6 * TEN.steps_per_epoch + 1
    assert together.shown_loss(2.0, step) == alone[2].shown_loss(2.0, step) != 2.0
    assert together.shown_metric(2.0, 7) == alone[2].shown_metric(2.0, 7) != 2.0
    one = torch.ones(())
    assert together.training_loss(one, step) == alone[2].training_loss(one, step) != 1.0


def test_parts_act_on_what_those_before_them_have_left():
    parts = (DataShift(kind="inversion", severity=1.0), CurriculumShift(kind="easy_to_all", profile="ramp"))
    regime, data = Compound(parts=parts).start(TEN, 0), make_data()
    pristine = data.train
    enter(regime, 7, data)
    inverted = enter(DataShift(kind="inversion", severity=1.0).start(TEN, 0), 7).train
    assert {tuple(row) for row in data.train.inputs.tolist()} < {tuple(row) for row in inverted.inputs.tolist()}
    assert data.train.pristine is pristine
    made = data.train
    enter(regime, 5, data)  # the inversion is over, the curriculum at its easiest
    easiest = enter(CurriculumShift(kind="easy_to_all").start(TEN, 0), 5)
    assert torch.equal(data.train.inputs, easiest.train.inputs)
    assert torch.equal(enter(regime, 7, data).train.inputs, made.inputs)
    enter(regime, 10, data)
    assert torch.equal(data.train.inputs, inverted.inputs)


def test_several_losses_are_noisy_one_after_the_other():
    parts = (LossNoise(kind="gaussian"), LossNoise(kind="outliers", severity=1.0))
    together, (first, second) = Compound(parts=parts).start(TEN, 0), [part.start(TEN, 0) for part in parts]
    for step in range(200, 400):
        assert together.shown_loss(1.0, step) == second.shown_loss(first.shown_loss(1.0, step), step)
    for epoch in range(1, 11):
        assert together.shown_metric(1.0, epoch) == second.shown_metric(first.shown_metric(1.0, epoch), epoch)


def test_the_default_is_wrong_labels_and_a_harmful_lr_at_once():
    config = Compound()
    regime, data, optimizer = config.start(TEN, 0), make_data(), make_optimizer()
    assert (regime.trigger_epoch, config.severity) == (6, 0.5)
    for epoch in range(1, 11):
        enter(regime, epoch, data, optimizer)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 if epoch < 6 else 1.0)
        assert int((data.train.targets != data.train.pristine.targets).sum()) == (0 if epoch < 6 else 40)
    assert config.display == "label noise 0.4 + lr jump 0.5 @ 50 %"
    assert regime.description == (
        "(1) 40 % of the training labels replaced by other classes (40 of 100); validation labels untouched "
        "(2) lr multiplied by 10, once, as if by somebody's slip"
    )


def test_profiles_validation_and_labels_of_parts_are_shown():
    parts = (
        DataShift(kind="inversion", profile="ramp", shift_validation=False),
        LossNoise(label="noise", profile="recurring"),
    )
    config = Compound(parts=parts, trigger_epoch=3)
    assert config.display == "inversion 0.4, over 4 epochs, not validation + noise @ epoch 3"


def test_the_stored_config_has_one_trigger_and_gives_an_equal_spec_back():
    _, spec = read("{name: compound, parts: [data_shift, {name: optimizer_shift, kind: lr_jump}]}")
    stored = json.loads(spec.model_dump_json())["regime"]
    assert stored == {
        "name": "compound",
        "label": None,
        "trigger_epoch": None,
        "trigger_fraction": 0.5,
        "parts": [
            {"name": "data_shift", "label": None, "severity": 0.4, "kind": "label_noise", "shift_validation": False},
            {"name": "optimizer_shift", "label": None, "severity": 0.4, "kind": "lr_jump"},
        ],
    }
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec
    assert type(spec).model_validate_json(spec.model_dump_json()).run_id == spec.run_id


@pytest.mark.parametrize(
    ("regime", "expected"),
    [
        ("{name: compound, parts: [data_shift]}", "parts of compound must be at least two, got 1"),
        ("{name: compound, parts: data_shift}", "regime.parts = 'data_shift': must be a list"),
        ("{name: compound, parts: [data_shift, data_shift]}", "data_shift label_noise stands 2 times among the parts"),
        ("{name: compound, parts: [data_shift, stationary]}", "regime.parts.1 = 'stationary': no part has this name"),
        ("{name: compound, parts: [data_shift, compound]}", "regime.parts.1 = 'compound': no part has this name"),
        ("{name: compound, parts: [{name: data_shift, severity: 2}, loss_noise]}", "regime.parts.0.severity = 2: must"),
        (
            "{name: compound, parts: [{name: data_shift, trigger_epoch: 3}, loss_noise]}",
            "trigger_epoch has no effect in part 0 of compound because all parts strike together; write",
        ),
        ("{name: compound, trigger_epoch: 11, parts: [data_shift, loss_noise]}", "beyond the run's 10 epochs"),
        (
            "{name: compound, trigger_epoch: 3, trigger_jitter: 2, parts: [data_shift, curriculum_shift]}",
            "easy to all 0.4 is in force until its trigger, and with a trigger at epoch 1 of 10 never",
        ),
    ],
)
def test_parts_that_make_no_sense_are_refused(regime, expected):
    assert expected in complaint(regime)


def test_a_ready_part_with_a_trigger_of_its_own_is_refused():
    with pytest.raises(
        ValidationError, match=r"the part label noise 0.4 @ epoch 3 of compound has a trigger of its own"
    ):
        Compound(parts=(DataShift(trigger_epoch=3), LossNoise()))


# -- null ------------------------------------------------------------------------------------------------------------


def test_null_has_a_trigger_and_says_that_nothing_changes():
    regime = Null(trigger_fraction=0.3).start(TEN, 5)
    assert (regime.trigger_epoch, regime.severity, regime.seed) == (4, 0.0, 5)
    assert regime.description == "nothing changes; the trigger marks where a change would have come"
    assert Stationary().start(TEN, 5).trigger_epoch == 0
    with pytest.raises(ValueError, match="trigger_epoch=11 of null lies beyond the run's 10 epochs"):
        Null(trigger_epoch=11).start(TEN, 0)
    with pytest.raises(ValidationError, match="severity"):
        Null(severity=0.4)


def test_null_is_written_in_quotes_and_nothing_is_taken_for_it():
    assert read('"null"')[0] == read('{name: "null"}')[0] == Null()
    for nothing in ("null", "~", "{name: null}"):
        assert 'for the member of that name write "null" in quotes' in complaint(nothing)


# -- jitter ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"trigger_epoch": 5, "trigger_jitter": 2}, (3, 7)),
        ({"trigger_epoch": 5, "trigger_jitter": 4}, (1, 9)),
        ({"trigger_epoch": 5, "trigger_jitter": 5}, None),
        ({"trigger_fraction": 0.5, "trigger_jitter": 0.2}, (4, 8)),
        ({"trigger_fraction": 0.3, "trigger_jitter": 0.1}, (3, 5)),
        ({"trigger_fraction": 0.3, "trigger_jitter": 0.3}, (1, 7)),
        ({"trigger_fraction": 0.5, "trigger_jitter": 0.01}, (5, 6)),
        ({"trigger_epoch": 5}, (5, 5)),
        ({"trigger_epoch": 5, "trigger_jitter": 0}, (5, 5)),
    ],
)
def test_a_trigger_is_drawn_evenly_from_both_sides(fields, expected):
    if expected is None:
        with pytest.raises(ValidationError, match="reaches back to before the first epoch"):
            DataShift(**fields)
        return
    config = DataShift(**fields)
    assert config.trigger_range(TEN) == expected
    drawn = [config.start(TEN, seed).trigger_epoch for seed in range(600)]
    epochs = range(expected[0], expected[1] + 1)
    assert set(drawn) == set(epochs)
    share = 600 / len(epochs)
    # Five standard deviations of a binomial.
    assert all(abs(drawn.count(epoch) - share) <= 5 * share**0.5 for epoch in epochs)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"trigger_jitter": 0.6}, "trigger_jitter=0.6 around trigger_fraction=0.5 reaches out of the run"),
        ({"trigger_jitter": 0.5}, "reaches out of the run"),
        ({"trigger_fraction": 0.9, "trigger_jitter": 0.1}, "reaches out of the run"),
        ({"trigger_jitter": -0.1}, "trigger_jitter"),
        ({"trigger_epoch": 4, "trigger_jitter": 0.5}, "counts epochs and must be a whole number"),
    ],
)
def test_a_jitter_that_leaves_the_run_is_refused(fields, expected):
    with pytest.raises(ValidationError, match=expected):
        DataShift(**fields)


def test_a_jitter_beyond_the_run_is_refused_for_every_seed():
    for seed in range(8):
        with pytest.raises(ValueError, match="trigger_epoch=9 of data_shift, with trigger_jitter=2, lies beyond"):
            DataShift(trigger_epoch=9, trigger_jitter=2).start(TEN, seed)


def test_the_drawn_trigger_of_a_seed_never_changes():
    # Golden: a change here changes every published run.
    config = DataShift(trigger_epoch=5, trigger_jitter=4)
    assert [config.start(TEN, seed).trigger_epoch for seed in range(8)] == [6, 8, 8, 9, 4, 2, 2, 6]


def test_a_jitter_moves_the_trigger_and_nothing_else():
    drawn, plain = DataShift(trigger_epoch=5, trigger_jitter=2).start(TEN, 1), DataShift(trigger_epoch=5).start(TEN, 1)
    assert torch.equal(enter(drawn, 9).train.targets, enter(plain, 9).train.targets)


def test_a_jitter_stands_in_the_stored_config_where_there_is_one_and_only_there():
    for config_type in (DataShift, OptimizerShift, LossNoise, CurriculumShift, Null, Compound):
        assert "trigger_jitter" not in config_type().model_dump()
        none = config_type(trigger_jitter=0)
        assert none == config_type()
        config = config_type(trigger_jitter=0.1)
        assert config.model_dump()["trigger_jitter"] == 0.1
        assert config.display.split(" @ ")[1] == "50 % +- 10 %"
    assert DataShift(trigger_epoch=4, trigger_jitter=2, profile="ramp").display.endswith("epoch 4 +- 2, over 4 epochs")


# -- run ids ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("regime", "run_id"),
    [
        ("stationary", "digits_mlp-stationary-fixed-s0-00904a6996"),
        ("data_shift", "digits_mlp-data_shift-fixed-s0-7d2fda3792"),
        ("{name: data_shift, kind: inversion, profile: ramp}", "digits_mlp-data_shift-fixed-s0-ec1b9eaa40"),
        (
            "{name: data_shift, kind: class_prior, trigger_epoch: 3, profile: recurring}",
            "digits_mlp-data_shift-fixed-s0-17870506ec",
        ),
        ("optimizer_shift", "digits_mlp-optimizer_shift-fixed-s0-e9ca7df677"),
        ("{name: optimizer_shift, kind: momentum, severity: 0.5}", "digits_mlp-optimizer_shift-fixed-s0-95ebe6d125"),
        ("loss_noise", "digits_mlp-loss_noise-fixed-s0-13477b5a26"),
        ("{name: loss_noise, kind: nan_bursts, profile: recurring}", "digits_mlp-loss_noise-fixed-s0-fa108d9aeb"),
    ],
)
def test_the_ids_of_runs_of_before_these_keys_stay(regime, run_id):
    # Golden: with another id a finished run is done again.
    assert read(regime)[1].run_id == run_id


def test_copies_of_a_config_are_configs():
    assert copy.deepcopy(Compound()) == Compound()
