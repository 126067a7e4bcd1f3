"""Numbers of a run, each a pure function of its trace.

In the formulas L_0 is the validation loss before the first step, L_e and A_e are loss and accuracy on the validation
data after epoch e = 1..E, and l_t is the training loss of step t. A validation value that is not finite counts as the
worst finite one of its run, at least as bad as before training (`base.fill_with_worst`).
"""

from __future__ import annotations

from autotunenet_bench.metrics import adaptation, classification, compute, performance, stability
from autotunenet_bench.metrics.base import Direction, Metric
from autotunenet_bench.results.trace import Trace

METRICS: dict[str, Metric] = {
    metric.name: metric
    for family in (performance.METRICS, classification.METRICS, stability.METRICS, adaptation.METRICS, compute.METRICS)
    for metric in family
}

__all__ = ["METRICS", "Direction", "Metric", "summarize"]


def summarize(trace: Trace) -> dict[str, float]:
    """Every metric of `METRICS` that the run's task has, by name and in that order.

    >>> start = {"event": "start", "environment": {}, "hyperparams": {"lr": 0.1}, "val": {"loss": 2.3}}
    >>> trace = Trace.from_events({}, [start])
    >>> summarize(trace)["rollback_count"]
    0.0
    """
    return {name: metric(trace) for name, metric in METRICS.items() if metric.is_of(trace)}
