"""Where a tuner's numbers and decisions go: one protocol, `Sink`."""

from autotunenet.sinks.base import Sink

__all__ = ["Sink"]
