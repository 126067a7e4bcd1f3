"""Runs that differ only by seed, brought together. No run is dropped without a word about it."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from autotunenet_bench.metrics import METRICS, Direction, summarize
from autotunenet_bench.results.trace import Trace


@dataclass(frozen=True, slots=True)
class Stat:
    """One metric over seeds.

    Attributes:
        values: One a finished run, in the order of the runs.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Arithmetic mean; NaN without values, and where any value is NaN."""
        return sum(self.values) / len(self.values) if self.values else math.nan

    @property
    def median(self) -> float:
        """Median, for values among which infinity is a miss; NaN without values, and where any value is NaN.

        >>> Stat((3.0, math.inf, 5.0)).median
        5.0
        """
        return median(self.values) if self.values and not any(map(math.isnan, self.values)) else math.nan

    @property
    def sd(self) -> float:
        """Sample standard deviation (n - 1); NaN for fewer than two values and where a value is not finite.

        >>> Stat((1.0, 3.0)).sd == 2**0.5
        True
        """
        if len(self.values) < 2 or not all(map(math.isfinite, self.values)):
            return math.nan
        differences = [value - self.mean for value in self.values]
        # A product, since a power raises where it overflows.
        return math.sqrt(sum(difference * difference for difference in differences) / (len(self.values) - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One controller on one task under one regime.

    Attributes:
        controller: Display name.
        finished: The runs that came to their end, by seed. Only these enter `stats`.
        unfinished: The runs that did not: failed, interrupted or still going.
        stats: Every metric of `METRICS` over `finished`; but of those that only some tasks have, what these runs have.
        num_asked: Decisions of all runs, finished or not.
        num_refused: Those of them whose proposal was not finite, and so was never put in force.
        num_diverged: Finished runs with at least one divergence event, whether or not they recovered.
        differing: Keys of the spec, besides the seed, in which the runs of this row differ. Should be empty: runs that
            share a display name but not a configuration are no repetitions of each other.
    """

    controller: str
    finished: tuple[Trace, ...]
    unfinished: tuple[Trace, ...]
    stats: Mapping[str, Stat]
    num_asked: int
    num_refused: int
    num_diverged: int
    differing: tuple[str, ...]

    def stat(self, metric: str) -> Stat:
        """A metric over `finished`; without values where the runs do not have it."""
        return self.stats.get(metric, Stat(()))

    @property
    def num_runs(self) -> int:
        """All runs, finished or not."""
        return len(self.finished) + len(self.unfinished)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The controllers that met the same task and regime, and so can be compared."""

    task: str
    regime: str
    rows: tuple[Row, ...]

    def best(self, metric: str) -> frozenset[str]:
        """Controllers with the best mean of `metric` (median where a run may miss); empty where there is no choice.

        A mark of this kind orders numbers. It says nothing about whether the difference would survive other seeds.
        """
        direction = METRICS[metric].direction
        stats = {row.controller: row.stat(metric) for row in self.rows}
        means = {name: stat.median if METRICS[metric].may_miss else stat.mean for name, stat in stats.items()}
        finite = {name: mean for name, mean in means.items() if math.isfinite(mean)}
        if direction is Direction.NONE or len(means) < 2 or not finite:
            return frozenset()
        top = (min if direction is Direction.MIN else max)(finite.values())
        winners = frozenset(name for name, mean in finite.items() if mean == top)
        return winners if len(winners) < len(means) else frozenset()


def aggregate(traces: Iterable[Trace]) -> list[Group]:
    """Group runs by task and regime, and in there by controller, over seeds; all three as they first appear."""
    cells: dict[tuple[str, str], dict[str, list[Trace]]] = defaultdict(lambda: defaultdict(list))
    for trace in in_order(traces):
        task, regime, controller = trace.label
        cells[task, regime][controller].append(trace)
    return [
        Group(task=task, regime=regime, rows=tuple(_row(name, runs) for name, runs in by_controller.items()))
        for (task, regime), by_controller in cells.items()
    ]


def summaries(groups: Iterable[Group]) -> dict[int, dict[str, float]]:
    """Return every metric of the finished runs by the identity of the trace, for whoever has the groups already."""
    return {
        id(trace): {name: stat.values[index] for name, stat in row.stats.items()}
        for group in groups
        for row in group.rows
        for index, trace in enumerate(row.finished)
    }


def in_order(traces: Iterable[Trace]) -> list[Trace]:
    """`traces` by task, regime and controller as they first appear, then by seed and the rest of the spec.

    First appearance is the order of the config, where a baseline stands before what is measured against it.
    """
    runs = list(traces)
    ranks = [
        {name: i for i, name in enumerate(dict.fromkeys(names))} for names in zip(*(r.label for r in runs), strict=True)
    ]

    places = [(*(rank[name] for rank, name in zip(ranks, r.label, strict=True)), r.spec["seed"]) for r in runs]
    shared = {place for place, number in Counter(places).items() if number > 1}
    # Nearly all differ by now, and writing out thousands of specs takes seconds.
    rest = [_canonical(run.spec) if place in shared else "" for run, place in zip(runs, places, strict=True)]
    order = sorted(range(len(runs)), key=lambda index: (places[index], rest[index]))
    return [runs[index] for index in order]


def _row(controller: str, runs: Sequence[Trace]) -> Row:
    finished = tuple(trace for trace in runs if trace.finished)
    summaries = [summarize(trace) for trace in finished]
    # No generator: a row may have tens of thousands of decisions.
    asked = [all(map(math.isfinite, decision.proposed.values())) for run in runs for decision in run.decisions]
    names = [name for name, metric in METRICS.items() if not metric.needs or any(map(metric.is_of, finished))]
    return Row(
        controller=controller,
        finished=finished,
        unfinished=tuple(trace for trace in runs if not trace.finished),
        stats={name: Stat(tuple(summary.get(name, math.nan) for summary in summaries)) for name in names},
        num_asked=len(asked),
        num_refused=asked.count(False),
        num_diverged=sum(summary["divergence_events"] > 0 for summary in summaries),
        differing=_differing_keys([trace.spec for trace in runs]),
    )


def _differing_keys(specs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    keys = sorted({key for spec in specs for key in spec} - {"seed"})
    first = specs[0] if specs else {}
    # Writing thousands of specs out to compare them takes seconds, and nearly all are equal.
    unequal = [key for key in keys if any(spec.get(key) != first.get(key) for spec in specs)]
    return tuple(key for key in unequal if len({_canonical(spec.get(key)) for spec in specs}) > 1)


def _canonical(value: object) -> str:
    return _ENCODER.encode(value)


_ENCODER = json.JSONEncoder(sort_keys=True, default=str)
