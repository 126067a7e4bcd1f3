"""One method beside another on the same runs: the ratio of their losses, overall and in every cell, and lost runs."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from autotunenet_bench.metrics.across import charged
from autotunenet_bench.metrics.performance import TARGET_SHARE, final_val_loss
from autotunenet_bench.metrics.stability import failure
from autotunenet_bench.report.aggregate import Group
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.statistics import Claim, Comparison, claim, compare, limits
from autotunenet_bench.statistics.paired import Run, together

MARGIN = 1.05
"""A ratio of losses from 1 / 1.05 to 1.05 is level: the share that `recovery_steps` allows a loss to have risen by."""

SEED = 0
"""Of the resampling behind the intervals, so that equal runs give equal reports."""

Key = tuple[str, str]
"""Task and regime, by their display names."""

CellRun = tuple[Key, int]
"""A cell and a seed: what a run is known by here."""

Scores = Mapping[Run, float]
AnyKey = TypeVar("AnyKey", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The subject beside one other method, run by run. A loss counts by `autotunenet_bench.metrics.across.charged`.

    Attributes:
        subject: Display name.
        other: Display name.
        ours: Runs of the subject: all finished, by cell and then by seed.
        theirs: Runs of the other, the same cells and seeds in the same places.
        ratios: Geometric mean over seeds of loss over loss, by cell; below 1 the subject is better.
        comparison: Of the natural logarithms of the losses, so that its difference is that of a ratio.
        num_same: Pairs that are left out because all runs in them are the very same as in another; see `match_all`.
        num_run: Seeds that were run in the cell that has the fewest, those left out included.
        cells: The same comparison in each cell by itself, with Holm's correction over all of them; empty where the
            question is not asked of cells.
    """

    subject: str
    other: str
    ours: tuple[Trace, ...]
    theirs: tuple[Trace, ...]
    ratios: Mapping[Key, float]
    comparison: Comparison
    num_same: int = 0
    num_run: int | None = None
    cells: Mapping[Key, Comparison] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Geometric mean over all pairs of the subject's loss over the other's; 1 is level."""
        return math.exp(self.comparison.difference.point)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of `ratio`."""
        return math.exp(self.comparison.difference.low), math.exp(self.comparison.difference.high)

    @property
    def is_same(self) -> bool:
        """Whether every pair ended with the same loss."""
        return all(_score(ours) == _score(theirs) for ours, theirs in zip(self.ours, self.theirs, strict=True))

    @property
    def ended_ratios(self) -> dict[Key, float]:
        """`ratios` of the losses as they ended, lost runs not held to the loss that they began with.

        A network that overfits may end far above that, and has learned all the same. A loss that is not finite counts
        as in `ratios`.
        """
        return _ratios(self.ours, self.theirs, _ended)

    @property
    def worse_in(self) -> dict[Key, float]:
        """Cells in which the subject is worse by more than `MARGIN`, the worst first."""
        found = [(key, ratio) for key, ratio in self.ratios.items() if ratio > MARGIN]
        return dict(sorted(found, key=lambda item: -item[1]))

    @property
    def better_in(self) -> dict[Key, float]:
        """Cells in which the subject is better by more than `MARGIN`, the best first."""
        found = [(key, ratio) for key, ratio in self.ratios.items() if ratio < 1 / MARGIN]
        return dict(sorted(found, key=lambda item: item[1]))

    @property
    def lost_alone(self) -> int:
        """Runs that the subject lost, and the other did not lose on the same cell and seed."""
        return sum(is_lost(ours) and not is_lost(theirs) for ours, theirs in zip(self.ours, self.theirs, strict=True))

    @property
    def claim(self) -> Claim:
        """What may be said by the one rule of `autotunenet_bench.statistics.claim`."""
        return claim(self.comparison)

    @property
    def limits(self) -> str:
        """What can not be claimed from so few runs; empty where there is nothing to warn of."""
        of = self.comparison
        return limits(of.num_pairs, of.num_seeds, of.num_comparisons, num_same=self.num_same, num_run=self.num_run)


