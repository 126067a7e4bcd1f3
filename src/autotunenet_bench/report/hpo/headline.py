"""The answer in sentences, by stated rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from autotunenet_bench.report.conclusions.words import listed
from autotunenet_bench.report.hpo.costs import EqualCost, Standing, Target, amount, cost_to, trials_at_random
from autotunenet_bench.report.hpo.records import SearchRun, Study, value_of

RULE = (
    "Cost is what the trainings of a search took, each charged in full to every search that asked for it. All searches "
    "are compared at the total of the cheapest one: of each, the best trial counts that had ended by then. The choice "
    "is made on validation data; test data are told of what was chosen, and chose nothing."
)

ENOUGH_SEEDS = 6
"""Fewer pairs can give no p below 0.05; see docs/statistics.md."""

EASY_TRIALS = 3.0
"""Where random search needs no more trials than these to come near to the best, searches cannot differ by much.
A judgement, and no measurement: where all do so well, a gain of half is a trial and a half."""


def headline(study: Study, equal: EqualCost, target: Target) -> tuple[str, ...]:
    """Return who is ahead at equal cost, how soon searches came to the best point, and what that is worth."""
    return (_ahead(study, equal), *_to_the_best(study, target), *_caution(study))


def _ahead(study: Study, equal: EqualCost) -> str:
    known = [standing for standing in equal.standings if standing.mean is not None]
    cost = amount(equal.budget, equal.unit)
    if not known:
        return f"Within {cost}, the total of the cheapest search, no search has a result."
    told = "; ".join(f"{standing.search} {_value(study, standing)}" for standing in known)
    first = [standing.search for standing in known if standing.mean == known[0].mean]
    ahead = f"{listed(first)} {'is' if len(first) == 1 else 'are'} ahead"
    goal = study.goal.title
    return f"At equal cost, {cost}, {ahead} by the best {goal} found: {told}."


def _value(study: Study, standing: Standing) -> str:
    assert standing.mean is not None
    return study.goal.text(standing.mean)


def _to_the_best(study: Study, target: Target) -> Iterator[str]:
    goal, num_all = study.goal, study.space.num_points
    kind = f"all {num_all} points" if target.is_optimum else f"the {len(study.points)} points that were trained"
    yield f"The best of {kind} has a {goal.title} of {goal.text(target.value)}."
    if not target.is_optimum:
        return
    yield _how_hard(study, target)
    for name, runs in study.searches.items():
        if not all(len(run.trials) == num_all for run in runs):
            yield _reached(name, runs, study, target)


def _how_hard(study: Study, target: Target) -> str:
    num_all = study.space.num_points
    assert num_all
    num_near = sum(study.goal.is_as_good(value_of(trial), target.near) for trial in study.points)
    at_random = trials_at_random(num_near, num_all)
    near = "1 point comes" if num_near == 1 else f"{num_near} points come"
    which = "" if num_near == 1 else " of them"
    told = (
        f"{near} near to it, to {study.goal.text(target.near)} or better: draws without repeats need "
        f"{at_random:.3g} trials for the first{which} in the mean"
    )
    return f"{told}, so that searches can hardly be told apart here." if at_random <= EASY_TRIALS else f"{told}."


def _reached(name: str, runs: Sequence[SearchRun], study: Study, target: Target) -> str:
    unit = "flops" if target.whole_cost["flops"] == target.whole_cost["flops"] else "steps"
    trials = [cost_to(run, "trials", study.goal, target.value) for run in runs]
    costs = [cost_to(run, unit, study.goal, target.value) for run in runs]
    known_trials = [value for value in trials if value is not None]
    known_costs = [value for value in costs if value is not None]
    num_trials = fmean(len(run.trials) for run in runs)
    if not known_trials:
        return f"{name} did not come to the best in {num_trials:g} trials."
    share = fmean(known_costs) / target.whole_cost[unit]
    number = f"{fmean(known_trials):.3g}"
    after = f"after {number} trial{'' if number == '1' else 's'}, at {100 * share:.0f} % of what all points cost"
    if len(runs) == 1:
        return f"{name} came to the best {after}."
    return f"{name} came to the best with {len(known_trials)} of {len(runs)} seeds, {after}."


def _caution(study: Study) -> Iterator[str]:
    num_seeds = min(len(runs) for runs in study.searches.values())
    if num_seeds < ENOUGH_SEEDS:
        few = "One seed a search is" if num_seeds == 1 else f"{num_seeds} seeds a search are"
        yield (
            f"{few} too few to tell which search is better: with other seeds the order may be another. "
            "Where all points were trained, the command race tells it over hundreds of seeds in seconds."
        )
