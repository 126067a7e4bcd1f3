"""The best value so far over what it took, a line a search."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autotunenet_bench.report import drawing
from autotunenet_bench.report.curves import Array, Band, Curve
from autotunenet_bench.report.drawing import Style
from autotunenet_bench.report.hpo.costs import UNITS, best_so_far, is_known
from autotunenet_bench.report.hpo.records import Goal, SearchRun, Study

MAX_BANDS = 4
"""Searches whose spread over seeds is a band; more would hide each other, and a bar at the end stands for them."""

FIRST_SHOWN = 2
"""The axis of values begins where half of the searches are after so many trials: bad points would press the rest."""


def convergence_figure(study: Study, style_of: dict[str, Style]) -> str:
    """Return an SVG document of four panels, or of those whose cost is known: trials, steps, seconds, operations."""
    units = [unit for unit in UNITS if is_known(study, unit)]
    rows = -(-len(units) // 2)
    with mpl.rc_context(drawing.SETTINGS):
        handles = drawing.line_handles(list(study.searches), style_of)
        height = 2.6 * rows + drawing.legend_inches(handles)
        figure = Figure(figsize=(drawing.WIDTH, height), layout="constrained")
        axes = figure.subplots(rows, 2, squeeze=False, sharey=True).flat
        for ax, unit in zip(axes, units, strict=False):
            for name, runs in study.searches.items():
                band = over_seeds([best_so_far(run, unit, study.goal) for run in runs])
                _draw(ax, _scaled(band, study.goal), style_of[name], has_band=len(study.searches) <= MAX_BANDS)
            ax.set_xlabel(UNITS[unit])
            ax.set_xlim(left=0)
        for ax in list(axes)[len(units) :]:
            ax.set_visible(False)
        _limit(axes[0], study)
        for ax in axes[::2]:
            ax.set_ylabel(f"best {study.goal.title}{' [%]' if study.goal.is_share else ''}")
        drawing.add_legend(figure, handles)
        return drawing.to_svg(figure)


def over_seeds(curves: Sequence[Curve]) -> Band:
    """Bring step functions of several seeds together, over the costs at which each of them has a value.

    Where one has ended before another has a value at all, for its trials were cheap ones, what it has found is held.

    >>> one, other = (np.array([1.0, 2.0]), np.array([5.0, 7.0])), (np.array([1.5, 2.5]), np.array([6.0, 6.0]))
    >>> band = over_seeds([one, other])
    >>> band.steps.tolist(), band.mean.tolist()
    ([1.5, 2.0], [5.5, 6.5])
    >>> over_seeds([one, (np.array([3.0]), np.array([9.0]))]).mean.tolist()
    [8.0]
    """
    first = max(costs[0] for costs, _ in curves)
    last = max(first, min(costs[-1] for costs, _ in curves))
    every = np.unique(np.concatenate([costs for costs, _ in curves]))
    steps = every[(every >= first) & (every <= last)]
    values: Array = np.stack([held[np.searchsorted(costs, steps, side="right") - 1] for costs, held in curves])
    return Band(steps, values.mean(axis=0), values.min(axis=0), values.max(axis=0))


def _scaled(band: Band, goal: Goal) -> Band:
    scale = 100 if goal.is_share else 1
    return Band(band.steps, *(scale * values for values in (band.mean, band.low, band.high)))


def _draw(ax: Axes, band: Band, style: Style, *, has_band: bool) -> None:
    color = style["color"]
    ax.plot(band.steps, band.mean, drawstyle="steps-post", **style)
    ax.plot(band.steps[-1:], band.mean[-1:], marker="o", markersize=3.5, color=color)
    if np.any(band.high > band.low) and has_band:
        shade: Style = {"color": color, "alpha": drawing.BAND_ALPHA, "linewidth": 0, "step": "post"}
        ax.fill_between(band.steps, band.low, band.high, **shade)
    elif band.high[-1] > band.low[-1]:
        ax.vlines(band.steps[-1], band.low[-1], band.high[-1], color=color, linewidth=1.1, alpha=0.8)


def _limit(ax: Axes, study: Study) -> None:
    runs: list[SearchRun] = [run for runs in study.searches.values() for run in runs]
    curves = [best_so_far(run, "trials", study.goal)[1] for run in runs]
    begins = [float(values[min(FIRST_SHOWN, len(values)) - 1]) for values in curves]
    ends = [float(values[-1]) for values in curves]
    scale = 100 if study.goal.is_share else 1
    shown = scale * np.array([median(begins), *ends])
    pad = 0.06 * float(np.ptp(shown))
    if pad:
        ax.set_ylim(shown.min() - pad, shown.max() + pad)
