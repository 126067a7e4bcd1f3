"""A bidirectional LSTM on the film reviews of IMDB."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import nn

from autotunenet_bench.data import DataSource
from autotunenet_bench.data.imdb import load_imdb
from autotunenet_bench.models import BiLstmClassifier
from autotunenet_bench.tasks.base import Task
from autotunenet_bench.types import DataInfo, TaskData


class ImdbBase(Task):
    """What the IMDB tasks share: data and network, whose sizes a member gives. Has no name, and so is no member."""

    num_classes: ClassVar[int] = 2
    num_words: ClassVar[int]
    max_length: ClassVar[int]
    embedding_size: ClassVar[int]
    hidden_size: ClassVar[int]

    def load(self, source: DataSource) -> tuple[TaskData, DataInfo]:
        """Return IMDB as word ids from wherever `source` says; see `autotunenet_bench.data.imdb`."""
        return load_imdb(
            source,
            self.batch_size,
            self.num_test,
            self.data_fraction,
            num_words=self.num_words,
            max_length=self.max_length,
        )

    def build_model(self) -> nn.Module:
        """Return the network; inputs ``(n, length)``, whole numbers, logits ``(n, 2)``."""
        return BiLstmClassifier(self.num_words, self.embedding_size, self.hidden_size, self.num_classes)


class ImdbBiLstm(ImdbBase):
    """BiLSTM (2,825,218 parameters) on IMDB: 20,000 words, reviews cut at 400; seconds a step."""

    num_words: ClassVar[int] = 20_000
    max_length: ClassVar[int] = 400
    embedding_size: ClassVar[int] = 128
    hidden_size: ClassVar[int] = 128

    name: Literal["imdb_bilstm"] = "imdb_bilstm"
