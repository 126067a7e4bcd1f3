"""The kinds of `data_shift`: what each does to which part of the data."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from autotunenet_bench.data import TensorBatches
from autotunenet_bench.regimes import DataShift
from autotunenet_bench.regimes.data_shift import KINDS
from autotunenet_bench.regimes.input_shifts import permuted_positions, turn
from autotunenet_bench.regimes.label_shifts import favour, favoured_classes, partners, replace_by_partner
from autotunenet_bench.types import Horizon, TaskData

TEN = Horizon(num_epochs=10, steps_per_epoch=4)
SEEDS = st.integers(0, 2**32 - 1)
SEVERITIES = st.floats(0, 1)
INPUT_KINDS = ("pixel_permutation", "inversion", "rotation", "contrast_noise")


def make_data(shape=(2, 6, 6), num_train=200, num_val=100, num_classes=10):
    """Inputs that are all different, and show which example they belong to."""
    generator = torch.Generator().manual_seed(0)

    def part(num, seed):
        inputs = torch.randn(num, *shape, generator=generator)
        inputs.view(num, -1)[:, 0] = torch.arange(num) / num
        return TensorBatches(inputs, torch.arange(num) % num_classes, 16, seed)

    return TaskData(part(num_train, 1), part(num_val, None), part(num_val, None))


def shifted(kind, data=None, *, epoch=6, seed=0, **fields):
    """Return the data of an epoch; the trigger is at epoch 6."""
    data = make_data() if data is None else data
    regime = DataShift(kind=kind, **fields).start(TEN, seed)
    enter(regime, epoch, data)
    return data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [None, True, False])
def test_the_test_part_goes_with_validation_but_its_labels_stay_clean(kind, given):
    data, untouched = shifted(kind, shift_validation=given), make_data()
    goes_along = DataShift(kind=kind, shift_validation=given).shift_validation and not kind.endswith("label_noise")
    assert is_equal(data.test, untouched.test) is not goes_along
    if kind in ("pixel_permutation", "rotation"):
        assert goes_along is (given is not False)


def enter(regime, epoch, data):
    with torch.random.fork_rng(devices=[]):
        model = nn.Linear(1, 1)
    regime.apply(epoch, model, data, torch.optim.SGD(model.parameters(), lr=0.1))


def is_equal(a, b):
    return torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)


# -- every kind ------------------------------------------------------------------------------------------------------

every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_the_data_change_at_the_trigger_and_not_before(kind):
    data, regime = make_data(), DataShift(kind=kind).start(TEN, 0)
    train, val = data.train, data.val
    for epoch in (1, 5):
        enter(regime, epoch, data)
        assert data.train is train
        assert data.val is val
    enter(regime, 6, data)
    first = data.train
    assert not is_equal(first, train)
    assert torch.equal(first.targets, train.targets) == (kind in INPUT_KINDS)
    assert torch.equal(first.inputs, train.inputs) == kind.endswith("label_noise")
    enter(regime, 10, data)
    assert is_equal(data.train, first)
    enter(regime, 5, data)
    assert data.train is train
    assert is_equal(train, make_data().train)


@every_kind
@pytest.mark.parametrize("given", [None, False, True])
def test_validation_shifts_along_where_the_kind_or_the_config_says_so(kind, given):
    config = DataShift(kind=kind, shift_validation=given)
    assert config.model_dump()["shift_validation"] is (kind in INPUT_KINDS if given is None else given)
    data = shifted(kind, shift_validation=given)
    assert is_equal(data.val, make_data().val) is not config.shift_validation
    assert ("untouched" in config.start(TEN, 0).description) is not config.shift_validation


@every_kind
def test_a_seed_is_a_world_and_another_run_finds_it_again(kind):
    data, again, other = shifted(kind), shifted(kind, epoch=9), shifted(kind, seed=1)
    assert is_equal(data.train, again.train)
    assert is_equal(data.val, again.val)
    assert is_equal(data.train, other.train) == (kind == "rotation")  # nothing in it is random


@every_kind
@pytest.mark.parametrize("profile", ["abrupt", "ramp", "recurring"])
def test_severity_zero_has_no_effect_at_all(kind, profile):
    data = make_data()
    train, val = data.train, data.val
    shifted(kind, data, severity=0.0, shift_validation=True, profile=profile)
    assert data.train is train
    assert data.val is val


@every_kind
def test_sizes_types_layout_and_order_stay(kind):
    data = make_data()
    pristine = TensorBatches(data.train.inputs.to(memory_format=torch.channels_last), data.train.targets, 16, seed=1)
    data.train = pristine
    shifted(kind, data, shift_validation=True)
    for before, after in ((pristine, data.train), (make_data().val, data.val)):
        assert after.inputs.shape == before.inputs.shape
        assert (after.inputs.dtype, after.targets.dtype) == (torch.float32, torch.int64)
        assert (after.batch_size, after.seed) == (before.batch_size, before.seed)
        assert torch.isfinite(after.inputs).all()
    assert data.train.inputs.is_contiguous(memory_format=torch.channels_last)
    assert data.train.pristine is pristine


@every_kind
def test_global_generators_are_left_alone(kind):
    def states():
        return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002

    before = states()
    shifted(kind, shift_validation=True)
    assert states() == before


@every_kind
def test_epochs_of_equal_strength_share_their_data_and_others_do_not(kind):
    data, regime = make_data(), DataShift(kind=kind, trigger_epoch=1, profile="ramp", ramp_epochs=2).start(TEN, 0)
    made = []
    for epoch in (1, 2, 3):
        enter(regime, epoch, data)
        made.append(data.train)
    assert made[1] is made[2]
    assert not is_equal(made[0], made[1])
    fresh = make_data()
    enter(regime, 3, fresh)  # another run's data are not taken for these
    assert fresh.train.pristine is not made[2].pristine


@every_kind
def test_descriptions_say_what_and_how_much(kind):
    mild, strong = (DataShift(kind=kind, severity=severity).start(TEN, 0) for severity in (0.2, 0.4))
    assert mild.description != strong.description
    if KINDS[kind].is_share:
        enter(strong, 6, make_data())
        assert "40 % of the " in strong.description
        assert "(80 of 200)" in strong.description


@pytest.mark.parametrize(
    ("kind", "inputs", "targets", "expected"),
    [
        ("label_noise", torch.rand(8, 4), torch.rand(8), "label noise needs class labels"),
        ("class_conditional_label_noise", torch.rand(8, 4), torch.rand(8), "class labels"),
        ("class_prior", torch.rand(8, 4), torch.rand(8), "class prior needs class labels"),
        (
            "pixel_permutation",
            torch.rand(8, 3, 4),
            torch.arange(8),
            r"shape \(n, features\) or .*got shape \(8, 3, 4\)",
        ),
        ("pixel_permutation", torch.rand(8, 1), torch.arange(8), "at least two"),
        ("pixel_permutation", torch.rand(8, 3, 1, 1), torch.arange(8), "at least two"),
        ("rotation", torch.rand(8, 64), torch.arange(8), r"images of shape .*\(8, 64\); use another"),
        ("rotation", torch.zeros(8, 1, 4, 4, dtype=torch.int32), torch.arange(8), "int32"),
        (
            "inversion",
            torch.zeros(8, 4, dtype=torch.int64),
            torch.arange(8),
            "real numbers are needed, got torch.int64",
        ),
        ("contrast_noise", torch.zeros(8, 4, dtype=torch.int64), torch.arange(8), "real numbers"),
    ],
)
def test_data_of_the_wrong_sort_are_refused_at_the_first_epoch(kind, inputs, targets, expected):
    data = TaskData(TensorBatches(inputs, targets, 4), make_data().val)
    with pytest.raises(TypeError, match=expected):
        shifted(kind, data, epoch=1)


# -- labels ----------------------------------------------------------------------------------------------------------

labels_strategy = st.lists(st.integers(0, 9), min_size=2, max_size=60).filter(lambda labels: len(set(labels)) > 1)


@given(classes=st.sets(st.integers(-5, 50), min_size=2), seed=SEEDS)
def test_every_class_has_one_partner_and_none_is_its_own(classes, seed):
    pairs = partners(torch.tensor(sorted(classes)), seed)
    assert set(pairs) == set(pairs.values()) == classes
    assert all(old != new for old, new in pairs.items())


@settings(deadline=None)
@given(labels=labels_strategy, severities=st.tuples(SEVERITIES, SEVERITIES), seed=SEEDS)
def test_labels_become_their_partners_and_nested(labels, severities, seed):
    labels = torch.tensor(labels)
    pairs = partners(labels.unique(), seed)
    low, high = (replace_by_partner(labels, severity, seed + 1, pairs) for severity in sorted(severities))
    for replaced, severity in ((low, min(severities)), (high, max(severities))):
        wrong = replaced != labels
        assert int(wrong.sum()) == round(severity * len(labels))
        assert replaced[wrong].tolist() == [pairs[label] for label in labels[wrong].tolist()]
    assert torch.equal(high[low != labels], low[low != labels])


def test_both_parts_have_the_same_partners_but_choices_of_their_own():
    data = shifted("class_conditional_label_noise", make_data(num_val=200), severity=0.6, shift_validation=True)
    pairs = [
        set(zip(part.pristine.targets.tolist(), part.targets.tolist(), strict=True)) for part in (data.train, data.val)
    ]
    assert pairs[0] == pairs[1]
    assert len(pairs[0]) == 20  # every class as itself and as its partner
    assert not torch.equal(data.train.targets, data.val.targets)


def test_a_class_that_training_does_not_have_keeps_its_label():
    assert replace_by_partner(torch.tensor([0, 1, 7]), 1.0, 0, {0: 1, 1: 0}).tolist() == [1, 0, 7]


@settings(deadline=None)
@given(labels=labels_strategy, severities=st.tuples(SEVERITIES, SEVERITIES), seed=SEEDS)
def test_favoured_classes_become_more_common_and_nested(labels, severities, seed):
    labels = torch.tensor(labels)
    favoured = favoured_classes(labels.unique(), seed)
    assert len(favoured) == max(1, len(labels.unique()) // 3)
    low, high = (favour(labels, favoured, severity, seed) for severity in sorted(severities))
    replaced = low != torch.arange(len(labels))
    assert torch.equal(high[replaced], low[replaced])
    assert int(replaced.sum()) <= round(min(severities) * len(labels))
    counts = [int(torch.isin(labels[index], favoured).sum()) for index in (torch.arange(len(labels)), low, high)]
    assert counts == sorted(counts)
    assert torch.isin(labels[favour(labels, favoured, 1.0, seed)], favoured).all()


def test_resampled_examples_keep_their_labels_and_both_parts_favour_the_same_classes():
    data = shifted("class_prior", severity=0.8, shift_validation=True)
    favoured = []
    for part in (data.train, data.val):
        num = part.num_examples
        examples = (part.inputs.view(num, -1)[:, 0] * num).round().long()
        assert torch.equal(part.inputs, part.pristine.inputs[examples])
        assert torch.equal(part.targets, part.pristine.targets[examples])
        counts = part.targets.bincount(minlength=10)
        favoured.append(set(counts.topk(3).indices.tolist()))
        assert int(counts.topk(3).values.sum()) > 0.75 * num
    assert favoured[0] == favoured[1]


def test_a_part_without_favoured_classes_is_refused():
    with pytest.raises(ValueError, match=r"favours the classes \[3\].*shift_validation: false"):
        favour(torch.tensor([0, 1]), torch.tensor([3]), 0.4, 0)


# -- inputs ----------------------------------------------------------------------------------------------------------


@given(num=st.integers(2, 100), severities=st.tuples(SEVERITIES, SEVERITIES), seed=SEEDS)
def test_a_permutation_moves_exactly_its_share_and_nested(num, severities, seed):
    low, high = (permuted_positions(num, severity, seed) for severity in sorted(severities))
    for source, severity in ((low, min(severities)), (high, max(severities))):
        assert sorted(source.tolist()) == list(range(num))
        moved = round(severity * num)
        assert int((source != torch.arange(num)).sum()) == (moved if moved > 1 else 0)
    moved_low, moved_high = (source != torch.arange(num) for source in (low, high))
    assert not (moved_low & ~moved_high).any()
    assert int((low != high)[moved_low].sum()) <= 1  # the cycle is opened at one place to take in the others


@pytest.mark.parametrize("shape", [(12,), (1, 5, 4), (3, 4, 4)])
def test_pixels_move_alike_in_every_input_channel_and_part(shape):
    data = shifted("pixel_permutation", make_data(shape), severity=0.5)
    num_channels, num_pixels = (1, 12) if len(shape) == 1 else (shape[0], shape[1] * shape[2])
    sources = set()
    for part in (data.train, data.val):
        before = part.pristine.inputs.reshape(-1, num_channels, num_pixels)
        after = part.inputs.reshape(-1, num_channels, num_pixels)
        for old, new in zip(before.flatten(0, 1), after.flatten(0, 1), strict=True):
            sources.add(tuple(int((old == value).nonzero()[0]) for value in new))
    (source,) = sources
    assert sum(a != b for a, b in enumerate(source)) == num_pixels // 2


def test_the_permutation_of_a_seed_never_changes():
    # Golden: a change here changes every published run.
    assert permuted_positions(8, 0.75, seed=0).tolist() == [2, 1, 4, 6, 3, 0, 5, 7]


def test_a_share_of_the_inputs_becomes_negative():
    data = make_data()
    low, high = data.train.inputs.min(), data.train.inputs.max()
    some, more, all_ = (shifted("inversion", severity=severity) for severity in (0.2, 0.4, 1.0))
    for part in ("train", "val"):
        pristine = getattr(data, part).inputs
        negative = low + high - pristine
        changed = []
        for world, share in ((some, 0.2), (more, 0.4), (all_, 1.0)):
            inputs = getattr(world, part).inputs
            is_negative = (inputs != pristine).flatten(1).any(dim=1)
            assert int(is_negative.sum()) == round(share * len(pristine))
            torch.testing.assert_close(inputs[is_negative], negative[is_negative])
            changed.append(is_negative)
        assert not (changed[0] & ~changed[1]).any()
    assert all_.train.inputs.min() >= low - 1e-5
    assert all_.train.inputs.max() <= high + 1e-5


@pytest.mark.parametrize("shape", [(2, 6, 6), (1, 7, 7), (1, 5, 9)])
def test_half_a_turn_puts_images_upside_down(shape):
    data = shifted("rotation", make_data(shape), severity=1.0)
    for part in (data.train, data.val):
        torch.testing.assert_close(part.inputs, part.pristine.inputs.flip(2, 3), atol=1e-4, rtol=0)


def test_quarter_turns_are_those_of_torch():
    data = shifted("rotation", severity=0.5)
    torch.testing.assert_close(data.train.inputs, data.train.pristine.inputs.rot90(-1, (2, 3)), atol=1e-4, rtol=0)


def test_turns_are_no_shears_where_the_sides_differ():
    image = torch.zeros(1, 1, 9, 21)
    image[0, 0, 4, 13] = 1.0  # three pixels to the right of the centre
    expected = torch.zeros(1, 1, 9, 21)
    expected[0, 0, 7, 10] = 1.0  # three pixels below it
    torch.testing.assert_close(turn(image, 90.0, 0.0), expected, atol=1e-5, rtol=0)


def test_corners_are_filled_with_the_lowest_value():
    data = shifted("rotation", make_data((1, 12, 12)), severity=0.25)
    low = data.train.pristine.inputs.min()
    torch.testing.assert_close(data.train.inputs[:, 0, 0, 0], low.expand(200), atol=1e-5, rtol=0)
    torch.testing.assert_close(data.val.inputs[:, 0, 0, 0], low.expand(100), atol=1e-5, rtol=0)


@given(degrees=st.floats(0, 180), background=st.floats(-3, 3))
@settings(deadline=None, max_examples=30)
def test_a_level_turns_into_itself(degrees, background):
    images = torch.full((2, 1, 5, 8), background)
    torch.testing.assert_close(turn(images, degrees, background), images)


def test_many_images_are_turned_as_few():
    images = torch.rand(1500, 1, 6, 6)
    data = TaskData(TensorBatches(images, torch.arange(1500) % 10, 16), make_data().val)
    shifted("rotation", data, severity=0.3)
    torch.testing.assert_close(data.train.inputs, turn(images, 54.0, images.min().item()))


def test_contrast_falls_and_noise_rises_along_a_straight_line():
    pristine = make_data(num_train=2000).train.inputs
    std, mean = torch.std_mean(pristine)
    steps = []
    for severity in (0.25, 0.5, 1.0):
        inputs = shifted("contrast_noise", make_data(num_train=2000), severity=severity).train.inputs
        steps.append((inputs - pristine) / severity)
        expected = std * ((1 - 0.8 * severity) ** 2 + (0.5 * severity) ** 2) ** 0.5
        torch.testing.assert_close(inputs.std(), expected, rtol=0.02, atol=0)
        torch.testing.assert_close(inputs.mean(), mean, atol=0.01, rtol=0)
        noise = inputs - (mean + (1 - 0.8 * severity) * (pristine - mean))
        torch.testing.assert_close(noise.std(), 0.5 * severity * std, rtol=0.02, atol=0)
    torch.testing.assert_close(steps[0], steps[2], atol=1e-5, rtol=0)
    torch.testing.assert_close(steps[1], steps[2], atol=1e-5, rtol=0)


def test_parts_have_noise_of_their_own():
    data = make_data(num_train=100, num_val=100)
    data.val = TensorBatches(data.train.inputs, data.train.targets, 16)
    shifted("contrast_noise", data)
    assert not torch.equal(data.train.inputs, data.val.inputs)
