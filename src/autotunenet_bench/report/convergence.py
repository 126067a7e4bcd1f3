"""When each run came to the target of an experiment: a table, and the rows of convergence.csv.

No run is dropped: one that never came to the target is counted, and stands as "never".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from autotunenet_bench.config.experiment import Target
from autotunenet_bench.metrics.convergence import TimeTo, reached_by_all, time_to
from autotunenet_bench.report.aggregate import Group, Row, Stat
from autotunenet_bench.report.columns import NOT_MEASURED
from autotunenet_bench.report.conclusions.words import number
from autotunenet_bench.report.csvs import to_csv
from autotunenet_bench.report.sections import Cell, Table, plain

NEVER = "never"
"""In place of a time, of a finished run that did not come to the target."""

_UNITS: tuple[tuple[str, Callable[[TimeTo], float], Callable[[float], str], bool], ...] = (
    ("steps ↓", lambda time: time.steps, "{:,.0f}".format, True),
    ("seconds ↓", lambda time: time.seconds, number, False),  # clocks decide which is best, so none is marked
    ("TFLOP ↓", lambda time: time.flops / 1e12, number, True),
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


def convergence_table(groups: Sequence[Group], target: Target) -> Table:
    """Return a table with a row a controller and cell: how many runs came to the target, and when."""
    return Table(
        title="Convergence time ↓",
        head=("task · regime", "controller", "target loss", "reached", *(head for head, *_ in _UNITS)),
        rows=tuple(row for group in groups for row in _rows(group, target_of(group, target))),
        note=(
            f"The target is {target_words(target)} Times are to the end of the first epoch at or below it: optimizer "
            "steps; seconds of training, validation and control; operations of training and validation. Median over "
            f"the finished seeds (lowest to highest); a run that did not come to the target counts as {NEVER}, later "
            "than any. * lowest median of its cell; a time in seconds depends on the machine and has no mark."
        ),
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


def _rows(group: Group, aim: float) -> Iterator[tuple[Cell, ...]]:
    where = f"{group.task} · {group.regime}"
    times = {row.controller: _times(row, aim) for row in group.rows}
    medians = [
        {name: Stat(tuple(map(value, of_name))).median for name, of_name in times.items()} for _, value, *_ in _UNITS
    ]
    for name, of_name in times.items():
        cells = [
            Cell(_words([value(time) for time in of_name], write), has_mark and _is_lowest(name, by_name))
            for (_, value, write, has_mark), by_name in zip(_UNITS, medians, strict=True)
        ]
        reached = sum(math.isfinite(time.steps) for time in of_name)
        told = NOT_MEASURED if math.isnan(aim) else number(aim)
        yield (*plain(where, name, told, NOT_MEASURED if math.isnan(aim) else f"{reached} of {len(of_name)}"), *cells)


def _times(row: Row, aim: float) -> list[TimeTo]:
    if math.isnan(aim):
        return [TimeTo(steps=math.nan, seconds=math.nan, flops=math.nan)] * len(row.finished)
    return [time_to(run, aim) for run in row.finished]


def _is_lowest(name: str, medians: dict[str, float]) -> bool:
    finite = [median for median in medians.values() if math.isfinite(median)]
    return len(set(medians.values())) > 1 and bool(finite) and medians[name] == min(finite)


def _words(values: Sequence[float], write: Callable[[float], str]) -> str:
    if not values or any(map(math.isnan, values)):
        return NOT_MEASURED
    told = [
        NEVER if math.isinf(value) else write(value) for value in (Stat(tuple(values)).median, min(values), max(values))
    ]
    return told[0] if told[1] == told[2] else f"{told[0]} ({told[1]} to {told[2]})"
