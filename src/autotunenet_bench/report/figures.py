"""One figure a task and regime, as an SVG string. The same runs give the same bytes.

Everything goes through `matplotlib.figure.Figure`: no pyplot, no global figure, and settings only inside `rc_context`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from autotunenet.types import Decision
from autotunenet_bench.report import curves
from autotunenet_bench.report.aggregate import Group, Row
from autotunenet_bench.report.curves import Band, Curve
from autotunenet_bench.results.trace import Trace, is_restart

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colour-blind-safe palette (jfly.uni-koeln.de/color) without its yellow, illegible on white."""

LINE_STYLES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 2, 1, 2)), (0, (4, 1.5, 1, 1.5, 1, 1.5)))
"""Five, so that with seven colours the first 35 controllers all differ, and neighbours differ in both."""

EVENT_MARKS = {
    "rollback": ("x", "rollback"),
    "accept": ("D", "new level accepted"),
    "restart": ("o", "training began anew"),
}
"""Marker and words of the decisions that the figures mark, by what `event_of` says."""

LOG_RATIO = 20.0
"""A positive quantity that spans more than this ratio is drawn on a log axis."""

SETTINGS: Any = {  # Any: the type of its keys differs between versions of matplotlib
    "svg.fonttype": "none",  # text as text: small, searchable
    "svg.hashsalt": "autotunenet",  # the same ids every time
    "text.parse_math": False,  # labels are anybody's words: a "$" in one is a dollar sign
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # bundled with matplotlib: the same layout on every machine
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "axes.labelcolor": "#222222",
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "path.simplify": True,
}

Style = dict[str, Any]


def event_of(decision: Decision) -> str | None:
    """Return what a decision is marked as, a key of `EVENT_MARKS`; None for one that is not."""
    kind = "restart" if is_restart(decision) else decision.action.value
    return kind if kind in EVENT_MARKS else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """One of the stacked axes: what it shows and how."""

    label: str
    curve: Callable[[Trace], Curve]
    scale: float = 1.0
    hold: bool = False
    may_be_log: bool = True
    geometric: bool = False
    marks_events: bool = False
    marks_non_finite: bool = False


def styles(controllers: Sequence[str]) -> dict[str, Style]:
    """Colour and line style of every controller; the same in all figures of a report.

    >>> [style["color"] for style in styles(["a", "b"]).values()]
    ['#0072B2', '#D55E00']
    """
    return {
        name: {"color": COLORS[index % len(COLORS)], "linestyle": LINE_STYLES[index % len(LINE_STYLES)]}
        for index, name in enumerate(controllers)
    }


def curves_figure(group: Group, style_of: dict[str, Style]) -> str | None:
    """Training loss, validation loss and accuracy and hyperparameters of a group over the optimizer steps.

    A line is the mean over seeds of a controller, its band runs from the lowest to the highest seed.

    Args:
        group: The runs; only finished ones are drawn.
        style_of: Line properties by controller, from `styles`.

    Returns:
        An SVG document, or None when not one run of the group has finished.
    """
    rows = [row for row in group.rows if row.finished]
    if not rows:
        return None
    panels = _panels([trace for row in rows for trace in row.finished])
    with mpl.rc_context(SETTINGS):
        handles, num_columns = _legend(rows, style_of)
        legend_inches = 0.2 * -(-len(handles) // num_columns)
        figure = Figure(figsize=(9.2, 0.7 + 1.7 * len(panels) + legend_inches), layout="constrained")
        axes: list[Axes] = list(figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0])
        for index, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
            _draw_panel(ax, panel, rows, style_of, suffix=f"panel{index}")
        _finish(axes, rows)
        # Below the panels, so that no label is long enough to cover a curve.
        figure.legend(handles=handles, loc="outside lower left", ncols=num_columns, frameon=False, handlelength=3.2)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return text.getvalue()


def _panels(runs: Sequence[Trace]) -> list[_Panel]:
    panels = [
        _Panel(label="training loss", curve=curves.train_loss_curve, marks_events=True, marks_non_finite=True),
        _Panel(label="validation loss", curve=curves.val_loss_curve),
    ]
    if any("accuracy" in run.initial_val for run in runs):
        panels.append(
            _Panel(label="validation\naccuracy [%]", curve=curves.val_accuracy_curve, scale=100, may_be_log=False)
        )
    profile = _Panel(label="", curve=curves.val_loss_curve, hold=True, geometric=True, marks_events=True)
    for name in _moved_hyperparams(runs):
        panels.append(replace(profile, label=name, curve=partial(curves.hyperparam_curve, name=name)))
    return panels


