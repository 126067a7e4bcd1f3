"""What the run cost, and what it had when it had cost as much as the plain run."""

from __future__ import annotations

import math

from autotunenet_bench.metrics.base import Direction, Metric, charged_losses
from autotunenet_bench.results.trace import Trace


def discarded_steps(trace: Trace) -> float:
    """Optimizer steps whose work a rollback or a restart threw away."""
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


def optimizer_evaluations(trace: Trace) -> float:
    """Training passes: every step, discarded ones included, and every further pass in training mode."""
    return float(trace.epochs[-1].passes if trace.epochs else 0)


def train_seconds(trace: Trace) -> float:
    """Seconds of forward, backward and optimizer step, summed over the epochs."""
    return math.fsum(epoch.train_seconds for epoch in trace.epochs)


def eval_seconds(trace: Trace) -> float:
    """Seconds of validation, summed over the epochs; the one before the first step is not timed."""
    return math.fsum(epoch.eval_seconds for epoch in trace.epochs)


def peak_memory(trace: Trace) -> float:
    """Most memory of the run's process in MiB, since it began; NaN where it was not recorded."""
    return math.nan if trace.peak_memory_bytes is None else trace.peak_memory_bytes / 2**20


def train_flops(trace: Trace) -> float:
    """Floating point operations of all training passes; NaN where they were not recorded."""
    return trace.flops.spent(int(optimizer_evaluations(trace)), 0) if trace.flops else math.nan


def eval_flops(trace: Trace) -> float:
    """Floating point operations of all validations, the one before the first step included; NaN if not recorded."""
    return trace.flops.spent(0, 1 + len(trace.epochs)) if trace.flops else math.nan


def total_flops(trace: Trace) -> float:
    """Floating point operations of training and validation; NaN where they were not recorded."""
    return train_flops(trace) + eval_flops(trace)


def flop_budget(trace: Trace) -> float:
    """Operations of the plain run of this task, data and number of epochs: a pass a step and no control.

    The same for every method of a cell, and known from any of its runs. NaN where no operations were recorded.
    """
    if trace.flops is None:
        return math.nan
    num_epochs = int(trace.spec["num_epochs"])
    return trace.flops.spent(num_epochs * trace.flops.num_batches, 1 + num_epochs)


def compute_adjusted_val_loss(trace: Trace) -> float:
    """Validation loss that the run had come to when it had spent what the plain run spends (`flop_budget`).

    Linear in between two validations: a method whose control costs little loses little. Losses count by the rule of
    `charged_losses`. A run that ends within its budget counts with its last loss. NaN where no operations were
    recorded, where L_0 is not finite, and for an unfinished run that has not spent the budget yet.
    """
    if trace.flops is None:
        return math.nan
    budget, losses = flop_budget(trace), charged_losses(trace)
    passes = [0, *(epoch.passes for epoch in trace.epochs)]
    spent = [trace.flops.spent(number, 1 + index) for index, number in enumerate(passes)]
    if spent[-1] <= budget:
        return losses[-1] if trace.epochs and (trace.finished or spent[-1] == budget) else math.nan
    after = next(index for index, cost in enumerate(spent) if cost > budget)
    share = (budget - spent[after - 1]) / (spent[after] - spent[after - 1])
    return losses[after - 1] + share * (losses[after] - losses[after - 1])


METRICS = (
    Metric(
        name="discarded_steps",
        function=discarded_steps,
        unit="steps",
        direction=Direction.MIN,
        description="Optimizer steps whose work a rollback or a restart threw away.",
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
    Metric(
        name="optimizer_evaluations",
        function=optimizer_evaluations,
        unit="passes",
        direction=Direction.MIN,
        description="Training passes: every step, also those thrown away or replayed, over all trainings of a run.",
        formula="forward passes in training mode, counted at the model",
    ),
    Metric(
        name="train_seconds",
        function=train_seconds,
        unit="s",
        direction=Direction.MIN,
        description="Time for forward, backward and optimizer step.",
        formula="sum over e of train seconds",
    ),
    Metric(
        name="eval_seconds",
        function=eval_seconds,
        unit="s",
        direction=Direction.MIN,
        description="Time for validation after every epoch.",
        formula="sum over e of validation seconds",
    ),
    Metric(
        name="peak_memory",
        function=peak_memory,
        unit="MiB",
        direction=Direction.MIN,
        description="Most memory that the run's process has held since it began, other runs before it included.",
        formula="peak resident set size of the process at the end of the run",
    ),
    Metric(
        name="train_flops",
        function=train_flops,
        unit="FLOP",
        direction=Direction.MIN,
        description="Operations of all training passes, forward and backward; the optimizer's own are left out.",
        formula="training passes x operations of an epoch / batches of an epoch",
    ),
    Metric(
        name="eval_flops",
        function=eval_flops,
        unit="FLOP",
        direction=Direction.MIN,
        description="Operations of all validations, the one before the first step included.",
        formula="(1 + E) x operations of a validation",
    ),
    Metric(
        name="total_flops",
        function=total_flops,
        unit="FLOP",
        direction=Direction.MIN,
        description="Operations of training and validation together.",
        formula="train_flops + eval_flops",
    ),
    Metric(
        name="compute_adjusted_val_loss",
        function=compute_adjusted_val_loss,
        unit="loss",
        direction=Direction.MIN,
        description="Validation loss once the run has spent as many operations as a plain run of all its epochs.",
        formula="min(L, L_0) where the operations spent reach those of the plain run, linear between validations",
    ),
)
