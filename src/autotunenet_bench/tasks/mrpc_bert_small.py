"""A part of the same data, and a smaller pretrained network than BERT, in the size of a CPU core."""

from __future__ import annotations

from typing import ClassVar, Literal

from autotunenet_bench.tasks.glue import GlueSmallBase


class MrpcBertSmall(GlueSmallBase):
    """MiniLM (22,566,146 parameters) on 1,000 pairs of MRPC; 2 seconds a step on one core."""

    data_set: ClassVar[str] = "mrpc"

    name: Literal["mrpc_bert_small"] = "mrpc_bert_small"
