"""What a wrong initial lr costs: mean final losses by controller and initial lr, and the figure of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import ValidationError

from autotunenet_bench.metrics.across import STARTING_POINT, charged, problem, sensitivity_to_lr, starting_point
from autotunenet_bench.report import drawing
from autotunenet_bench.report.aggregate import in_order
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.tasks import TASKS

COLOR_MAP = "cividis_r"
"""Readable without colour vision and in grey; the lower the loss, the lighter."""

MAX_LRS = 24
"""Columns whose numbers are legible; in a larger map the colours stand alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LrMap:
    """One problem, a task under a regime, learnt from several initial lrs.

    Attributes:
        title: Task and regime, in words.
        lrs: Initial lrs, ascending.
        controllers: Display names, in order of appearance.
        losses: Shape (controllers, lrs): mean final validation loss over the finished seeds, a lost run at the loss
            that it began with; NaN without a finished run.
        sensitivity: What a wrong initial lr costs each controller in the mean (`sensitivity_to_lr`); NaN where its row
            is not whole.
        remarks: Why a number is missing.
    """

    title: str
    lrs: tuple[float, ...]
    controllers: tuple[str, ...]
    losses: NDArray[np.float64]
    sensitivity: tuple[float, ...]
    remarks: tuple[str, ...]


def lr_maps(traces: Iterable[Trace]) -> list[LrMap]:
    """Return one map for every problem that was learnt from two initial lrs or more, in order of appearance.

    Args:
        traces: Runs, finished or not; only finished ones count.
    """
    problems: dict[str, list[Trace]] = defaultdict(list)
    for run in in_order(traces):
        problems[problem(run)].append(run)
    several = [runs for runs in problems.values() if len(set(map(starting_point, runs))) > 1]
    tasks = [runs[0].spec.get("task") or {} for runs in several]
    return [_lr_map(runs, _title(runs[0], tasks)) for runs in several]


def sensitivity_figure(lr_map: LrMap) -> str | None:
    """A heat map, one row a controller and one column an initial lr, coloured by the logarithm of the loss.

    Returns:
        An SVG document; None where no run of the map has finished.
    """
    losses = np.where(np.isfinite(lr_map.losses), lr_map.losses, np.nan)
    known = losses[np.isfinite(losses)]
    if not known.size:
        return None
    low, high = float(known.min()), float(known.max())
    norm: Normalize = LogNorm(low, high) if 0 < low < high else Normalize(low, high)
    with mpl.rc_context({**drawing.SETTINGS, "axes.grid": False}):
        height = 0.95 + 0.27 * len(lr_map.controllers)
        figure = Figure(figsize=(drawing.WIDTH, height), layout="constrained")
        ax = figure.subplots()
        ax.pcolormesh(np.ma.masked_invalid(losses), cmap=COLOR_MAP, norm=norm, linewidth=0, shading="flat")
        _label(ax, lr_map)
        if len(lr_map.lrs) <= MAX_LRS:
            _write_numbers(ax, losses, norm)
        return drawing.to_svg(figure)


def _lr_map(runs: Sequence[Trace], title: str) -> LrMap:
    lrs = sorted({_initial_lr(run) for run in runs})
    names = list(dict.fromkeys(run.label[2] for run in runs))
    losses = np.full((len(names), len(lrs)), np.nan)
    cells: dict[tuple[int, int], list[Trace]] = defaultdict(list)
    for run in runs:
        if run.finished:
            cells[names.index(run.label[2]), lrs.index(_initial_lr(run))].append(run)
    remarks: dict[str, None] = {}
    for place, cell in cells.items():
        try:
            losses[place] = math.fsum(map(charged, cell)) / len(cell)
        except ValueError as error:
            remarks[f"{names[place[0]]} from lr {lrs[place[1]]:g}: {error}"] = None
    sensitivity = []
    for index, name in enumerate(names):
        value = math.nan
        if np.isnan(losses[index]).any():
            remarks[f"{name}: not finished from every initial lr, so its sensitivity is not told"] = None
        else:
            try:
                value = sensitivity_to_lr(run for run in runs if run.label[2] == name)
            except ValueError as error:  # runs of one name and several settings
                remarks[f"{name}: {error}"] = None
        sensitivity.append(value)
    return LrMap(
        title=title,
        lrs=tuple(lrs),
        controllers=tuple(names),
        losses=losses,
        sensitivity=tuple(sensitivity),
        remarks=tuple(remarks),
    )


def _initial_lr(run: Trace) -> float:
    """The lr that the task begins with. A launch begins elsewhere, so the task is asked and not the run, if it can."""
    task: Mapping[str, Any] = run.spec.get("task") or {}
    try:
        return TASKS[task["name"]].model_validate(dict(task)).defaults["lr"]
    except (KeyError, ValidationError):  # of another version, or of a task of somebody's own
        lr = task.get("lr")
        return float(lr) if isinstance(lr, int | float) else run.initial_hyperparams.get("lr", math.nan)


def _title(run: Trace, tasks: Sequence[Mapping[str, Any]]) -> str:
    """The name of the task, the fields in which the tasks differ besides their starting points, and the regime."""
    task = run.spec.get("task") or {}
    differing = [
        key for key in task if key not in (*STARTING_POINT, "name") and len({str(t.get(key)) for t in tasks}) > 1
    ]
    words = [str(task.get("name", run.label[0])), *(f"{key} {task[key]}" for key in differing if task[key] is not None)]
    return f"{', '.join(words)} · {run.label[1]}"


def _label(ax: Axes, lr_map: LrMap) -> None:
    num_rows, num_columns = lr_map.losses.shape
    ax.set_xticks(np.arange(num_columns) + 0.5, [f"{lr:g}" for lr in lr_map.lrs])
    ax.set_yticks(np.arange(num_rows) + 0.5, [_shortened(name) for name in lr_map.controllers])
    ax.invert_yaxis()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("initial lr")
    right = ax.secondary_yaxis("right")
    told = ["n/a" if math.isnan(value) else f"{value:#.3g}" for value in lr_map.sensitivity]
    right.set_yticks(np.arange(num_rows) + 0.5, told)
    right.tick_params(length=0)
    right.spines[:].set_visible(False)
    right.set_ylabel("sensitivity")
    if num_columns > MAX_LRS:
        ax.tick_params(axis="x", rotation=90)


def _write_numbers(ax: Axes, losses: NDArray[np.float64], norm: Normalize) -> None:
    colors = mpl.colormaps[COLOR_MAP](norm(np.nan_to_num(losses, nan=norm.vmin or 0.0)))
    for (row, column), value in np.ndenumerate(losses):
        light = float(colors[row, column, :3] @ (0.299, 0.587, 0.114)) > 0.5
        ink = "#101010" if light else "#fafafa"  # none of the page's colours: the cell has its own in the dark too
        words = "-" if math.isnan(value) else f"{value:#.3g}"
        color = drawing.INKS["label"] if math.isnan(value) else ink
        ax.text(column + 0.5, row + 0.5, words, ha="center", va="center", fontsize=7.5, color=color)


def _shortened(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:39]}…"
