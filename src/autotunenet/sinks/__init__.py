"""Where a tuner's numbers and decisions go: one protocol, `Sink`, and a member for each tool."""

from autotunenet.sinks.base import ResumableSink, Sink
from autotunenet.sinks.jsonl import JsonlSink
from autotunenet.sinks.mlflow import MlflowSink
from autotunenet.sinks.run_log import RunLog, find_events, read_run
from autotunenet.sinks.tensorboard import TensorBoardSink
from autotunenet.sinks.wandb import WandbSink

SINKS: dict[str, type[Sink]] = {
    "jsonl": JsonlSink,
    "tensorboard": TensorBoardSink,
    "wandb": WandbSink,
    "mlflow": MlflowSink,
}
"""Sinks by name. None of them imports its tool before it is made."""

__all__ = [
    "SINKS",
    "JsonlSink",
    "MlflowSink",
    "ResumableSink",
    "RunLog",
    "Sink",
    "TensorBoardSink",
    "WandbSink",
    "find_events",
    "read_run",
]
