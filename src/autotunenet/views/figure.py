"""A history as a figure: the loss, the tuned values, and what happened when.

Everything goes through `matplotlib.figure.Figure`: no pyplot, no global figure, no backend, and settings only inside
`rc_context`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from autotunenet.types import Action, Cause, Decision
from autotunenet.views.reading import (
    discarded_spans,
    is_interval,
    is_launch_move,
    is_verdict,
    launch_end,
    tuned_names,
    verdict_name,
)

# Okabe and Ito's colour-blind-safe palette (jfly.uni-koeln.de/color). What is told by colour is told by shape, too.
_BLUE, _GREEN, _RED, _ORANGE, _PURPLE = "#0072B2", "#009E73", "#D55E00", "#E69F00", "#CC79A7"
_INK, _GREY, _GRID, _SHADE = "#222222", "#888888", "#e4e4e4", "#bbbbbb"
_CAUSE_COLORS = {Cause.KNOB: _RED, Cause.DATA: _PURPLE, Cause.BOTH: _INK, Cause.NOISE: _ORANGE, None: _RED}
_MARKERS = {Action.ROLLBACK: "v", Action.RESTORE_SUSPECT: "D", Action.ACCEPT: "s", Action.HOLD: "o"}

_DASHES = (0, (4, 2))
_TRIED: Any = {"color": _RED, "linestyle": "none", "marker": "x", "markersize": 6, "markeredgewidth": 1.6}

_SETTINGS: Any = {  # Any: the type of its keys differs between versions of matplotlib
    "text.parse_math": False,  # a "$" in somebody's name of a value is a dollar sign
    "font.size": 9.0,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "grid.linestyle": "-",
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "text.color": _INK,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
}
_LOG_RATIO = 20.0
"""A positive quantity that spans more than this ratio is drawn on a log axis."""
_MOST_DECADES = 6
"""Of a log axis below its top: a loss that has become exactly zero would press everything else together."""
_LARGEST_LAUNCH = 0.2
"""Share of all steps up to which a launch has a wider column of its own."""


class HistoryFigure(Figure):
    """A figure that a notebook shows as it is, also where nobody has imported pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=self.dpi)
        return buffer.getvalue()


def draw(
    decisions: Sequence[Decision],
    validation: Sequence[tuple[int, float]] = (),
    *,
    metric: str = "training loss",
    title: str = "",
) -> Figure:
    """Return the figure that `autotunenet.views.plot` describes."""
    names = tuned_names(decisions) or ["lr"]
    last = max([1, *(each.observation.step for each in decisions), *(step for step, _ in validation)])
    end = launch_end(decisions)
    columns = [(0, end), (end, last)] if 0 < end < _LARGEST_LAUNCH * last else [(0, last)]
    with mpl.rc_context(_SETTINGS):
        figure = HistoryFigure(figsize=(9.0, 2.9 + 1.7 * len(names)), layout="constrained", dpi=100)
        grid = figure.subplots(
            1 + len(names),
            len(columns),
            squeeze=False,
            sharex="col",
            sharey="row",
            width_ratios=[1, 3][-len(columns) :],
            height_ratios=[1.5, *[1] * len(names)],
        )
        for (low, high), axes in zip(columns, grid.T, strict=True):
            _draw_loss(axes[0], decisions, validation)
            for ax, name in zip(axes[1:], names, strict=True):
                _draw_value(ax, decisions, name, last)
            verdicts = [each for each in decisions if is_verdict(each) and low < each.observation.step <= high]
            _draw_marks(axes[0], verdicts)
            for ax in axes:
                _draw_times(ax, decisions, verdicts)
                ax.set_xlim(low, high + 0.01 * (high - low))
            axes[-1].set_xlabel("optimizer step")
        _label(grid, [metric, *names], has_launch=len(columns) > 1)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        handles = _legend(decisions, validation, metric)
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))
        return figure


def _draw_loss(ax: Axes, decisions: Sequence[Decision], validation: Sequence[tuple[int, float]]) -> None:
    moves, intervals = (
        [(each.observation.step, each.observation.metric) for each in decisions if belongs(each)]
        for belongs in (is_launch_move, is_interval)
    )
    floor = _set_scale(ax, [value for curve in (moves, intervals, validation) for _, value in curve])
    ax.plot(*_columns(moves, floor), color=_BLUE, linestyle=(0, (1, 1.5)), linewidth=1, marker=".", markersize=5)
    ax.plot(*_columns(intervals, floor), color=_BLUE, marker=_dots(intervals))
    ax.plot(*_columns(validation, floor), color=_GREEN, linestyle=_DASHES, marker=_dots(validation))


