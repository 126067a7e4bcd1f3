"""The contract of the offline searches."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable

from autotunenet.hpo import Search, Trial, TrialState
from autotunenet.testing.rules import no_side_effects, require

Objective = Callable[[Trial], float | None]

_ODD = (0.5, None, 1e300, 0.4, math.nan, -1e300, 0.45, math.inf)
_MOST_ASKED = 1000


def check_search(
    make: Callable[[], Search], *, num_trials: int = 8, repeats: bool = False, covers: bool = True
) -> None:
    """Check a search: points of its space, a pure function of its trials, no poison, no side effects, and an end.

    Where `ask` returns None, the search is exhausted or a trial is pending. Told the same, it asks for the same; so
    does one that has loaded the trials of another, pending ones among them. Failed trials, all failed, equal values and
    huge ones do no harm. In a finite space no point comes twice at the same budget, pending or told; of one with up to
    64 points all are asked for, and then it is exhausted.

    Args:
        make: Returns a fresh search that has been told nothing.
        num_trials: How many to ask for in each part of the check; above the size of the first batch or design, so that
            what comes after it is checked too.
        repeats: Whether it may try a point of a finite space again.
        covers: Whether it goes over all points of a finite space before it ends.

    Raises:
        AssertionError: If a rule is broken.

    >>> from autotunenet import Float, SearchSpace
    >>> from autotunenet.hpo import RandomSearch
    >>> check_search(lambda: RandomSearch(SearchSpace({"x": Float(0.0, 1.0)})))
    """
    with no_side_effects(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _check_purity(make, num_trials)
        for objective in (_fails, _is_level, _is_odd):
            search = make()
            _play(search, objective, num_trials)
            _check_best(search)
        _check_pending(make, num_trials)
        if not repeats:
            _check_no_repeats(make, num_trials)
        if covers:
            _check_end(make)
    require(not caught, f"a search warns of nothing by itself, got {[str(each.message) for each in caught[:1]]}")


def _check_purity(make: Callable[[], Search], num_trials: int) -> None:
    """Check that proposals depend on the trials alone, not on calls before, nor on another search."""
    reference, bystander = make(), make()
    _play(reference, _is_odd, num_trials)
    require(not bystander.trials, "two searches must share nothing")
    again = make()
    _play(again, _is_odd, num_trials)
    require(again.trials == reference.trials, "told the same, a search must ask for the same")
    for cut in range(len(reference.trials)):
        resumed = make()
        resumed.load_trials([Trial.from_dict(trial.to_dict()) for trial in reference.trials[:cut]])
        asked, expected = resumed.ask(), reference.trials[cut]
        require(
            asked is not None and _plan(asked) == _plan(expected),
            f"with the first {cut} trials of another loaded, it must go on as that did, with {_plan(expected)}; "
            f"it asked for {asked and _plan(asked)}",
        )


def _check_pending(make: Callable[[], Search], num_trials: int) -> None:
    """Check that trials may be asked for before others are told, and told in any order."""
    search = make()
    waves = [_ask_some(search, count) for count in (3, num_trials)]
    for trial in reversed(list(itertools.chain(*waves))):
        search.tell(trial.number, _is_odd(trial))
    _ask_some(search, 2)
    resumed = make()
    resumed.load_trials(search.trials)
    require(resumed.ask() == search.ask(), "pending trials that are loaded must count as those asked for do")


def _check_no_repeats(make: Callable[[], Search], num_trials: int) -> None:
    search = make()
    if search.space.num_points is None:
        return
    _play(search, _is_odd, num_trials)
    _ask_some(search, num_trials)
    points = [(search.space.index_of(trial.params), trial.budget) for trial in search.trials]
    require(len(points) == len(set(points)), "in a finite space no point may come twice at the same budget")


def _check_end(make: Callable[[], Search]) -> None:
    search = make()
    num_points = search.space.num_points
    if num_points is None or num_points > 64:
        return
    _play(search, _is_odd, _MOST_ASKED)
    require(search.is_exhausted, f"it must end within {_MOST_ASKED} trials over {num_points} points")
    require(search.ask() is None, "an exhausted search has nothing to ask for")
    asked = {search.space.index_of(trial.params) for trial in search.trials}
    require(len(asked) == num_points, f"only {len(asked)} of {num_points} points were asked for before the end")


def _check_best(search: Search) -> None:
    results = [(trial.budget or 0.0, trial.value) for trial in search.trials if trial.value is not None]
    largest = max((budget for budget, _ in results), default=0.0)
    values = [value for budget, value in results if budget == largest]
    best = None if not values else min(values) if search.direction == "minimize" else max(values)
    require((search.best and search.best.value) == best, f"best must have the value {best}, got {search.best}")


def _play(search: Search, objective: Objective, num_trials: int) -> None:
    """Ask and tell in turn."""
    for _ in range(num_trials):
        asked = _ask_some(search, 1)
        if not asked:
            break
        search.tell(asked[0].number, objective(asked[0]))


def _ask_some(search: Search, count: int) -> list[Trial]:
    """Ask for up to `count` trials, fewer where the search has no more for now, and check each."""
    asked: list[Trial] = []
    for _ in range(count):
        num_before = len(search.trials)
        trial = search.ask()
        if trial is None:
            is_waiting = any(each.state is TrialState.PENDING for each in search.trials)
            require(is_waiting or search.is_exhausted, "ask() is None where nothing is pending, and yet no end")
            break
        require(trial.number == num_before, f"trials are numbered in turn: {num_before} is next, got {trial.number}")
        require(trial.state is TrialState.PENDING, f"a trial that is asked for is pending, got {trial.state}")
        require(search.space.contains(trial.params), f"{dict(trial.params)} is no point of {search.space}")
        require(search.trials[-1] == trial, "what was asked for must be among the trials")
        asked.append(trial)
    return asked


def _plan(trial: Trial) -> tuple[object, ...]:
    """Return what a search decides of a trial."""
    return dict(trial.params), trial.budget, trial.parent, trial.predicted


def _is_odd(trial: Trial) -> float | None:
    return _ODD[trial.number % len(_ODD)]


def _is_level(trial: Trial) -> float:
    return 0.25


def _fails(trial: Trial) -> None:
    return None
