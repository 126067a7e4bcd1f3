"""Does it make anything worse?"""

from __future__ import annotations

from collections.abc import Sequence

from autotunenet_bench.report.conclusions.base import Finding, Verdict
from autotunenet_bench.report.conclusions.matches import MARGIN, Match
from autotunenet_bench.report.conclusions.words import PERCENT, cells, interval_of, listed, number, ratio_of

WORDS = (
    f"yes if over all pairs of runs, and in every cell, the loss is at most {PERCENT} above that of every other, and "
    "no run is lost that the other does not lose; partly if it is more above in single cells only; else no"
)


def do_no_harm(matches: Sequence[Match]) -> Finding:
    """Judge harm: a loss that is higher by more than `MARGIN`, or a run that only the subject lost.

    - *no* if against any other the ratio is above `MARGIN`, or the subject lost a run that the other did not;
    - *partly* if only single cells have a ratio above it;
    - *yes* otherwise.
    """
    subject = matches[0].subject
    reasons = [sentence for match in matches for sentence in _reasons(match)]
    harmed = [f"{number(match.ratio)} times the loss of {match.other}" for match in matches if match.ratio > MARGIN]
    lost = [f"{match.lost_alone} lost that {match.other} did not lose" for match in matches if match.lost_alone]
    if harmed or lost:
        answer = f"{subject} did harm: {listed([*harmed, *(f'runs: {words}' for words in lost)])}"
        return Finding(verdict=Verdict.NO, answer=answer, reasons=tuple(reasons))
    worse = sum(len(match.worse_in) for match in matches)
    of = sum(len(match.ratios) for match in matches)
    if worse:
        answer = f"{subject} did no harm in the mean, but by more than {PERCENT} in {worse} of {of} comparisons by cell"
        answer += f": {listed([cells(match.worse_in) for match in matches if match.worse_in])}"
        return Finding(verdict=Verdict.PARTLY, answer=answer, reasons=tuple(reasons))
    answer = (
        f"{subject} did no harm: nowhere more than {PERCENT} above the loss of {listed([m.other for m in matches])}"
    )
    return Finding(verdict=Verdict.YES, answer=answer, reasons=tuple(reasons))


def _reasons(match: Match) -> list[str]:
    _, high = match.interval
    where = "lies below" if high <= MARGIN else "reaches above"
    interval = (
        f"The interval {where} {MARGIN:g}: a mean harm of more than {PERCENT} is "
        f"{'outside of' if high <= MARGIN else 'within'} it."
    )
    return [
        ratio_of(match),
        *([interval] if interval_of(match) else []),
        f"Runs that {match.subject} lost and {match.other} did not: {match.lost_alone} of {len(match.ours)}.",
    ]
