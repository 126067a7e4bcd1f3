"""What the run cost."""

from __future__ import annotations

import math

from autotunenet_bench.metrics.base import Direction, Metric
from autotunenet_bench.results.trace import Trace


def discarded_steps(trace: Trace) -> float:
    """Optimizer steps whose work a rollback threw away."""
    return float(sum(decision.discarded_steps for decision in trace.decisions))


def num_restarts(trace: Trace) -> float:
    """Times training began anew; 0 for every online method."""
    return float(trace.num_restarts)


def wall_clock(trace: Trace) -> float:
    """Seconds of training, validation and control, summed over the epochs; interruptions do not count."""
    return trace.wall_seconds


def controller_seconds(trace: Trace) -> float:
    """Seconds inside the tuner: monitors, snapshots, controller and guards."""
    return math.fsum(epoch.control_seconds for epoch in trace.epochs)


METRICS = (
    Metric(
        name="discarded_steps",
        function=discarded_steps,
        unit="steps",
        direction=Direction.MIN,
        description="Optimizer steps whose work a rollback threw away.",
        formula="sum over decisions of the steps that each discarded",
    ),
    Metric(
        name="num_restarts",
        function=num_restarts,
        unit="",
        direction=Direction.MIN,
        description="Times training began anew from step 0; an online method has none.",
        formula="as recorded by the runner",
    ),
    Metric(
        name="wall_clock",
        function=wall_clock,
        unit="s",
        direction=Direction.MIN,
        description="Time for training, validation and control together; interruptions are not counted.",
        formula="sum over e of train + validation + control seconds",
    ),
    Metric(
        name="controller_seconds",
        function=controller_seconds,
        unit="s",
        direction=Direction.MIN,
        description="Time inside the tuner: monitors, snapshots, controller and guards.",
        formula="sum over e of control seconds",
    ),
)
