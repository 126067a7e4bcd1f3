"""How good the model became, and how soon. All of it on validation data."""

from __future__ import annotations

import math

from autotunenet_bench.metrics.base import Direction, Metric, val_accuracies, val_losses
from autotunenet_bench.results.trace import Trace


def final_val_loss(trace: Trace) -> float:
    """Validation loss after the last epoch; NaN before the first one is over."""
    losses = val_losses(trace)
    return losses[-1] if losses else math.nan


def best_val_loss(trace: Trace) -> float:
    """Lowest validation loss after any epoch; NaN before the first one is over."""
    return min(val_losses(trace), default=math.nan)


def final_val_accuracy(trace: Trace) -> float:
    """Validation accuracy after the last epoch; NaN before the first one is over."""
    accuracies = val_accuracies(trace)
    return accuracies[-1] if accuracies else math.nan


def best_val_accuracy(trace: Trace) -> float:
    """Highest validation accuracy after any epoch; NaN before the first one is over."""
    return max(val_accuracies(trace), default=math.nan)


def cumulative_val_loss(trace: Trace) -> float:
    """Sum of the validation losses after every epoch: a run that learns late pays for each epoch it waits."""
    losses = val_losses(trace)
    return sum(losses) if losses else math.nan


def post_trigger_val_loss(trace: Trace) -> float:
    """Mean validation loss from the epoch of the trigger on; of all epochs where nothing triggers."""
    first = trace.trigger.epoch if trace.trigger else 1
    losses = val_losses(trace)[first - 1 :]
    return math.fsum(losses) / len(losses) if losses else math.nan


METRICS = (
    Metric(
        name="final_val_loss",
        function=final_val_loss,
        unit="loss",
        direction=Direction.MIN,
        description="Validation loss after the last epoch.",
        formula="L_E",
    ),
    Metric(
        name="best_val_loss",
        function=best_val_loss,
        unit="loss",
        direction=Direction.MIN,
        description="Lowest validation loss after any epoch.",
        formula="min over e of L_e",
    ),
    Metric(
        name="final_val_accuracy",
        function=final_val_accuracy,
        unit="fraction",
        direction=Direction.MAX,
        description="Share of validation examples classified rightly after the last epoch.",
        formula="A_E",
    ),
    Metric(
        name="best_val_accuracy",
        function=best_val_accuracy,
        unit="fraction",
        direction=Direction.MAX,
        description="Highest validation accuracy after any epoch.",
        formula="max over e of A_e",
    ),
    Metric(
        name="cumulative_val_loss",
        function=cumulative_val_loss,
        unit="loss x epochs",
        direction=Direction.MIN,
        description="Validation loss summed over the epochs: the price of everything that went wrong on the way.",
        formula="sum over e = 1..E of L_e",
    ),
    Metric(
        name="post_trigger_val_loss",
        function=post_trigger_val_loss,
        unit="loss",
        direction=Direction.MIN,
        description="Mean validation loss from the epoch of the trigger on; of all epochs where nothing triggers.",
        formula="mean over e = trigger..E of L_e",
    ),
)
