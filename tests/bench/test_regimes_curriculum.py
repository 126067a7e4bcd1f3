"""The kinds of `curriculum_shift`: how the task is easier before the trigger, or harder from it on."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from autotunenet_bench.data import TensorBatches
from autotunenet_bench.data.digits import load_digits
from autotunenet_bench.regimes import CurriculumShift
from autotunenet_bench.regimes.curricula import centroids, easiest, late_classes, margins, move
from autotunenet_bench.regimes.curriculum_shift import KINDS
from autotunenet_bench.types import Horizon, TaskData

TEN = Horizon(num_epochs=10, steps_per_epoch=4)
TRIGGER = 6
SEEDS = st.integers(0, 2**32 - 1)

every_kind = pytest.mark.parametrize("kind", KINDS)


def make_data(num_train=200, num_val=100, num_classes=10):
    """Images that are all different."""
    generator = torch.Generator().manual_seed(0)

    def part(num, seed):
        return TensorBatches(torch.randn(num, 2, 8, 8, generator=generator), torch.arange(num) % num_classes, 16, seed)

    return TaskData(part(num_train, 1), part(num_val, None))


def enter(regime, epoch, data):
    with torch.random.fork_rng(devices=[]):
        model = nn.Linear(1, 1)
    regime.apply(epoch, model, data, torch.optim.SGD(model.parameters(), lr=0.1))
    return data


def in_epoch(kind, epoch, *, seed=0, data=None, **fields):
    return enter(CurriculumShift(kind=kind, **fields).start(TEN, seed), epoch, make_data() if data is None else data)


def is_equal(a, b):
    return torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)


def changed_epoch(kind):
    return TRIGGER - 1 if KINDS[kind].is_removal else TRIGGER


# -- every kind ------------------------------------------------------------------------------------------------------


@every_kind
def test_one_side_of_the_trigger_is_the_untouched_data_and_the_other_is_not(kind):
    data, regime = make_data(), CurriculumShift(kind=kind, shift_validation=True).start(TEN, 0)
    train, val = data.train, data.val
    for epoch in (*range(1, 11), 1, 10):
        enter(regime, epoch, data)
        is_calm = (epoch >= TRIGGER) == KINDS[kind].is_removal
        assert (data.train is train, data.val is val) == (is_calm, is_calm)
        assert (is_equal(data.train, train), is_equal(data.val, val)) == (is_calm, is_calm)
        assert data.train.num_examples == train.num_examples
        assert len(data.train) == len(train)
    assert is_equal(train, make_data().train)


@every_kind
@pytest.mark.parametrize("given", [None, False, True])
def test_validation_goes_along_where_the_kind_or_the_config_says_so(kind, given):
    config = CurriculumShift(kind=kind, shift_validation=given)
    assert config.model_dump()["shift_validation"] is (kind == "classes" if given is None else given)
    data = in_epoch(kind, changed_epoch(kind), shift_validation=given)
    assert is_equal(data.val, make_data().val) is not config.shift_validation
    description = config.start(TEN, 0).description
    assert f"validation data {'too' if config.shift_validation else 'untouched'}" in description
    assert (", validation too" in config.display) == (given is True and kind != "classes")
    assert (", not validation" in config.display) == (given is False and kind == "classes")


@every_kind
def test_a_ramp_is_harder_every_epoch_and_ends_where_abrupt_is(kind):
    def effects():
        regime, data = CurriculumShift(kind=kind, severity=1.0, profile="ramp").start(TEN, 0), make_data()
        for epoch in range(1, 11):
            enter(regime, epoch, data)
            yield measure(kind, data)

    sizes = list(effects())
    assert sizes[:5] == [sizes[0]] * 5
    order = sizes[4:9] if not KINDS[kind].is_removal else sizes[8:3:-1]
    assert all(low < high for low, high in itertools.pairwise(order)), sizes
    assert min(sizes) == 0
    assert f"{'fading' if KINDS[kind].is_removal else 'growing'} evenly over 4 epochs" in (
        CurriculumShift(kind=kind, profile="ramp").start(TEN, 0).description
    )


@every_kind
def test_recurring_is_harder_on_and_easier_off(kind):
    regime, data = CurriculumShift(kind=kind, profile="recurring", period_epochs=2).start(TEN, 0), make_data()
    is_calm = [enter(regime, epoch, data).train is data.train.pristine for epoch in range(1, 11)]
    hard = [epoch >= TRIGGER and (epoch - TRIGGER) % 2 == 0 for epoch in range(1, 11)]
    assert is_calm == (hard if KINDS[kind].is_removal else [not value for value in hard])


def measure(kind, data):
    """How far the training data are from the untouched ones."""
    pristine = data.train.pristine
    if kind == "easy_to_all":
        return len(pristine.inputs) - len(data.train.inputs.flatten(1).unique(dim=0))
    if kind == "classes":
        return 10 - len(data.train.targets.unique())
    return (data.train.inputs - pristine.inputs).flatten(1).norm(dim=1).gt(0).sum().item()


@every_kind
def test_a_higher_severity_is_a_larger_effect(kind):
    sizes = [measure(kind, in_epoch(kind, changed_epoch(kind), severity=severity)) for severity in (0.0, 0.3, 0.6, 1.0)]
    assert sizes[0] == 0
    assert all(low < high for low, high in itertools.pairwise(sizes)), sizes


@pytest.mark.parametrize("kind", ["easy_to_all", "classes"])
def test_nothing_easier_before_the_first_epoch_is_refused(kind):
    for fields in ({"trigger_epoch": 1}, {"trigger_fraction": 0.05}, {"trigger_fraction": 0.5, "trigger_jitter": 0.45}):
        for seed in range(5):
            with pytest.raises(
                ValueError, match="in force until its trigger, and with a trigger at epoch 1 of 10 never"
            ):
                CurriculumShift(kind=kind, **fields).start(TEN, seed)
    assert CurriculumShift(kind="augmentation", trigger_epoch=1).start(TEN, 0).trigger_epoch == 1


def test_display_names_and_descriptions_say_what_gets_harder():
    assert [CurriculumShift(kind=kind).display for kind in KINDS] == [
        "easy to all 0.4 @ 50 %",
        "more augmentation 0.4 @ 50 %",
        "more classes 0.4 @ 50 %",
    ]
    assert [CurriculumShift(kind=kind).start(TEN, 0).description for kind in KINDS] == [
        "all training examples, where there were only the easiest 64 % of every class, repeated; "
        "validation data untouched",
        "training images moved at random by up to 10 % of their height and width, anew in every epoch; "
        "validation data untouched",
        "all classes, where 40 % of those beside the first were left out and others repeated; validation data too",
    ]


# -- easy_to_all -----------------------------------------------------------------------------------------------------


def test_the_margin_is_that_of_a_nearest_centroid_classifier():
    data = load_digits(32)[0].train
    inputs, labels = data.inputs.double().numpy(), data.targets.numpy()
    means = np.stack([inputs[labels == digit].mean(axis=0) for digit in range(10)])
    distances = np.array([[math.dist(x, mean) for mean in means] for x in inputs[:200]])
    own = distances[np.arange(200), labels[:200]]
    distances[np.arange(200), labels[:200]] = np.inf
    expected = distances.min(axis=1) - own
    got = margins(data.inputs, data.targets, centroids(data.inputs, data.targets, 10))
    np.testing.assert_allclose(got[:200].numpy(), expected, rtol=1e-9, atol=1e-9)
    assert 0.85 < (got > 0).double().mean() < 0.95  # it classifies nine digits of ten


@settings(deadline=None)
@given(
    codes=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    share=st.floats(0.01, 1.0),
    seed=SEEDS,
)
def test_the_easiest_of_every_class_are_left_and_labels_stay(codes, share, seed):
    codes = torch.tensor(codes)
    ease = torch.from_numpy(np.random.default_rng(seed).permutation(len(codes)))
    index = easiest(codes, ease, share)
    assert torch.equal(codes[index], codes)
    for code in codes.unique():
        members = torch.nonzero(codes == code).flatten()
        counts = torch.bincount(index[members], minlength=len(codes))[members]
        left = counts > 0
        assert int(left.sum()) == max(1, round(share * len(members)))
        assert torch.equal(index[members[left]], members[left])
        assert counts[left].max() - counts[left].min() <= 1
        if not left.all():
            assert ease[members[left]].min() > ease[members[~left]].max()


def test_before_the_trigger_the_digits_are_easy_and_as_many_of_each():
    full, _ = load_digits(32)
    easy = in_epoch("easy_to_all", 1, severity=1.0, data=TaskData(full.train, full.val)).train
    assert torch.equal(easy.targets, full.train.targets)
    centres = centroids(full.train.inputs, full.train.targets, 10)
    ease = [margins(part.inputs, part.targets, centres) for part in (easy, full.train)]
    assert ease[0].min() > ease[1].median()
    assert len(easy.inputs.unique(dim=0)) == sum(round(0.1 * count) for count in full.train.targets.bincount().tolist())


def test_validation_is_ranked_by_the_training_data():
    train = TensorBatches(torch.tensor([[0.0], [2.0], [10.0], [12.0]]), torch.tensor([0, 0, 1, 1]), 2)
    val = TensorBatches(torch.tensor([[5.0], [1.0], [6.0], [11.0]]), torch.tensor([0, 0, 1, 1]), 2)
    data = in_epoch("easy_to_all", 1, severity=1.0, shift_validation=True, data=TaskData(train, val))
    assert data.val.inputs.flatten().tolist() == [1.0, 1.0, 11.0, 11.0]
    strange = TensorBatches(torch.zeros(2, 1), torch.tensor([0, 7]), 2)
    with pytest.raises(ValueError, match=r"no training example is of the classes \[7\].*shift_validation: false"):
        in_epoch("easy_to_all", 1, shift_validation=True, data=TaskData(train, strange))


@pytest.mark.parametrize(
    ("inputs", "targets", "error", "expected"),
    [
        (torch.zeros(8, 2, dtype=torch.int64), torch.arange(8) % 2, TypeError, "real numbers are needed"),
        (torch.zeros(8, 2), torch.rand(8), TypeError, "easy to all needs class labels"),
        (torch.zeros(8, 2), torch.zeros(8, dtype=torch.int64), ValueError, "at least two classes"),
    ],
)
def test_data_that_cannot_be_ranked_are_refused_in_every_epoch(inputs, targets, error, expected):
    for epoch in (1, 10):
        with pytest.raises(error, match=expected):
            in_epoch("easy_to_all", epoch, data=TaskData(TensorBatches(inputs, targets, 4), make_data().val))


# -- classes ---------------------------------------------------------------------------------------------------------


@given(num=st.integers(2, 30), severities=st.tuples(st.floats(0, 1), st.floats(0, 1)), seed=SEEDS)
def test_late_classes_are_nested_and_one_class_is_always_there(num, severities, seed):
    classes = torch.arange(num) * 3
    low, high = (set(late_classes(classes, severity, seed).tolist()) for severity in sorted(severities))
    assert low <= high < set(classes.tolist())
    assert len(high) == round(max(severities) * (num - 1))


def test_late_classes_are_absent_in_both_parts_and_the_others_repeated_alike():
    data = in_epoch("classes", 1)
    kept = set(data.train.targets.tolist())
    assert len(kept) == 6
    assert set(data.val.targets.tolist()) == kept
    pristine = data.train.pristine
    is_kept = torch.isin(pristine.targets, torch.tensor(sorted(kept)))
    assert torch.equal(data.train.inputs[is_kept], pristine.inputs[is_kept])
    _, counts = data.train.inputs.flatten(1).unique(dim=0, return_counts=True)
    assert len(counts) == int(is_kept.sum())
    assert counts.max() - counts.min() <= 1
    for inputs, target in zip(data.train.inputs, data.train.targets, strict=True):  # labels go with their images
        assert target in pristine.targets[(pristine.inputs == inputs).flatten(1).all(dim=1)]


def test_seeds_have_late_classes_of_their_own():
    assert len({tuple(in_epoch("classes", 1, seed=seed).train.targets.unique().tolist()) for seed in range(8)}) > 4


def test_a_validation_part_of_late_classes_alone_is_refused():
    data = make_data()
    late = late_classes_of_seed(data)
    data.val = TensorBatches(torch.zeros(4, 2, 8, 8), late[:1].repeat(4), 2)
    with pytest.raises(ValueError, match=r"there is no example here.*shift_validation: false"):
        in_epoch("classes", 1, data=data)


def late_classes_of_seed(data):
    kept = in_epoch("classes", 1, data=make_data()).train.targets.unique()
    return torch.tensor(sorted(set(data.train.targets.tolist()) - set(kept.tolist())))


# -- augmentation ----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(seed=SEEDS, down=st.integers(-3, 3), right=st.integers(-3, 3))
def test_an_image_moves_by_whole_pixels(seed, down, right):
    images = torch.from_numpy(np.random.default_rng(seed).random((2, 3, 5, 4)))
    moved = move(images, torch.tensor([[down, right], [0, 0]]), -1.0)
    assert torch.equal(moved[1], images[1])
    for row, column in itertools.product(range(5), range(4)):
        source = row - down, column - right
        is_inside = 0 <= source[0] < 5 and 0 <= source[1] < 4
        expected = images[0, :, source[0], source[1]] if is_inside else torch.full((3,), -1.0, dtype=torch.float64)
        assert torch.equal(moved[0, :, row, column], expected)


def test_every_epoch_and_example_is_moved_anew_and_a_resumed_run_alike():
    regime, data = CurriculumShift(kind="augmentation", severity=1.0).start(TEN, 0), make_data()
    epochs = [enter(regime, epoch, data).train.inputs for epoch in range(6, 11)]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(epochs, 2))
    assert torch.equal(in_epoch("augmentation", 9, severity=1.0).train.inputs, epochs[3])
    assert not torch.equal(in_epoch("augmentation", 9, severity=1.0, seed=1).train.inputs, epochs[3])
    reached = set()
    for before, after in zip(data.train.pristine.inputs, epochs[0], strict=True):
        ways = [(d, r) for d in range(-2, 3) for r in range(-2, 3)]
        low = data.train.pristine.inputs.min().item()
        reached |= {way for way in ways if torch.equal(move(before[None], torch.tensor([way]), low)[0], after)}
    assert reached == set(itertools.product(range(-2, 3), range(-2, 3)))  # a quarter of 8 pixels each way


def test_validation_images_are_moved_once_and_for_all():
    first, later = (in_epoch("augmentation", epoch, severity=1.0, shift_validation=True).val for epoch in (6, 9))
    assert is_equal(first, later)
    assert not is_equal(first, make_data().val)


def test_the_memory_layout_stays():
    data = make_data()
    data.train = TensorBatches(data.train.inputs.to(memory_format=torch.channels_last), data.train.targets, 16, seed=1)
    moved = in_epoch("augmentation", 6, data=data).train.inputs
    assert moved.is_contiguous(memory_format=torch.channels_last)


def test_feature_vectors_are_refused_for_augmentation_in_every_epoch():
    for epoch in (1, 10):
        with pytest.raises(TypeError, match=r"augmentation needs images of shape \(n, channels, height, width\)"):
            in_epoch("augmentation", epoch, data=load_digits(32)[0])
