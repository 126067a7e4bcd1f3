"""What must be said beside the numbers: runs that are missing, means that mix, claims that few seeds cannot carry."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from autotunenet_bench.report.aggregate import Group, Row
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.statistics.claims import MIN_SEEDS
from autotunenet_bench.statistics.paired import smallest_p


def remarks(row: Row) -> list[str]:
    """What a reader must know before believing the numbers of `row`; empty when nothing is wrong."""
    found = []
    if row.unfinished:
        seeds = ", ".join(str(trace.spec["seed"]) for trace in row.unfinished)
        found.append(
            f"{row.controller}: {len(row.unfinished)} of {row.num_runs} runs did not finish (seed {seeds}); "
            "they are in no mean and in no figure"
        )
    if row.differing:
        found.append(
            f"{row.controller}: runs of this name differ in more than the seed ({', '.join(row.differing)}); "
            "their mean mixes configurations"
        )
    if lost := [trace.spec["seed"] for trace in row.finished if not math.isfinite(trace.epochs[-1].val["loss"])]:
        found.append(
            f"{row.controller}: {len(lost)} of {len(row.finished)} runs ended with a loss that is not finite (seed "
            f"{', '.join(map(str, lost))}); it counts as the worst finite one of its run, and at least as the first"
        )
    if words := _refused(row):
        found.append(f"{row.controller}: {words}")
    if restarts := sorted({trace.num_restarts for trace in row.finished if trace.num_restarts}):
        times = f"{restarts[0]} to {restarts[-1]}" if len(restarts) > 1 else f"{restarts[0]}"
        found.append(
            f"{row.controller}: training began anew {times} time{'s' if times != '1' else ''} in a run; a loss on the "
            "way is that of the model in training then"
        )
    return found


def _refused(row: Row) -> str:
    """What a controller asked for in vain: values that are no finite numbers are never put in force."""
    if not row.num_refused:
        return ""
    share = "all" if row.num_refused == row.num_asked > 1 else f"{row.num_refused} of"
    return f"{share} {row.num_asked} proposals were not finite and were refused, so that what was in force stayed"


def num_seeds(runs: Iterable[Trace]) -> str:
    """Number of seeds per task, regime and controller in words: ``3``, or ``1 to 3``."""
    counts: dict[tuple[str, str, str], set[int]] = {}
    for run in runs:
        counts.setdefault(run.label, set()).add(run.spec["seed"])
    sizes = sorted({len(seeds) for seeds in counts.values()})
    return "" if not sizes else str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"


def seeds_remark(groups: Sequence[Group]) -> str:
    """What the smallest number of finished seeds cannot show; empty from `MIN_SEEDS` on, and without runs.

    The bound is that of a paired, two-sided sign-flip test.
    """
    counts = [len({run.spec["seed"] for run in row.finished}) for group in groups for row in group.rows]
    fewest = min(counts, default=MIN_SEEDS)
    if fewest >= MIN_SEEDS:
        return ""
    seeds = f"{fewest} finished {'seed' if fewest == 1 else 'seeds'}"
    if fewest < 2:
        bound = "from one pair of runs nothing can be told apart from chance"
    else:
        bound = f"the smallest two-sided p-value that a paired sign-flip test can reach is {smallest_p(fewest):.3g}"
    return (
        f"At least one controller has only {seeds}: {bound}. With fewer than {MIN_SEEDS} seeds the numbers of a task "
        "and regime show what happened in these runs; they do not show that one controller is better than another. A "
        "marked value is the best mean and no more."
    )
