"""Numbers of several runs, each a pure function of their traces.

Only finished runs count; those that are not are left out here and have to be told of beside the number. A validation
loss counts by the rule of `charged`, so that a lost run stays in every mean.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autotunenet.types import Action
from autotunenet_bench.metrics.base import Direction, Metric
from autotunenet_bench.metrics.performance import METRICS as PERFORMANCE
from autotunenet_bench.metrics.stability import FAILURE_FRACTION, failure
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.statistics import at_worst, lr_sensitivity, wilson

FINAL = next(metric for metric in PERFORMANCE if metric.name == "final_val_loss")
"""What regrets and sensitivity are about unless they are told another validation loss."""

STARTING_POINT = frozenset({"lr", "lr_factor", "label"})
"""Fields of a task that say where the training starts from, and not what is learnt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """So many of so many runs.

    Attributes:
        hits: Runs that count.
        num: Runs in all.
    """

    hits: int
    num: int

    @property
    def rate(self) -> float:
        """In [0, 1]; NaN of no run.

        >>> Share(hits=1, num=4).rate
        0.25
        """
        return self.hits / self.num if self.num else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval; (0, 1) of no run."""
        return wilson(self.hits, self.num)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverSeeds:
    """One metric over the seeds of one method in one cell.

    Attributes:
        num: Finished runs.
        mean: Arithmetic mean; NaN without a run.
        variance: Sample variance (n - 1), in the square of the metric's unit; NaN for fewer than two runs and where a
            value is not finite.
        worst: The worst value by the metric's direction, the largest where there is none; NaN is worse than any.
        worst_seed: The seed that gave it, the lowest of several; None without a run.
    """

    num: int
    mean: float
    variance: float
    worst: float
    worst_seed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Regret:
    """What one controller lost in one cell, in the unit of the loss; below 0 where it was better.

    Attributes:
        task: Display name.
        regime: Display name.
        controller: Display name.
        num_runs: Seeds.
        against_fixed: Mean over seeds of its loss less that of the fixed controller on the same seed; NaN where the
            cell has none.
        against_best: Mean loss less the lowest mean loss of any schedule in hindsight.
        best: That schedule.
    """

    task: str
    regime: str
    controller: str
    num_runs: int
    against_fixed: float
    against_best: float
    best: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reactions:
    """Decisions around a trigger at which nothing happened.

    Attributes:
        runs: Runs with any decision but "hold" in the window after the trigger.
        num_after: Such decisions in all, in the windows after it.
        num_before: The same in windows as long before it: what a method decides anyway.
    """

    runs: Share
    num_after: int
    num_before: int


def charged(trace: Trace, metric: Metric = FINAL) -> float:
    """Return a validation loss of a run in which lost runs count as the loss that they began with.

    Lost is what is not finite, or not below 0.9 L_0 (`FAILURE_FRACTION`): see `autotunenet_bench.statistics.at_worst`.

    Raises:
        ValueError: If L_0 is not finite: then nothing is known of how bad lost is.
    """
    value, initial = metric(trace), trace.initial_val["loss"]
    return float(at_worst(value, initial, failed=not value < FAILURE_FRACTION * initial))


def failure_rate(traces: Iterable[Trace]) -> Share:
    """Return how many of the finished runs ended without having learnt, by the metric ``failure``. Lower is better.

    A finished run without an epoch has not learnt either.
    """
    values = [failure(trace) for trace in finished(traces)]
    return Share(hits=sum(value != 0 for value in values), num=len(values))


def over_seeds(traces: Iterable[Trace], metric: Metric) -> OverSeeds:
    """Return mean, variance and the worst seed of a metric; of validation losses as they stand, not `charged`.

    Args:
        traces: Runs of one method in one cell, which differ by their seed.
        metric: Any of `autotunenet_bench.metrics.METRICS`.

    Raises:
        ValueError: If two runs have the same seed.
    """
    runs = finished(traces)
    values = {int(trace.spec["seed"]): metric(trace) for trace in runs}
    if len(values) < len(runs):
        raise ValueError(f"every run needs a seed of its own, got {[trace.spec['seed'] for trace in runs]}")
    if not values:
        return OverSeeds(num=0, mean=math.nan, variance=math.nan, worst=math.nan, worst_seed=None)
    sign = -1.0 if metric.direction is Direction.MAX else 1.0

    def badness(seed: int) -> tuple[bool, float, int]:
        value = values[seed]
        return (True, 0.0, -seed) if math.isnan(value) else (False, sign * value, -seed)

    seed = max(values, key=badness)
    mean = sum(values.values()) / len(values)
    variance = math.nan
    if len(values) > 1 and math.isfinite(mean):
        variance = sum((value - mean) * (value - mean) for value in values.values()) / (len(values) - 1)
    return OverSeeds(num=len(values), mean=mean, variance=variance, worst=values[seed], worst_seed=seed)


def sensitivity_to_lr(traces: Iterable[Trace], metric: Metric = FINAL) -> float:
    """Return what a wrong initial lr costs in the mean: `autotunenet_bench.statistics.lr_sensitivity` over the grid.

    A point of the grid is a task as its config has it; its loss is the mean over seeds, by the rule of `charged`.

    Args:
        traces: Runs of one method under one regime, on tasks that differ in their initial lr alone.
        metric: A validation loss.

    Returns:
        In the unit of the loss, from 0; lower is better. NaN for fewer than two initial lrs.

    Raises:
        ValueError: If the runs differ in more than seed and initial lr, or an L_0 is not finite.
    """
    runs = finished(traces)
    if len({(problem(trace), _canonical(_part(trace, "controller"))) for trace in runs}) > 1:
        raise ValueError("the runs differ in more than seed and initial lr; give those of one method under one regime")
    grid: dict[str, list[Trace]] = defaultdict(list)
    for trace in runs:
        grid[starting_point(trace)].append(trace)
    if len(grid) < 2:
        return math.nan
    losses = [_mean([charged(trace, metric) for trace in group]) for group in grid.values()]
    # Charged already, so the largest L_0 cuts nothing off.
    return float(lr_sensitivity(losses, max(trace.initial_val["loss"] for trace in runs)))


def regrets(
    traces: Iterable[Trace], *, fixed: str = "fixed", schedules: Collection[str] | None = None, metric: Metric = FINAL
) -> list[Regret]:
    """Return the regrets of every controller in every cell, in order of appearance.

    Best in hindsight is the schedule with the lowest mean loss over the same seeds: chosen with the outcome known, and
    so not better than any. Losses count by the rule of `charged`.

    Args:
        traces: Runs; in a cell, a task under a regime, every controller with the same seeds.
        fixed: Display name of the controller that changes nothing.
        schedules: Display names of those among which the best is looked for; None: all of the cell.
        metric: A validation loss.

    Raises:
        ValueError: If controllers of a cell have other seeds, one has a seed twice, a cell has none of `schedules`, or
            an L_0 is not finite.
    """
    cells: dict[tuple[str, str], dict[str, list[Trace]]] = defaultdict(lambda: defaultdict(list))
    for trace in finished(traces):
        task, regime, controller = trace.label
        cells[task, regime][controller].append(trace)
    rows = []
    for (task, regime), runs in cells.items():
        losses = {name: by_seed(group, f"{task}, {regime}, {name}", metric) for name, group in runs.items()}
        if len({frozenset(values) for values in losses.values()}) > 1:
            seeds = "; ".join(f"{name}: {sorted(values)}" for name, values in losses.items())
            raise ValueError(f"{task}, {regime}: all controllers need the same seeds, got {seeds}")
        means = {name: _mean(list(values.values())) for name, values in losses.items()}
        candidates = [name for name in means if schedules is None or name in schedules]
        if not candidates:
            raise ValueError(f"{task}, {regime}: none of the schedules {sorted(schedules or ())} has a finished run")
        best = min(candidates, key=means.__getitem__)
        rows += [
            Regret(
                task=task,
                regime=regime,
                controller=name,
                num_runs=len(losses[name]),
                against_fixed=mean - means.get(fixed, math.nan),  # the same seeds: the mean of the differences
                against_best=mean - means[best],
                best=best,
            )
            for name, mean in means.items()
        ]
    return rows


def false_reactions(traces: Iterable[Trace], window: int = 100) -> Reactions:
    """Return what was decided around a trigger at which nothing happens: the regime ``null``. Lower is better.

    What a method decides anyway, such as a schedule at every step, shows in `Reactions.num_before` too.

    Args:
        traces: Runs under the regime ``null``; those under another are left out, and so are those cut off before it.
        window: Steps after the trigger, and as many before it; at least 1.

    Raises:
        ValueError: If `window` is below 1.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1 step, got {window}")
    after, before = [], []
    for trace in finished(traces):
        if trace.spec["regime"]["name"] != "null" or trace.trigger is None:
            continue
        since = [d.observation.step - trace.trigger.step for d in trace.decisions if d.action is not Action.HOLD]
        after.append(sum(0 <= steps < window for steps in since))
        before.append(sum(-window <= steps < 0 for steps in since))
    runs = Share(hits=sum(num > 0 for num in after), num=len(after))
    return Reactions(runs=runs, num_after=sum(after), num_before=sum(before))


