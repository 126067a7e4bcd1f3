"""Sentences of GLUE as a pretrained model's tokens, from the user's folder or from the Hub. No package has them.

GLUE by Wang et al., "GLUE: A multi-task benchmark and analysis platform for natural language understanding", 2019;
SST-2 by Socher et al., "Recursive deep models for semantic compositionality over a sentiment treebank", EMNLP 2013;
MRPC by Dolan and Brockett, "Automatically constructing a corpus of sentential paraphrases", 2005.

The labels of GLUE's test parts are hidden. What is tested on here is its validation part, which nothing but the test
sees, and what is validated on is kept back from its training part.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from autotunenet_bench.data.batches import TensorBatches
from autotunenet_bench.data.cache import cached_arrays
from autotunenet_bench.data.hub import HubRepo
from autotunenet_bench.data.parquet import file_sha256, read_texts
from autotunenet_bench.data.pretrained import TOKENIZER, Pretrained
from autotunenet_bench.data.resolving import Places, Shards, parts_of, resolve
from autotunenet_bench.data.source import DataError, DataSource
from autotunenet_bench.data.splits import stratified_share
from autotunenet_bench.data.text_batches import PADDING, TextBatches
from autotunenet_bench.data.texts import LabelledTexts, TextSet
from autotunenet_bench.types import DataInfo, TaskData

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NUM_CLASSES = 2

VAL_SHARE = 0.1
"""Of the training part, what is kept for validation: SST-2 60,614 and 6,735, MRPC 3,301 and 367."""

EVAL_BATCH_SIZE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class GlueSet:
    """One data set of GLUE.

    Attributes:
        places: Where it may lie.
        columns: Of the texts: one, or two of pairs.
        content_sha256: Of its training part, in any order.
    """

    places: Places
    columns: tuple[str, ...]
    content_sha256: str


def _places(name: str, title: str, num_train: int, unit: str) -> Places:
    return Places(
        title=title,
        folders=(f"glue/{name}", name),
        repo=HubRepo(
            name="nyu-mll/glue",
            revision="bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
            folder=name,
            splits=("train", "validation"),
        ),
        num_train=num_train,
        unit=unit,
    )


GLUE = {
    "sst2": GlueSet(
        places=_places("sst2", "SST-2", 67_349, "sentences"),
        columns=("sentence",),
        content_sha256="5c4828447ee90b2d89c8bb62b348b11e55092efd27e1e3f05e3a1e02dd053ed7",
    ),
    "mrpc": GlueSet(
        places=_places("mrpc", "MRPC", 3_668, "pairs of sentences"),
        columns=("sentence1", "sentence2"),
        content_sha256="65dc4305bd0afac2b008dcc194e08ffbe5ff88a775a17cd2eeb8a8ada20e4c4a",
    ),
}
"""``"sst2"``: is a phrase from a film review positive (1)? ``"mrpc"``: do two sentences say the same (1)?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """How much of a data set is used.

    Attributes:
        num_train: Training examples at most; None: all. Of every class alike, as the others.
        num_val: Validation examples at most; None: all.
        num_test: Of the training part, how many are kept for the test where the source has no validation part.
        fraction: Share of what remains of each part, in (0, 1].
    """

    num_train: int | None = None
    num_val: int | None = None
    num_test: int = 0
    fraction: float = 1.0


