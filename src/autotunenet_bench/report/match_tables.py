"""The subjects of a question beside those that they are compared with, as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from autotunenet_bench.report.conclusions import Match
from autotunenet_bench.report.conclusions.matches import Key, is_lost
from autotunenet_bench.report.conclusions.words import interval_words, number
from autotunenet_bench.report.sections import Cell, Table, plain
from autotunenet_bench.statistics import Comparison, claim

_FEW = "too few pairs"
_NOTE = (
    "Loss ratio: geometric mean over the pairs of its final validation loss over that of the other; below 1 it is "
    "better. A run that was lost counts as the loss that it began with. Lost: runs that ended without having learnt, "
    "its own of all; alone: those that the other did not lose. p and claim are of the logarithm of the final loss, and "
    "answer the question; other claims of this report are of the regret at the budget, another quantity."
)


def match_tables(matches: Sequence[Match]) -> Iterator[Table]:
    """Yield a table for each subject, and one of single cells where the question is asked of them."""
    subjects = list(dict.fromkeys(match.subject for match in matches))
    for subject in subjects:
        yield Table(
            title=f"{subject} beside the others",
            head=("against", "pairs", "loss ratio", "95 % interval", "better in", "p (Holm)", "claim", "lost", "alone"),
            rows=tuple(_row(match) for match in matches if match.subject == subject),
            note=_NOTE if subject == subjects[-1] else "",
        )
    rows = [_cell_row(match, key, of) for match in matches for key, of in match.cells.items()]
    if rows:
        yield Table(
            title="In each task and regime by itself",
            head=(
                "controller",
                "task · regime",
                "against",
                "pairs",
                "loss ratio",
                "95 % interval",
                "p (Holm)",
                "claim",
            ),
            rows=tuple(rows),
            note=f"As above, of single cells, with Holm's correction over all {len(rows)} comparisons of this table.",
        )


def _row(match: Match) -> tuple[Cell, ...]:
    return plain(
        match.other,
        match.comparison.num_pairs,
        number(match.ratio),
        interval_words(match.comparison) or _FEW,
        f"{100 * match.comparison.improvement:.0f} %",
        number(match.comparison.p_holm),
        match.claim.value,
        f"{sum(map(is_lost, match.ours))} of {len(match.ours)}",
        match.lost_alone,
    )


def _cell_row(match: Match, key: Key, of: Comparison) -> tuple[Cell, ...]:
    return plain(
        match.subject,
        " · ".join(key),
        match.other,
        of.num_pairs,
        number(math.exp(of.difference.point)),
        interval_words(of) or _FEW,
        number(of.p_holm),
        claim(of).value,
    )
