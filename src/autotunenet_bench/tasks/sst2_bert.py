"""BERT fine-tuned on SST-2."""

from __future__ import annotations

from typing import ClassVar, Literal

from autotunenet_bench.tasks.glue import GlueBase


class Sst2Bert(GlueBase):
    """BERT (109,483,778 parameters) on SST-2, phrases from film reviews; many seconds a step."""

    data_set: ClassVar[str] = "sst2"

    name: Literal["sst2_bert"] = "sst2_bert"
