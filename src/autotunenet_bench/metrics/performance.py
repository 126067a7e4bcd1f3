"""How good the model became, and how soon. On validation data, but for the test of the finished model."""

from __future__ import annotations

import math

from autotunenet_bench.metrics.base import (
    Direction,
    Metric,
    charged_losses,
    fill_with_worst,
    first_step_at,
    tested,
    val_accuracies,
    val_losses,
)
from autotunenet_bench.results.trace import Trace

TARGET_SHARE = 0.5
"""The target is this share of the initial validation loss.

No other run is asked, so a stored number never changes when a better method appears. L_0 is the loss of a model that
knows nothing, so the share has the same meaning in every task; at one half, tasks with a floor (noisy labels, a
language) still have runs that get there, and a run that has only left chance behind (`FAILURE_FRACTION`) has not.
"""


def final_val_loss(trace: Trace) -> float:
    """Validation loss after the last epoch; NaN before the first one is over."""
    losses = val_losses(trace)
    return losses[-1] if losses else math.nan


def best_val_loss(trace: Trace) -> float:
    """Lowest validation loss after any epoch; NaN before the first one is over."""
    return min(val_losses(trace), default=math.nan)


def final_train_loss(trace: Trace) -> float:
    """Mean training loss over the steps of the last epoch; NaN before the first one is over.

    As the steps were trained: with dropout, each at the weights of its time, and under the regime of that epoch. What
    is not finite counts as the worst finite training loss of the run, at least as the initial validation loss.
    """
    if not trace.epochs:
        return math.nan
    losses = fill_with_worst(trace.losses, trace.initial_val["loss"], Direction.MIN)
    last = losses[len(losses) - len(trace.epochs[-1].losses) :]
    return math.fsum(loss / len(last) for loss in last) if last else math.nan


def final_val_accuracy(trace: Trace) -> float:
    """Validation accuracy after the last epoch; NaN before the first one is over."""
    accuracies = val_accuracies(trace)
    return accuracies[-1] if accuracies else math.nan


def best_val_accuracy(trace: Trace) -> float:
    """Highest validation accuracy after any epoch; NaN before the first one is over."""
    return max(val_accuracies(trace), default=math.nan)


def final_test_loss(trace: Trace) -> float:
    """Loss of the finished model on the test part, which nobody has seen before; NaN where the data have none.

    What is not finite counts as the validation loss before training, as everywhere.
    """
    return tested(trace, "loss", Direction.MIN)


def final_test_accuracy(trace: Trace) -> float:
    """Accuracy of the finished model on the test part; NaN where the data have none."""
    return tested(trace, "accuracy", Direction.MAX)


def cumulative_val_loss(trace: Trace) -> float:
    """Sum of the validation losses after every epoch: a run that learns late pays for each epoch it waits."""
    losses = val_losses(trace)
    return sum(losses) if losses else math.nan


def post_trigger_val_loss(trace: Trace) -> float:
    """Mean validation loss from the epoch of the trigger on; of all epochs where nothing triggers."""
    first = trace.trigger.epoch if trace.trigger else 1
    losses = val_losses(trace)[first - 1 :]
    return math.fsum(losses) / len(losses) if losses else math.nan


def anytime_val_loss(trace: Trace) -> float:
    """Share of the initial loss that whoever stops at a random step is left with; from 0 (at once perfect) to 1.

    The mean over the run's steps of the validation loss as last measured, over L_0: a step function that is L_{e-1}
    during epoch e. The cumulative loss gives an epoch the loss that it ends with. Losses count by the rule of
    `charged_losses`. NaN before the first epoch is over, and where L_0 is not finite or not above 0.
    """
    initial = trace.initial_val["loss"]
    if not (trace.epochs and math.isfinite(initial) and initial > 0):
        return math.nan
    ends = [0, *(epoch.step for epoch in trace.epochs)]
    held = charged_losses(trace)
    area = math.fsum(loss * (end - begin) for loss, begin, end in zip(held[:-1], ends[:-1], ends[1:], strict=True))
    return area / (ends[-1] * initial)


def steps_to_target(trace: Trace) -> float:
    """Optimizer steps, discarded ones included, until the validation loss is at or below `TARGET_SHARE` x L_0.

    To the epoch, for that is how often it is measured. A finished run that never gets there has infinity, one that may
    still get there NaN; also NaN before the first epoch is over. Where L_0 is not finite nothing is at the target.
    """
    initial = trace.initial_val["loss"]
    return first_step_at(trace, TARGET_SHARE * initial if math.isfinite(initial) else math.nan)


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
        name="final_train_loss",
        function=final_train_loss,
        unit="loss",
        direction=Direction.MIN,
        description="Training loss over the last epoch: how well the training examples were fitted.",
        formula="mean of l_t over the steps t of epoch E",
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
        name="final_test_loss",
        function=final_test_loss,
        unit="loss",
        direction=Direction.MIN,
        description="Loss of the finished model on test data that no controller has seen.",
        formula="mean cross entropy on the test part after epoch E, L_0 where it is not finite",
    ),
    Metric(
        name="final_test_accuracy",
        function=final_test_accuracy,
        unit="fraction",
        direction=Direction.MAX,
        description="Accuracy of the finished model on test data that no controller has seen.",
        formula="share of the test part that is classified rightly after epoch E",
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
    Metric(
        name="anytime_val_loss",
        function=anytime_val_loss,
        unit="share of L_0",
        direction=Direction.MIN,
        description="Validation loss as last measured, averaged over the steps, as a share of the initial one.",
        formula="sum over e of (n_e - n_{e-1}) min(L_{e-1}, L_0) / (n_E L_0), n_e steps by the end of epoch e",
    ),
    Metric(
        name="steps_to_target",
        function=steps_to_target,
        unit="steps",
        direction=Direction.MIN,
        description=f"Optimizer steps until the validation loss is {TARGET_SHARE:g} of the initial one; a miss is inf.",
        may_miss=True,
        formula=f"n_e of the first e with L_e <= {TARGET_SHARE:g} L_0; infinity if there is none",
    ),
)
