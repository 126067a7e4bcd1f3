"""Sentences that more than one rule needs. Names stand in them as they are; whoever shows them escapes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from autotunenet_bench.metrics.across import Share
from autotunenet_bench.report.conclusions.matches import MARGIN, Key, Match, has_learnt, is_lost
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.statistics import Claim
from autotunenet_bench.statistics.claims import MIN_PAIRS

MAX_NAMED = 4
"""Cells that a sentence names; more are counted."""

PERCENT = f"{100 * (MARGIN - 1):.0f} %"


def number(value: float) -> str:
    """Write a number with three significant digits.

    >>> number(0.98765), number(12345.0)
    ('0.988', '1.23e+04')
    """
    return f"{value:.3g}"


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def cells(ratios: Mapping[Key, float]) -> str:
    """Name cells with their ratios, the first `MAX_NAMED` of them."""
    named = [f"{task} under {regime} ({number(ratio)})" for (task, regime), ratio in ratios.items()]
    more = [f"{len(named) - MAX_NAMED} more"] if len(named) > MAX_NAMED else []
    return listed(named[:MAX_NAMED] + more)


def ratio_of(match: Match) -> str:
    """Say how the losses of a match compare, over all and by cells."""
    num_pairs = match.comparison.num_pairs
    said = (
        f"Against {match.other}, over {num_pairs} {'pair' if num_pairs == 1 else 'pairs'} of runs: "
        f"{number(match.ratio)} times its final validation loss in the geometric mean "
        f"({interval_of(match) or 'too few pairs for an interval'})."
    )
    if match.is_same:
        said += " All pairs ended with the very same loss: nothing differs."
    better, worse = match.better_in, match.worse_in
    num_level = len(match.ratios) - len(better) - len(worse)
    said += f" By more than {PERCENT} better in {len(better)} of {_cells(len(match.ratios))}, level in {num_level}, "
    said += f"worse in {len(worse)}{f': {cells(worse)}' if worse else ''}."
    if match.num_same:
        said += (
            f" {match.num_same} more pairs are the very same runs as some of these, weight for weight, and add nothing."
        )
    return said


def interval_of(match: Match) -> str:
    """Say the interval of the ratio; empty below the number of pairs that a claim needs, which give none."""
    if match.comparison.num_pairs < MIN_PAIRS:
        return ""
    low, high = match.interval
    return f"95 % interval {number(low)} to {number(high)}"


def outcome_of(name: str, runs: Iterable[Trace]) -> str:
    """Say how many runs of a method learnt and how many were lost, with Wilson's intervals."""
    traces = list(runs)
    learnt = Share(hits=sum(map(has_learnt, traces)), num=len(traces))
    lost = Share(hits=sum(map(is_lost, traces)), num=len(traces))
    return f"{name}: {_share(learnt)} learnt, {_share(lost)} lost."


def claim_of(match: Match) -> str:
    """Say what may be claimed of a match, and by which numbers."""
    comparison = match.comparison
    p = f"p = {number(comparison.p_holm)}"
    if comparison.num_comparisons > 1:
        p += f" after Holm's correction over {comparison.num_comparisons} comparisons"
    may = "no difference may be claimed" if match.claim is Claim.NOTHING else f"{match.claim.value} may be claimed"
    share = f"better in {100 * comparison.improvement:.0f} % of the pairs"
    return f"{match.subject} against {match.other}: {may} ({share}, {p})."


def limits_of(matches: Sequence[Match]) -> list[str]:
    """Say what can not be claimed from so few runs, each sentence once."""
    return list(dict.fromkeys(match.limits for match in matches if match.limits))


def _share(share: Share) -> str:
    low, high = share.interval
    return f"{share.hits} of {share.num} runs ({100 * low:.0f} to {100 * high:.0f} %)"


def _cells(num: int) -> str:
    return f"{num} cell" if num == 1 else f"{num} cells"
