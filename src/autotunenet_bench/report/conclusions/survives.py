"""Does it get through, and get the training back?"""

from __future__ import annotations

from collections.abc import Sequence

from autotunenet_bench.metrics.performance import TARGET_SHARE
from autotunenet_bench.metrics.stability import divergence_events
from autotunenet_bench.report.conclusions.base import Finding, Verdict
from autotunenet_bench.report.conclusions.matches import Match, has_learnt, is_lost
from autotunenet_bench.report.conclusions.words import listed, outcome_of, ratio_of
from autotunenet_bench.results.trace import Trace

WORDS = (
    f"yes if every run ends at or below {100 * TARGET_SHARE:.0f} % of the loss that it began with; partly if not every "
    "one does, but more than of every other; else no"
)


def survives(matches: Sequence[Match]) -> Finding:
    """Judge survival: a run has recovered when it ends at or below half the loss that it began with.

    - *yes* if every run of the subject has;
    - *partly* if not every one has, but more than of every other method;
    - *no* otherwise.
    """
    subject, ours = matches[0].subject, matches[0].ours
    recovered = sum(map(has_learnt, ours))
    others = {match.other: sum(map(has_learnt, match.theirs)) for match in matches}
    reasons = [
        outcome_of(subject, ours),
        *(outcome_of(match.other, match.theirs) for match in matches),
        _diverged(subject, ours),
        *map(ratio_of, matches),
    ]
    if not any(is_lost(run) for match in matches for run in match.theirs):
        reasons.append(f"{listed(list(others))} lost no run either, so that these runs are no hard test.")
    counted = (
        f"{recovered} of {len(ours)} runs of {subject} ended at or below {100 * TARGET_SHARE:.0f} % of the first loss"
    )
    beside = listed([f"{number} of {name}" for name, number in others.items()])
    if recovered == len(ours):
        verdict = Verdict.YES
    else:
        verdict = Verdict.PARTLY if recovered > max(others.values()) else Verdict.NO
    return Finding(verdict=verdict, answer=f"{counted}, and {beside}", reasons=tuple(reasons))


def _diverged(subject: str, runs: Sequence[Trace]) -> str:
    blown = [run for run in runs if divergence_events(run) > 0]
    back = sum(map(has_learnt, blown))
    return f"Training blew up in {len(blown)} of {len(runs)} runs of {subject}; {back} of them recovered."
