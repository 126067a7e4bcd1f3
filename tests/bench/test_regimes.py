"""Regimes: when they strike, how they set in, and label noise. What all of them keep stands in tests/contracts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from autotunenet_bench.data import TensorBatches
from autotunenet_bench.regimes import DataShift, LossNoise, OptimizerShift, Stationary, TriggeredConfig
from autotunenet_bench.regimes.base import Onset, epoch_after
from autotunenet_bench.regimes.label_shifts import replace_labels
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


# -- triggers --------------------------------------------------------------------------------------------------------


def test_the_stationary_regime_never_strikes():
    assert Stationary().start(TEN, seed=0).trigger_epoch == 0


@pytest.mark.parametrize(
    ("fraction", "num_epochs", "expected"),
    [(0.0, 10, 1), (0.5, 10, 6), (0.5, 9, 5), (0.5, 1, 1), (0.29, 100, 30), (0.3, 10, 4), (0.999, 9, 9), (1e-7, 9, 1)],
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
        {"trigger_fraction": 1.0},
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
        DataShift(kind="inversion", profile="ramp").display,
        DataShift(kind="inversion", shift_validation=False, profile="recurring").display,
        OptimizerShift(kind="gradient_noise").display,
        LossNoise(kind="nan_bursts").display,
        LossNoise(target="both").display,
        Stationary().display,
    ]
    assert names == [
        "label noise 0.4 @ 50 %",
        "label noise 0.2 @ epoch 4",
        "label noise 0.4 @ 29 %, validation too",
        "inversion 0.4 @ 50 %, over 4 epochs",
        "inversion 0.4 @ 50 %, every 4 epochs, not validation",
        "gradient noise 0.4 @ 50 %",
        "loss noise (nan bursts, controller) 0.4 @ 50 %",
        "loss noise (gaussian, both) 0.4 @ 50 %",
        "stationary",
    ]
    assert issubclass(DataShift, TriggeredConfig)


# -- profiles --------------------------------------------------------------------------------------------------------


@given(trigger=st.integers(1, 20), length=st.integers(1, 9), epoch=st.integers(1, 60))
def test_profiles_are_off_before_the_trigger_and_on_at_it(trigger, length, epoch):
    abrupt, ramp, recurring = (Onset(trigger, profile, length) for profile in ("abrupt", "ramp", "recurring"))
    for onset in (abrupt, ramp, recurring):
        assert 0 <= onset.intensity(epoch) <= 1
        assert (onset.intensity(epoch) == 0) or epoch >= trigger
        assert onset.intensity(trigger) > 0
    assert abrupt.intensity(epoch) == (epoch >= trigger)
    assert ramp.intensity(epoch) <= ramp.intensity(epoch + 1)
    assert (ramp.intensity(epoch) == 1) == (epoch >= trigger + length - 1)
    if epoch >= trigger:
        assert recurring.intensity(epoch) == recurring.intensity(epoch + length)
        period = [recurring.intensity(trigger + offset) for offset in range(length)]
        assert period == sorted(period, reverse=True)
        assert sum(period) == (length + 1) // 2


def test_a_ramp_grows_and_keeps_what_it_has_done():
    regime, data = DataShift(trigger_epoch=3, profile="ramp", ramp_epochs=4).start(TEN, 0), make_data()
    counts, before = [], torch.zeros(200, dtype=torch.bool)
    for epoch in range(1, 11):
        apply(regime, epoch, data)
        wrong = data.train.targets != data.train.pristine.targets
        assert not (before & ~wrong).any()
        counts.append(int(wrong.sum()))
        before = wrong
    assert counts == [0, 0, 20, 40, 60, 80, 80, 80, 80, 80]


def test_a_recurring_regime_comes_with_the_same_world_and_goes_without_a_trace():
    regime, data = DataShift(trigger_epoch=3, profile="recurring", period_epochs=3).start(TEN, 0), make_data()
    pristine, on = data.train, []
    for epoch in range(1, 11):
        apply(regime, epoch, data)
        if data.train is not pristine:
            on.append((epoch, data.train.targets.tolist()))
    assert [epoch for epoch, _ in on] == [3, 4, 6, 7, 9, 10]
    assert all(targets == on[0][1] for _, targets in on)


def test_what_an_abrupt_regime_writes_is_what_it_wrote_before_there_were_profiles():
    # Golden: a run's id is a hash of this.
    assert DataShift().model_dump(mode="json") == {
        "name": "data_shift",
        "label": None,
        "trigger_epoch": None,
        "trigger_fraction": 0.5,
        "severity": 0.4,
        "kind": "label_noise",
        "shift_validation": False,
    }


@pytest.mark.parametrize(
    ("fields", "stored"),
    [
        ({"profile": "ramp"}, {"profile": "ramp", "ramp_epochs": 4, "period_epochs": None}),
        ({"profile": "ramp", "ramp_epochs": 2}, {"profile": "ramp", "ramp_epochs": 2, "period_epochs": None}),
        ({"profile": "recurring"}, {"profile": "recurring", "ramp_epochs": None, "period_epochs": 4}),
    ],
)
@pytest.mark.parametrize("regime_type", [DataShift, OptimizerShift, LossNoise])
def test_the_profile_stands_in_the_stored_config(regime_type, fields, stored):
    config = regime_type(**fields)
    dumped = config.model_dump(mode="json")
    assert {key: dumped[key] for key in stored} == stored
    assert regime_type.model_validate_json(config.model_dump_json(), strict=True) == config
    regime = config.start(TEN, 0)
    length = stored["ramp_epochs"] or stored["period_epochs"]
    assert regime.onset == Onset(6, stored["profile"], length)
    assert f" {length} epochs" in regime.description
    assert str(length) in config.display


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ramp_epochs": 3}, "ramp_epochs has no effect because profile is abrupt; remove it, or write profile: ramp"),
        ({"profile": "ramp", "period_epochs": 3}, "period_epochs has no effect because profile is ramp"),
        ({"profile": "recurring", "ramp_epochs": 3}, "ramp_epochs has no effect because profile is recurring"),
        ({"profile": "ramp", "ramp_epochs": 1}, "ramp_epochs"),
        ({"profile": "recurring", "period_epochs": 1}, "period_epochs"),
        ({"profile": "slowly"}, "profile"),
        ({"profile": ["ramp"]}, "profile"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(fields, expected):
    with pytest.raises(ValidationError, match=expected):
        DataShift(**fields)


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
