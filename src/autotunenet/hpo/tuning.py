"""A whole search in one call: ask, run the objective, tell, until the budget is used up."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autotunenet.hpo.base import Direction, Search
from autotunenet.hpo.budget import Budget
from autotunenet.hpo.journal import Journal
from autotunenet.hpo.objective import Objective
from autotunenet.hpo.pool import Pool
from autotunenet.hpo.result import TuneResult, total_cost
from autotunenet.hpo.store import MemoryStore, News, TrialStore
from autotunenet.hpo.trial import Cost, Trial, TrialState
from autotunenet.hpo.worker import Job, run_trials
from autotunenet.space import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneUpdate:
    """Something that happened in a search, for a caller that shows progress.

    Attributes:
        kind: "asked": a trial was handed to a worker, for the first time or again. "told": it ended.
        trial: The trial as it was then.
        attempt: Which attempt at it, counted from 1.
        best: The best trial so far; None before there is one.
        num_asked: Trials so far.
        num_done: Those that are done.
        num_failed: Those that have failed.
        cost: What all that have ended have taken.
    """

    kind: Literal["asked", "told"]
    trial: Trial
    attempt: int
    best: Trial | None
    num_asked: int
    num_done: int
    num_failed: int
    cost: Cost


def tune(
    objective: Objective,
    space: SearchSpace,
    search: str | Search = "surrogate",
    budget: int | Budget = 30,
    *,
    direction: Direction = "minimize",
    seed: int = 0,
    folder: str | Path | None = None,
    num_workers: int = 1,
    on_update: Callable[[TuneUpdate], None] | None = None,
    catch: tuple[type[BaseException], ...] = (Exception,),
    max_attempts: int = 3,
) -> TuneResult:
    """Look for the hyperparameters with which an objective is best: ask, run the objective, tell, again and again.

    With a `folder` nothing is lost, however the process ends: the same call goes on where the last one was, runs what
    it left unfinished, and runs nothing twice that has ended. Several calls may work on one folder at once.

    Args:
        objective: Takes a `RunningTrial`, trains with its `params`, and returns a number or an `Outcome`.
        space: Where to search.
        search: Name of a search, one of `SEARCHES`; or a search, whose space, seed, direction and trials then count.
        budget: How many trials, or a `Budget`. Trials of earlier calls on the folder count.
        direction: Whether small or large values are good.
        seed: Of the search. One worker proposes the same trials every time.
        folder: Where trials are kept, and files that the objective leaves in ``trial.folder``. None: in memory, and
            in a folder that is removed at the end.
        num_workers: Processes that run trials side by side. With 1 everything happens in this one. Threads of
            numerical libraries stay as they are: set them in the objective where workers share few cores.
        on_update: Called in this process with every trial that is asked or told.
        catch: Exceptions of the objective that make its trial a failed one. Others end the search, which can go on.
        max_attempts: A trial that was running when its process died is run again, this many times in all.

    Returns:
        The search, its trials, and what they took.

    Raises:
        ValueError: If the search is unknown, or a number is out of range.
        TypeError: If the objective cannot be handed to another process, or returns something else than a number.

    >>> from autotunenet import Float, SearchSpace
    >>> space = SearchSpace({"x": Float(-1.0, 1.0)})
    >>> result = tune(lambda trial: (trial.params["x"] - 0.3) ** 2, space, "random", budget=20)
    >>> abs(result.best.params["x"] - 0.3) < 0.1, result.convergence()[-1].trials
    (True, 20)
    """
    search = _as_search(search, space, seed, direction)
    budget = Budget(trials=budget) if isinstance(budget, int) else budget
    for name, value in (("num_workers", num_workers), ("max_attempts", max_attempts)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    pool = Pool(Job(objective, search, budget, catch, max_attempts), num_workers) if num_workers > 1 else None
    with ExitStack() as stack:
        root = Path(folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="autotunenet-tune-"))).absolute()
        store: TrialStore
        if folder is None and pool is None:
            store = MemoryStore(search, root)
        else:
            store = journal = stack.enter_context(Journal(root, search, max_attempts=max_attempts))

        def on_change() -> None:
            for news in store.take_news():
                if on_update is not None:
                    on_update(_as_update(news, search))

        if pool is None:
            run_trials(store, objective, budget, catch, on_change)
        else:
            pool.run(journal, on_change)
    return TuneResult(search, tuple(store.finished))


def _as_search(search: str | Search, space: SearchSpace, seed: int, direction: Direction) -> Search:
    from autotunenet.hpo import SEARCHES  # which imports this module

    if isinstance(search, Search):
        return search
    if search not in SEARCHES:
        raise ValueError(f"there is no search {search!r}; there are {', '.join(sorted(SEARCHES))}")
    return SEARCHES[search](space, seed=seed, direction=direction)


def _as_update(news: News, search: Search) -> TuneUpdate:
    trials = search.trials
    return TuneUpdate(
        kind=news.kind,
        trial=news.trial,
        attempt=news.attempt,
        best=search.best,
        num_asked=len(trials),
        num_done=sum(trial.state is TrialState.DONE for trial in trials),
        num_failed=sum(trial.state is TrialState.FAILED for trial in trials),
        cost=total_cost(trials),
    )
