"""Image data in the Hugging Face Hub's layout: parquet shards with PNG images in them."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotunenet_bench.data.images import LabelledImages
from autotunenet_bench.data.source import DataError

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")


def find_shards(folders: Sequence[Path], split: str) -> list[Path]:
    """Find the parquet files of a split, in order.

    Args:
        folders: Where to look, best first; the first that has any wins.
        split: ``"train"`` or ``"test"``.

    Returns:
        Paths; empty if no folder has any.

    Raises:
        DataError: If some of the shards that the names promise are not there.
    """
    for folder in folders:
        shards = sorted(folder.glob(f"{split}-*.parquet"))
        if shards:
            _check_complete(folder, split, shards)
            return shards
    return []


def read_shards(shards: Sequence[Path], image_shape: tuple[int, int], num_classes: int) -> LabelledImages:
    """Decode parquet files with the columns ``image`` (struct of PNG ``bytes`` and ``path``) and ``label``.

    Args:
        shards: At least one path.
        image_shape: Height and width that every image must have.
        num_classes: Labels must be in ``[0, num_classes)``.

    Raises:
        DataError: If a file is torn, lacks a column, or holds an image or a label that does not belong.
    """
    parts = [_read_shard(path, image_shape, num_classes) for path in shards]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return LabelledImages(images, labels)


def download(repo: str, pattern: str) -> Path:
    """Fetch files of a data set from the Hub into its own cache; offline, take them from there.

    Args:
        repo: For example ``"ylecun/mnist"``.
        pattern: Of the files that are needed.

    Returns:
        The folder that stands for the repository's root.

    Raises:
        DataError: If `huggingface_hub` is not installed, or the files can neither be fetched nor found in the cache.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise DataError(
            f"downloading {repo} needs the package huggingface_hub: pip install 'autotunenet[hub]'; or leave out the "
            f"download and give a data_dir, or neither for the small data set that is installed"
        ) from error
    try:
        return Path(snapshot_download(repo, repo_type="dataset", allow_patterns=[pattern]))
    # The Hub's client raises its own errors, its HTTP library's (another one since 1.0) and OSErrors.
    except Exception as error:
        raise DataError(
            f"{repo} could not be downloaded from the Hugging Face Hub ({type(error).__name__}: {error}); check the "
            f"connection and HF_HUB_OFFLINE, or give a data_dir that holds a copy"
        ) from error


def _check_complete(folder: Path, split: str, shards: Sequence[Path]) -> None:
    matches = [match for path in shards if (match := _SHARD.search(path.stem))]
    totals = {int(match[2]) for match in matches}
    if len(totals) > 1 or (totals and len(matches) != totals.pop()):
        names = ", ".join(path.name for path in shards)
        raise DataError(
            f"{folder} does not hold exactly one complete set of {split} shards (found {names}); copy or download the "
            f"missing files, or remove those of another set"
        )


def _read_shard(
    path: Path, image_shape: tuple[int, int], num_classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images, labels = _read_columns(path)
    if not images:
        raise DataError(f"{path} has no rows; copy or download it again")
    for row, label in enumerate(labels):
        if not isinstance(label, int) or not 0 <= label < num_classes:
            raise DataError(
                f"{path}, row {row}: the label must be a whole number in [0, {num_classes - 1}], got {label!r}; is it "
                f"a file of another data set?"
            )
    pixels = np.empty((len(images), *image_shape), np.uint8)
    for row, image in enumerate(images):
        pixels[row] = _decode(image, image_shape, f"{path}, row {row}")
    return pixels, np.array(labels, np.uint8)


def _read_columns(path: Path) -> tuple[list[bytes | None], list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no readable parquet file ({error}); copy or download it again") from error
    schema = table.schema
    image_type = schema.field("image").type if "image" in schema.names else None
    if image_type is None or "label" not in schema.names or not pa.types.is_struct(image_type):
        raise DataError(
            f"{path} needs the columns image (a struct with PNG bytes) and label, it has {', '.join(schema.names)}; "
            f"is it a file of another data set?"
        )
    # `struct_field` on the chunks, not rows to dicts: 60,000 rows in 0.1 s.
    import pyarrow.compute as pc

    return pc.struct_field(table["image"], "bytes").to_pylist(), table["label"].to_pylist()


def _decode(image: bytes | None, image_shape: tuple[int, int], where: str) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(image or b""))
        pixels = np.asarray(picture)
    # Pillow raises OSError for most damage, SyntaxError for a broken PNG chunk, ValueError for a broken size.
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{where}: the image cannot be decoded ({error}); copy or download the file again") from error
    if picture.mode != "L" or pixels.shape != image_shape:
        raise DataError(
            f"{where}: expected an 8-bit grey image of shape {image_shape}, got mode {picture.mode!r} and shape "
            f"{pixels.shape}; is it a file of another data set?"
        )
    return pixels
