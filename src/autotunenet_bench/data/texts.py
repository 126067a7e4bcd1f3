"""Texts with their labels, packed so that they can be mapped from a file."""

from __future__ import annotations

import hashlib
import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

TEXT_ARRAYS = (("blob", "offsets"), ("second_blob", "second_offsets"))
"""Names of the arrays of packed texts in the cache: of the first or only texts, and of the second ones of pairs."""


@dataclass(frozen=True, eq=False)
class PackedTexts(Sequence[str]):
    """A sequence of texts that are decoded when they are asked for.

    Attributes:
        blob: All texts one after the other in UTF-8, shape ``(num_bytes,)``, uint8.
        offsets: Where each begins in `blob`, and at last its length; shape ``(n + 1,)``, int64.

    >>> texts = PackedTexts(*pack_texts(["a film", "", "très bien"]))
    >>> len(texts), texts[0], texts[-1], texts[1:]
    (3, 'a film', 'très bien', ['', 'très bien'])
    """

    blob: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = operator.index(index)
        if not -len(self) <= i < len(self):
            raise IndexError(f"there are {len(self)} texts, got index {i}")
        i %= len(self)
        return self.blob[self.offsets[i] : self.offsets[i + 1]].tobytes().decode()

    def encoded(self) -> Iterator[bytes]:
        """Yield every text in UTF-8."""
        blob = self.blob.tobytes()
        yield from (blob[start:end] for start, end in itertools.pairwise(self.offsets.tolist()))


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Texts and labels exactly as read; read-only, because they are shared by the runs of a process.

    Attributes:
        texts: The n texts; of pairs, the first of each.
        labels: Shape ``(n,)``, uint8.
        seconds: Of pairs, the second text of each.
    """

    texts: PackedTexts
    labels: NDArray[np.uint8]
    seconds: PackedTexts | None = None

    def __post_init__(self) -> None:
        for array in (*(part for texts in self._columns for part in (texts.blob, texts.offsets)), self.labels):
            array.setflags(write=False)

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> LabelledTexts:
        """Return those in the arrays ``labels`` and those that `TEXT_ARRAYS` names, the second two for pairs only."""
        texts, *seconds = [
            PackedTexts(arrays[blob], arrays[offsets]) for blob, offsets in TEXT_ARRAYS if blob in arrays
        ]
        return cls(texts, arrays["labels"], *seconds)

    @property
    def _columns(self) -> list[PackedTexts]:
        return [self.texts] if self.seconds is None else [self.texts, self.seconds]

    def __len__(self) -> int:
        return len(self.labels)

    def sha256(self) -> str:
        """Return the digest of all texts in UTF-8, their n + 1 offsets (int64, little-endian) and labels, in order.

        Of pairs, the second texts and their offsets come between those of the first and the labels.
        """
        digest = hashlib.sha256()
        for texts in self._columns:
            digest.update(np.ascontiguousarray(texts.blob).data)
            digest.update(np.ascontiguousarray(texts.offsets, "<i8").data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()

    def content_sha256(self) -> str:
        """Return a digest that does not depend on the order: that of the sorted digests of label and text.

        Of pairs, a byte that no text in UTF-8 has, 255, stands between the two.
        """
        columns = zip(*(texts.encoded() for texts in self._columns), strict=True)
        rows = (
            hashlib.sha256(bytes([label]) + b"\xff".join(texts)).digest()
            for label, texts in zip(self.labels.tolist(), columns, strict=True)
        )
        return hashlib.sha256(b"".join(sorted(rows))).hexdigest()


@dataclass(frozen=True, eq=False)
class TextSet:
    """A data set of texts as read.

    Attributes:
        name: For example ``"imdb"``, ``"imdb-train"`` (a part of it) or ``"imdb-like"`` (other content in its form).
        source: Where it came from, in words.
        train: What runs train and validate on.
        test: The test texts, where the source has them.
        sha256: Of `train`, in its order.
    """

    name: str
    source: str
    train: LabelledTexts
    test: LabelledTexts | None
    sha256: str


def pack_texts(texts: Iterable[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the `blob` and the `offsets` of `PackedTexts`."""
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), offsets
