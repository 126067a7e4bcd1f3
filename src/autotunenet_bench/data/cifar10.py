"""CIFAR-10: from the user's folder or from the Hugging Face Hub. No package has it.

Data by Alex Krizhevsky, Vinod Nair and Geoffrey Hinton; described in Krizhevsky, "Learning multiple layers of features
from tiny images", 2009. The original files are Python pickles, which can run any code when they are read; they are not
read here.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autotunenet_bench.data.batches import TensorBatches
from autotunenet_bench.data.hub import HubRepo
from autotunenet_bench.data.images import ImageSet, LabelledImages
from autotunenet_bench.data.parquet import ImageColumn, file_sha256, read_images
from autotunenet_bench.data.preparing import AugmentAndNormalise, Normalise
from autotunenet_bench.data.resolving import Places, Shards, parts_of, resolve
from autotunenet_bench.data.source import DataSource
from autotunenet_bench.types import DataInfo, TaskData

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Of the red, green and blue pixels of the 50,000 training images scaled to [0, 1]."""

VAL_SHARE = 0.1
"""Of the training images, what is kept for validation: 45,000 and 5,000."""

EVAL_BATCH_SIZE = 250

CANONICAL_FILE_SHA256 = "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883"
"""Of the one training file on the Hub, which holds the true pixels as PNG."""

IMAGES = ImageColumn(name="img", mode="RGB", size=(32, 32), num_classes=10)
PLACES = Places(
    title="CIFAR-10",
    folders=("cifar10/plain_text", "cifar10", "plain_text", "."),
    repo=HubRepo(name="uoft-cs/cifar10", revision="0b2714987fa478483af9968de7c934580d0bb9a2", folder="plain_text"),
    num_train=50_000,
    unit="images",
)


def load_cifar10(
    source: DataSource, batch_size: int, num_test: int = 0, data_fraction: float = 1.0
) -> tuple[TaskData, DataInfo]:
    """Return CIFAR-10 split into training, validation and test batches, all still in the order of the file.

    A tenth of the training images is kept for validation, stratified and the same in every run. The test images of the
    source are the test; where it has none, `num_test` training images are. Pixels are stored as they are, 8 bits each
    (184 MB in all); batches are normalised on their way out, and those of the training part augmented too.

    Args:
        source: Where the data may come from.
        batch_size: Training examples a step.
        num_test: Of the training images, how many are kept for the test where the source has no test images.
        data_fraction: Share of each part that is used, in (0, 1].

    Returns:
        Batches of inputs ``(n, 3, 32, 32)``, float32, and targets ``(n,)``, int64; and what they are.

    Raises:
        DataError: If the data asked for is missing or damaged.
    """
    images = decode_cifar10(source)
    train, val, test = parts_of(images, VAL_SHARE, num_test, data_fraction)
    augmented, plain = AugmentAndNormalise(MEAN, STD), Normalise(MEAN, STD)

    def evaluated(part: LabelledImages, index: NDArray[np.intp]) -> TensorBatches:
        return TensorBatches(*part.raw(index), EVAL_BATCH_SIZE, preparation=plain)

    data = TaskData(
        TensorBatches(*images.train.raw(train), batch_size, preparation=augmented),
        evaluated(images.train, val),
        evaluated(images.test or images.train, test) if len(test) else None,
    )
    return data, DataInfo(
        name=images.name,
        source=images.source,
        num_train=len(train),
        num_val=len(val),
        num_test=len(test),
        sha256=images.sha256,
    )


# Once per process: a worker runs many cells on the same data.
@lru_cache(maxsize=2)
def decode_cifar10(source: DataSource) -> ImageSet:
    """Find and decode CIFAR-10: images ``(n, 3, 32, 32)``, uint8, mapped from the cache; 50,000 and 10,000 of them.

    Its name is ``"cifar10"`` for the Hub's file and no other, ``"cifar10-jpeg"`` where any training image is a JPEG,
    whose pixels are not the true ones, and else ``"cifar10-like"``.

    Raises:
        DataError: As `autotunenet_bench.data.resolving.resolve`.
    """
    return resolve(PLACES, source, _from_shards)


def _from_shards(shards: Shards) -> ImageSet:
    train, formats = read_images("cifar10", shards.train, IMAGES)
    test = read_images("cifar10", shards.test, IMAGES)[0] if shards.test else None
    name = "cifar10-jpeg" if "JPEG" in formats else "cifar10-like"
    if [file_sha256(path) for path in shards.train] == [CANONICAL_FILE_SHA256]:
        name = "cifar10"
    return ImageSet(name, shards.source, train, test, train.sha256())
