"""BERT fine-tuned on MRPC."""

from __future__ import annotations

from typing import ClassVar, Literal

from autotunenet_bench.tasks.glue import GlueBase


class MrpcBert(GlueBase):
    """BERT (109,483,778 parameters) on MRPC, pairs of sentences; many seconds a step on a core."""

    data_set: ClassVar[str] = "mrpc"

    name: Literal["mrpc_bert"] = "mrpc_bert"
