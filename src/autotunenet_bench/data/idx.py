"""MNIST's original files: the IDX format, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autotunenet_bench.data.images import LabelledImages
from autotunenet_bench.data.source import DataError


def find_idx(folders: Sequence[Path], prefix: str) -> tuple[Path, Path] | None:
    """Find the image file and the label file of a part of the data.

    Args:
        folders: Where to look, best first.
        prefix: ``"train"`` or ``"t10k"``.

    Returns:
        Both paths, or None if no folder has either.

    Raises:
        DataError: If a folder has one without the other.
    """
    for folder in folders:
        images, labels = (_find(folder, f"{prefix}-{kind}") for kind in ("images{}idx3-ubyte", "labels{}idx1-ubyte"))
        if images and labels:
            return images, labels
        if images or labels:
            missing = "images-idx3-ubyte" if labels else "labels-idx1-ubyte"
            raise DataError(
                f"{folder} holds {(images or labels or folder).name} but not {prefix}-{missing}[.gz], and neither is "
                f"of use alone; put the missing file beside it"
            )
    return None


def read_idx_pair(images: Path, labels: Path) -> LabelledImages:
    """Read an image file and its label file.

    Raises:
        DataError: If a file is damaged, is of another kind, or the two do not belong together.
    """
    pixels, classes = read_idx(images, num_dims=3), read_idx(labels, num_dims=1)
    if len(pixels) != len(classes):
        raise DataError(
            f"{images} has {len(pixels)} images but {labels.name} has {len(classes)} labels: they are of different "
            f"data sets; replace both"
        )
    return LabelledImages(pixels, classes)


def read_idx(path: Path, num_dims: int) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes (format: http://yann.lecun.com/exdb/mnist, "FILE FORMATS").

    The header is the magic number ``00 00 08 num_dims`` and one big-endian uint32 per dimension.

    Args:
        path: Decompressed on the fly where it ends in ``.gz``.
        num_dims: Dimensions that the array must have.

    Raises:
        DataError: If the file cannot be read, has another magic number, or another length than its header says.
    """
    raw = _read_bytes(path)
    magic = bytes((0, 0, 8, num_dims))
    if raw[:4] != magic:
        raise DataError(
            f"{path} is no IDX file of unsigned bytes with {num_dims} dimension(s): it begins with "
            f"{raw[:4].hex(' ')!r} instead of {magic.hex(' ')!r}; replace it by the original"
        )
    header_size = 4 + 4 * num_dims
    # A header cut short gives fewer dimensions, and with them another expected length, which is caught below.
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, header_size, 4))
    expected = header_size + int(np.prod(shape, dtype=object))
    if len(raw) != expected:
        raise DataError(
            f"{path} is damaged: its header asks for {expected} bytes (shape {shape}), the file has {len(raw)}; copy "
            f"or download it again"
        )
    return np.frombuffer(raw, np.uint8, offset=header_size).reshape(shape)


def _find(folder: Path, pattern: str) -> Path | None:
    names = [pattern.format(separator) + suffix for separator in "-." for suffix in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; copy or download it again") from error