# -- how runs belong together ------------------------------------------------------------------------------------------


def finished(traces: Iterable[Trace]) -> list[Trace]:
    """Return the runs that came to their end."""
    return [trace for trace in traces if trace.finished]


def problem(trace: Trace) -> str:
    """Return what is learnt, by whatever method and from wherever: equal texts, equal problems."""
    spec = trace.spec
    # A spec that was not written by this version may lack a part; then its display name stands in.
    task = {key: value for key, value in _part(trace, "task").items() if key not in STARTING_POINT}
    regime = {key: value for key, value in _part(trace, "regime").items() if key != "label"}
    return _canonical([task, regime, spec.get("data"), spec.get("num_epochs")])


def starting_point(trace: Trace) -> str:
    """Return the task as its config has it, initial lr included."""
    return _canonical({key: value for key, value in _part(trace, "task").items() if key != "label"})


def _part(trace: Trace, kind: str) -> Mapping[str, Any]:
    return trace.spec.get(kind) or {"name": trace.spec["labels"][kind]}


def by_seed(traces: Sequence[Trace], words: str, metric: Metric = FINAL) -> Mapping[int, float]:
    """Return the `charged` loss of every run by its seed.

    Raises:
        ValueError: If a seed is there twice; the message begins with `words`.
    """
    losses = {int(trace.spec["seed"]): charged(trace, metric) for trace in traces}
    if len(losses) < len(traces):
        raise ValueError(f"{words}: a seed is there twice, {sorted(trace.spec['seed'] for trace in traces)}")
    return losses


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
