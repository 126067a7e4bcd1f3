"""The base of the searches: they are asked what to try, and told how it went. They evaluate nothing themselves."""

from __future__ import annotations

import dataclasses
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

import numpy as np

from autotunenet.hpo.trial import Cost, Trial, TrialState
from autotunenet.space import SearchSpace

Direction = Literal["minimize", "maximize"]
AnySearch = TypeVar("AnySearch", bound="Search")


class Search(ABC):
    """Which point of a space to try next.

    Everything a search knows is the list of its trials: what it proposes is a pure function of that list, of the seed,
    and of the number of the trial that is asked for. So a search that has been given the trials of another one goes on
    exactly as that would have (`load_trials`), and asking again before anything is told is fine: pending trials count.

    It uses no global random generator, prints nothing, and leaves the process as it was.

    Args:
        space: Where to search.
        seed: Of its random choices; every trial has a stream of its own.
        direction: Whether small or large values are good.

    Raises:
        ValueError: If the direction is none.

    >>> from autotunenet import Float
    >>> from autotunenet.hpo import RandomSearch
    >>> search = RandomSearch(SearchSpace({"x": Float(0.0, 1.0)}), seed=0)
    >>> for _ in range(20):
    ...     trial = search.ask()
    ...     _ = search.tell(trial.number, (trial.params["x"] - 0.3) ** 2)
    >>> abs(search.best.params["x"] - 0.3) < 0.1
    True
    """

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls: type[AnySearch], *args: Any, **kwargs: Any) -> AnySearch:
        """Remember the arguments: together with the trials they are all that a search is."""
        search = super().__new__(cls)
        search._arguments = (args, kwargs)
        return search

    def __init__(self, space: SearchSpace, *, seed: int = 0, direction: Direction = "minimize") -> None:
        if direction not in ("minimize", "maximize"):
            raise ValueError(f"direction must be 'minimize' or 'maximize', got {direction!r}")
        self.space = space
        self.seed = seed
        self.direction = direction
        self._trials: list[Trial] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (type(self), *self._arguments, self._trials)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments it was made with, defaults included, but for space, seed and direction."""
        args, kwargs = self._arguments
        bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        bound.apply_defaults()
        _, *names = bound.arguments
        return {name: bound.arguments[name] for name in names if name not in ("space", "seed", "direction")}

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial so far, by number."""
        return tuple(self._trials)

    @property
    def best(self) -> Trial | None:
        """The best trial that is done, the earliest of equals; None before there is one."""
        done = [trial for trial in self._trials if trial.state is TrialState.DONE]
        return min(done, key=self._loss) if done else None

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left to ask for, whatever pending trials are told; here: no point of a finite space."""
        return self._is_covered()

    def ask(self) -> Trial | None:
        """Return the next trial, pending from now on.

        Returns:
            None where there is nothing to try now: for good if `is_exhausted`, else until a pending trial is told.
        """
        trial = self._propose(len(self._trials))
        if trial is not None:
            self._trials.append(trial)
        return trial

    def tell(
        self,
        number: int,
        value: float | None,
        *,
        error: str = "",
        metrics: Mapping[str, Any] | None = None,
        cost: Cost | None = None,
    ) -> Trial:
        """Take note of how a pending trial ended.

        Args:
            number: Which one.
            value: What was measured. None, NaN or an infinity: the trial has failed.
            error: Why it failed; a sentence is made up where there is none.
            metrics: Whatever else was measured.
            cost: What it took.

        Returns:
            The trial as it is kept.

        Raises:
            KeyError: If no such trial was asked for.
            ValueError: If it has been told before.
        """
        if not 0 <= number < len(self._trials):
            raise KeyError(f"trial {number} was never asked for; there are {len(self._trials)}, counted from 0")
        before = self._trials[number]
        if before.state is not TrialState.PENDING:
            raise ValueError(f"trial {number} has been told already: it is {before.state.value}")
        value = None if value is None else float(value)
        is_good = value is not None and math.isfinite(value) and not error
        told = dataclasses.replace(
            before,
            state=TrialState.DONE if is_good else TrialState.FAILED,
            value=value if is_good else None,
            error="" if is_good else error or f"the objective returned {value}",
            metrics=dict(metrics or {}),
            cost=cost or Cost(),
        )
        self._trials[number] = told
        return told

    def load_trials(self, trials: Iterable[Trial]) -> None:
        """Take the trials of another search of the same kind, space and seed in the place of its own.

        Raises:
            ValueError: If their numbers are not 0, 1, 2 and so on, or a point lies outside of the space.
        """
        loaded = sorted(trials, key=lambda trial: trial.number)
        if [trial.number for trial in loaded] != list(range(len(loaded))):
            raise ValueError(f"trials must be numbered 0, 1, 2, ...; got {[trial.number for trial in loaded]}")
        for trial in loaded:
            self._check_point(trial)
        self._trials = loaded

    def add(self, trial: Trial) -> None:
        """Take the next trial from another search of the same kind, space and seed, as if it had been asked for here.

        Raises:
            ValueError: If its number is not the next one, or its point lies outside of the space.
        """
        if trial.number != len(self._trials):
            raise ValueError(f"the next trial has number {len(self._trials)}, got one with number {trial.number}")
        self._check_point(trial)
        self._trials.append(trial)

    def _check_point(self, trial: Trial) -> None:
        if not self.space.contains(trial.params):
            raise ValueError(f"trial {trial.number}: {dict(trial.params)} is no point of {self.space}")

    @abstractmethod
    def _propose(self, number: int) -> Trial | None:
        """Return the next trial, whose number is given; as `ask`, which keeps it."""

    def _tried(self) -> set[int]:
        """Return the indices of the points of a finite space that some trial has, whatever its state."""
        return {self.space.index_of(trial.params) for trial in self._trials}

    def _is_covered(self) -> bool:
        """Whether the space is finite and every point of it has a trial."""
        num_points = self.space.num_points
        return num_points is not None and len(self._trials) >= num_points and len(self._tried()) >= num_points

    def _loss(self, trial: Trial) -> float:
        """Return the value of a trial that is done, turned so that lower is better."""
        assert trial.value is not None
        return trial.value if self.direction == "minimize" else -trial.value

    def _stream(self, number: int) -> np.random.Generator:
        """Return the random stream of a trial; negative numbers are streams of no trial."""
        return np.random.default_rng([self.seed, number % 2**32])


def _remake(kind: type[Search], args: tuple[Any, ...], kwargs: dict[str, Any], trials: list[Trial]) -> Search:
    """Return the search that was pickled."""
    search = kind(*args, **kwargs)
    search.load_trials(trials)
    return search
