"""What is tuned: a function of a trial, what it is given, and what it returns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, SupportsFloat

from autotunenet.hpo.trial import Cost, Trial
from autotunenet.processes import summarize


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTrial(Trial):
    """A trial as an objective sees it: what to try, and where its files may lie.

    Attributes:
        attempt: Counted from 1; more where processes that ran this trial before have died.
        root: Folder with the folders of all trials.
    """

    attempt: int = 1
    root: Path = field(default_factory=Path)

    @classmethod
    def of(cls, trial: Trial, *, root: Path, attempt: int = 1) -> RunningTrial:
        """Return `trial` as one that runs."""
        values = {item.name: getattr(trial, item.name) for item in fields(Trial)}
        return cls(**values, root=root, attempt=attempt)

    @property
    def folder(self) -> Path:
        """A folder for this trial's files, such as its checkpoint; made when it is first asked for.

        A later attempt at the same trial finds there what an earlier one left.
        """
        return self._folder_of(self.number)

    @property
    def parent_folder(self) -> Path | None:
        """The folder of the trial whose training this one may go on with; None where it is to start from scratch."""
        return None if self.parent is None else self._folder_of(self.parent)

    def _folder_of(self, number: int) -> Path:
        folder = self.root / f"{number:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an objective returns that tells more than a number.

    Attributes:
        value: What is minimized or maximized. NaN or an infinity: the trial has failed.
        metrics: Whatever else was measured; numbers, strings, and lists and mappings of them are kept.
        cost: What the trial took. Where its seconds are 0, those that were measured count.
    """

    value: SupportsFloat
    metrics: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)


Objective = Callable[[RunningTrial], SupportsFloat | Outcome]
"""Trains with the `params` of a trial, for its `budget` where it has one, and returns how good that was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a trial ended, as `Search.tell` takes it."""

    value: float | None
    error: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)


def evaluate(objective: Objective, trial: RunningTrial, catch: tuple[type[BaseException], ...]) -> Ending:
    """Call the objective, and take the time.

    Args:
        objective: What to call.
        trial: What to call it with.
        catch: Exceptions that make the trial a failed one.

    Returns:
        How it ended.

    Raises:
        TypeError: If it returns something else than a number or an `Outcome`.
        BaseException: Whatever it raises that is not to be caught.
    """
    start = time.perf_counter()
    try:
        returned = objective(trial)
    except catch as error:
        return Ending(value=None, error=summarize(error), cost=Cost(seconds=time.perf_counter() - start))
    seconds = time.perf_counter() - start
    outcome = returned if isinstance(returned, Outcome) else Outcome(returned)
    cost = outcome.cost if outcome.cost.seconds else replace(outcome.cost, seconds=seconds)
    return Ending(value=_number(outcome.value), metrics=plain(outcome.metrics), cost=cost)


def plain(value: Any, otherwise: Callable[[Any], Any] = repr) -> Any:
    """Return a value as JSON knows it: arrays and tensors as numbers and lists.

    Args:
        value: What to turn.
        otherwise: Called with what JSON has nothing for.

    >>> import numpy as np
    >>> plain({"acc": np.float32(0.5), "curve": np.array([1, 2]), "where": 1j})
    {'acc': 0.5, 'curve': [1, 2], 'where': '1j'}
    """
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):  # numpy has subclasses of str and float
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item, otherwise) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, otherwise) for item in value]
    if hasattr(value, "tolist"):  # a number, where the array has no dimension
        return plain(value.tolist(), otherwise)
    return otherwise(value)


def _number(value: Any) -> float:
    try:
        if isinstance(value, bool | str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor of several elements
        raise TypeError(
            f"the objective returned {value!r}, of type {type(value).__name__}; return a number or an Outcome"
        ) from error
