"""Words of texts, and the numbers that stand for them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autotunenet_bench.data.text_batches import PADDING, UNKNOWN

TOKENISER_VERSION = 1
"""Raised with every change of what `words_of` returns: ids that were made before are not of use any more."""

_LINE_BREAK = re.compile(r"<\s*br\s*/?\s*>")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case: runs of letters and digits, with apostrophes between them.

    ``<br />`` separates words, as everything else does that is neither letter nor digit; both forms of an apostrophe
    are one.

    >>> words_of("It's GREAT!<br /><br />10/10, the 'best' film_noir of the 80s.")
    ["it's", 'great', '10', '10', 'the', 'best', 'film', 'noir', 'of', 'the', '80s']
    """
    return _WORD.findall(_LINE_BREAK.sub(" ", text.lower()).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


@dataclass(frozen=True)
class Vocabulary:
    """The words that have an id of their own, from 2; 0 is padding, 1 is any other word.

    Attributes:
        words: Without repetition; the first has the id 2.
    """

    words: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str], size: int, min_count: int = 1) -> Vocabulary:
        """Return the most frequent words of texts; of equally frequent ones those that come first in the alphabet.

        Args:
            texts: To be trained on, and no others: what only validation or test texts say is not to be known.
            size: Ids at most, with those of padding and of unknown words; at least 2.
            min_count: How often a word must occur.

        Raises:
            ValueError: If `size` is below 2.

        >>> Vocabulary.of(["a film", "a bad film", "b"], size=5).words
        ('a', 'film', 'b')
        >>> Vocabulary.of(["a film", "a bad film", "b"], size=5, min_count=2).words
        ('a', 'film')
        """
        if size < 2:
            raise ValueError(f"a vocabulary has at least the ids of padding and of unknown words, 2; got size {size}")
        counts = Counter(word for text in texts for word in words_of(text))
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls(tuple(word for word, count in ranked[: size - 2] if count >= min_count))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, start=UNKNOWN + 1)}

    def encode(self, texts: Sequence[str], max_length: int) -> NDArray[np.int32]:
        """Return the ids of the first words of every text, and padding behind the end.

        Args:
            texts: n of them. One without any word is taken for a single unknown word.
            max_length: Words, at least 1; what comes after them is left out.

        Returns:
            Shape ``(n, max_length)``, int32.

        >>> Vocabulary(("good", "film")).encode(["Good film!", "a very good film", "..."], max_length=3).tolist()
        [[2, 3, 0], [1, 1, 2], [1, 0, 0]]
        """
        ids = np.full((len(texts), max_length), PADDING, np.int32)
        for row, text in zip(ids, texts, strict=True):
            known = [self._ids.get(word, UNKNOWN) for word in words_of(text)[:max_length]] or [UNKNOWN]
            row[: len(known)] = known
        return ids
