"""Is it better than every other?"""

from __future__ import annotations

from collections.abc import Sequence

from autotunenet_bench.report.conclusions.base import Finding, Verdict
from autotunenet_bench.report.conclusions.matches import MARGIN, Match
from autotunenet_bench.report.conclusions.words import PERCENT, listed, number, outcome_of, ratio_of

WORDS = (
    f"yes if over all pairs of runs the loss is lower than that of every other by more than {PERCENT}; no if that of "
    f"any other is lower by more than {PERCENT}; else partly"
)


def best_of(matches: Sequence[Match]) -> Finding:
    """Judge rank by the ratio of losses over all runs.

    - *yes* if the subject's loss is lower than that of every other by more than `MARGIN`;
    - *no* if that of any other is lower than the subject's by more than `MARGIN`;
    - *partly* otherwise: level with the best.
    """
    subject = matches[0].subject
    first = matches[0]
    reasons = [
        *map(ratio_of, matches),
        outcome_of(subject, first.ours),
        *(outcome_of(match.other, match.theirs) for match in matches),
    ]
    better = [match for match in matches if match.ratio > MARGIN]
    level = [match for match in matches if 1 / MARGIN <= match.ratio <= MARGIN]
    if better:
        words = listed([f"{match.other} ({number(match.ratio)} times its loss)" for match in better])
        return Finding(verdict=Verdict.NO, answer=f"{subject} was worse than {words}", reasons=tuple(reasons))
    if level:
        words = listed([f"{match.other} ({number(match.ratio)} times its loss)" for match in level])
        answer = f"{subject} was worse than none, but level with {words}"
        return Finding(verdict=Verdict.PARTLY, answer=answer, reasons=tuple(reasons))
    answer = f"{subject} was better than {listed([m.other for m in matches])}, by more than {PERCENT}"
    return Finding(verdict=Verdict.YES, answer=answer, reasons=tuple(reasons))
