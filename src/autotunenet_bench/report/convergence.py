"""When each run came to the target of an experiment: a table, and the rows of convergence.csv.

No run is dropped: one that never came to the target is counted, and stands as "never".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from autotunenet_bench.config.experiment import Target
from autotunenet_bench.metrics.convergence import TimeTo, reached_by_all, time_to
from autotunenet_bench.report.aggregate import Group, Row, Stat
from autotunenet_bench.report.columns import NOT_MEASURED
from autotunenet_bench.report.conclusions.words import number
from autotunenet_bench.report.csvs import to_csv
from autotunenet_bench.report.group_figures import flop_unit
from autotunenet_bench.report.sections import Cell, Table, plain

NEVER = "never"
"""In place of a time, of a finished run that did not come to the target."""

_NOTE = (
    "The target is {} Times are to the end of the first epoch at or below it: optimizer steps; seconds of training, "
    "validation and control; floating point operations of training and validation. Median over the finished seeds "
    "(lowest to highest); a run that did not come to the target counts as never, later than any. * lowest median; a "
    "time in seconds depends on the machine and has no mark."
)


def target_words(target: Target) -> str:
    """Return the rule of the target in a sentence."""
    rules = []
    if target.val_loss:
        given = ", ".join(f"{loss:g} of {task}" for task, loss in target.val_loss.items())
        rules.append(f"the validation losses {given}")
    if target.baseline:
        on = "on the other tasks " if target.val_loss else ""
        rules.append(f"{on}the lowest validation loss that every seed of {target.baseline} came to after some epoch")
    return f"{'; '.join(rules)}."


def target_of(group: Group, target: Target) -> float:
    """Return the validation loss that is the target of a cell; NaN where there is none.

    The one given for the task, else the lowest that every finished run of the baseline came to at its best.
    """
    if group.task in target.val_loss:
        return target.val_loss[group.task]
    runs = [run for row in group.rows if row.controller == target.baseline for run in row.finished]
    return reached_by_all(runs)


def convergence_tables(groups: Sequence[Group], target: Target) -> Iterator[Table]:
    """Yield a table a cell with a row a controller: how many runs came to the target, and when."""
    for group in groups:
        aim = target_of(group, target)
        head, rows = _rows(group, aim)
        told = "a validation loss that nobody has set" if math.isnan(aim) else f"a validation loss of {number(aim)}"
        yield Table(
            title=f"Convergence time to {told}: {group.task} · {group.regime}",
            head=("controller", "reached", *(f"{name} ↓" for name in head)),
            rows=rows,
            note="" if group is not groups[-1] else _NOTE.format(target_words(target)),
        )


def convergence_csv(groups: Sequence[Group], target: Target) -> str:
    """Return one row a finished run: the target of its cell, and when it came to it; infinity where it did not."""
    return to_csv(
        {
            "task": group.task,
            "regime": group.regime,
            "controller": row.controller,
            "seed": run.spec["seed"],
            "target_val_loss": aim,
            "steps": time.steps,
            "seconds": time.seconds,
            "flops": time.flops,
        }
        for group in groups
        for aim in [target_of(group, target)]
        for row in group.rows
        for run, time in zip(row.finished, _times(row, aim), strict=True)
    )


def _rows(group: Group, aim: float) -> tuple[list[str], tuple[tuple[Cell, ...], ...]]:
    """Return the names of the quantities, and the rows."""
    times = {row.controller: _times(row, aim) for row in group.rows}
    flops = [time.flops for of_name in times.values() for time in of_name if math.isfinite(time.flops)]
    scale, unit = flop_unit(min(flops, default=1.0))
    columns = {
        "steps": {name: [time.steps for time in of_name] for name, of_name in times.items()},
        "seconds": {name: [time.seconds for time in of_name] for name, of_name in times.items()},
        unit: {name: [time.flops / scale for time in of_name] for name, of_name in times.items()},
    }
    marked = {head: _lowest(by_name) for head, by_name in columns.items() if head != "seconds"}  # clocks decide nothing
    rows = []
    for name, of_name in times.items():
        reached = f"{sum(math.isfinite(time.steps) for time in of_name)} of {len(of_name)}"
        cells = [Cell(_words(by_name[name]), name in marked.get(head, ())) for head, by_name in columns.items()]
        rows.append((*plain(name, NOT_MEASURED if math.isnan(aim) else reached), *cells))
    return list(columns), tuple(rows)


def _times(row: Row, aim: float) -> list[TimeTo]:
    if math.isnan(aim):
        return [TimeTo(steps=math.nan, seconds=math.nan, flops=math.nan)] * len(row.finished)
    return [time_to(run, aim) for run in row.finished]


def _lowest(by_name: Mapping[str, Sequence[float]]) -> set[str]:
    """Return who has the lowest median; nobody where all are level."""
    medians = {name: Stat(tuple(values)).median for name, values in by_name.items()}
    finite = [median for median in medians.values() if math.isfinite(median)]
    if len(set(medians.values())) < 2 or not finite:
        return set()
    return {name for name, median in medians.items() if median == min(finite)}


def _words(values: Sequence[float]) -> str:
    if not values or any(map(math.isnan, values)):
        return NOT_MEASURED
    median, low, high = (_amount(value) for value in (Stat(tuple(values)).median, min(values), max(values)))
    return median if low == high else f"{median} ({low} to {high})"


def _amount(value: float) -> str:
    if math.isinf(value):
        return NEVER
    return f"{value:,.0f}" if value >= 100 else number(value)
