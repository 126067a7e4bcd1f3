"""The same data and the same kind of network as the BiLSTM on IMDB, in the size of a CPU core."""

from __future__ import annotations

from typing import ClassVar, Literal

from autotunenet_bench.tasks.imdb_bilstm import ImdbBase


class ImdbBiLstmSmall(ImdbBase):
    """BiLSTM (177,154 parameters) on IMDB: 5,000 words, reviews cut at 128; 0.1 seconds a step."""

    num_words: ClassVar[int] = 5_000
    max_length: ClassVar[int] = 128
    embedding_size: ClassVar[int] = 32
    hidden_size: ClassVar[int] = 32

    name: Literal["imdb_bilstm_small"] = "imdb_bilstm_small"
