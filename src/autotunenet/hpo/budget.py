"""How much a search may take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from autotunenet.hpo.trial import Trial, TrialState

MAX_FREE_FAILURES = 20
"""Failures in a row that may have taken nothing of what the budget counts, before the search is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a search may take at the most, over all its trials. It ends when any of them is used up.

    Costs are those of the trials that are finished. A trial that has been started is finished too, so a search goes
    over its steps, seconds and operations by up to one trial a worker; never over its number of trials.

    Attributes:
        trials: How many may be started.
        steps: Optimizer steps.
        seconds: Seconds that the trials took, added up over all workers; not those of the clock.
        flops: Floating-point operations.

    Raises:
        ValueError: If none is given, or one is not a finite number above 0.

    >>> Budget(trials=10).may_start([])
    True
    """

    trials: int | None = None
    steps: int | None = None
    seconds: float | None = None
    flops: float | None = None

    def __post_init__(self) -> None:
        given = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}
        if not given:
            raise ValueError("a budget needs at least one of trials, steps, seconds and flops; for example trials=30")
        for name, value in given.items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"budget: {name} must be a finite number above 0, got {value}")

    def may_start(self, trials: Sequence[Trial]) -> bool:
        """Whether one more trial may be started after these.

        Raises:
            ValueError: If nothing would ever use the budget up: a trial is done and tells nothing of a cost that is
                counted, or 20 failures in a row took nothing.
        """
        if self.trials is not None and len(trials) >= self.trials:
            return False
        finished = [trial for trial in trials if trial.state is not TrialState.PENDING]
        limits = {name: limit for name in ("steps", "seconds", "flops") if (limit := getattr(self, name)) is not None}
        for name, limit in limits.items():
            if sum(_taken(trial, name) for trial in finished) >= limit:
                return False
        if limits and self.trials is None:
            _refuse_free_failures(finished, limits)
        return True


def _taken(trial: Trial, name: str) -> float:
    taken: float | None = getattr(trial.cost, name)
    if trial.state is TrialState.DONE and not taken:
        raise ValueError(
            f"the budget counts {name}, but trial {trial.number} is done and told none; "
            f"return Outcome(value, cost=Cost({name}=...)) from the objective, or give the budget in trials"
        )
    return taken or 0.0


def _refuse_free_failures(finished: Sequence[Trial], limits: Mapping[str, float]) -> None:
    last = finished[-MAX_FREE_FAILURES:]
    if len(last) == MAX_FREE_FAILURES and not any(_taken(trial, name) for trial in last for name in limits):
        raise ValueError(
            f"the last {MAX_FREE_FAILURES} trials have failed and took no {' nor '.join(limits)}, so that the budget "
            f"would never be used up; the last one said: {last[-1].error}"
        )
