"""The page of several offline searches: searches by data sets, at equal cost in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autotunenet_bench.report.conclusions.words import listed
from autotunenet_bench.report.hpo.costs import EqualCost, amount, at_equal_cost, cost_to, mean_text, target_of
from autotunenet_bench.report.hpo.headline import ENOUGH_SEEDS, RULE
from autotunenet_bench.report.hpo.markdown import fill_markdown
from autotunenet_bench.report.hpo.records import Study
from autotunenet_bench.report.pages import page
from autotunenet_bench.report.sections import Cell, Table, plain
from autotunenet_bench.statistics import ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPage:
    """What the page says.

    Attributes:
        title: Its heading.
        description: A paragraph below it.
        headline: The answer in sentences.
        rule: How it was come to.
        tables: Searches by data sets: the best at equal cost, and how soon they came near to the best point.
        members: By the name of its folder, the title of each search.
    """

    title: str
    description: str
    headline: tuple[str, ...]
    rule: str
    tables: tuple[Table, ...]
    members: dict[str, str]


def describe_set(title: str, description: str, studies: Mapping[str, Study]) -> SetPage:
    """Return what is said of several searches, by the names of their folders.

    Only searches that all members have, with a result within the equal cost of each, are ranked.
    """
    equal = {name: at_equal_cost(study) for name, study in studies.items() if study.searches}
    shared = _shared(equal)
    mean_ranks = _mean_ranks(studies, equal, shared)
    return SetPage(
        title=title,
        description=description,
        headline=_headline(studies, mean_ranks),
        rule=RULE,
        tables=(_best_table(studies, equal, mean_ranks), _near_table(studies, list(equal))),
        members={name: study.title for name, study in studies.items()},
    )


def set_to_html(found: SetPage) -> str:
    """Return the page; it refers to those of its members beside it."""
    return page("hpo/summary.html.j2", page=found)


def set_to_markdown(found: SetPage) -> str:
    """Return the page in GitHub's Markdown."""
    return fill_markdown("summary.md.j2", page=found)


def _shared(equal: Mapping[str, EqualCost]) -> list[str]:
    """Return the searches that have a value in every member, in the order of the first one."""
    found = [{one.search: one.mean for one in cost.standings if one.mean is not None} for cost in equal.values()]
    return [name for name in found[0] if all(name in other for other in found)] if found else []


def _mean_ranks(
    studies: Mapping[str, Study], equal: Mapping[str, EqualCost], shared: list[str]
) -> list[tuple[str, float]]:
    """Return the searches with their mean ranks at equal cost, the best first; what is level shares its ranks."""
    if not shared:
        return []
    rows = []
    for name, cost in equal.items():
        means = {standing.search: standing.mean for standing in cost.standings}
        sign = -1 if studies[name].goal.direction == "maximize" else 1
        rows.append([sign * mean for search in shared if (mean := means[search]) is not None])
    every = np.mean(ranks(rows), axis=0)
    return sorted(zip(shared, map(float, every), strict=True), key=lambda pair: pair[1])


def _headline(studies: Mapping[str, Study], mean_ranks: list[tuple[str, float]]) -> tuple[str, ...]:
    if not mean_ranks:
        return ("No search has a result in every data set yet, so there is nothing to compare.",)
    told = "; ".join(f"{name} {rank:.2f}" for name, rank in mean_ranks)
    first = [name for name, rank in mean_ranks if rank == mean_ranks[0][1]]
    have = f"{listed(first)} {'has' if len(first) == 1 else 'have'}"
    ahead = f"At equal cost {have} the best mean rank over {len(studies)} data sets: {told}."
    seeds = min(len(runs) for study in studies.values() for runs in study.searches.values())
    few = f"{len(studies)} data sets and {seeds} seed{'' if seeds == 1 else 's'} a search are few: a rank is no proof."
    return (ahead, few) if seeds < ENOUGH_SEEDS or len(studies) < ENOUGH_SEEDS else (ahead,)


def _best_table(
    studies: Mapping[str, Study], equal: Mapping[str, EqualCost], mean_ranks: list[tuple[str, float]]
) -> Table:
    rank_of = dict(mean_ranks)
    names = [name for name, _ in mean_ranks] + [name for name in _searches(studies) if name not in rank_of]
    head = [f"{name}: {studies[name].goal.title} in {amount(cost.budget, cost.unit)}" for name, cost in equal.items()]
    rows = []
    for search in names:
        cells = [_standing(studies[name], cost, search) for name, cost in equal.items()]
        rank = f"{rank_of[search]:.2f}" if search in rank_of else "n/a"
        rows.append((Cell(search, False), *cells, *plain(rank)))
    return Table(title="The best at equal cost", head=("search", *head, "mean rank"), rows=tuple(rows))


def _standing(study: Study, cost: EqualCost, search: str) -> Cell:
    found = {standing.search: standing.mean for standing in cost.standings}
    mean = found.get(search)
    if mean is None:
        return Cell("no result", False)
    return Cell(study.goal.text(mean), mean == study.goal.best([one for one in found.values() if one is not None]))


def _near_table(studies: Mapping[str, Study], names: list[str]) -> Table:
    targets = {name: target_of(studies[name]) for name in names}
    head = [f"{name}: trials to {studies[name].goal.text(targets[name].near)}" for name in names]
    rows = []
    for search in _searches(studies):
        cells = []
        for name in names:
            runs = studies[name].searches.get(search, [])
            found = [cost_to(run, "trials", studies[name].goal, targets[name].near) for run in runs]
            cells.append(mean_text(found, "{:.3g}") if found else "no result")
        rows.append(plain(search, *cells))
    note = "Near is half a point of a share, or a hundredth of a loss, from the best point trained; means over seeds."
    return Table(title="How soon near to the best", head=("search", *head), rows=tuple(rows), note=note)


def _searches(studies: Mapping[str, Study]) -> list[str]:
    return list(dict.fromkeys(name for study in studies.values() for name in study.searches))
