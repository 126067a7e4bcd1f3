"""Metrics of classifiers beside loss and accuracy, for the tasks that give them (`Task.more_metrics`)."""

from __future__ import annotations

import math
from collections.abc import Callable

from autotunenet_bench.metrics.base import Direction, Metric, tested, val_series
from autotunenet_bench.results.trace import Trace


def _final_val(key: str) -> Callable[[Trace], float]:
    def final(trace: Trace) -> float:
        if not trace.epochs or key not in trace.initial_val:
            return math.nan
        return max(val_series(trace, key, Direction.MAX)[-1], 0.0)  # never worse than the worst there is

    return final


def _final_test(key: str) -> Callable[[Trace], float]:
    return lambda trace: tested(trace, key, Direction.MAX)


METRICS = (
    Metric(
        name="final_val_f1",
        function=_final_val("f1"),
        unit="fraction",
        direction=Direction.MAX,
        description="F1 on the validation data after the last epoch: of the positive class of two, else the mean.",
        formula="2 TP / (2 TP + FP + FN) after epoch E, of class 1 of two, else averaged over the classes",
        needs="f1",
    ),
    Metric(
        name="final_test_f1",
        function=_final_test("f1"),
        unit="fraction",
        direction=Direction.MAX,
        description="F1 of the finished model on test data that no controller has seen.",
        formula="as final_val_f1, on the test part",
        needs="f1",
    ),
    Metric(
        name="final_val_top5_accuracy",
        function=_final_val("top5_accuracy"),
        unit="fraction",
        direction=Direction.MAX,
        description="Share of validation examples whose class is among the five likeliest after the last epoch.",
        formula="share of the validation examples with their class among the five highest logits after epoch E",
        needs="top5_accuracy",
    ),
    Metric(
        name="final_test_top5_accuracy",
        function=_final_test("top5_accuracy"),
        unit="fraction",
        direction=Direction.MAX,
        description="Share of test examples whose class is among the five likeliest for the finished model.",
        formula="as final_val_top5_accuracy, on the test part",
        needs="top5_accuracy",
    ),
)
