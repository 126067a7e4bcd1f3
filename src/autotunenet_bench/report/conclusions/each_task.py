"""Is it better than every other in each task and regime by itself?"""

from __future__ import annotations

from collections.abc import Sequence

from autotunenet_bench.report.conclusions.base import Finding, Verdict
from autotunenet_bench.report.conclusions.matches import MARGIN, Key, Match
from autotunenet_bench.report.conclusions.words import PERCENT, listed, number, outcome_of, ratio_of

WORDS = (
    f"yes if in every task and regime the loss is lower than that of every other by more than {PERCENT}; no if that is "
    "so in none; else partly"
)


def each_task(matches: Sequence[Match]) -> Finding:
    """Judge every cell as `best_of` judges all of them together.

    - *yes* if in every cell the subject's loss is lower than that of every other by more than `MARGIN`;
    - *no* if that is so in no cell;
    - *partly* otherwise.
    """
    first, cells = matches[0], list(matches[0].ratios)
    others = listed([match.other for match in matches])
    won = [key for key in cells if all(match.ratios[key] < 1 / MARGIN for match in matches)]
    behind = [key for key in cells if any(_worst(match, key) > MARGIN for match in matches)]
    verdict = Verdict.YES if len(won) == len(cells) else Verdict.PARTLY if won else Verdict.NO
    than = others if len(matches) == 1 else f"each of {others}"
    answer = (
        f"{first.subject} was better than {than}, by more than {PERCENT}, in {_of(won, cells)}, and worse than "
        f"{'it' if len(matches) == 1 else 'one of them'} in {_of(behind, cells)}"
    )
    reasons = [
        *(_in_cell(key, matches) for key in cells),
        *map(ratio_of, matches),
        outcome_of(first.subject, first.ours),
        *(outcome_of(match.other, match.theirs) for match in matches),
    ]
    return Finding(verdict=verdict, answer=answer, reasons=tuple(reasons))


def _of(some: Sequence[Key], cells: Sequence[Key]) -> str:
    named = f" ({listed([' under '.join(key) for key in some])})" if 0 < len(some) < len(cells) else ""
    return f"{len(some)} of {len(cells)} {'cell' if len(cells) == 1 else 'cells'}{named}"


def _in_cell(key: Key, matches: Sequence[Match]) -> str:
    ratios = listed([f"{number(match.ratios[key])} times that of {match.other}" for match in matches])
    said = f"{' under '.join(key)}: the final validation loss of {matches[0].subject} was {ratios}."
    hidden = [match for match in matches if match.ratios[key] <= MARGIN < match.ended_ratios[key]]
    if hidden:
        ended = listed([f"{number(match.ended_ratios[key])} times that of {match.other}" for match in hidden])
        said += f" Not held to the loss that lost runs began with, it was {ended}."
    return said


def _worst(match: Match, key: Key) -> float:
    """The ratio in a cell, or that of the losses as they ended, whichever is higher: a cap is to hide no defeat."""
    return max(match.ratios[key], match.ended_ratios[key])
