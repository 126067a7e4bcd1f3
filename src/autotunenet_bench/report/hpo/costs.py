"""Quality against cost: how good a search was when it had taken so much.

A cost is counted in trials, optimizer steps, seconds of training, or floating point operations. That of a search is the
sum over its trials, each charged in full, whoever trained the point first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from autotunenet.hpo import Trial
from autotunenet_bench.report.curves import Curve
from autotunenet_bench.report.hpo.records import Goal, SearchRun, Study, value_of

UNITS = {
    "trials": "trials",
    "steps": "optimizer steps",
    "seconds": "seconds of training",
    "flops": "operations (FLOPs)",
}
"""What cost is counted in, with its words."""

SHARE_TOLERANCE = 0.005
LOSS_TOLERANCE = 0.01
"""How near to the target is near: half a point of a share, a hundredth of a loss."""


def cost_of(trial: Trial, unit: str) -> float:
    """Return what a trial took in a unit, a key of `UNITS`; NaN where nobody counted."""
    if unit == "trials":
        return 1.0
    taken = getattr(trial.cost, unit)
    return math.nan if taken is None else float(taken)


def total(run: SearchRun, unit: str) -> float:
    """Return what all trials of a search took, failed ones too."""
    return math.fsum(cost_of(trial, unit) for trial in run.trials)


def is_known(study: Study, unit: str) -> bool:
    """Return whether the cost of every trial is known in a unit."""
    return all(math.isfinite(total(run, unit)) for run in study.runs)


def best_so_far(run: SearchRun, unit: str, goal: Goal) -> Curve:
    """Return the best value over the cost: a step function, its points at the ends of trials.

    Returns:
        Costs and values, both of shape (P,); it begins with the first trial that has a value.
    """
    spent, best = 0.0, math.nan
    points: list[tuple[float, float]] = []
    for trial in run.trials:
        spent += cost_of(trial, unit)
        if trial.value is not None:
            best = trial.value if math.isnan(best) else goal.best([best, trial.value])
        if not math.isnan(best):
            points.append((spent, best))
    array = np.array(points, dtype=np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def best_within(run: SearchRun, unit: str, goal: Goal, budget: float) -> float | None:
    """Return the best value of the trials that had ended within a budget; None before the first."""
    costs, values = best_so_far(run, unit, goal)
    within = values[costs <= budget * (1 + 1e-9)]  # sums of floats
    return float(within[-1]) if within.size else None


def cost_to(run: SearchRun, unit: str, goal: Goal, target: float) -> float | None:
    """Return what a search had taken when a trial was as good as a target; None where none ever was."""
    spent = 0.0
    for trial in run.trials:
        spent += cost_of(trial, unit)
        if trial.value is not None and goal.is_as_good(trial.value, target):
            return spent
    return None


@dataclass(frozen=True, slots=True)
class Target:
    """The value to which the cost is told.

    Attributes:
        value: The best value of all points that were trained.
        near: The worst value that counts as near to it.
        is_optimum: Whether all points of the space were tried, so that none can be better.
        whole_cost: By unit, what the search took that tried them all; empty where none did.
    """

    value: float
    near: float
    is_optimum: bool
    whole_cost: dict[str, float]


def target_of(study: Study) -> Target:
    """Return the target of a study that has a point with a value."""
    value = study.goal.best([value_of(trial) for trial in study.points])
    slack = SHARE_TOLERANCE if study.goal.is_share else LOSS_TOLERANCE * abs(value)
    near = value - slack if study.goal.direction == "maximize" else value + slack
    whole = study.whole
    return Target(value, near, whole is not None, {unit: total(whole, unit) for unit in UNITS} if whole else {})


def trials_at_random(num_near: int, num_all: int) -> float:
    """Return the mean number of draws without repeats until the first of `num_near` points of `num_all`.

    It is (N + 1) / (k + 1), the mean of the smallest of k different numbers from 1 to N.

    >>> trials_at_random(1, 24), trials_at_random(24, 24)
    (12.5, 1.0)
    """
    return (num_all + 1) / (num_near + 1)


@dataclass(frozen=True, slots=True)
class Standing:
    """A search at equal cost.

    Attributes:
        search: Its name.
        values: The best value within the cost, one a seed; None where no trial had ended.
    """

    search: str
    values: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """The mean over seeds; None where a seed has none."""
        known = [value for value in self.values if value is not None]
        return fmean(known) if len(known) == len(self.values) else None


@dataclass(frozen=True, slots=True)
class EqualCost:
    """The searches at the cost that all of them had.

    Attributes:
        unit: What it is counted in.
        budget: The smallest total of all searches and seeds.
        standings: Every search, the best first; those without a value last.
    """

    unit: str
    budget: float
    standings: tuple[Standing, ...]


def at_equal_cost(study: Study) -> EqualCost:
    """Return how good every search was within the cost that the cheapest of them took in all.

    Operations are what is counted, since trials of other lengths and batch sizes take other steps; steps, where nobody
    counted operations.
    """
    unit = "flops" if is_known(study, "flops") else "steps"
    searches = study.searches
    budget = min(total(run, unit) for runs in searches.values() for run in runs)
    standings = [
        Standing(name, tuple(best_within(run, unit, study.goal, budget) for run in runs))
        for name, runs in searches.items()
    ]
    return EqualCost(unit, budget, tuple(sorted(standings, key=lambda standing: _rank(standing, study.goal))))


def amount(value: float, unit: str) -> str:
    """Return a cost as people read it.

    >>> amount(1200000000000.0, "flops"), amount(5400.0, "steps"), amount(75.0, "seconds")
    ('1.20e+12 FLOPs', '5,400 steps', '75.0 s')
    """
    if unit == "flops":
        return f"{value:.2e} FLOPs"
    return f"{value:.1f} s" if unit == "seconds" else f"{value:,.0f} {unit}"


def mean_text(values: Sequence[float | None], text: str = "{:,.1f}") -> str:
    """Return the mean of what is known, and of how many it is where that is not all.

    >>> mean_text([3.0, 4.0]), mean_text([3.0, None]), mean_text([None, None])
    ('3.5', '3.0 (1 of 2)', 'never')
    """
    known = [value for value in values if value is not None]
    if not known:
        return "never"
    words = text.format(fmean(known))
    return words if len(known) == len(values) else f"{words} ({len(known)} of {len(values)})"


def _rank(standing: Standing, goal: Goal) -> tuple[bool, float]:
    mean = standing.mean
    if mean is None:
        return True, 0.0
    return False, -mean if goal.direction == "maximize" else mean
