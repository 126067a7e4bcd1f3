"""Data in the Hugging Face Hub's layout: parquet shards with encoded images or with texts in them."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from autotunenet_bench.data.cache import cached_arrays
from autotunenet_bench.data.images import LabelledImages
from autotunenet_bench.data.source import DataError
from autotunenet_bench.data.texts import TEXT_ARRAYS, LabelledTexts, pack_texts

if TYPE_CHECKING:
    import pyarrow as pa

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")
_FORMATS = ("JPEG", "PNG")
_DECODER_VERSION = 1  # raise it when the same files would give other arrays


@dataclass(frozen=True, kw_only=True)
class ImageColumn:
    """What the shards of a data set of images hold.

    Attributes:
        name: Of the column with the images, structs of ``bytes`` (PNG or JPEG) and ``path``.
        mode: Pillow's name of what every image must be: ``"L"``, 8-bit grey, or ``"RGB"``.
        size: Height and width that every image must have.
        num_classes: The column ``label`` holds whole numbers in ``[0, num_classes)``.
    """

    name: str
    mode: Literal["L", "RGB"]
    size: tuple[int, int]
    num_classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one decoded image: ``(height, width)``, or ``(3, height, width)`` in colour."""
        return self.size if self.mode == "L" else (3, *self.size)


def find_shards(folders: Sequence[Path], split: str) -> list[Path]:
    """Find the parquet files of a split, in order.

    Args:
        folders: Where to look, best first; the first that has any wins.
        split: For example ``"train"``.

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


def read_images(name: str, shards: Sequence[Path], column: ImageColumn) -> tuple[LabelledImages, frozenset[str]]:
    """Decode shards of images, or take them from the cache if these very files have been decoded before.

    Args:
        name: Of the entry in the cache.
        shards: At least one path.
        column: What they hold.

    Returns:
        The images, and the formats that they were encoded in: ``"PNG"``, ``"JPEG"``.

    Raises:
        DataError: If a file is torn, lacks a column, or holds an image or a label that does not belong.
    """
    from PIL import __version__ as pillow  # JPEG gives other pixels with another decoder

    def build() -> Mapping[str, NDArray[Any]]:
        parts = [_decode_shard(path, column) for path in shards]
        formats = sorted(set[str]().union(*(part[2] for part in parts)))
        return {
            "images": np.concatenate([part[0] for part in parts]),
            "labels": np.concatenate([part[1] for part in parts]),
            "formats": np.array(formats),
        }

    arrays = cached_arrays(name, _key(shards) | {"column": asdict(column), "pillow": pillow}, build)
    return LabelledImages(arrays["images"], arrays["labels"]), frozenset(arrays["formats"].tolist())


def read_texts(
    name: str, shards: Sequence[Path], num_classes: int, columns: tuple[str, ...] = ("text",)
) -> LabelledTexts:
    """Read shards of labelled texts or pairs of texts, or take them from the cache.

    Args:
        name: Of the entry in the cache.
        shards: At least one path.
        num_classes: The column ``label`` holds whole numbers in ``[0, num_classes)``.
        columns: That of the texts; or the two of pairs, first and second.

    Raises:
        DataError: If a file is torn, lacks a column, or holds a text or a label that does not belong.
    """

    def build() -> Mapping[str, NDArray[Any]]:
        parts = [_read_texts(path, num_classes, columns) for path in shards]
        arrays: dict[str, NDArray[Any]] = {"labels": np.concatenate([labels for _, labels in parts])}
        for number, keys in zip(range(len(columns)), TEXT_ARRAYS, strict=False):
            arrays |= zip(keys, pack_texts(text for texts, _ in parts for text in texts[number]), strict=True)
        return arrays

    key = _key(shards) | {"num_classes": num_classes} | ({"columns": columns} if columns != ("text",) else {})
    return LabelledTexts.of(cached_arrays(name, key, build))


def file_sha256(path: Path) -> str:
    """Return the digest of a file.

    Raises:
        DataError: If it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}; copy or download it again") from error
    return digest.hexdigest()


