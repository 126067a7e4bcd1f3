"""Two result folders, A and B, set beside each other run by run: is a controller better in B, or worse?

Pairs have the same task, regime, controller (all by display name) and seed. What is compared is the share of the
initial loss that is left, so that tasks with losses of different kinds can be averaged.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autotunenet_bench.metrics.across import FINAL, charged
from autotunenet_bench.metrics.base import Metric
from autotunenet_bench.metrics.scoring import COMPUTE_ADJUSTED
from autotunenet_bench.protocol import comparable
from autotunenet_bench.report.csvs import flatten
from autotunenet_bench.report.verdicts import Verdict, verdict
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.statistics import Claim, Comparison, compare, limits
from autotunenet_bench.statistics.paired import together

Key = tuple[str, str, str, int]
"""Task, regime, controller and seed."""

VERSION_OF = "version of "
"""Beginning of the name of what is no field of the spec, but a version that the run was begun with."""

MACHINES = {
    "machine": "kind of processor",
    "cpu": "processor",
    "cpu_capability": "instructions of the processor",
    "platform": "system",
    "gpu": "GPU",
}
"""What is no field of the spec either, but of the machine: by its name in an environment, words."""

UNKNOWN = "-"
"""Stands for a field that one of two runs does not have."""

LOST = 1.0
"""Share of the initial loss that is left of a run that failed: nothing was learnt."""


class ComparisonError(ValueError):
    """Two folders cannot be compared; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run of a folder.

    Attributes:
        spec: What was run.
        trace: As far as it came; None where it failed before its first row.
        failure: What went wrong; empty for a run that did not fail.
    """

    spec: Mapping[str, Any]
    trace: Trace | None
    failure: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end, be it diverged."""
        return not self.failure and self.trace is not None and self.trace.finished

    @property
    def counts(self) -> bool:
        """Whether it can be one of a pair: it is finished, or it failed and so is lost."""
        return bool(self.failure) or self.is_finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two folders.

    Attributes:
        name: How it is called on the page.
        runs: What is known of each.
        unread: What is known of runs that left no spec, by run id.
    """

    name: str
    runs: Mapping[Key, Outcome]
    unread: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same run in A and in B.

    Attributes:
        key: Which.
        a: Share of the initial loss that is left in A; lower is better, at most 1.
        b: The same in B.
        is_identical: Whether both ended with the same weights, bit for bit, and the same loss.
    """

    key: Key
    a: float
    b: float
    is_identical: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Several pairs together.

    Attributes:
        task: Display name; empty for all tasks.
        regime: Display name; empty for all regimes.
        controller: Display name.
        pairs: At least one.
    """

    task: str = ""
    regime: str = ""
    controller: str
    pairs: tuple[Pair, ...]

    @property
    def mean_a(self) -> float:
        """Mean share in A."""
        return math.fsum(pair.a for pair in self.pairs) / len(self.pairs)

    @property
    def mean_b(self) -> float:
        """Mean share in B."""
        return math.fsum(pair.b for pair in self.pairs) / len(self.pairs)

    @property
    def difference(self) -> float:
        """Mean of B - A; above 0 B is worse."""
        return math.fsum(pair.b - pair.a for pair in self.pairs) / len(self.pairs)

    @property
    def num_identical(self) -> int:
        """Pairs with the same weights at their end."""
        return sum(pair.is_identical for pair in self.pairs)

    @property
    def is_identical(self) -> bool:
        """Whether all pairs are."""
        return self.num_identical == len(self.pairs)


@dataclass(frozen=True, slots=True)
class Difference:
    """A field of the spec, or a version, that is not the same in A and in B; and in how many pairs."""

    field: str
    a: str
    b: str
    num_pairs: int

    @property
    def is_of_environment(self) -> bool:
        """Whether it is no field of the spec, but a version or the machine."""
        return self.field.startswith(VERSION_OF) or self.field in MACHINES.values()


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderComparison:
    """What was measured of B against A.

    Attributes:
        a: The first folder.
        b: The second.
        metric: The loss behind the shares.
        controllers: Every controller over all its pairs, in order of appearance, with its verdict: B against A.
        cells: Every controller in every cell, the largest rise first.
        limits: What can not be claimed from so few pairs; empty where there is nothing to warn of.
        differences: What is not the same in the specs and versions of the pairs; the most frequent first.
        only_a: Runs that only A has.
        only_b: Runs that only B has.
        remarks: Runs that are in both and make no pair, or count as lost.
    """

    a: Side
    b: Side
    metric: Metric
    controllers: tuple[tuple[Change, Verdict], ...]
    cells: tuple[Change, ...]
    limits: str
    differences: tuple[Difference, ...]
    only_a: tuple[Key, ...]
    only_b: tuple[Key, ...]
    remarks: tuple[str, ...]

    @property
    def confounders(self) -> list[str]:
        """What differs in specs besides the controllers: it may be behind any difference of the losses."""
        fields = dict.fromkeys(one.field for one in self.differences if not one.is_of_environment)
        return [field for field in fields if not field.startswith("controller.") and field != "protocol"]

    @property
    def environments(self) -> list[Difference]:
        """Versions and machines that differ, and are known of both sides."""
        return [one for one in self.differences if one.is_of_environment and UNKNOWN not in (one.a, one.b)]

    @property
    def worse(self) -> list[str]:
        """Controllers that are by the rule worse in B."""
        claims = (Claim.WORSE, Claim.MEANINGFULLY_WORSE)
        return [change.controller for change, verdict in self.controllers if verdict.claim in claims]

    @property
    def unfinished(self) -> dict[str, tuple[int, int]]:
        """Controllers with runs that are finished in A and not in B (failed, interrupted, absent): how many of A's."""
        counts: dict[str, tuple[int, int]] = {}
        for key, run in self.a.runs.items():
            if run.is_finished:
                num_lost, num_runs = counts.get(key[2], (0, 0))
                is_lost = key not in self.b.runs or not self.b.runs[key].is_finished
                counts[key[2]] = (num_lost + is_lost, num_runs + 1)
        return {controller: count for controller, count in counts.items() if count[0]}

    @property
    def regressions(self) -> list[Change]:
        """Cells whose mean rose, the largest rise first; no claims."""
        return [cell for cell in self.cells if cell.difference > 0]


