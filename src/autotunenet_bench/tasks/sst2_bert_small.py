"""A part of the same data, and a smaller pretrained network than BERT, in the size of a CPU core."""

from __future__ import annotations

from typing import ClassVar, Literal

from autotunenet_bench.tasks.glue import GlueSmallBase


class Sst2BertSmall(GlueSmallBase):
    """MiniLM (22,566,146 parameters) on 1,000 phrases of SST-2; 0.7 seconds a step on one core."""

    data_set: ClassVar[str] = "sst2"

    name: Literal["sst2_bert_small"] = "sst2_bert_small"
