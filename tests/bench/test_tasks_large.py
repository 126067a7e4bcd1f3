"""The tasks on CIFAR-10 and IMDB: their data, their sizes in memory, what a step costs, and that they learn."""

import functools
import os
from pathlib import Path

import pytest
import torch

import small_data as files
from autotunenet_bench.data import DataError, DataSource, TensorBatches, imdb
from autotunenet_bench.data.cifar10 import MEAN, STD, decode_cifar10, load_cifar10
from autotunenet_bench.data.imdb import VAL_SHARE, decode_imdb, load_imdb
from autotunenet_bench.data.resolving import parts_of
from autotunenet_bench.data.text_batches import TextBatches
from autotunenet_bench.data.vocabulary import Vocabulary
from autotunenet_bench.runners.flops import measure_flops
from autotunenet_bench.tasks import (
    Cifar10ResNet18,
    Cifar10ResNet18Small,
    ImdbBiLstm,
    ImdbBiLstmSmall,
    MnistCnnSmall,
)
from autotunenet_bench.types import TaskData
from training import train_epoch

small_imdb = functools.partial(load_imdb, num_words=300, max_length=24)


@pytest.fixture(name="source")
def source_fixture(small_data):
    return DataSource(small_data)


# -- data --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [load_cifar10, small_imdb])
def test_a_tenth_is_for_validation_and_the_test_is_the_sources_own(load, source):
    data, info = load(source, 64)
    assert (info.num_train, info.num_val, info.num_test) == (270, 30, 40)
    assert [part.num_examples for part in (data.train, data.val, data.test)] == [270, 30, 40]
    assert (data.train.batch_size, data.val.batch_size, data.test.batch_size) == (64, 250, 250)
    again, same = load(source, 64, num_test=50)
    assert same == info
    assert torch.equal(again.train.inputs, data.train.inputs)


@pytest.mark.parametrize("load", [load_cifar10, small_imdb])
def test_a_fraction_is_taken_of_every_part(load, source):
    data, info = load(source, 64, data_fraction=0.5)
    assert (info.num_train, info.num_val, info.num_test) == (135, 15, 20)
    assert info.sha256 == load(source, 64)[1].sha256
    share = load(source, 64)[0].train.targets.bincount() / 270
    assert torch.allclose(data.train.targets.bincount() / 135, share, atol=0.01)


@pytest.mark.parametrize(
    ("write", "load", "folder"),
    [(files.write_cifar10, load_cifar10, "cifar10"), (files.write_imdb, small_imdb, "imdb")],
)
def test_without_test_examples_of_its_own_training_examples_are_kept_for_it(write, load, folder, tmp_path):
    write(tmp_path)
    (tmp_path / folder / "plain_text" / "test-00000-of-00001.parquet").unlink()
    source = DataSource(tmp_path)
    assert load(source, 64)[0].test is None
    data, info = load(source, 64, num_test=50)
    assert (info.num_train, info.num_val, info.num_test) == (220, 30, 50)
    assert data.test.num_examples == 50
    with pytest.raises(DataError, match="lower num_test of the task"):
        load(source, 64, num_test=270)


def test_images_are_stored_as_bytes_and_come_out_as_normalised_floats(source):
    data, _ = load_cifar10(source, 64)
    assert all(part.inputs.dtype == torch.uint8 for part in (data.train, data.val, data.test))
    decoded = decode_cifar10(source)
    ((first, targets),) = data.test.epoch(1)
    expected = (torch.tensor(decoded.test.images).double() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(
        STD
    ).view(3, 1, 1)
    assert torch.allclose(first.double(), expected, atol=1e-5)
    assert targets.tolist() == decoded.test.labels.tolist()
    epochs = [next(data.train.shuffled(0).epoch(epoch))[0] for epoch in (1, 1, 2)]
    assert torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epochs[2])


@pytest.mark.parametrize("fraction", [1.0, 0.2])
def test_words_are_those_of_the_texts_that_are_trained_on_alone(source, fraction):
    reviews = decode_imdb(source)
    data, _ = small_imdb(source, 64, data_fraction=fraction)
    train, val, test = parts_of(reviews, VAL_SHARE, 0, fraction)
    vocabulary = Vocabulary.of([reviews.train.texts[int(i)] for i in train], 300)
    for part, texts, index in (
        (data.train, reviews.train.texts, train),
        (data.val, reviews.train.texts, val),
        (data.test, reviews.test.texts, test),
    ):
        assert isinstance(part, TextBatches)
        assert part.inputs.tolist() == vocabulary.encode([texts[int(i)] for i in index], 24).tolist()
    everything = Vocabulary.of([*reviews.train.texts, *reviews.test.texts], 300)
    assert everything != vocabulary


def test_texts_are_encoded_once_and_anew_for_other_sizes(source, monkeypatch):
    small_imdb(source, 64)
    monkeypatch.setattr(imdb, "Vocabulary", None)
    small_imdb(source, 32)
    for change in ({"num_words": 299}, {"max_length": 23}, {"data_fraction": 0.9}):
        with pytest.raises(AttributeError, match="NoneType"):
            small_imdb(source, 64, **change)


