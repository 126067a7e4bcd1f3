"""What a search has found, as records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from autotunenet.hpo.base import Search
from autotunenet.hpo.trial import Cost, Trial, TrialState


@dataclass(frozen=True, slots=True)
class ConvergencePoint:
    """How far a search was when one of its trials had ended.

    Attributes:
        trials: How many had ended.
        cost: What those had taken.
        value: Of the trial that ended; None where it failed.
        best: The best value until then; None before there is one.
    """

    trials: int
    cost: Cost
    value: float | None
    best: float | None


@dataclass(frozen=True, slots=True)
class TuneResult:
    """A search and its trials, as `tune` left them.

    Attributes:
        search: The search, with all its trials; it can be asked and told further.
        finished: Numbers of the trials that have ended, in the order in which they did.
    """

    search: Search
    finished: Sequence[int]

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial, by number."""
        return self.search.trials

    @property
    def best(self) -> Trial | None:
        """The best trial, the earliest of equals; None where all have failed."""
        return self.search.best

    @property
    def cost(self) -> Cost:
        """What all trials have taken."""
        return total_cost(self.trials)

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a flat row a trial, as ``pandas.DataFrame`` takes them.

        Parameters stand under ``params.<name>``, metrics under ``metrics.<name>``.
        """
        return [_row(trial) for trial in self.trials]

    def convergence(self) -> list[ConvergencePoint]:
        """Return how far the search was after every trial, in the order in which they ended."""
        points: list[ConvergencePoint] = []
        cost, best = None, None
        better = min if self.search.direction == "minimize" else max
        for number in self.finished:
            trial = self.trials[number]
            cost = trial.cost if cost is None else cost + trial.cost
            if trial.value is not None:
                best = trial.value if best is None else better(best, trial.value)
            points.append(ConvergencePoint(len(points) + 1, cost, trial.value, best))
        return points


def total_cost(trials: Sequence[Trial]) -> Cost:
    """Return what trials have taken together; pending ones count nothing.

    >>> total_cost([]), total_cost([Trial(number=0, params={})])
    (Cost(steps=0, seconds=0.0, flops=None), Cost(steps=0, seconds=0.0, flops=None))
    """
    costs = [trial.cost for trial in trials if trial.state is not TrialState.PENDING]
    return reduce(add, costs) if costs else Cost()


def _row(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.value,
        "value": trial.value,
        **{f"params.{name}": value for name, value in trial.params.items()},
        "budget": trial.budget,
        "parent": trial.parent,
        "steps": trial.cost.steps,
        "seconds": trial.cost.seconds,
        "flops": trial.cost.flops,
        **{f"metrics.{name}": value for name, value in trial.metrics.items()},
        "error": trial.error,
    }
