"""All points that were trained: every hyperparameter against the value, and all hyperparameters beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from autotunenet.hpo import Trial
from autotunenet.space import Categorical, Dimension, Float, Int, Ordinal
from autotunenet_bench.report import drawing
from autotunenet_bench.report.hpo.records import Goal, Study, value_of

SHARE_SHOWN = 0.25
"""The best part of the points, which is drawn in colour."""

MAX_TICKS = 8


def slices_figure(study: Study) -> str:
    """Return an SVG document with a panel a hyperparameter: its values against the objective, a dot a point."""
    points = study.points
    columns = min(4, len(study.space))
    rows = -(-len(study.space) // columns)
    scale = 100 if study.goal.is_share else 1
    values = scale * np.array([value_of(trial) for trial in points])
    with mpl.rc_context(drawing.SETTINGS):
        figure = Figure(figsize=(drawing.WIDTH, 2.5 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for ax, (name, dimension) in zip(axes.flat, study.space.items(), strict=False):
            _slice(ax, dimension, [trial.params[name] for trial in points], values)
            ax.set_xlabel(short(name))
        for ax in list(axes.flat)[len(study.space) :]:
            ax.set_visible(False)
        for ax in axes[:, 0]:
            ax.set_ylabel(_goal_label(study.goal))
        return drawing.to_svg(figure)


def parallel_figure(study: Study) -> str:
    """Return an SVG document of parallel coordinates: an axis a hyperparameter, the objective last, the best on top."""
    points = sorted(study.points, key=value_of, reverse=study.goal.direction == "minimize")  # the best last, on top
    num_shown = max(1, round(SHARE_SHOWN * len(points)))
    heights = _heights(study, points)
    with mpl.rc_context({**drawing.SETTINGS, "axes.grid": False}):
        figure = Figure(figsize=(drawing.WIDTH, 3.2), layout="constrained")
        ax = figure.subplots()
        for rank, line in enumerate(heights):
            is_best, is_shown = rank == len(points) - 1, rank >= len(points) - num_shown
            color = drawing.COLORS[1] if is_best else drawing.COLORS[0] if is_shown else drawing.INKS["line"]
            width, alpha = (2.4, 1.0) if is_best else (1.3, 0.8) if is_shown else (0.7, 0.45)
            ax.plot(range(len(line)), line, color=color, linewidth=width, alpha=alpha, zorder=2 + rank / len(points))
        for place, (label, ticks) in enumerate(_axes(study, points)):
            ax.axvline(place, color=drawing.INKS["axis"], linewidth=0.8, zorder=1)
            for height, words in ticks:
                ax.annotate(
                    words,
                    (place, height),
                    xytext=(-5, 0),
                    textcoords="offset points",
                    ha="right",
                    va="center",
                    fontsize=7.5,
                    color=drawing.INKS["tick"],
                    bbox={"facecolor": drawing.INKS["paper"], "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
                    zorder=5,
                )
            ax.annotate(label, (place, 1.0), xytext=(0, 9), textcoords="offset points", ha="center", fontsize=8.5)
        ax.set_xlim(-0.45, len(study.space) + 0.15)
        ax.set_ylim(-0.05, 1.06)
        ax.set_axis_off()
        return drawing.to_svg(figure)


def short(name: str) -> str:
    """Return a dotted name without its family, as it is called in figures.

    >>> short("task.lr")
    'lr'
    """
    return name.rpartition(".")[2]


def tick_text(value: object) -> str:
    """Return a value of a hyperparameter as an axis has it.

    >>> tick_text(2e-05), tick_text(16), tick_text("adam")
    ('2e-05', '16', 'adam')
    """
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _slice(ax: Axes, dimension: Dimension, values: Sequence[Any], heights: NDArray[np.float64]) -> None:
    dots: Any = {"linestyle": "none", "marker": "o", "markersize": 4, "color": drawing.COLORS[0], "alpha": 0.55}
    if isinstance(dimension, Categorical | Ordinal):
        places = np.array([dimension.rank_of(value) for value in values])
        ax.plot(places, heights, markeredgewidth=0, **dots)
        seen = np.unique(places)
        means = [float(heights[places == place].mean()) for place in seen]
        ax.plot(seen, means, color=drawing.COLORS[1], marker="D", markersize=4, linewidth=1.1)
        words = [tick_text(dimension.value_at(rank)) for rank in range(dimension.num_values)]
        ax.set_xticks(range(dimension.num_values), words, rotation=0 if max(map(len, words)) < 8 else 20)
        ax.set_xlim(-0.5, dimension.num_values - 0.5)
        return
    ax.plot(np.array(values, dtype=np.float64), heights, markeredgewidth=0, **dots)
    if dimension.log:
        ax.set_xscale("log")
        drawing.plain_log_ticks(ax.xaxis, dimension.low, dimension.high)


def _heights(study: Study, points: Sequence[Trial]) -> NDArray[np.float64]:
    """Return a line a point, of the heights in [0, 1] at every axis; equal values fan out by how good the point is."""
    fan = np.linspace(-0.5, 0.5, len(points)) if len(points) > 1 else np.zeros(1)
    columns = []
    for name, dimension in study.space.items():
        units = np.array([dimension.to_unit(trial.params[name]) for trial in points])
        width = 0.0 if isinstance(dimension, Float) or not dimension.num_values else 0.5 / dimension.num_values
        columns.append(units + width * fan)
    values = np.array([value_of(trial) for trial in points])
    spread = float(np.ptp(values)) or 1.0
    goodness = (values - values.min()) / spread
    return np.column_stack([*columns, goodness if study.goal.direction == "maximize" else 1 - goodness])


def _axes(study: Study, points: Sequence[Trial]) -> list[tuple[str, list[tuple[float, str]]]]:
    """Return what every axis is called, and its ticks: heights and words."""
    found = [(short(name), _ticks(dimension)) for name, dimension in study.space.items()]
    values = [value_of(trial) for trial in points]
    worst, best = values[0], values[-1]
    ends = [(0.0, study.goal.text(worst)), (1.0, study.goal.text(best))]
    return [*found, (study.goal.title, ends if worst != best else ends[1:])]


def _ticks(dimension: Dimension) -> list[tuple[float, str]]:
    if isinstance(dimension, Float) or (isinstance(dimension, Int) and dimension.num_values > MAX_TICKS):
        return [(unit, tick_text(dimension.from_unit(unit))) for unit in (0.0, 0.5, 1.0)]
    ranks = range(dimension.num_values)
    kept = ranks if len(ranks) <= MAX_TICKS else range(0, len(ranks), -(-len(ranks) // MAX_TICKS))
    values = [dimension.value_at(rank) for rank in kept]
    return [(dimension.to_unit(value), tick_text(value)) for value in values]


def _goal_label(goal: Goal) -> str:
    return f"{goal.title}{' [%]' if goal.is_share else ''}"