def load_glue(
    name: str,
    source: DataSource,
    pretrained: Pretrained,
    batch_size: int,
    amounts: Amounts,
    *,
    max_length: int,
    pads_to_max_length: bool = False,
) -> tuple[TaskData, DataInfo]:
    """Return a data set of GLUE as tokens of a pretrained model, split into training, validation and test batches.

    A tenth of the training part is kept for validation, stratified and the same in every run; GLUE's own validation
    part is the test.

    Args:
        name: A key of `GLUE`.
        source: Where the data may come from.
        pretrained: Whose tokenizer is used.
        batch_size: Training examples a step.
        amounts: How much is used.
        max_length: Tokens of an example, with ``[CLS]`` and each ``[SEP]``, after which it is cut; of a pair, the
            longer sentence is cut first.
        pads_to_max_length: Whether every row is `max_length` long. Else a batch is as long as its longest row, as
            `autotunenet_bench.data.text_batches.TextBatches`.

    Returns:
        Batches of inputs ``(n, length)``, int32, 0 behind the end, and targets ``(n,)``, int64; and what they are.

    Raises:
        DataError: If the data asked for is missing or damaged, or the tokenizer is of another kind.
    """
    texts = decode_glue(name, source)
    train, val, test = parts_of(texts, VAL_SHARE, amounts.num_test, amounts.fraction)
    limits = [limit and max(1, round(amounts.fraction * limit)) for limit in (amounts.num_train, amounts.num_val)]
    train, val = (_at_most(limit, texts.train, part) for limit, part in zip(limits, (train, val), strict=True))
    ids = {part: _tokens(name, part, pretrained, max_length) for part in (texts.train, texts.test) if part is not None}

    def batches(part: LabelledTexts, index: NDArray[np.intp], size: int) -> TensorBatches:
        targets = torch.from_numpy(part.labels[index].astype(np.int64))
        make = TensorBatches if pads_to_max_length else TextBatches
        return make(torch.from_numpy(ids[part][index]), targets, size)

    data = TaskData(
        batches(texts.train, train, batch_size),
        batches(texts.train, val, EVAL_BATCH_SIZE),
        batches(texts.test or texts.train, test, EVAL_BATCH_SIZE) if len(test) else None,
        pretrained,
    )
    return data, DataInfo(
        name=texts.name,
        source=texts.source,
        num_train=len(train),
        num_val=len(val),
        num_test=len(test),
        sha256=texts.sha256,
    )


# Once per process: a worker runs many cells on the same data.
@lru_cache(maxsize=4)
def decode_glue(name: str, source: DataSource) -> TextSet:
    """Find and read a data set of GLUE: its training part, and as the test its validation part where it is there.

    Its name is that of `GLUE`, for the true training part in whatever order; else ``"<name>-like"``.

    Raises:
        DataError: As `autotunenet_bench.data.resolving.resolve`.
    """
    known = GLUE[name]

    def read(shards: Shards) -> TextSet:
        train, test = (
            read_texts(f"glue-{name}", part, NUM_CLASSES, known.columns) if part else None
            for part in (shards.train, shards.test)
        )
        assert train is not None  # shards have at least one file to train on
        is_true = train.content_sha256() == known.content_sha256
        return TextSet(name if is_true else f"{name}-like", shards.source, train, test, train.sha256())

    return resolve(known.places, source, read)


def _at_most(limit: int | None, texts: LabelledTexts, part: NDArray[np.intp]) -> NDArray[np.intp]:
    if limit is None or limit >= len(part):
        return part
    return part[stratified_share(texts.labels[part], limit / len(part))]


def _tokens(name: str, part: LabelledTexts, pretrained: Pretrained, max_length: int) -> NDArray[np.int32]:
    """Return the tokens of every example, from the cache where they have been made before."""
    key = {
        "texts": part.sha256(),
        "tokenizer": file_sha256(pretrained.folder / TOKENIZER),
        "tokenizers": importlib.metadata.version("tokenizers"),
        "max_length": max_length,
    }
    tokens = cached_arrays(
        f"glue-{name}-tokens", key, lambda: {"ids": encode(pretrained.tokenizer(), part, max_length)}
    )
    ids: NDArray[np.int32] = tokens["ids"]
    return ids


def encode(tokenizer: Tokenizer, part: LabelledTexts, max_length: int) -> NDArray[np.int32]:
    """Return ``[CLS] text [SEP]``, or ``[CLS] first [SEP] second [SEP]``, of every example, and 0 behind its end.

    Args:
        tokenizer: One of BERT's kind, of which ``[PAD]`` has the id 0.
        part: n examples.
        max_length: Tokens, after which an example is cut.

    Returns:
        Shape ``(n, max_length)``, int32.

    Raises:
        DataError: If the tokenizer is of another kind.
    """
    if tokenizer.token_to_id("[PAD]") != PADDING:
        raise DataError("[PAD] is not 0 in the tokenizer of the model: models of BERT's kind are read")
    tokenizer.enable_truncation(max_length)
    ids = np.full((len(part), max_length), PADDING, np.int32)
    pairs: Iterable[Any] = part.texts if part.seconds is None else zip(part.texts, part.seconds, strict=True)
    # One by one: a batch would be shared out to as many threads as there are cores, whatever the run's number is.
    for row, example in zip(ids, pairs, strict=True):
        known = (tokenizer.encode(*example) if isinstance(example, tuple) else tokenizer.encode(example)).ids
        row[: len(known)] = known
    return ids
