"""CIFAR-10: where it may lie, what is decoded, what is refused, what it may call itself; the whole of it if at hand."""

import functools
import io
import logging
import os
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from autotunenet_bench.data import DataError, DataSource, cifar10, parquet
from autotunenet_bench.data.cifar10 import MEAN, STD, VAL_SHARE, decode_cifar10
from autotunenet_bench.data.images import LabelledImages
from autotunenet_bench.data.resolving import split

NUM_IMAGES = 40
COMMIT = "0b2714987fa478483af9968de7c934580d0bb9a2"


@pytest.fixture(autouse=True)
def _fresh(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("AUTOTUNENET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    decode_cifar10.cache_clear()
    yield
    decode_cifar10.cache_clear()


@functools.cache
def patches():
    """Forty pieces of scikit-learn's two photographs, 32x32 pixels, and labels, four a class."""
    photographs = load_sample_images().images
    pieces = [
        image[y : y + 32, x : x + 32] for image in photographs for y in (50, 200, 300, 380) for x in range(0, 640, 128)
    ]
    return np.stack(pieces), np.arange(NUM_IMAGES) % 10


def encoded(pixels, file_format="PNG", mode="RGB"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, file_format)
    return buffer.getvalue()


def write_parquet(path, images, labels, encode=encoded):
    path.parent.mkdir(parents=True, exist_ok=True)
    column = [{"bytes": encode(image), "path": None} for image in images]
    pq.write_table(pa.table({"img": column, "label": list(labels)}), path)
    return path


def write_train(folder, encode=encoded, labels=None):
    images, right = patches()
    labels = right.tolist() if labels is None else labels
    return write_parquet(folder / "train-00000-of-00001.parquet", images, labels, encode)


def refusal(source):
    with pytest.raises(DataError) as caught:
        decode_cifar10(source)
    return str(caught.value)


# -- what is found and decoded -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["cifar10/plain_text", "cifar10", "plain_text", "."])
def test_hub_layout_is_found_and_decoded_exactly(tmp_path, folder):
    images, labels = patches()
    write_parquet(tmp_path / folder / "train-00000-of-00002.parquet", images[:30], labels[:30])
    write_parquet(tmp_path / folder / "train-00001-of-00002.parquet", images[30:], labels[30:])
    write_parquet(tmp_path / folder / "test-00000-of-00001.parquet", images[:7], labels[:7])
    decoded = decode_cifar10(DataSource(tmp_path))
    assert decoded.train.images.shape == (NUM_IMAGES, 3, 32, 32)
    assert np.array_equal(decoded.train.images.transpose(0, 2, 3, 1), images)
    assert np.array_equal(decoded.train.labels, labels)
    assert np.array_equal(decoded.test.images, decoded.train.images[:7])
    assert decoded.sha256 == LabelledImages(decoded.train.images.copy(), decoded.train.labels.copy()).sha256()
    assert decoded.source == "parquet files in the Hub's layout"


def test_a_second_process_decodes_nothing_and_shares_the_file(tmp_path, monkeypatch):
    write_train(tmp_path)
    first = decode_cifar10(DataSource(tmp_path))
    decode_cifar10.cache_clear()
    monkeypatch.setattr(parquet, "_decode_shard", None)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "train-00000-of-00001.parquet").rename(tmp_path / "elsewhere" / "train-00000-of-00001.parquet")
    second = decode_cifar10(DataSource(tmp_path / "elsewhere"))
    assert np.array_equal(second.train.images, first.train.images)
    assert isinstance(second.train.images.base, np.memmap)


def test_nothing_is_written_into_the_users_folder(tmp_path):
    write_train(tmp_path)
    decode_cifar10(DataSource(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["train-00000-of-00001.parquet"]


def test_raw_and_normalised_examples(tmp_path):
    write_train(tmp_path)
    train = decode_cifar10(DataSource(tmp_path)).train
    index = np.array([5, 3, 3])
    pixels, targets = train.raw(index)
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, (3, 3, 32, 32))
    assert (targets.dtype, targets.tolist()) == (torch.int64, [5, 3, 3])
    pixels[0, 0, 0, 0] += 1  # a copy: neither the file nor the shared arrays
    assert pixels[0, 0, 0, 0] != train.images[5, 0, 0, 0]
    inputs, _ = train.tensors(index, 255, MEAN, STD)
    expected = (train.images[3, 2, 7, 9] / 255 - MEAN[2]) / STD[2]
    assert inputs[1, 2, 7, 9].item() == pytest.approx(expected, abs=1e-5)
    assert tuple(inputs.shape) == (3, 3, 32, 32)


def test_grey_images_get_a_channel():
    grey = LabelledImages(np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4), np.array([1, 0], np.uint8))
    pixels, targets = grey.raw(np.array([1]))
    assert tuple(pixels.shape) == (1, 1, 3, 4)
    assert pixels.flatten().tolist() == list(range(12, 24))
    assert targets.tolist() == [0]


# -- the name ----------------------------------------------------------------------------------------------------------


def test_only_the_hubs_own_file_is_called_cifar10(tmp_path, monkeypatch):
    path = write_train(tmp_path)
    assert decode_cifar10(DataSource(tmp_path)).name == "cifar10-like"
    monkeypatch.setattr(cifar10, "CANONICAL_FILE_SHA256", parquet.file_sha256(path))
    decode_cifar10.cache_clear()
    assert decode_cifar10(DataSource(tmp_path)).name == "cifar10"


def test_pixels_that_went_through_a_jpeg_say_so(tmp_path):
    images, labels = patches()
    write_parquet(tmp_path / "train-00000-of-00002.parquet", images[:30], labels[:30])
    jpeg = functools.partial(encoded, file_format="JPEG")
    write_parquet(tmp_path / "train-00001-of-00002.parquet", images[30:], labels[30:], jpeg)
    for _ in range(2):  # decoded, and from the cache
        assert decode_cifar10(DataSource(tmp_path)).name == "cifar10-jpeg"
        decode_cifar10.cache_clear()


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_without_a_folder_and_a_download_the_error_says_what_to_do():
    message = refusal(DataSource())
    for part in (
        "CIFAR-10 comes with no package",
        "--data-dir",
        "cifar10/plain_text/",
        "--download",
        "uoft-cs/cifar10",
    ):
        assert part in message


def test_a_folder_without_it_says_what_was_looked_for(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    message = refusal(DataSource(tmp_path))
    assert f"{tmp_path} holds no CIFAR-10" in message
    assert "train-*.parquet in it, in cifar10/, in plain_text/ and in cifar10/plain_text/" in message
    assert message.endswith("unset data_dir and AUTOTUNENET_DATA_DIR")


def test_a_missing_folder_is_named(tmp_path):
    assert f"{tmp_path / 'nowhere'} does not exist" in refusal(DataSource(tmp_path / "nowhere"))


def test_torn_files_and_missing_shards_are_named(tmp_path):
    path = write_train(tmp_path)
    path.write_bytes(path.read_bytes()[:-50])
    assert f"{path} is no readable parquet file" in refusal(DataSource(tmp_path))
    path.rename(tmp_path / "train-00001-of-00002.parquet")
    assert "complete set of train shards" in refusal(DataSource(tmp_path))


@pytest.mark.parametrize(
    ("encode", "labels", "expected"),
    [
        (lambda pixels: encoded(pixels)[:-300], None, "row 0: the image cannot be decoded"),
        (lambda pixels: encoded(pixels, "JPEG")[:300], None, "row 0: the image cannot be decoded"),
        (lambda pixels: encoded(pixels, "GIF"), None, "row 0: the image cannot be decoded"),
        (functools.partial(encoded, mode="L"), None, "of mode 'RGB' and shape (32, 32), got mode 'L'"),
        (functools.partial(encoded, mode="RGBA"), None, "got mode 'RGBA'"),
        (lambda pixels: encoded(pixels[:20]), None, "got mode 'RGB' and shape (20, 32)"),
        (encoded, [10] * NUM_IMAGES, "row 0: the label must be a whole number in [0, 9], got 10"),
        (encoded, [None] * NUM_IMAGES, "got None"),
        (encoded, [0.5] * NUM_IMAGES, "got 0.5"),
    ],
    ids=["torn png", "torn jpeg", "gif", "grey", "alpha", "size", "label above", "no label", "half a label"],
)
def test_rows_that_do_not_belong_are_named(tmp_path, encode, labels, expected):
    path = write_train(tmp_path, encode, labels)
    for _ in range(2):  # and no error is ever cached
        message = refusal(DataSource(tmp_path))
        assert str(path) in message
        assert expected in message


@pytest.mark.parametrize(
    "columns", [{"image": [1], "label": [0]}, {"img": [1], "label": [0]}, {"img": [{"bytes": b""}]}]
)
def test_other_columns_are_named(tmp_path, columns):
    pq.write_table(pa.table(columns), tmp_path / "train-00000-of-00001.parquet")
    message = refusal(DataSource(tmp_path))
    assert "needs the columns img" in message
    assert f"it has {', '.join(columns)}" in message


def test_the_whole_is_the_whole(tmp_path, monkeypatch):
    write_train(tmp_path)
    assert "(--full), 50,000 training images, and parquet files in the Hub's layout has 40" in refusal(
        DataSource(tmp_path, full=True)
    )
    monkeypatch.setattr(cifar10, "PLACES", replace(cifar10.PLACES, num_train=NUM_IMAGES))
    assert len(decode_cifar10(DataSource(tmp_path, full=True)).train) == NUM_IMAGES


# -- the download ------------------------------------------------------------------------------------------------------


def test_a_download_is_of_one_commit_and_says_which(tmp_path, monkeypatch):
    calls = []

    def snapshot_download(repo, **arguments):
        calls.append((repo, arguments))
        write_train(tmp_path / "plain_text")
        return str(tmp_path)

    module = types.ModuleType("huggingface_hub")
    module.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    decoded = decode_cifar10(DataSource(download=True))
    patterns = ["plain_text/train-*.parquet", "plain_text/test-*.parquet"]
    assert calls == [("uoft-cs/cifar10", {"repo_type": "dataset", "revision": COMMIT, "allow_patterns": patterns})]
    assert decoded.source == f"Hugging Face Hub, uoft-cs/cifar10 at {COMMIT[:12]}"


def test_the_real_client_offline_takes_what_was_downloaded(tmp_path, monkeypatch):
    """The client's own layout, as an earlier download leaves it; HF_HUB_OFFLINE is read when it is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    message = refusal(DataSource(download=True))
    assert "uoft-cs/cifar10 could not be downloaded" in message
    assert "HF_HUB_OFFLINE" in message
    write_train(tmp_path / "datasets--uoft-cs--cifar10" / "snapshots" / COMMIT / "plain_text")
    assert len(decode_cifar10(DataSource(download=True)).train) == NUM_IMAGES


# -- the whole of it, where the user has it ----------------------------------------------------------------------------

whole = pytest.mark.skipif("AUTOTUNENET_DATA_DIR" not in os.environ, reason="AUTOTUNENET_DATA_DIR names no data")


@pytest.mark.slow
@whole
def test_the_whole_of_it(monkeypatch, caplog):
    source = DataSource(Path(os.environ["AUTOTUNENET_DATA_DIR"]), full=True)
    with caplog.at_level(logging.WARNING):
        decoded = decode_cifar10(source)
    assert not caplog.records
    assert decoded.name in {"cifar10", "cifar10-jpeg"}
    assert (len(decoded.train), len(decoded.test)) == (50_000, 10_000)
    assert np.bincount(decoded.train.labels).tolist() == [5_000] * 10
    assert np.bincount(decoded.test.labels).tolist() == [1_000] * 10
    assert decoded.train.images.nbytes + decoded.test.images.nbytes < 200e6
    counts = np.stack([np.bincount(decoded.train.images[:, c].ravel(), minlength=256) for c in range(3)])
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    std = np.sqrt(counts @ values**2 / counts.sum(1) - mean**2)
    # A JPEG's colours are nearly, not quite, the true ones.
    assert mean == pytest.approx(MEAN, abs=5e-5 if decoded.name == "cifar10" else 3e-3)
    assert std == pytest.approx(STD, abs=5e-5 if decoded.name == "cifar10" else 3e-3)
    train, val, test = split(decoded, VAL_SHARE)
    assert (len(train), len(val), len(test)) == (45_000, 5_000, 0)
    assert np.bincount(decoded.train.labels[val]).tolist() == [500] * 10
