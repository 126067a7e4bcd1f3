"""Runs on disk, and as metrics and reports read them."""

from autotunenet_bench.results.store import ResultStore, RunFolder
from autotunenet_bench.results.trace import EpochRecord, Trace, Trigger

__all__ = ["EpochRecord", "ResultStore", "RunFolder", "Trace", "Trigger"]
