"""What is done to images on their way to the network: exact, drawn from the epoch's own stream, and cheap."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autotunenet_bench.data import TensorBatches
from autotunenet_bench.data.preparing import AugmentAndNormalise, Normalise, crop_and_mirror

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.1)
AUGMENT, NORMALISE = AugmentAndNormalise(MEAN, STD), Normalise(MEAN, STD)


def pixels(num=20, size=8):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (num, 3, size, size), dtype=np.uint8))


def make_batches(seed=3, preparation=AUGMENT):
    return TensorBatches(pixels(), torch.arange(20), 6, seed, preparation=preparation)


def contents(batches, epoch):
    return [(inputs.tolist(), targets.tolist()) for inputs, targets in batches.epoch(epoch)]


def test_pixels_are_scaled_and_normalised_channel_by_channel():
    images = pixels()
    expected = (images.double() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    prepared = NORMALISE(images, None)
    assert prepared.dtype == torch.float32
    assert torch.allclose(prepared.double(), expected, atol=1e-5)
    assert torch.equal(images, pixels())


@given(st.integers(0, 3), st.integers(1, 6), st.integers(1, 6), st.randoms(use_true_random=False))
def test_cuts_are_those_of_a_loop_over_the_images(padding, height, width, random):
    images = torch.arange(5 * 2 * height * width, dtype=torch.uint8).view(5, 2, height, width)
    offsets = torch.tensor([[random.randint(0, 2 * padding) for _ in range(2)] for _ in range(5)])
    is_mirrored = torch.tensor([random.random() < 0.5 for _ in range(5)])
    found = crop_and_mirror(images, offsets, is_mirrored, padding)
    for image, (down, right), mirrored, cut in zip(images, offsets.tolist(), is_mirrored, found, strict=True):
        framed = np.pad(image.numpy(), ((0, 0), (padding, padding), (padding, padding)))
        expected = framed[:, down : down + height, right : right + width]
        assert np.array_equal(cut.numpy(), expected[:, :, ::-1] if mirrored else expected)


def test_every_place_and_both_sides_are_equally_frequent():
    images = torch.zeros(40_000, 1, 9, 9, dtype=torch.uint8)
    images[:, :, 4, 4], images[:, :, 4, 5] = 255, 128  # a mark in the middle, which never leaves, and one at its right
    prepared = AugmentAndNormalise((0.0,), (1.0,))(images, torch.Generator().manual_seed(0))
    places = (prepared == 1).flatten(1).float().argmax(1)
    assert torch.bincount(places, minlength=81).min() > 0.8 * 40_000 / 81
    mirrored = (prepared.roll(1, dims=3) * (prepared == 1)).flatten(1).amax(1) > 0.4
    inside = (places % 9 > 0) & (places % 9 < 8)  # where the mark at its right is not cut off
    assert abs(mirrored[inside].float().mean().item() - 0.5) < 0.02


def test_an_epoch_is_the_same_whatever_was_drawn_before_and_epochs_and_seeds_have_their_own():
    expected = contents(make_batches(), 7)
    batches = make_batches()
    next(batches.epoch(2))
    assert contents(batches, 7) == expected
    assert contents(batches, 8) != expected
    assert contents(make_batches(4), 7) != expected


def test_the_order_is_that_of_batches_that_are_not_prepared():
    plain = TensorBatches(pixels(), torch.arange(20), 6, 3)
    for prepared in (make_batches(), make_batches(preparation=NORMALISE)):
        assert [t.tolist() for _, t in prepared.epoch(5)] == [t.tolist() for _, t in plain.epoch(5)]


def test_without_a_seed_nothing_is_drawn():
    expected = NORMALISE(pixels(), None)
    for preparation in (AUGMENT, NORMALISE):
        inputs = torch.cat([inputs for inputs, _ in make_batches(None, preparation).epoch(1)])
        assert torch.equal(inputs, expected)


def test_other_inputs_are_prepared_likewise_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    batches = make_batches()
    shifted = batches.with_tensors(inputs=255 - batches.inputs)
    assert shifted.preparation is batches.preparation
    assert contents(shifted.with_tensors(inputs=batches.inputs), 2) == contents(batches, 2)
    assert contents(shifted, 2) != contents(batches, 2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_batches_without_preparation_are_handed_out_as_they_are(dtype):
    inputs = torch.arange(20, dtype=dtype)
    batches = TensorBatches(inputs, inputs, 6)
    assert all(part.data_ptr() == inputs[6 * i :].data_ptr() for i, (part, _) in enumerate(batches.epoch(1)))
