"""Searches over budgets: many points are trained for a short time, the best of them for longer, and few to the end.

Each is a search around another one, which says what new points to try. A trial of a larger budget has the params of
its parent, the trial that it may go on from.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace

from autotunenet.hpo.base import Search
from autotunenet.hpo.trial import Trial, TrialState


def rung_budgets(min_budget: float, max_budget: float, eta: int) -> tuple[float, ...]:
    """Return the budgets of the rungs: ``min_budget * eta**k`` for k up to ``floor(log_eta(max_budget / min_budget))``.

    The last of them is raised to `max_budget`.

    Raises:
        ValueError: If eta is no whole number from 2 on, or not ``0 < min_budget <= max_budget``.

    >>> rung_budgets(1, 27, eta=3), rung_budgets(1, 20, eta=2)
    ((1, 3, 9, 27), (1, 2, 4, 8, 20))
    """
    if eta != int(eta) or eta < 2:
        raise ValueError(f"eta must be a whole number, at least 2, got {eta}: one point in eta is promoted")
    if not (0 < min_budget <= max_budget < math.inf):
        raise ValueError(f"0 < min_budget <= max_budget is needed, got {min_budget} and {max_budget}")
    budgets: list[float] = [min_budget]
    while budgets[-1] * eta <= max_budget * (1 + 1e-9):  # 0.1 * 3 is a little above 0.3
        budgets.append(budgets[-1] * eta)
    return (*budgets[:-1], max_budget)


@dataclass(frozen=True, slots=True)
class Bracket:
    """Points that compete with one another for larger budgets.

    Attributes:
        budgets: Of its rungs, increasing.
        num_points: How many begin in its lowest rung; None: without end.
        rungs: The trials of each rung, by number.
    """

    budgets: tuple[float, ...]
    num_points: int | None
    rungs: tuple[list[Trial], ...]

    @property
    def is_full(self) -> bool:
        """Whether no further point begins here."""
        return self.num_points is not None and len(self.rungs[0]) >= self.num_points

    @property
    def is_waiting(self) -> bool:
        """Whether a trial of it is pending."""
        return any(trial.state is TrialState.PENDING for rung in self.rungs for trial in rung)


class Halving(Search):
    """What successive halving and Hyperband share.

    A trial that failed counts among the finished ones of its rung, as the worst of them, and is never promoted.

    **What the inner search sees** is one trial for every point. Results of different budgets cannot be compared, so all
    are of one budget: as in BOHB (Falkner et al. 2018, "BOHB: Robust and Efficient Hyperparameter Optimization at
    Scale", section 3.2), the largest that has at least d + 3 results, d being the number of dimensions, or the smallest
    one as long as none has. A point that was stopped before counts as the worst of these: it lost against the points
    that went on. One that began above counts by its first result. A point that is on its way is pending, and one whose
    last trial failed has failed.

    Args:
        search: Where new points come from, fresh. It belongs to this search from now on; space, seed and direction are
            its.
        min_budget: The smallest budget, above 0.
        max_budget: The largest one.
        eta: One point in eta gets eta times the budget; a whole number, at least 2.

    Raises:
        ValueError: If the budgets or eta are none, or the search has trials already.
    """

    def __init__(self, search: Search, *, min_budget: float, max_budget: float, eta: int = 3) -> None:
        super().__init__(search.space, seed=search.seed, direction=search.direction)
        if search.trials:
            raise ValueError(f"the inner search must be fresh, it has {len(search.trials)} trials; make another one")
        self.budgets = rung_budgets(min_budget, max_budget, eta)
        self.eta = eta
        self._inner = search

    @property
    def best(self) -> Trial | None:
        """The best trial of the largest budget that has a result, the earliest of equals; None before there is one."""
        done = [trial for trial in self._trials if trial.state is TrialState.DONE]
        return min(done, key=lambda trial: (-_budget(trial), self._loss(trial)), default=None)

    @property
    def is_exhausted(self) -> bool:
        """Whether the inner search has no more points, nobody can be promoted, and no pending trial may change that."""
        if any(trial.state is TrialState.PENDING and _budget(trial) < self.budgets[-1] for trial in self._trials):
            return False
        return self._has_no_more_points() and self._promotion() is None

    def _propose(self, number: int) -> Trial | None:
        promotion = self._promotion()
        if promotion is not None:
            parent, budget = promotion
            return Trial(number=number, params=dict(parent.params), budget=budget, parent=parent.number)
        brackets = self._brackets()
        if self._waits(brackets):
            return None
        bracket = self._open_bracket(len(brackets)) if brackets[-1].is_full else brackets[-1]
        self._inner.load_trials(self._points())
        point = self._inner.ask()
        return None if point is None else replace(point, number=number, budget=bracket.budgets[0])

    def _check_point(self, trial: Trial) -> None:
        super()._check_point(trial)
        if trial.budget not in self.budgets:
            raise ValueError(f"trial {trial.number}: budget {trial.budget} is none of {self.budgets}")
        if trial.parent is not None and not 0 <= trial.parent < trial.number:
            raise ValueError(f"trial {trial.number}: its parent {trial.parent} is no trial before it")

    @abstractmethod
    def _open_bracket(self, index: int) -> Bracket:
        """Return the bracket of this index, counted from 0, still empty."""

    @abstractmethod
    def _waits(self, brackets: list[Bracket]) -> bool:
        """Whether no new point is begun now, where nobody can be promoted."""

    @abstractmethod
    def _promotable(self, bracket: Bracket, is_closed: bool, promoted: set[int]) -> tuple[Trial, float] | None:
        """Return who is promoted next in a bracket, and to what budget; None where nobody can be now.

        Args:
            bracket: Which.
            is_closed: Whether no further point will begin in it.
            promoted: Numbers of the trials that have been promoted.
        """

    def _promotion(self) -> tuple[Trial, float] | None:
        promoted = {trial.parent for trial in self._trials if trial.parent is not None}
        has_ended = self._has_no_more_points()
        for bracket in self._brackets():
            found = self._promotable(bracket, bracket.is_full or has_ended, promoted)
            if found is not None:
                return found
        return None

    def _brackets(self) -> list[Bracket]:
        """Return the brackets so far, at least one: points fill them in the order in which they were begun."""
        brackets = [self._open_bracket(0)]
        home: dict[int, Bracket] = {}
        for trial in self._trials:
            if trial.parent is None and brackets[-1].is_full:
                brackets.append(self._open_bracket(len(brackets)))
            bracket = brackets[-1] if trial.parent is None else home[trial.parent]
            home[trial.number] = bracket
            bracket.rungs[bracket.budgets.index(_budget(trial))].append(trial)
        return brackets

    def _promotable_in_step(self, bracket: Bracket, is_closed: bool, promoted: set[int]) -> tuple[Trial, float] | None:
        """Return what `_promotable` does where every rung is finished before its best are promoted."""
        if not is_closed:
            return None
        for rung, budget in zip(bracket.rungs, bracket.budgets[1:], strict=False):
            if any(trial.state is TrialState.PENDING for trial in rung):
                return None
            for trial in self._top(rung):
                if trial.number not in promoted:
                    return trial, budget
        return None

    def _top(self, rung: list[Trial]) -> list[Trial]:
        """Return the best ``floor(n / eta)`` of the n finished trials of a rung, best first; none that failed."""
        finished = [trial for trial in rung if trial.state is not TrialState.PENDING]
        done = [trial for trial in finished if trial.state is TrialState.DONE]
        return sorted(done, key=self._loss)[: len(finished) // self.eta]

    def _has_no_more_points(self) -> bool:
        self._inner.load_trials(self._points())
        return self._inner.is_exhausted

    def _points(self) -> list[Trial]:
        """Return what the inner search sees: a trial for every point, in the order in which they were begun."""
        root: dict[int, int] = {}
        runs: dict[int, list[Trial]] = {}
        for trial in self._trials:
            root[trial.number] = trial.number if trial.parent is None else root[trial.parent]
            runs.setdefault(root[trial.number], []).append(trial)
        budget = self._compared_budget()
        results = {number: _first_result(of_point, budget) for number, of_point in runs.items()}
        worst = max((result for result in results.values() if result is not None), key=self._loss, default=None)
        return [
            _seen(index, of_point[-1], results[number], worst) for index, (number, of_point) in enumerate(runs.items())
        ]

    def _compared_budget(self) -> float:
        """Return the largest budget with enough results, else the smallest one."""
        done = [trial.budget for trial in self._trials if trial.state is TrialState.DONE]
        enough = (budget for budget in reversed(self.budgets) if done.count(budget) >= len(self.space) + 3)
        return next(enough, self.budgets[0])


class SuccessiveHalving(Halving):
    """Every point gets the smallest budget, the best one in eta of each rung goes on to the next one.

    Asynchronous, it is ASHA (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2):
    who is in the best ``floor(n / eta)`` of the n finished trials of a rung, and has not been promoted, is promoted at
    once, from the highest rung on; where nobody is, a new point begins. It waits for nothing, and promotes some that
    would not have been among the best of a larger rung.

    Synchronous (Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization"),
    ``eta**(number of rungs - 1)`` points begin, and every rung is finished before its best are promoted. `ask` returns
    None while there is nothing to do but wait for a pending trial. After the last rung the next points begin.

    Args:
        search: As in `Halving`.
        min_budget: The same.
        max_budget: The same.
        eta: The same.
        asynchronous: Which of the two.

    Raises:
        ValueError: As `Halving`.

    >>> from autotunenet import Float, SearchSpace
    >>> from autotunenet.hpo import RandomSearch
    >>> inner = RandomSearch(SearchSpace({"x": Float(0.0, 1.0)}), seed=0)
    >>> search = SuccessiveHalving(inner, min_budget=1, max_budget=9)
    >>> for _ in range(40):
    ...     trial = search.ask()
    ...     _ = search.tell(trial.number, abs(trial.params["x"] - 0.3) + 1 / trial.budget)
    >>> [sum(trial.budget == budget for trial in search.trials) for budget in (1, 3, 9)]
    [26, 11, 3]
    >>> search.best.budget, abs(search.best.params["x"] - 0.3) < 0.1
    (9, True)
    """

    def __init__(
        self, search: Search, *, min_budget: float, max_budget: float, eta: int = 3, asynchronous: bool = True
    ) -> None:
        super().__init__(search, min_budget=min_budget, max_budget=max_budget, eta=eta)
        self.asynchronous = asynchronous

    def _open_bracket(self, index: int) -> Bracket:
        num_points = None if self.asynchronous else self.eta ** (len(self.budgets) - 1)
        return Bracket(self.budgets, num_points, tuple([] for _ in self.budgets))

    def _waits(self, brackets: list[Bracket]) -> bool:
        return brackets[-1].is_full and brackets[-1].is_waiting

    def _promotable(self, bracket: Bracket, is_closed: bool, promoted: set[int]) -> tuple[Trial, float] | None:
        if not self.asynchronous:
            return self._promotable_in_step(bracket, is_closed, promoted)
        for rung, budget in reversed(list(zip(bracket.rungs, bracket.budgets[1:], strict=False))):
            for trial in self._top(rung):
                if trial.number not in promoted:
                    return trial, budget
        return None


class Hyperband(Halving):
    """Synchronous successive halving over and over, each time with fewer points that begin at a larger budget.

    Li et al. 2018, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", algorithm 1: for
    s = s_max, ..., 0, a bracket of ``ceil((s_max + 1) / (s + 1) * eta**s)`` points that begin s rungs below the largest
    budget; then anew. With a surrogate for the inner search it is BOHB's scheme. While the trials of one bracket are
    pending, the next one is begun, so `ask` never has to wait.

    Args:
        search: As in `Halving`.
        min_budget: The same.
        max_budget: The same.
        eta: The same.

    Raises:
        ValueError: As `Halving`.

    >>> from autotunenet import Float, SearchSpace
    >>> from autotunenet.hpo import RandomSearch
    >>> inner = RandomSearch(SearchSpace({"x": Float(0.0, 1.0)}), seed=0)
    >>> search = Hyperband(inner, min_budget=1, max_budget=9)
    >>> for _ in range(22):
    ...     trial = search.ask()
    ...     _ = search.tell(trial.number, abs(trial.params["x"] - 0.3))
    >>> [trial.budget for trial in search.trials]  # 9, 3 and 1 points; 5 and 1; 3
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 9, 3, 3, 3, 3, 3, 9, 9, 9, 9]
    """

    def _open_bracket(self, index: int) -> Bracket:
        s_max = len(self.budgets) - 1
        s = s_max - index % len(self.budgets)
        num_points = -(-(s_max + 1) * self.eta**s // (s + 1))  # rounded up
        budgets = self.budgets[s_max - s :]
        return Bracket(budgets, num_points, tuple([] for _ in budgets))

    def _waits(self, brackets: list[Bracket]) -> bool:
        return False

    def _promotable(self, bracket: Bracket, is_closed: bool, promoted: set[int]) -> tuple[Trial, float] | None:
        return self._promotable_in_step(bracket, is_closed, promoted)


def _budget(trial: Trial) -> float:
    assert trial.budget is not None
    return trial.budget


def _first_result(runs: list[Trial], budget: float) -> Trial | None:
    """Return the first trial of a point that is done with this budget or a larger one."""
    return next((trial for trial in runs if trial.state is TrialState.DONE and _budget(trial) >= budget), None)


def _seen(number: int, last: Trial, result: Trial | None, worst: Trial | None) -> Trial:
    """Return a point as the inner search sees it.

    Args:
        number: That it has there.
        last: The last trial of the point.
        result: The one that it is compared by, if any.
        worst: The worst of these of all points, if any.
    """
    seen = Trial(number=number, params=last.params)
    if last.state is TrialState.FAILED:
        return replace(seen, state=TrialState.FAILED, error=last.error)
    if result is None and last.state is TrialState.PENDING:
        return seen
    compared = result or worst
    assert compared is not None, "the budget that has enough results has one"
    return replace(seen, state=TrialState.DONE, value=compared.value)
