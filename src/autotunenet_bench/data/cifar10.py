"""CIFAR-10: from the user's folder or from the Hugging Face Hub. No package has it.

Data by Alex Krizhevsky, Vinod Nair and Geoffrey Hinton; described in Krizhevsky, "Learning multiple layers of features
from tiny images", 2009. The original files are Python pickles, which can run any code when they are read; they are not
read here.
"""

from __future__ import annotations

from functools import lru_cache

from autotunenet_bench.data.hub import HubRepo
from autotunenet_bench.data.images import ImageSet
from autotunenet_bench.data.parquet import ImageColumn, file_sha256, read_images
from autotunenet_bench.data.resolving import Places, Shards, resolve
from autotunenet_bench.data.source import DataSource

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Of the red, green and blue pixels of the 50,000 training images scaled to [0, 1]."""

VAL_SHARE = 0.1
"""Of the training images, what is kept for validation: 45,000 and 5,000."""

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
