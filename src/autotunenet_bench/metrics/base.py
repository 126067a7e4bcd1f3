"""What a metric is, and the one rule for values that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from autotunenet_bench.results.trace import Trace


class Direction(Enum):
    """Which way is better. Told once, at the metric, and never guessed from a name."""

    MIN = "lower is better"
    MAX = "higher is better"
    NONE = "neither way is better"

    @property
    def arrow(self) -> str:
        """A sign for table heads: down, up or nothing."""
        return {Direction.MIN: "↓", Direction.MAX: "↑", Direction.NONE: ""}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number of a finished run.

    Attributes:
        name: Its key in `METRICS` and its column in the CSV files.
        function: Computes it from a trace; pure. NaN means that the run did not get far enough to measure it.
        unit: For table heads; empty for a plain number.
        direction: Which way is better.
        description: One sentence for a reader.
        formula: The exact definition, as text.
        may_miss: Whether infinity is a value of a sound trace: the run never got there. Compare medians then.
        needs: Key of the validation metrics that a task must give for it; empty: every task has it.
    """

    name: str
    function: Callable[[Trace], float]
    unit: str
    direction: Direction
    description: str
    formula: str
    may_miss: bool = False
    needs: str = ""

    def is_of(self, trace: Trace) -> bool:
        """Return whether the task of the run is one that has it."""
        return not self.needs or self.needs in trace.initial_val

    @property
    def title(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")

    def __call__(self, trace: Trace) -> float:
        """Compute the metric from `trace`."""
        return float(self.function(trace))


def fill_with_worst(values: Sequence[float], initial: float, direction: Direction) -> list[float]:
    """Replace what is not finite by the worst finite value of the run, at least as bad as before training.

    A diverged run would otherwise leave every average, and the method that diverges most often would look best.

    Args:
        values: Measurements of one run, in order.
        initial: The measurement before the first step; it takes part in the choice of the worst.
        direction: `Direction.MIN` where lower is better, `Direction.MAX` where higher is.

    Returns:
        As many values, all finite; where neither `initial` nor any value is finite, infinities of the bad sign.

    >>> fill_with_worst([1.0, float("nan"), 3.5, float("inf")], initial=2.0, direction=Direction.MIN)
    [1.0, 3.5, 3.5, 3.5]
    >>> fill_with_worst([0.9, float("nan")], initial=0.1, direction=Direction.MAX)
    [0.9, 0.1]
    >>> fill_with_worst([float("nan")], initial=float("nan"), direction=Direction.MIN)
    [inf]
    """
    finite = [value for value in (initial, *values) if math.isfinite(value)]
    worst = max(finite, default=math.inf) if direction is Direction.MIN else min(finite, default=-math.inf)
    return [value if math.isfinite(value) else worst for value in values]


def val_losses(trace: Trace) -> list[float]:
    """Validation loss after every epoch, by the rule of `fill_with_worst`."""
    return val_series(trace, "loss", Direction.MIN)


def charged_losses(trace: Trace) -> list[float]:
    """Validation losses before training and after every epoch, none above the first: L_0, min(L_1, L_0) and so on.

    What is not finite counts as L_0, the rule of `autotunenet_bench.statistics.at_worst`: beyond the loss of the
    untrained model all models are equally lost. All NaN where L_0 is not finite.
    """
    initial = trace.initial_val["loss"]
    if not math.isfinite(initial):
        return [math.nan] * (1 + len(trace.epochs))
    losses = [epoch.val["loss"] for epoch in trace.epochs]
    return [initial, *(min(loss, initial) if math.isfinite(loss) else initial for loss in losses)]


def first_step_at(trace: Trace, level: float, *, from_epoch: int = 1) -> float:
    """Steps done at the end of the first epoch whose validation loss is at or below `level`.

    Infinity where a finished run never gets there, or `level` is NaN; NaN where the run is not finished and has not
    got there yet, or has no epoch from `from_epoch` on.
    """
    epochs = trace.epochs[from_epoch - 1 :]
    for epoch in epochs:
        loss = epoch.val["loss"]
        if math.isfinite(loss) and loss <= level:
            return float(epoch.step)
    return math.inf if epochs and trace.finished else math.nan


def val_accuracies(trace: Trace) -> list[float]:
    """Validation accuracy in [0, 1] after every epoch, by the rule of `fill_with_worst`.

    All NaN for a task that does not report one.
    """
    if "accuracy" not in trace.initial_val:
        return [math.nan] * len(trace.epochs)
    # The worst an accuracy can be is 0, so a run in which not one is finite has that, and no infinity.
    return [max(value, 0.0) for value in val_series(trace, "accuracy", Direction.MAX)]


def tested(trace: Trace, key: str, direction: Direction) -> float:
    """Metric of the finished model on the test part, by the rule of `fill_with_worst`; NaN where there is none."""
    if key not in trace.test:
        return math.nan
    return fill_with_worst([trace.test[key]], trace.initial_val.get(key, math.nan), direction)[0]


def val_series(trace: Trace, key: str, direction: Direction) -> list[float]:
    """Metric on the validation data after every epoch, by the rule of `fill_with_worst`."""
    values = [epoch.val.get(key, math.nan) for epoch in trace.epochs]
    return fill_with_worst(values, trace.initial_val.get(key, math.nan), direction)
