"""What may be said of the controllers of a result folder: their scores, and the claims that the rule allows.

The score is `autotunenet_bench.metrics.scoring.compute_adjusted`, the rule `autotunenet_bench.statistics.claim`. All
that is decided here is whom the comparisons are about.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from autotunenet_bench.metrics.scoring import COMPUTE_ADJUSTED, LeftOut, Score, compute_adjusted, scorable
from autotunenet_bench.metrics.stability import FAILURE_FRACTION
from autotunenet_bench.report.aggregate import in_order
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.statistics import Claim, Comparison, claim, compare_all, limits
from autotunenet_bench.statistics.claims import MIN_PAIRS
from autotunenet_bench.statistics.resampling import NUM_RESAMPLES

SUBJECT = "autotunenet"
"""Name of the controller that is compared with all others, where it took part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The subject against one other controller.

    Attributes:
        subject: Display name.
        other: Display name.
        comparison: Of the regrets, run by run; below 0 the subject is better.
        claim: What the rule allows to say.
        headline: The same in plain words.
        evidence: The numbers behind it, in words.
    """

    subject: str
    other: str
    comparison: Comparison
    claim: Claim
    headline: str
    evidence: str

    @property
    def sentence(self) -> str:
        """Headline and evidence."""
        return f"{self.headline}: {self.evidence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """What may be said of all controllers.

    Attributes:
        controllers: Display names of all that took part, in order of appearance.
        scores: The best first; empty where `why_not` says why.
        subject: Whom `verdicts` are about; empty without scores.
        is_chosen_by_score: Whether the subject is the one with the best score, for want of one named `SUBJECT`.
        verdicts: One for every other controller, in the order of `scores`.
        limits: What can not be claimed from so few runs; empty where there is nothing to warn of.
        num_cells: Cells that were scored: tasks, with their initial lr, under a regime.
        left_out: Cells that could not be.
        why_not: Why there is no score at all; empty where there is one.
        losses: By controller, cell and seed, the loss at the budget; infinity for a run that had learnt nothing.
    """

    controllers: tuple[str, ...]
    scores: tuple[Score, ...] = ()
    subject: str = ""
    is_chosen_by_score: bool = False
    verdicts: tuple[Verdict, ...] = ()
    limits: str = ""
    num_cells: int = 0
    left_out: tuple[LeftOut, ...] = ()
    why_not: str = ""
    losses: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)


def judge(
    traces: Iterable[Trace], *, subject: str | None = None, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> Verdicts:
    """Score all controllers and compare one of them with every other.

    Cells that cannot be scored are left out for all controllers, and told. The subject is the given one, else the first
    controller named `SUBJECT`, else the one with the best score.

    Args:
        traces: Runs, finished or not, in any order of their seeds.
        subject: Display name of the controller that the runs are about; where it has none that can be scored, and where
            it is None, another is taken.
        seed: Of the generators of the intervals and tests.
        num_resamples: Of the intervals.

    Returns:
        Scores and verdicts; or, in `Verdicts.why_not`, the reason why there are none. Nothing is raised for want of
        runs.
    """
    runs = in_order(traces)
    names = tuple(dict.fromkeys(run.label[2] for run in runs))
    kept, left_out = scorable(runs)
    if not kept:
        num = len(left_out)
        why_not = left_out[0].reason if left_out else "there are no runs"
        why_not = f"none of the {num} cells can be scored; of the first: {why_not}" if num > 1 else why_not
        return Verdicts(controllers=names, left_out=tuple(left_out), why_not=why_not)
    try:
        scores = compute_adjusted(kept, seed=seed, num_resamples=num_resamples)
    except ValueError as error:  # between cells: protocols or budgets that do not go together
        return Verdicts(controllers=names, left_out=tuple(left_out), why_not=str(error))
    named = subject if subject in [score.controller for score in scores] else _named(kept, SUBJECT)
    about = named or scores[0].controller
    verdicts = _verdicts(scores, about, seed=seed, num_resamples=num_resamples)
    first = verdicts[0].comparison if verdicts else None
    return Verdicts(
        controllers=names,
        scores=tuple(scores),
        subject=about,
        is_chosen_by_score=not named,
        verdicts=verdicts,
        limits=limits(first.num_pairs, first.num_seeds, first.num_comparisons) if first else "",
        num_cells=len(scores[0].regrets),
        left_out=tuple(left_out),
        losses={name: _losses(kept, name) for name in names},
    )


def verdict(ours: str, other: str, comparison: Comparison, *, what: str) -> Verdict:
    """Return what a comparison allows to say, in plain words too.

    Args:
        ours: A of the comparison.
        other: B of it.
        comparison: Lower scores are better.
        what: What the scores are, such as "regret".

    >>> from autotunenet_bench.statistics import compare
    >>> ours = {("digits", seed): 0.25 for seed in range(5)}
    >>> verdict("tuner", "fixed", compare(ours, {run: 0.5 for run in ours}, seed=0), what="regret").headline
    'No claim about tuner and fixed'
    """
    found, difference = claim(comparison), comparison.difference
    if difference.low == difference.high == 0:
        evidence = f"the {what} is the same in all {comparison.num_pairs} pairs."
        headline = f"Nothing differs between {ours} and {other}"
        return Verdict(
            subject=ours, other=other, comparison=comparison, claim=found, headline=headline, evidence=evidence
        )
    many = comparison.num_comparisons > 1
    correction = f" after Holm's correction over {comparison.num_comparisons} comparisons" if many else ""
    evidence = (
        f"mean difference of the {what} {_signed(difference.point)} ({_interval(comparison)}), lower in "
        f"{100 * comparison.improvement:.0f} % of {comparison.num_pairs} pairs, "
        f"p = {comparison.p_holm:.3g}{correction}."
    )
    is_silent = found is Claim.NOTHING
    return Verdict(
        subject=ours,
        other=other,
        comparison=comparison,
        claim=found,
        headline=f"No claim about {ours} and {other}" if is_silent else f"{ours} is {found.value} than {other}",
        evidence=f"{evidence} That does not say that they are equal." if is_silent else evidence,
    )


def _verdicts(scores: Sequence[Score], subject: str, *, seed: int, num_resamples: int) -> tuple[Verdict, ...]:
    runs: dict[str, dict[tuple[Hashable, int], float]] = {
        score.controller: {(cell, place): r for cell, row in enumerate(score.regrets) for place, r in enumerate(row)}
        for score in scores
    }
    others = {name: values for name, values in runs.items() if name != subject}
    if not others:
        return ()
    compared = compare_all(runs[subject], others, seed=seed, num_resamples=num_resamples)
    return tuple(verdict(subject, name, comparison, what="regret") for name, comparison in compared.items())


def _named(runs: Sequence[Trace], name: str) -> str:
    """The display name of the first run of the controller `name`; empty without one."""
    known = ((run.spec.get("controller") or {}).get("name", run.label[2]) == name for run in runs)
    return next((run.label[2] for run, is_it in zip(runs, known, strict=True) if is_it), "")


def _losses(runs: Sequence[Trace], controller: str) -> list[list[float]]:
    cells: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        if run.label[2] == controller:
            loss = COMPUTE_ADJUSTED(run)
            has_learnt = loss < FAILURE_FRACTION * run.initial_val["loss"]
            cells.setdefault((run.label[0], run.label[1]), []).append(loss if has_learnt else math.inf)
    return list(cells.values())


def _interval(comparison: Comparison) -> str:
    if comparison.num_pairs < MIN_PAIRS:
        return "too few pairs for an interval"
    return f"95 % interval {_signed(comparison.difference.low)} to {_signed(comparison.difference.high)}"


def _signed(value: float) -> str:
    """Three decimals, or one digit of what would be 0.000."""
    if value == 0:
        return "0"
    return f"{value:+.3f}" if abs(value) >= 5e-4 else f"{value:+.0e}"