# -- what a step costs -------------------------------------------------------------------------------------------------


def conv(size, before, after, kernel=3):
    """Operations of a convolution for one image, with `size` squared places that go out."""
    return 2 * size * size * before * after * kernel * kernel


def resnet(widths, blocks, first=32):
    stem, rest, size, before = conv(first, 3, widths[0]), 0, first, widths[0]
    for stage, width in enumerate(widths):
        size = first >> stage
        for _ in range(blocks):
            rest += conv(size, before, width) + conv(size, width, width)
            rest += conv(size, before, width, kernel=1) if before != width else 0
            before = width
    rest += 2 * widths[-1] * 10
    return stem, rest


@pytest.mark.parametrize(
    ("task", "widths", "blocks", "num", "forward"),
    [
        pytest.param(Cifar10ResNet18(), (64, 128, 256, 512), 2, 2, 1_110_845_440, marks=pytest.mark.slow),
        (Cifar10ResNet18Small(), (16, 32, 64), 1, 3, 25_003_264),
    ],
    ids=["resnet18", "resnet8"],
)
def test_the_operations_of_the_residual_networks(task, widths, blocks, num, forward):
    batches = TensorBatches(torch.randn(num, 3, 32, 32), torch.arange(num) % 10, batch_size=num)
    with torch.random.fork_rng(devices=[]):
        flops = measure_flops(task, task.build_model(), TaskData(batches, batches))
    stem, rest = resnet(widths, blocks)
    assert stem + rest == forward
    assert flops.evaluation == num * (stem + rest)
    assert flops.train_epoch == num * (2 * stem + 3 * rest)  # nobody asks for the gradient of the images


@pytest.mark.parametrize("task", [ImdbBiLstm(), ImdbBiLstmSmall()], ids=lambda task: task.name)
def test_the_operations_of_the_lstms(task):
    ids = torch.zeros(6, task.max_length, dtype=torch.int32)
    for row, length in enumerate((3, 20, 17, 32, 5, 30)):
        ids[row, :length] = 2
    batches = TextBatches(ids, torch.arange(6) % 2, batch_size=2)  # by length: 3 and 5, 17 and 20, 30 and 32
    with torch.random.fork_rng(devices=[]):
        flops = measure_flops(task, task.build_model(), TaskData(batches, batches))
    embedding, hidden = task.embedding_size, task.hidden_size
    steps = 2 * (16 + 32 + 32)
    lstms = 2 * steps * 2 * 4 * hidden * (embedding + hidden)  # two directions, two operations, four gates
    head = 6 * 2 * 4 * hidden * 2
    assert flops.evaluation == lstms + head
    assert flops.train_epoch == 3 * (lstms + head)


# -- the small CNN -----------------------------------------------------------------------------------------------------


def test_the_smaller_cnn_has_the_size_that_is_worked_out_by_hand():
    with torch.random.fork_rng(devices=[]):
        model = MnistCnnSmall().build_model()
    expected = (9 * 8 + 8) + (9 * 8 * 16 + 16) + (16 * 25 * 32 + 32) + (32 * 10 + 10)
    assert sum(param.numel() for param in model.parameters()) == expected == 14_410


@pytest.mark.slow
def test_the_smaller_cnn_learns():
    assert learn(MnistCnnSmall(), DataSource(), 2)[-1]["accuracy"] > 0.85


# -- the real data, where they are at hand -----------------------------------------------------------------------------

REAL = os.environ.get("AUTOTUNENET_DATA_DIR", "")
needs_real_data = pytest.mark.skipif(not REAL, reason="AUTOTUNENET_DATA_DIR names no folder with the data sets")


def learn(task, source, num_epochs):
    """Return the validation before training and after every epoch."""
    data, _ = task.load(source)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        workload = task.build(task.defaults, 0, data)
        found = [task.evaluate(workload.model, data.val)]
        for epoch in range(1, num_epochs + 1):
            workload.model.train()
            train_epoch(task, workload, epoch)
            found.append(task.evaluate(workload.model, data.val))
    return found


@needs_real_data
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_cifar10_takes_less_than_200_megabytes():
    data, info = Cifar10ResNet18().load(DataSource(Path(REAL)))
    parts = (data.train, data.val, data.test)
    assert sum(part.inputs.nbytes + part.targets.nbytes for part in parts) < 200 * 2**20
    assert (info.num_train, info.num_val, info.num_test) == (45_000, 5_000, 10_000)


@needs_real_data
@pytest.mark.slow
@pytest.mark.timeout(1200)  # with the decoding of all images, on a busy machine
@pytest.mark.parametrize(
    ("task", "num_epochs", "accuracy"),
    [(Cifar10ResNet18Small(data_fraction=0.05), 3, 0.2), (ImdbBiLstmSmall(data_fraction=0.1), 5, 0.65)],
    ids=lambda value: getattr(value, "name", None),
)
def test_small_versions_learn_from_a_part_of_the_real_data(task, num_epochs, accuracy):
    found = learn(task, DataSource(Path(REAL)), num_epochs)
    assert found[-1]["accuracy"] > accuracy
    assert found[-1]["loss"] < found[0]["loss"]
