"""What models say of the space: importances of a forest, and predictions of surrogates against what came out."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from autotunenet_bench.report import drawing
from autotunenet_bench.report.drawing import Style
from autotunenet_bench.report.hpo.importance import Importance
from autotunenet_bench.report.hpo.points_figures import short
from autotunenet_bench.report.hpo.predictions import Predictions
from autotunenet_bench.report.hpo.records import Goal


def importance_figure(found: Importance) -> str:
    """Return an SVG document with a bar a hyperparameter, the most important on top."""
    order = np.argsort(found.shares)
    with mpl.rc_context(drawing.SETTINGS):
        figure = Figure(figsize=(drawing.WIDTH, 0.75 + 0.3 * len(order)), layout="constrained")
        ax = figure.subplots()
        ax.barh(range(len(order)), 100 * found.shares[order], height=0.6, color=drawing.COLORS[0])
        ax.set_yticks(range(len(order)), [short(found.names[index]) for index in order])
        ax.axvline(0, color=drawing.INKS["axis"], linewidth=0.7)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("squared error that shuffling it adds [% of the variance]")
        return drawing.to_svg(figure)


def predictions_figure(found: Sequence[Predictions], goal: Goal, style_of: dict[str, Style]) -> str:
    """Return an SVG document with a panel a search: predicted, with its standard deviation, against actual."""
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    with mpl.rc_context(drawing.SETTINGS):
        width = drawing.WIDTH * columns / 3 if columns < 3 else drawing.WIDTH
        figure = Figure(figsize=(width, 2.9 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        for ax, one in zip(axes.flat, found, strict=False):
            _scatter(ax, one, goal, style_of[one.search]["color"])
        for ax in list(axes.flat)[len(found) :]:
            ax.set_visible(False)
        unit = " [%]" if goal.is_share else ""
        for ax in axes[:, 0]:
            ax.set_ylabel(f"actual {goal.title}{unit}")
        for ax in list(axes.flat)[: len(found)]:
            ax.set_xlabel(f"predicted{unit}")
        return drawing.to_svg(figure)


def _scatter(ax: Axes, one: Predictions, goal: Goal, color: str) -> None:
    scale = 100 if goal.is_share else 1
    mean, std, actual = scale * one.mean, scale * one.std, scale * one.actual
    low, high = min(mean.min(), actual.min()), max(mean.max(), actual.max())
    pad = 0.08 * ((high - low) or 1.0)
    ax.plot([low - pad, high + pad], [low - pad, high + pad], color=drawing.INKS["line"], linewidth=0.8, zorder=1)
    ax.errorbar(mean, actual, xerr=std, fmt="o", markersize=4, color=color, elinewidth=0.7, alpha=0.75)
    ax.set_xlim(low - pad, high + pad)
    ax.set_ylim(low - pad, high + pad)
    ax.set_aspect("equal", adjustable="box")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    ax.set_title(f"{one.search} (n = {len(mean)})", fontsize=8.5, loc="left")