def _key(shards: Sequence[Path]) -> dict[str, Any]:
    return {"decoder": _DECODER_VERSION, "files": [file_sha256(path) for path in shards]}


def _check_complete(folder: Path, split: str, shards: Sequence[Path]) -> None:
    matches = [match for path in shards if (match := _SHARD.search(path.stem))]
    totals = {int(match[2]) for match in matches}
    if len(totals) > 1 or (totals and len(matches) != totals.pop()):
        names = ", ".join(path.name for path in shards)
        raise DataError(
            f"{folder} does not hold exactly one complete set of {split} shards (found {names}); copy or download the "
            f"missing files, or remove those of another set"
        )


def _decode_shard(path: Path, column: ImageColumn) -> tuple[NDArray[np.uint8], NDArray[np.uint8], set[str]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    table = _read_table(path)
    image_type = table.schema.field(column.name).type if column.name in table.schema.names else None
    if image_type is None or "label" not in table.schema.names or not pa.types.is_struct(image_type):
        raise DataError(
            f"{path} needs the columns {column.name} (a struct with PNG bytes) and label, it has "
            f"{', '.join(table.schema.names)}; is it a file of another data set?"
        )
    # `struct_field` on the chunks, not rows to dicts: 60,000 rows in 0.1 s.
    images = pc.struct_field(table[column.name], "bytes").to_pylist()
    labels = _labels(path, table, column.num_classes)
    pixels = np.empty((len(images), *column.shape), np.uint8)
    formats = set()
    for row, image in enumerate(images):
        pixels[row], encoded_as = _decode(image, column, f"{path}, row {row}")
        formats.add(encoded_as)
    return pixels, labels, formats


def _read_texts(path: Path, num_classes: int, columns: Sequence[str]) -> tuple[list[list[str]], NDArray[np.uint8]]:
    """Return the texts of each column, and the labels."""
    table = _read_table(path)
    if not {*columns, "label"} <= set(table.schema.names):
        raise DataError(
            f"{path} needs the columns {', '.join(columns)} and label, it has {', '.join(table.schema.names)}; is it a "
            f"file of another data set?"
        )
    texts: list[list[str]] = [table[column].to_pylist() for column in columns]
    for of_column in texts:
        for row, text in enumerate(of_column):
            if not isinstance(text, str):
                raise DataError(f"{path}, row {row}: expected a text, got {text!r}; is it a file of another data set?")
    return texts, _labels(path, table, num_classes)


def _read_table(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no readable parquet file ({error}); copy or download it again") from error
    if not len(table):
        raise DataError(f"{path} has no rows; copy or download it again")
    return table


def _labels(path: Path, table: pa.Table, num_classes: int) -> NDArray[np.uint8]:
    labels = table["label"].to_pylist()
    for row, label in enumerate(labels):
        if not isinstance(label, int) or not 0 <= label < num_classes:
            raise DataError(
                f"{path}, row {row}: the label must be a whole number in [0, {num_classes - 1}], got {label!r}; is it "
                f"a file of another data set?"
            )
    return np.array(labels, np.uint8)


def _decode(image: bytes | None, column: ImageColumn, where: str) -> tuple[NDArray[np.uint8], str]:
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(image or b""), formats=_FORMATS)
        belongs = picture.mode == column.mode and picture.size[::-1] == column.size
        pixels = np.asarray(picture) if belongs else None  # what is too large is never decoded
    # Pillow raises OSError for most damage, SyntaxError for a broken PNG chunk, ValueError for a broken size.
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{where}: the image cannot be decoded ({error}); copy or download the file again") from error
    if pixels is None:
        raise DataError(
            f"{where}: expected an image of mode {column.mode!r} and shape {column.size}, got mode {picture.mode!r} "
            f"and shape {picture.size[::-1]}; is it a file of another data set?"
        )
    return (pixels if column.mode == "L" else pixels.transpose(2, 0, 1)), str(picture.format)