def match_all(
    groups: Sequence[Group], subjects: Sequence[str], against: Sequence[str], *, by_cell: bool = False
) -> list[Match]:
    """Return each subject's match with each of the others, with Holm's correction over all of them.

    Where a regime changes nothing for any of them, its runs are those of another cell once more. What has been counted
    already is no further evidence: such pairs are left out.

    Args:
        groups: Runs in which `autotunenet_bench.report.conclusions.base.obstacles` finds nothing missing.
        subjects: Display names, at least one.
        against: Display names, at least one.
        by_cell: Whether they are compared in each cell by itself too.
    """
    every = {name: _runs_of(groups, name) for name in (*subjects, *against)}
    kept = _distinct(list(every.values()))
    runs = {name: {run: of_name[run] for run in kept} for name, of_name in every.items()}
    scores: dict[str, Scores] = {
        name: {run: _score(trace) for run, trace in of_name.items()} for name, of_name in runs.items()
    }
    pairs = list(itertools.product(subjects, against))
    comparisons = _compared({pair: (scores[pair[0]], scores[pair[1]]) for pair in pairs})
    keys = list(dict.fromkeys(key for key, _ in kept)) if by_cell else []
    in_cells = _compared(
        {(pair, key): (_within(key, scores[pair[0]]), _within(key, scores[pair[1]])) for pair in pairs for key in keys}
    )
    seeds = Counter(key for key, _ in every[subjects[0]])
    return [
        Match(
            subject=subject,
            other=name,
            ours=(ours := tuple(runs[subject].values())),
            theirs=(theirs := tuple(runs[name].values())),
            ratios=_ratios(ours, theirs),
            comparison=comparisons[subject, name],
            num_same=len(every[subject]) - len(kept),
            num_run=min(seeds.values()),
            cells={key: in_cells[(subject, name), key] for key in keys},
        )
        for subject, name in pairs
    ]


def _compared(scores: Mapping[AnyKey, tuple[Scores, Scores]]) -> dict[AnyKey, Comparison]:
    single = {key: compare(ours, theirs, seed=SEED) for key, (ours, theirs) in scores.items()}
    return together(single) if single else {}


def _within(cell: Key, scores: Scores) -> Scores:
    return {run: score for run, score in scores.items() if run[0] == cell}


def is_lost(trace: Trace) -> bool:
    """Whether a run ended without having learnt: the metric ``failure``."""
    return failure(trace) != 0


def has_learnt(trace: Trace) -> bool:
    """Whether a run ended at or below half the loss that it began with, the target of ``steps_to_target``."""
    return final_val_loss(trace) <= TARGET_SHARE * trace.initial_val["loss"]


def _runs_of(groups: Sequence[Group], controller: str) -> dict[CellRun, Trace]:
    return {
        ((group.task, group.regime), trace.spec["seed"]): trace
        for group in groups
        for row in group.rows
        if row.controller == controller
        for trace in row.finished
    }


def _distinct(runs: Sequence[Mapping[CellRun, Trace]]) -> list[CellRun]:
    """Cells and seeds, without those in which every method ended with the weights and the loss of an earlier one."""
    first: dict[tuple[tuple[str, float], ...], CellRun] = {}
    for run in runs[0]:
        ends = tuple((of_name[run].weights_sha256, charged(of_name[run])) for of_name in runs)
        first.setdefault(ends, run)
    return list(first.values())


def _ratios(
    ours: Sequence[Trace], theirs: Sequence[Trace], score: Callable[[Trace], float] | None = None
) -> dict[Key, float]:
    score = score or _score
    differences: dict[Key, list[float]] = {}
    for one, other in zip(ours, theirs, strict=True):
        differences.setdefault(one.label[:2], []).append(score(one) - score(other))
    return {cell: math.exp(math.fsum(values) / len(values)) for cell, values in differences.items()}


def _score(trace: Trace) -> float:
    return math.log(charged(trace))


def _ended(trace: Trace) -> float:
    loss = final_val_loss(trace)
    return math.log(loss) if math.isfinite(loss) and loss > 0 else _score(trace)
