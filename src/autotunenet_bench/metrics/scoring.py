"""The headline score: what a method had come to when it had spent what the plain run spends. See `docs/scoring.md`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autotunenet_bench.metrics.across import Share, by_seed, problem, starting_point
from autotunenet_bench.metrics.compute import METRICS as COMPUTE
from autotunenet_bench.metrics.compute import flop_budget
from autotunenet_bench.metrics.stability import FAILURE_FRACTION
from autotunenet_bench.protocol import comparable
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.statistics import Interval, bootstrap, normalised_regret, worst_decile
from autotunenet_bench.statistics.resampling import NUM_RESAMPLES

SCORING_VERSION = "1.0"
"""Of this rule. It is counted apart from the protocol, for the same runs can be scored anew by a later rule."""

COMPUTE_ADJUSTED = next(metric for metric in COMPUTE if metric.name == "compute_adjusted_val_loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One method over all cells.

    Attributes:
        controller: Display name.
        iqm: Interquartile mean of the regrets in [0, 1], with its 95 % interval; lower is better. The headline.
        worst_decile: Mean of the worst tenth of them, which `iqm` does not see.
        failures: Runs that at the budget had not learnt.
        regrets: By cell in order of appearance, and in there by seed.
        version: `SCORING_VERSION`.
    """

    controller: str
    iqm: Interval
    worst_decile: float
    failures: Share
    regrets: tuple[tuple[float, ...], ...]
    version: str = SCORING_VERSION


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A cell that cannot be scored.

    Attributes:
        task: Display name.
        regime: Display name.
        reason: What is wrong there, and what to do.
    """

    task: str
    regime: str
    reason: str


def scorable(traces: Iterable[Trace]) -> tuple[list[Trace], list[LeftOut]]:
    """Return the runs of all cells that `compute_adjusted` can score, and the cells that it cannot, with the reasons.

    A cell goes for all controllers or for none: where one run is missing, the runs that are there are left out too, or
    a method would be spared the cells that it lost. It is spared them even so, and so is every other: whoever shows a
    score shows what was left out beside it.

    Args:
        traces: Runs, finished or not.

    Returns:
        Runs in their order, by cell; and the cells that were left out.
    """
    runs = list(traces)
    names = list(dict.fromkeys(trace.label[2] for trace in runs))
    cells = _cells(runs)
    groups = {key: [trace for same in cell.values() for trace in same] for key, cell in cells.items()}
    faults: dict[str, str] = {}
    for key, cell in cells.items():
        try:
            _check(groups[key])
            _check_complete(cell, names)
        except ValueError as error:
            faults[key] = str(error)
    # Of the runs that are left, for these are what `compute_adjusted` will have.
    oracles = _Oracles([trace for key, group in groups.items() if key not in faults for trace in group])
    for key, group in groups.items():
        try:
            for trace in () if key in faults else group:
                _regret(trace, oracles)
        except ValueError as error:
            faults[key] = str(error)
    kept = [trace for key, group in groups.items() if key not in faults for trace in group]
    return kept, [LeftOut(*groups[key][0].label[:2], faults[key]) for key in groups if key in faults]


def compute_adjusted(
    traces: Iterable[Trace],
    *,
    references: Iterable[Trace] | None = None,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> list[Score]:
    """Return the score of every controller, the best first.

    Args:
        traces: Finished runs. A cell is a task, with its initial lr, under a regime; every controller has the same
            seeds in every cell, at least two.
        references: Finished runs that the oracle is taken from, such as fixed lrs on a grid; None: `traces`.
        seed: Of the bootstrap's generator.
        num_resamples: Of the bootstrap.

    Raises:
        ValueError: If there is no run; one is not finished, has no FLOPs recorded or no finite L_0; protocols may not
            be compared; runs of one problem have other budgets; a controller lacks a run that another has; a seed has
            no reference on other seeds; or the oracle has learnt nothing.
    """
    runs = list(traces)
    known = runs if references is None else list(references)
    _check([*runs, *known])
    oracles = _Oracles(known)
    names = list(dict.fromkeys(trace.label[2] for trace in runs))
    regrets: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    lost: dict[str, list[bool]] = defaultdict(list)
    for cell in _cells(runs).values():
        _check_complete(cell, names)
        for name, group in cell.items():
            group.sort(key=lambda trace: int(trace.spec["seed"]))
            regrets[name].append(tuple(_regret(trace, oracles) for trace in group))
            lost[name] += [
                not COMPUTE_ADJUSTED(trace) < FAILURE_FRACTION * trace.initial_val["loss"] for trace in group
            ]
    scores = [
        Score(
            controller=name,
            iqm=bootstrap(regrets[name], seed=seed, num_resamples=num_resamples),
            worst_decile=worst_decile([value for row in regrets[name] for value in row]),
            failures=Share(hits=sum(lost[name]), num=len(lost[name])),
            regrets=tuple(regrets[name]),
        )
        for name in names
    ]
    return sorted(scores, key=lambda score: score.iqm.point)


class _Oracles:
    """For each problem and seed the best mean loss of any method from anywhere, over the other seeds."""

    def __init__(self, references: Sequence[Trace]) -> None:
        groups: dict[tuple[str, str, str], list[Trace]] = defaultdict(list)
        for trace in references:
            groups[problem(trace), starting_point(trace), trace.label[2]].append(trace)
        # By problem, for every run asks: a suite has hundreds of groups, and each problem few of them.
        self._losses: dict[str, list[Mapping[int, float]]] = defaultdict(list)
        for (what, _, _), group in groups.items():
            self._losses[what].append(by_seed(group, ", ".join(group[0].label), COMPUTE_ADJUSTED))

    def of(self, trace: Trace) -> float:
        """Return the oracle of a run."""
        seed, means = int(trace.spec["seed"]), []
        for losses in self._losses.get(problem(trace), ()):
            others = [loss for other, loss in losses.items() if other != seed]
            if others:
                means.append(math.fsum(others) / len(others))
        if not means:
            raise ValueError(f"{_words(trace)}: the oracle needs runs with other seeds; run two seeds or more")
        return min(means)


def _cells(runs: Iterable[Trace]) -> dict[str, dict[str, list[Trace]]]:
    """The runs by cell and, in there, by controller; both in order of appearance."""
    cells: dict[str, dict[str, list[Trace]]] = defaultdict(lambda: defaultdict(list))
    for trace in runs:
        cells[problem(trace) + starting_point(trace)][trace.label[2]].append(trace)
    return cells


def _regret(trace: Trace, oracles: _Oracles) -> float:
    initial, value, oracle = trace.initial_val["loss"], COMPUTE_ADJUSTED(trace), oracles.of(trace)
    if not oracle < initial:
        raise ValueError(f"{_words(trace)}: no reference has learnt anything; leave this cell out, and say so")
    failed = not value < FAILURE_FRACTION * initial
    return float(normalised_regret(value, initial=initial, oracle=oracle, failed=failed))


def _check(runs: Sequence[Trace]) -> None:
    if not runs:
        raise ValueError("a score needs at least one run, got none")
    first, budgets = runs[0], dict[str, float]()
    for trace in runs:
        if not comparable(first.spec.get("protocol", ""), trace.spec.get("protocol", "")):
            versions = f"{first.spec['protocol']} and {trace.spec['protocol']}"
            raise ValueError(f"{_words(trace)}: runs of protocols {versions} may not be compared; run them again")
        if not trace.finished:
            raise ValueError(f"{_words(trace)}: the run is not finished, and no run is dropped; finish it")
        if math.isnan(COMPUTE_ADJUSTED(trace)):
            raise ValueError(f"{_words(trace)}: no FLOPs were recorded, or L_0 is not finite; run it again")
        if budgets.setdefault(problem(trace), flop_budget(trace)) != flop_budget(trace):
            raise ValueError(f"{_words(trace)}: its budget is another than that of other runs of the same problem")


def _check_complete(cell: dict[str, list[Trace]], names: Sequence[str]) -> None:
    seeds = {name: sorted(trace.spec["seed"] for trace in cell.get(name, [])) for name in names}
    if len({tuple(each) for each in seeds.values()}) > 1 or len(set(seeds[names[0]])) < len(seeds[names[0]]):
        some = next(iter(cell.values()))[0]
        told = "; ".join(f"{name}: {each}" for name, each in seeds.items())
        raise ValueError(f"{some.label[0]}, {some.label[1]}: every controller needs the same seeds, once; got {told}")


def _words(trace: Trace) -> str:
    return f"{', '.join(trace.label)}, seed {trace.spec['seed']}"