def _draw_marks(ax: Axes, verdicts: Sequence[Decision]) -> None:
    """Put a mark on the upper edge for each verdict."""
    for each in verdicts:
        mark = _mark(each)
        ax.plot(each.observation.step, 1.0, transform=ax.get_xaxis_transform(), clip_on=False, zorder=5, **mark)


def _draw_value(ax: Axes, decisions: Sequence[Decision], name: str, last: int) -> None:
    """Draw a tuned value as it was in force, and where a trial of it was thrown away."""
    known = [each for each in decisions if name in each.observation.hyperparams]
    points = [(each.observation.step, each.observation.hyperparams[name]) for each in known]
    way = [(0, points[0][1]), *points, (last, known[-1].applied.get(name, math.nan))] if known else []
    floor = _set_scale(ax, [value for _, value in way], log=name == "lr")
    ax.plot(*_columns(way, floor), color=_INK, drawstyle="steps-pre")
    tried = [point for point, each in zip(points, known, strict=True) if is_launch_move(each) and each.discarded_steps]
    ax.plot(*_columns(tried, floor), **_TRIED)


def _draw_times(ax: Axes, decisions: Sequence[Decision], verdicts: Sequence[Decision]) -> None:
    """Shade the steps that were thrown away, and draw a line at each verdict."""
    for low, high in discarded_spans(decisions):
        ax.axvspan(low, high, color=_SHADE, alpha=0.5, linewidth=0, zorder=0)
    for each in verdicts:
        ax.axvline(each.observation.step, color=_CAUSE_COLORS[each.cause], linewidth=0.9, alpha=0.6, zorder=1)


def _mark(verdict: Decision) -> dict[str, Any]:
    color = _CAUSE_COLORS[verdict.cause]
    return {"linestyle": "none", "marker": _MARKERS[verdict.action], "markersize": 7, "color": color}


def _dots(points: Sequence[object]) -> str:
    """Mark single points where they are few: between two gaps a line would show nothing."""
    return "." if len(points) < 30 else ""


def _columns(points: Sequence[tuple[float, float]], floor: float) -> tuple[Any, Any]:
    """Return steps and values; values that are not finite leave a gap, those below the axis lie on its floor."""
    steps = np.array([step for step, _ in points], dtype=np.float64)
    values = np.array([value for _, value in points], dtype=np.float64)
    return steps, np.where(np.isfinite(values), np.maximum(values, floor), np.nan)


def _set_scale(ax: Axes, values: Sequence[float], *, log: bool = False) -> float:
    """Choose a log axis where the values ask for one; return the lowest value that is drawn."""
    finite = [value for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > 0]
    spans = bool(positive) and min(finite) >= 0 and max(positive) > _LOG_RATIO * min(finite)
    if not (positive and min(finite) >= 0 and (spans or log)):
        return -math.inf
    top = max(positive)
    floor = max(min(positive), top / 10**_MOST_DECADES)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if top < 30 * floor else (1.0,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    return float(floor)


def _label(grid: Any, names: Sequence[str], *, has_launch: bool) -> None:
    for axes, name in zip(grid, names, strict=True):
        axes[0].set_ylabel(name + (", log scale" if axes[0].get_yscale() == "log" else ""))
        for ax in axes[1:]:
            ax.tick_params(labelleft=False)
    if has_launch:
        grid[0][0].set_title("launch", loc="left", fontsize=9)


def _legend(decisions: Sequence[Decision], validation: Sequence[tuple[int, float]], metric: str) -> list[Any]:
    handles: list[Any] = [Line2D([], [], color=_BLUE, label=metric)]
    if validation:
        handles.append(Line2D([], [], color=_GREEN, linestyle=_DASHES, label="validation"))
    if any(is_launch_move(each) and each.discarded_steps for each in decisions):
        handles.append(Line2D([], [], label="trial of the launch, taken back", **_TRIED))
    if any(each.discarded_steps for each in decisions):
        handles.append(Patch(color=_SHADE, alpha=0.5, label="steps thrown away"))
    kinds = {verdict_name(each): each for each in decisions if is_verdict(each)}
    return [*handles, *(Line2D([], [], label=label, **_mark(each)) for label, each in kinds.items())]