def _moved_hyperparams(runs: Sequence[Trace]) -> list[str]:
    """Names whose value is not the same always and everywhere; the first one where none moves."""
    names = list(dict.fromkeys(name for run in runs for name in run.initial_hyperparams))
    moved = [n for n in names if len({v for run in runs for v in curves.hyperparam_curve(run, n)[1].tolist()}) > 1]
    return moved or names[:1]


def _draw_panel(ax: Axes, panel: _Panel, rows: Sequence[Row], style_of: dict[str, Style], *, suffix: str) -> None:
    drawstyle = "steps-post" if panel.hold else "default"
    seen: list[float] = []
    for index, row in enumerate(rows):
        band = _band(panel, row.finished)
        style = style_of[row.controller]
        seen += [float(value) for value in (*band.low, *band.high) if np.isfinite(value)]
        ax.plot(band.steps, band.mean, drawstyle=drawstyle, **style)
        if len(row.finished) > 1:
            shade: Style = {
                "color": style["color"],
                "alpha": 0.13,
                "linewidth": 0,
                "step": "post" if panel.hold else None,
            }
            ax.fill_between(band.steps, band.low, band.high, **shade)
        mark = partial(_mark, ax, band, color=style["color"], suffix=f"{suffix}-row{index}")
        if panel.marks_events:
            for event, (marker, _) in EVENT_MARKS.items():
                mark([step for run in row.finished for step in _steps(run, event)], marker, name=event)
        if panel.marks_non_finite:
            mark([s for run in row.finished for s in curves.non_finite_steps(run)], "v", name="non-finite")
    _set_scale(ax, panel, seen)
    ax.set_ylabel(panel.label)


def _band(panel: _Panel, runs: Sequence[Trace]) -> Band:
    band = curves.band([panel.curve(run) for run in runs], hold=panel.hold, geometric=panel.geometric)
    return Band(band.steps, *(panel.scale * values for values in (band.mean, band.low, band.high)))


def _steps(run: Trace, event: str) -> list[int]:
    return [decision.observation.step for decision in run.decisions if event_of(decision) == event]


def _mark(ax: Axes, band: Band, steps: Sequence[int], marker: str, *, color: str, name: str, suffix: str) -> None:
    """Marks on the mean line at `steps`, each step once; in the SVG a group with the id ``name-suffix``."""
    at = np.array(sorted(set(steps)), dtype=np.float64)
    known = np.isfinite(band.mean)
    if at.size and known.any():
        heights = np.interp(at, band.steps[known], band.mean[known])
        gid = f"{name}-{suffix}"
        ax.plot(at, heights, linestyle="none", marker=marker, markersize=5, color=color, zorder=3, gid=gid)


def _set_scale(ax: Axes, panel: _Panel, seen: Sequence[float]) -> None:
    low, high = min(seen, default=1.0), max(seen, default=1.0)
    if panel.may_be_log and low > 0 and high / low > (1.5 if panel.hold else LOG_RATIO):
        ax.set_yscale("log")
        subs = (1.0, 2.0, 5.0) if high / low < 100 else (1.0,)  # powers of ten alone may give no tick at all
        ax.yaxis.set_major_locator(LogLocator(subs=subs))
        # Plain numbers: the default's powers are set in several pieces of text, which browsers space at will.
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())


def _finish(axes: Sequence[Axes], rows: Sequence[Row]) -> None:
    """The shared axis of steps, and a line where the regime struck."""
    triggers = sorted({run.trigger.step for row in rows for run in row.finished if run.trigger})
    for index, ax in enumerate(axes):
        for step in triggers:
            line = ax.axvline(step, color="#555555", linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
            line.set_gid(f"trigger-{step}-panel{index}")
    if triggers:
        label = "trigger" if len(triggers) == 1 else "triggers"
        axes[0].annotate(
            f"{label}, step {triggers[0]}" if len(triggers) == 1 else label,
            (triggers[0], 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, 2),
            textcoords="offset points",
            fontsize=8,
            color="#333333",
        )
    axes[-1].set_xlabel("optimizer step")
    axes[-1].set_xlim(left=0)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend(rows: Sequence[Row], style_of: dict[str, Style]) -> tuple[list[Line2D], int]:
    """The entries of the legend, and in how many columns they fit."""
    handles = [Line2D([], [], label=row.controller, **style_of[row.controller]) for row in rows]
    runs = [run for row in rows for run in row.finished]
    marks: Style = {"color": "#444444", "linestyle": "none", "markersize": 5}
    for event, (marker, words) in EVENT_MARKS.items():
        if any(_steps(run, event) for run in runs):
            handles.append(Line2D([], [], marker=marker, label=words, **marks))
    if any(curves.non_finite_steps(run) for run in runs):
        handles.append(Line2D([], [], marker="v", label="training loss not finite", **marks))
    longest = max(len(str(handle.get_label())) for handle in handles)
    return handles, max(1, min(4, len(handles), 110 // (longest + 8)))
