"""Is it better than every other that had as many steps?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autotunenet_bench.metrics.compute import num_restarts, optimizer_evaluations
from autotunenet_bench.report.conclusions.base import Finding, Verdict
from autotunenet_bench.report.conclusions.best_of import best_of
from autotunenet_bench.report.conclusions.matches import MARGIN, Match
from autotunenet_bench.report.conclusions.words import PERCENT, number
from autotunenet_bench.results.trace import Trace

WORDS = f"as best_of, where the training passes of every pair of runs are equal up to {PERCENT}; else nothing is said"


def equal_budget(matches: Sequence[Match]) -> Finding:
    """Judge as `best_of` does, where the training passes of every pair of runs are equal up to `MARGIN`.

    Passes are all that were done: steps that a search spent on its trials, steps that were thrown away, replays. Where
    they differ by more, nothing is said: more steps are no merit.
    """
    subject, ours = matches[0].subject, matches[0].ours
    spent = [
        _spent(subject, ours),
        *(_spent(match.other, match.theirs) for match in matches),
    ]
    unequal = [match.other for match in matches if not _is_equal(match)]
    if unequal:
        names = " and ".join(unequal)
        answer = (
            f"the budgets of {subject} and {names} differ by more than {PERCENT}, so that their losses do not compare"
        )
        return Finding(verdict=Verdict.OPEN, answer=answer, reasons=tuple(spent))
    finding = best_of(matches)
    return replace(finding, answer=f"at equal budget {finding.answer}", reasons=(*spent, *finding.reasons))


def _is_equal(match: Match) -> bool:
    pairs = zip(match.ours, match.theirs, strict=True)
    return all(
        optimizer_evaluations(ours) <= MARGIN * optimizer_evaluations(theirs)
        and optimizer_evaluations(theirs) <= MARGIN * optimizer_evaluations(ours)
        for ours, theirs in pairs
    )


def _spent(name: str, runs: Sequence[Trace]) -> str:
    passes = [optimizer_evaluations(run) for run in runs]
    restarts = sum(map(num_restarts, runs)) / len(runs)
    return (
        f"{name} spent {sum(passes) / len(passes):,.0f} training passes a run in the mean, with {number(restarts)} "
        "restarts."
    )
