"""Regimes: nothing before the trigger, a pure function of epoch and seed after it, and nothing else touched."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from autotunenet_bench.data import TensorBatches
from autotunenet_bench.regimes import REGIMES, DataShift, Stationary, TriggeredConfig
from autotunenet_bench.regimes.base import epoch_after
from autotunenet_bench.regimes.data_shift import replace_labels
from autotunenet_bench.types import Horizon, TaskData

TEN = Horizon(num_epochs=10, steps_per_epoch=4)
SEEDS = st.integers(0, 2**32 - 1)
SEVERITIES = st.floats(0, 1)


def make_data(num_train=200, num_val=50, num_classes=10):
    train = TensorBatches(torch.arange(num_train).float(), torch.arange(num_train) % num_classes, 16, seed=1)
    return TaskData(train, TensorBatches(torch.arange(num_val).float(), torch.arange(num_val) % num_classes, 16))


def make_model():
    with torch.random.fork_rng(devices=[]):
        model = nn.Linear(1, 10)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def apply(regime, epoch, data):
    model, optimizer = make_model()
    regime.apply(epoch, model, data, optimizer)


def contents(data):
    return [
        [tensor.clone() for batch in stream.epoch(epoch) for tensor in batch]
        for stream in (data.train, data.val)
        for epoch in (1, 2)
    ]


def same(a, b):
    return all(torch.equal(x, y) for xs, ys in zip(a, b, strict=True) for x, y in zip(xs, ys, strict=True))


# -- every member ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=sorted(REGIMES))
def config(request):
    return REGIMES[request.param]()


def test_members_are_registered_under_their_name_with_a_one_line_description(config):
    assert type(config) is REGIMES[config.name]
    assert 20 < len(type(config).__doc__.splitlines()[0]) < 100
    assert all(field.description for key, field in type(config).model_fields.items() if key != "name")


def test_members_are_frozen_refuse_unknown_keys_and_survive_json(config):
    with pytest.raises(ValidationError, match="frozen"):
        config.label = "other"
    with pytest.raises(ValidationError, match="Extra inputs"):
        type(config)(strength=1)
    assert type(config).model_validate_json(config.model_dump_json(), strict=True) == config
    assert type(config)(label="mine").display == "mine"


def test_nothing_happens_before_the_trigger(config):
    data, regime = make_data(), config.start(TEN, seed=0)
    train, val, before = data.train, data.val, contents(data)
    for epoch in range(1, regime.trigger_epoch or TEN.num_epochs + 1):
        apply(regime, epoch, data)
        assert data.train is train
        assert data.val is val
    assert same(contents(data), before)


def test_epochs_do_not_compound_and_a_resumed_run_finds_the_same_world(config):
    straight = make_data()
    regime = config.start(TEN, seed=0)
    worlds = []
    for epoch in range(1, 11):
        apply(regime, epoch, straight)
        worlds.append(contents(straight))
    for first in range(1, 11):
        resumed = make_data()
        apply(config.start(TEN, seed=0), first, resumed)
        assert same(contents(resumed), worlds[first - 1])


def test_an_earlier_epoch_sees_the_earlier_world_again(config):
    data, regime = make_data(), config.start(TEN, seed=0)
    before = contents(data)
    apply(regime, 10, data)
    apply(regime, 1, data)
    assert same(contents(data), before)


def test_the_pristine_tensors_model_optimizer_and_generators_are_left_alone(config):
    torch.manual_seed(0)
    data, (model, optimizer) = make_data(), make_model()
    targets, weights, group = data.train.targets.clone(), model.weight.detach().clone(), dict(optimizer.param_groups[0])
    pristine = data.train
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    config.start(TEN, seed=0).apply(10, model, data, optimizer)
    assert torch.equal(pristine.targets, targets)
    assert torch.equal(model.weight, weights)
    assert optimizer.param_groups[0] == group
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


def test_runtime_attributes_are_told(config):
    regime = config.start(TEN, seed=7)
    assert regime.seed == 7
    assert regime.severity == getattr(config, "severity", 0.0)
    assert len(regime.description) > 10


def test_the_stationary_regime_never_strikes():
    assert Stationary().start(TEN, seed=0).trigger_epoch == 0


# -- triggers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fraction", "num_epochs", "expected"),
    [(0.0, 10, 1), (0.5, 10, 6), (0.5, 9, 5), (0.5, 1, 1), (0.29, 100, 30), (0.3, 10, 4), (1.0, 10, 11), (1e-7, 10, 1)],
)
def test_a_fraction_becomes_the_first_epoch_after_it(fraction, num_epochs, expected):
    horizon = Horizon(num_epochs=num_epochs, steps_per_epoch=1)
    assert epoch_after(fraction, horizon) == expected
    assert DataShift(trigger_fraction=fraction).start(horizon, 0).trigger_epoch == expected


def test_the_default_trigger_stands_in_the_stored_config():
    assert DataShift().model_dump()["trigger_fraction"] == 0.5
    assert DataShift(trigger_epoch=3).model_dump()["trigger_fraction"] is None
    assert DataShift(trigger_epoch=3).start(TEN, 0).trigger_epoch == 3
    assert DataShift(trigger_epoch=10).start(TEN, 0).trigger_epoch == 10


@pytest.mark.parametrize(
    "fields",
    [
        {"trigger_epoch": 3, "trigger_fraction": 0.5},
        {"trigger_epoch": 0},
        {"trigger_fraction": 1.1},
        {"trigger_fraction": -0.1},
        {"trigger_fraction": float("nan")},
        {"severity": 1.5},
        {"severity": -0.1},
        {"kind": "label noise"},
    ],
)
def test_impossible_fields_are_refused(fields):
    with pytest.raises(ValidationError) as caught:
        DataShift(**fields)
    assert next(iter(fields)) in str(caught.value)


def test_a_trigger_beyond_the_run_is_refused():
    with pytest.raises(ValueError, match="trigger_epoch=11 of data_shift lies beyond the run's 10 epochs"):
        DataShift(trigger_epoch=11).start(TEN, 0)


def test_display_names_tell_regimes_apart():
    names = [
        DataShift().display,
        DataShift(trigger_epoch=4, severity=0.2).display,
        DataShift(trigger_fraction=0.29, shift_validation=True).display,
        Stationary().display,
    ]
    assert names == [
        "label noise 0.4 @ 50 %",
        "label noise 0.2 @ epoch 4",
        "label noise 0.4 @ 29 %, validation too",
        "stationary",
    ]
    assert issubclass(DataShift, TriggeredConfig)


# -- label noise -----------------------------------------------------------------------------------------------------

labels_strategy = st.lists(st.integers(0, 9), min_size=2, max_size=60).filter(lambda labels: len(set(labels)) > 1)


@settings(deadline=None)
@given(labels=labels_strategy, severity=SEVERITIES, seed=SEEDS)
def test_exactly_the_share_is_replaced_by_other_classes_that_occur(labels, severity, seed):
    labels = torch.tensor(labels)
    before = labels.clone()
    replaced = replace_labels(labels, severity, seed)
    assert int((replaced != labels).sum()) == round(severity * len(labels))
    assert set(replaced.tolist()) <= set(labels.tolist())
    assert replaced.dtype == labels.dtype
    assert torch.equal(labels, before)


@settings(deadline=None)
@given(labels=labels_strategy, severities=st.tuples(SEVERITIES, SEVERITIES), seed=SEEDS)
def test_what_a_severity_replaces_every_higher_one_replaces_alike(labels, severities, seed):
    labels = torch.tensor(labels)
    low, high = (replace_labels(labels, severity, seed) for severity in sorted(severities))
    flipped = low != labels
    assert torch.equal(high[flipped], low[flipped])


@settings(deadline=None, max_examples=30)
@given(epoch=st.integers(1, 10), seed=SEEDS, validation=st.booleans())
def test_severity_zero_has_no_effect_at_all(epoch, seed, validation):
    data = make_data()
    train, val = data.train, data.val
    apply(DataShift(severity=0.0, trigger_fraction=0.0, shift_validation=validation).start(TEN, seed), epoch, data)
    assert data.train is train
    assert data.val is val


def test_the_new_classes_are_uniform_over_the_others():
    labels = torch.zeros(9000, dtype=torch.int64)
    labels[:10] = torch.arange(10)
    counts = replace_labels(labels, 1.0, seed=0).bincount(minlength=10)
    assert counts[0] < 10
    # Binomial(9000, 1/9): mean 1000, standard deviation 30.
    assert all(850 < count < 1150 for count in counts[1:].tolist())


def test_seeds_have_noise_of_their_own_and_parts_too():
    labels = torch.arange(200) % 10
    assert not torch.equal(replace_labels(labels, 0.4, 0), replace_labels(labels, 0.4, 1))
    data = make_data(num_train=50, num_val=50)
    apply(DataShift(shift_validation=True).start(TEN, 0), 6, data)
    assert not torch.equal(data.train.targets, data.val.targets)


def test_the_noise_of_a_seed_never_changes():
    # Golden: a change here changes every published run.
    assert replace_labels(torch.arange(10), 0.5, seed=0).tolist() == [0, 1, 1, 0, 0, 5, 2, 6, 8, 9]


def test_validation_is_touched_only_where_that_was_asked_for():
    for shift_validation in (False, True):
        data = make_data()
        val = data.val
        apply(DataShift(shift_validation=shift_validation).start(TEN, 0), 6, data)
        assert int((data.train.targets != data.train.pristine.targets).sum()) == 80
        assert (data.val is val) is not shift_validation
        assert int((data.val.targets != val.targets).sum()) == (20 if shift_validation else 0)


def test_inputs_and_order_stay():
    data = make_data()
    before = [inputs.clone() for inputs, _ in data.train.epoch(6)]
    apply(DataShift().start(TEN, 0), 6, data)
    assert all(torch.equal(a, b) for a, (b, _) in zip(before, data.train.epoch(6), strict=True))


def test_the_description_counts_once_the_data_was_seen():
    regime = DataShift().start(TEN, 0)
    assert regime.description == ("40 % of the training labels replaced by other classes; validation labels untouched")
    apply(regime, 6, make_data(num_train=4000))
    assert regime.description == (
        "40 % of the training labels replaced by other classes (1,600 of 4,000); validation labels untouched"
    )
    assert DataShift(shift_validation=True).start(TEN, 0).description.endswith("; 40 % of the validation labels too")


@pytest.mark.parametrize(
    ("targets", "error", "expected"),
    [
        (torch.rand(8), TypeError, "class labels"),
        (torch.zeros(8, 2, dtype=torch.int64), TypeError, r"shape \(8, 2\)"),
        (torch.zeros(8, dtype=torch.int64), ValueError, "at least two classes"),
    ],
)
def test_targets_that_are_no_classes_are_refused(targets, error, expected):
    data = TaskData(TensorBatches(torch.zeros(8), targets, 4), make_data().val)
    with pytest.raises(error, match=expected):
        apply(DataShift().start(TEN, 0), 6, data)


def test_data_that_is_not_in_memory_is_refused():
    with pytest.raises(TypeError, match="label noise needs data held in memory"):
        apply(DataShift().start(TEN, 0), 6, TaskData([], []))
