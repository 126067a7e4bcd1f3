"""Where the trials of a search are kept while it runs: the base, and the one that keeps them in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autotunenet.hpo.base import Search
from autotunenet.hpo.budget import Budget
from autotunenet.hpo.objective import Ending, RunningTrial
from autotunenet.hpo.trial import Trial, TrialState


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker that asks for work is told.

    Attributes:
        kind: "run": the trial is to be run. "wait": there is nothing to do until another worker's trial ends. "over":
            there never will be.
        trial: What is to be run; None elsewhere.
    """

    kind: Literal["run", "wait", "over"]
    trial: RunningTrial | None = None


@dataclass(frozen=True, slots=True)
class News:
    """Something that happened to a trial.

    Attributes:
        kind: "asked": it was handed to a worker, for the first time or again. "told": it ended.
        trial: The trial as it was then.
        attempt: Which attempt at it, counted from 1.
    """

    kind: Literal["asked", "told"]
    trial: Trial
    attempt: int = 1


class TrialStore(ABC):
    """Hands out the trials of a search, and takes how they ended.

    Args:
        search: It is asked and told here, and by nobody else meanwhile.
        root: Folder for the folders of the trials.
    """

    def __init__(self, search: Search, root: Path) -> None:
        self.search = search
        self.root = root
        self.finished: list[int] = [t.number for t in search.trials if t.state is not TrialState.PENDING]
        self._news: list[News] = []

    @abstractmethod
    def claim(self, budget: Budget) -> Claim:
        """Return a trial to run: one that was lost first, else a new one within the budget."""

    @abstractmethod
    def tell(self, number: int, ending: Ending) -> Trial:
        """Take how a claimed trial ended.

        Raises:
            KeyError: If no such trial was asked for.
            ValueError: If it has been told before.
        """

    def take_news(self) -> list[News]:
        """Return what has happened since this was last called."""
        news, self._news = self._news, []
        return news


class MemoryStore(TrialStore):
    """Keeps trials in the search alone, for one worker. Those that are pending at first are handed out first."""

    def __init__(self, search: Search, root: Path) -> None:
        super().__init__(search, root)
        self._lost = [trial for trial in search.trials if trial.state is TrialState.PENDING]

    def claim(self, budget: Budget) -> Claim:
        """Return a trial to run; see `TrialStore`."""
        if not self._lost and not budget.may_start(self.search.trials):
            return Claim("over")
        trial = self._lost.pop(0) if self._lost else self.search.ask()
        if trial is None:
            return nothing_to_try(self.search)
        self._news.append(News("asked", trial))
        return Claim("run", RunningTrial.of(trial, root=self.root))

    def tell(self, number: int, ending: Ending) -> Trial:
        """Take how a claimed trial ended; see `TrialStore`."""
        told = tell(self.search, number, ending)
        self.finished.append(number)
        self._news.append(News("told", told))
        return told


def tell(search: Search, number: int, ending: Ending) -> Trial:
    """Tell a search how a trial ended."""
    return search.tell(number, ending.value, error=ending.error, metrics=ending.metrics, cost=ending.cost)


def nothing_to_try(search: Search) -> Claim:
    """Return what a worker is told when the search proposed nothing.

    Raises:
        RuntimeError: If no trial is pending, so that waiting would never end, and the search is not exhausted.
    """
    if any(trial.state is TrialState.PENDING for trial in search.trials):
        return Claim("wait")
    if search.is_exhausted:
        return Claim("over")
    raise RuntimeError(
        f"{type(search).__name__} proposes nothing, waits for no pending trial, and is not exhausted either; "
        "its `is_exhausted` must be true where `ask` returns None for good"
    )