def compare_sides(a: Side, b: Side, *, seed: int = 0) -> FolderComparison:
    """Compare two folders run by run, each controller with itself.

    Args:
        a: The one to compare with.
        b: The one in question.
        seed: Of the generators of intervals and tests.

    Raises:
        ComparisonError: If no run is in both, protocols may not be compared, or an initial loss is no number above 0.
    """
    shared = [key for key in a.runs if key in b.runs and a.runs[key].counts and b.runs[key].counts]
    if not shared:
        raise ComparisonError(
            f"{a.name} and {b.name} have no finished run in common: the same task, regime, controller (by their names "
            "in the tables) and seed; run the same config for both"
        )
    for key in shared:
        _check_protocols(a.runs[key], b.runs[key], key)
    metric = _metric([run.trace for side in (a, b) for key in shared if (run := side.runs[key]).trace])
    pairs = [_pair(key, a.runs[key], b.runs[key], metric) for key in shared]
    changes = _grouped(pairs, lambda key: ("", "", key[2]))
    compared = {change.controller: compare(*_scores(change), seed=seed) for change in changes}
    # A controller that did the same in both, bit for bit, has not been tried anew: it must not weigh on the others.
    tried = {change.controller: compared[change.controller] for change in changes if not change.is_identical}
    compared |= together(tried) if tried else {}
    told = tried or compared
    return FolderComparison(
        a=a,
        b=b,
        metric=metric,
        controllers=tuple((change, _verdict(change.controller, compared)) for change in changes),
        cells=tuple(sorted(_grouped(pairs, lambda key: key[:3]), key=lambda cell: -cell.difference)),
        limits=limits(
            min(one.num_pairs for one in told.values()), min(one.num_seeds for one in told.values()), len(told)
        ),
        differences=_differences([(a.runs[key], b.runs[key]) for key in shared]),
        only_a=tuple(key for key in a.runs if key not in b.runs),
        only_b=tuple(key for key in b.runs if key not in a.runs),
        remarks=tuple(_remarks(a, b)),
    )


