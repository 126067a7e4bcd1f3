"""Trials as a study of Optuna, for its plots, its importances and its dashboard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from autotunenet.hpo.base import Direction, Search
from autotunenet.hpo.optuna_bridge import import_optuna, leaving_no_trace, to_distribution
from autotunenet.hpo.trial import Trial, TrialState
from autotunenet.space import Categorical, Dimension, Ordinal, SearchSpace

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial


def to_optuna_study(
    search: Search | Iterable[Trial],
    space: SearchSpace | None = None,
    direction: Direction | None = None,
    *,
    storage: str | BaseStorage | None = None,
    name: str = "autotunenet",
) -> Study:
    """Return the trials as a study of Optuna.

    Done trials are complete, failed ones failed, pending ones running. A done trial whose budget is below the largest
    one that has a result is pruned: its value cannot be compared with those, and so Optuna's best trial is the best of
    the search. Values by whole budgets are intermediate values, with those of a trial's parents. User attributes are
    ``metrics.<name>``, ``cost.steps``, ``cost.seconds``, ``cost.flops``, ``budget``, ``parent``, ``predicted`` and
    ``error``, where they are known. A trial is no record of when it ran: each is said to end now, having begun
    ``cost.seconds`` before, so durations are right and dates are not.

    An `Ordinal` becomes the range from its lowest value to its highest, so that plots have its values on an axis,
    logarithmic where the one is ten times the other; choices that Optuna cannot store, such as tuples, become their
    text.

    Args:
        search: A search, or trials of one, whose space and direction are then needed.
        space: The space of the trials; None: that of the search.
        direction: Whether small or large values are good; None: as the search has it.
        storage: Of Optuna, or its URL, such as ``sqlite:///trials.db``; None: in memory.
        name: Of the study; the storage must not have one of that name.

    Raises:
        ImportError: If Optuna is not installed.
        ValueError: If trials come without their space or direction.
        optuna.exceptions.DuplicatedStudyError: If the storage has such a study.

    >>> from autotunenet import Float
    >>> from autotunenet.hpo import RandomSearch
    >>> search = RandomSearch(SearchSpace({"x": Float(0.0, 1.0)}), seed=0)
    >>> for _ in range(5):
    ...     trial = search.ask()
    ...     _ = search.tell(trial.number, (trial.params["x"] - 0.3) ** 2)
    >>> to_optuna_study(search).best_trial.number == search.best.number
    True
    """
    optuna = import_optuna("to_optuna_study")
    if isinstance(search, Search):
        space, direction, trials = space or search.space, direction or search.direction, search.trials
    else:
        trials = tuple(search)
    if space is None or direction is None:
        raise ValueError("trials alone do not say their space and direction; give both, or the search")
    export = _Export(optuna, space, trials)
    with leaving_no_trace(optuna):
        study: Study = optuna.create_study(storage=storage, study_name=name, direction=direction)
        study.add_trials([export.frozen(trial) for trial in trials])
    return study


class _Export:
    """Turns trials into Optuna's.

    Args:
        optuna: The package.
        space: Of the trials.
        trials: All of them.
    """

    def __init__(self, optuna: Any, space: SearchSpace, trials: Sequence[Trial]) -> None:
        self._optuna, self._space, self._now = optuna, space, datetime.now()
        self._distributions = {name: _distribution(optuna, dimension) for name, dimension in space.items()}
        self._by_number = {trial.number: trial for trial in trials}
        budgets = [trial.budget for trial in trials if trial.state is TrialState.DONE and trial.budget is not None]
        self._largest = max(budgets, default=None)

    def frozen(self, trial: Trial) -> FrozenTrial:
        is_pending = trial.state is TrialState.PENDING
        return self._optuna.trial.FrozenTrial(  # type: ignore[no-any-return]
            number=trial.number,
            trial_id=-1,  # the storage gives it one
            state=self._state(trial),
            value=trial.value,
            params={name: _stored(dimension, trial.params[name]) for name, dimension in self._space.items()},
            distributions=self._distributions,
            user_attrs=_attributes(trial),
            system_attrs={},
            intermediate_values=self._values_by_budget(trial),
            datetime_start=self._now if is_pending else self._now - timedelta(seconds=trial.cost.seconds),
            datetime_complete=None if is_pending else self._now,
        )

    def _state(self, trial: Trial) -> Any:
        states = self._optuna.trial.TrialState
        if trial.state is TrialState.DONE:
            return states.COMPLETE if trial.budget in (None, self._largest) else states.PRUNED
        return states.FAIL if trial.state is TrialState.FAILED else states.RUNNING

    def _values_by_budget(self, trial: Trial) -> dict[int, float]:
        """Return what the trial and those it goes on from were worth, the smallest budget first."""
        values: dict[int, float] = {}
        ancestor: Trial | None = trial
        while ancestor is not None:
            budget, value = ancestor.budget, ancestor.value
            if budget is not None and value is not None and budget == int(budget):
                values[int(budget)] = value
            ancestor = None if ancestor.parent is None else self._by_number.get(ancestor.parent)
        return dict(sorted(values.items()))


def _attributes(trial: Trial) -> dict[str, Any]:
    """Return what Optuna has no place for; nothing that is not known."""
    known = {
        **{f"metrics.{name}": value for name, value in trial.metrics.items()},
        "cost.steps": trial.cost.steps,
        "cost.seconds": trial.cost.seconds,
        "cost.flops": trial.cost.flops,
        "budget": trial.budget,
        "parent": trial.parent,
        "predicted": None if trial.predicted is None else list(trial.predicted),
        "error": trial.error or None,
    }
    return {name: value for name, value in known.items() if value is not None}


def _distribution(optuna: Any, dimension: Dimension) -> BaseDistribution:
    distributions = optuna.distributions
    if isinstance(dimension, Categorical):
        return distributions.CategoricalDistribution([_stored(dimension, choice) for choice in dimension.choices])  # type: ignore[no-any-return]
    if isinstance(dimension, Ordinal):
        low, high = dimension.values[0], dimension.values[-1]
        are_whole = all(isinstance(value, int) for value in dimension.values)
        make = distributions.IntDistribution if are_whole else distributions.FloatDistribution
        return make(low, high, log=0 < 10 * low <= high)  # type: ignore[no-any-return]
    return to_distribution(optuna, dimension)


def _stored(dimension: Dimension, value: Any) -> Any:
    """Return a value as Optuna can store it."""
    if isinstance(dimension, Categorical) and not isinstance(value, str | int | float | bool | None):
        return repr(value)
    return value
