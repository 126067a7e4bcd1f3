"""Sentences that more than one rule needs. Names stand in them as they are; whoever shows them escapes them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from autotunenet_bench.metrics.across import Share
from autotunenet_bench.report.conclusions.matches import MARGIN, Key, Match, has_learnt, is_lost
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.statistics import Claim, Comparison, claim, limits
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
        f"{match.subject} against {match.other}, over {num_pairs} {'pair' if num_pairs == 1 else 'pairs'} of runs: "
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
    words = interval_words(match.comparison)
    return f"95 % interval {words}" if words else ""


def interval_words(comparison: Comparison) -> str:
    """Write the interval of a ratio from that of its logarithm; empty below the number of pairs that a claim needs."""
    if comparison.num_pairs < MIN_PAIRS:
        return ""
    return f"{number(math.exp(comparison.difference.low))} to {number(math.exp(comparison.difference.high))}"


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


def claims_by_cell(matches: Sequence[Match]) -> list[str]:
    """Say what may be claimed of single cells, where the question is asked of them; else nothing."""
    compared = [(match, key, comparison) for match in matches for key, comparison in match.cells.items()]
    if not compared:
        return []
    claims = [claim(comparison) for *_, comparison in compared]
    said = [
        f"{match.subject} against {match.other} in {' under '.join(key)}: {found.value} may be claimed (better in "
        f"{100 * of.improvement:.0f} % of the pairs, p = {number(of.p_holm)} after Holm's correction over "
        f"{of.num_comparisons} comparisons)."
        for (match, key, of), found in zip(compared, claims, strict=True)
        if found is not Claim.NOTHING
    ]
    silent = [of.p_holm for (*_, of), found in zip(compared, claims, strict=True) if found is Claim.NOTHING]
    if silent:
        said.append(
            f"In {len(silent)} of {len(compared)} comparisons of single cells no difference may be claimed (lowest "
            f"p = {number(min(silent))} after Holm's correction over {len(compared)})."
        )
    few = {limits(of.num_pairs, of.num_seeds, of.num_comparisons): None for *_, of in compared}
    return [*said, *(f"Of single cells: {words[0].lower()}{words[1:]}" for words in few if words)]


def limits_of(matches: Sequence[Match]) -> list[str]:
    """Say what can not be claimed from so few runs, each sentence once."""
    return list(dict.fromkeys(match.limits for match in matches if match.limits))


def caution_of(matches: Sequence[Match]) -> str:
    """Say in one sentence that nothing may be claimed, where that is so of all comparisons; else nothing."""
    every = [of for match in matches for of in (match.comparison, *match.cells.values())]
    if not every or any(claim(of) is not Claim.NOTHING for of in every):
        return ""
    few = next((words for words in limits_of(matches) if words.startswith("Nothing can be claimed")), "")
    return few or "Of other seeds nothing may be claimed: no comparison passes the rule."


def _share(share: Share) -> str:
    low, high = share.interval
    return f"{share.hits} of {share.num} runs ({100 * low:.0f} to {100 * high:.0f} %)"


def _cells(num: int) -> str:
    return f"{num} cell" if num == 1 else f"{num} cells"