def _verdict(controller: str, compared: Mapping[str, Comparison]) -> Verdict:
    return verdict(f"{controller} of B", "that of A", compared[controller], what="share of the initial loss")


def words(key: Key) -> str:
    """Return a run in words."""
    return f"{', '.join(key[:3])}, seed {key[3]}"


def _check_protocols(a: Outcome, b: Outcome, key: Key) -> None:
    one, other = (str(run.spec.get("protocol", "")) for run in (a, b))
    try:
        if comparable(one, other):
            return
    except ValueError as error:
        raise ComparisonError(f"{words(key)}: {error}") from error
    raise ComparisonError(
        f"{words(key)}: A was measured by protocol {one} and B by protocol {other}, which may not be compared: they "
        "count differently; run the older one again"
    )


def _metric(traces: Iterable[Trace]) -> Metric:
    """The loss at the budget where all runs know it, else the final one."""
    known = all(not trace.finished or math.isfinite(COMPUTE_ADJUSTED(trace)) for trace in traces)
    return COMPUTE_ADJUSTED if known else FINAL


def _pair(key: Key, a: Outcome, b: Outcome, metric: Metric) -> Pair:
    digests = [run.trace.weights_sha256 if run.trace else "" for run in (a, b)]
    one, other = _share(a, metric, f"A, {words(key)}"), _share(b, metric, f"B, {words(key)}")
    return Pair(key=key, a=one, b=other, is_identical=one == other and bool(digests[0]) and digests[0] == digests[1])


def _share(run: Outcome, metric: Metric, where: str) -> float:
    if run.failure or run.trace is None:
        return LOST
    initial = run.trace.initial_val["loss"]
    if not (math.isfinite(initial) and initial > 0):
        raise ComparisonError(f"{where}: its loss before the first step is {initial}, and no share of it can be told")
    return charged(run.trace, metric) / initial


def _scores(change: Change) -> tuple[dict[Any, float], dict[Any, float]]:
    """B and A by cell and seed."""
    runs = {(pair.key[:2], pair.key[3]): pair for pair in change.pairs}
    return {run: pair.b for run, pair in runs.items()}, {run: pair.a for run, pair in runs.items()}


def _grouped(pairs: Iterable[Pair], part: Callable[[Key], tuple[str, ...]]) -> list[Change]:
    groups: dict[tuple[str, ...], list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[part(pair.key)].append(pair)
    return [
        Change(task=task, regime=regime, controller=controller, pairs=tuple(group))
        for (task, regime, controller), group in groups.items()
    ]


def _differences(runs: Sequence[tuple[Outcome, Outcome]]) -> tuple[Difference, ...]:
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    for one, other in runs:
        before, after = _described(one), _described(other)
        for field in {**before, **after}:
            if before.get(field) != after.get(field):
                counts[field, before.get(field, UNKNOWN), after.get(field, UNKNOWN)] += 1
    found = [Difference(*names, num) for names, num in counts.items()]
    return tuple(sorted(found, key=lambda difference: -difference.num_pairs))


def _described(run: Outcome) -> dict[str, str]:
    """Spec and versions as texts; the names in tables are left out, as they are what the runs were paired by."""
    spec = {key: value for key, value in run.spec.items() if key != "labels"}
    flat = {key: value for key, value in flatten("", spec).items() if not key.endswith(".label")}
    if run.trace:
        environment = run.trace.environment.items()
        flat |= {MACHINES.get(name, f"{VERSION_OF}{name}"): value for name, value in environment}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in flat.items()}


def _remarks(a: Side, b: Side) -> Iterable[str]:
    for name, side, other in (("A", a, b), ("B", b, a)):
        for key, run in side.runs.items():
            if run.failure and key in other.runs:
                yield f"{words(key)}: failed in {name} and counts as lost there ({run.failure})"
            elif not run.counts and key in other.runs:
                yield f"{words(key)}: not finished in {name}, so it makes no pair"
        for run_id, told in side.unread.items():
            yield f"{run_id}: nothing to read in {name} ({told})"
