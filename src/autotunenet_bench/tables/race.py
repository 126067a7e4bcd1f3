"""Searches on a table, over many seeds: how often each finds the best point, and how far off it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from statistics import fmean

from threadpoolctl import threadpool_limits

from autotunenet.hpo import Cost, Search
from autotunenet_bench.searches import SearchConfig
from autotunenet_bench.statistics import Interval, bootstrap, mean, wilson
from autotunenet_bench.tables.table import OutcomeTable

CHUNK = 10
"""Seeds that a worker does at a time."""


@dataclass(frozen=True, slots=True)
class Finish:
    """What a search came to with one seed.

    Attributes:
        regret: How much worse its best point is than the best of the table, at least 0; of the worst point where it has
            found none.
        trials_to_best: After how many trials it had the best of the table; None if never.
        num_trials: How many it took; fewer than were allowed where it had no more to ask.
        num_duplicates: How many of them were at a point that it had tried.
        cost: What they had taken.
    """

    regret: float
    trials_to_best: int | None
    num_trials: int
    num_duplicates: int
    cost: Cost


@dataclass(frozen=True, slots=True)
class RaceRow:
    """A search over all seeds.

    Attributes:
        search: Its name.
        finishes: One a seed.
    """

    search: str
    finishes: tuple[Finish, ...]

    @property
    def num_found(self) -> int:
        """With how many seeds it found the best point."""
        return sum(finish.trials_to_best is not None for finish in self.finishes)

    @property
    def share_found(self) -> Interval:
        """The share of seeds with which it found the best point, with Wilson's 95 % interval."""
        low, high = wilson(self.num_found, len(self.finishes))
        return Interval(point=self.num_found / len(self.finishes), low=low, high=high)

    @property
    def regret(self) -> Interval:
        """The mean regret, with a 95 % bootstrap interval over seeds."""
        return bootstrap([[finish.regret for finish in self.finishes]], mean, seed=0)

    @property
    def duplicates(self) -> float:
        """Trials, in the mean, at a point that was tried before."""
        return fmean(finish.num_duplicates for finish in self.finishes)

    @property
    def flops(self) -> float:
        """Mean operations; NaN where nobody counted them."""
        return fmean(math.nan if one.cost.flops is None else one.cost.flops for one in self.finishes)


def race(
    table: OutcomeTable,
    searches: Sequence[SearchConfig],
    *,
    num_seeds: int,
    num_trials: int,
    num_workers: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[RaceRow]:
    """Do every search on a table with the seeds 0, 1, 2, ...; equal arguments give equal rows.

    Args:
        table: Where outcomes are looked up.
        searches: Which; `num_trials` of their own counts before the other.
        num_seeds: At least 1.
        num_trials: What a search gets that does not say its own.
        num_workers: Processes; 1: none but this.
        on_progress: Told how many searches are done, of how many.

    Raises:
        ValueError: If a search cannot search this space.
    """
    jobs = [(index, seeds) for index in range(len(searches)) for seeds in _chunks(num_seeds)]
    work = partial(_finishes, table, tuple(searches), num_trials)
    found: dict[tuple[int, range], list[Finish]] = {}
    total, done = len(searches) * num_seeds, 0

    def take(job: tuple[int, range], finishes: list[Finish]) -> None:
        nonlocal done
        found[job] = finishes
        done += len(finishes)
        on_progress(done, total)

    if num_workers == 1:
        for job in jobs:
            take(job, work(job))
    else:
        with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(work, job): job for job in jobs}
            for future in as_completed(futures):
                take(futures[future], future.result())
    return [
        RaceRow(search.display, tuple(finish for seeds in _chunks(num_seeds) for finish in found[index, seeds]))
        for index, search in enumerate(searches)
    ]


def run_search(table: OutcomeTable, search: Search, num_trials: int) -> Finish:
    """Do a fresh search on a table, one trial at a time."""
    worst = max(table.regret(float(one.value)) for one in table.outcomes.values() if math.isfinite(float(one.value)))
    regret, to_best, num_duplicates = worst, None, 0
    tried: set[tuple[object, ...]] = set()
    costs: list[Cost] = []
    for number in range(1, num_trials + 1):
        trial = search.ask()
        if trial is None:
            break
        outcome = table.look_up(trial.params)
        value = float(outcome.value)
        search.tell(trial.number, value, metrics=outcome.metrics, cost=outcome.cost)
        point = tuple(trial.params.values())
        num_duplicates += point in tried
        tried.add(point)
        costs.append(outcome.cost)
        if math.isfinite(value):
            regret = min(regret, table.regret(value))
        if regret == 0 and to_best is None:
            to_best = number
    return Finish(regret, to_best, len(costs), num_duplicates, sum(costs[1:], start=costs[0]))


def _finishes(
    table: OutcomeTable, searches: Sequence[SearchConfig], num_trials: int, job: tuple[int, range]
) -> list[Finish]:
    index, seeds = job
    search, direction = searches[index], table.provenance.direction
    budget = search.trials_of(table.space, num_trials)
    with threadpool_limits(1):  # for matrices of ten rows, threads cost ten times what they bring
        return [run_search(table, search.build(table.space, seed=seed, direction=direction), budget) for seed in seeds]


def _chunks(num_seeds: int) -> list[range]:
    return [range(first, min(first + CHUNK, num_seeds)) for first in range(0, num_seeds, CHUNK)]
