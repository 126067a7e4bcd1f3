"""The curves of a task and regime over the optimizer steps, as an SVG string. The same runs give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from autotunenet.types import Action, Decision
from autotunenet_bench.report import curves, drawing
from autotunenet_bench.report.aggregate import Group, Row
from autotunenet_bench.report.curves import Band, Curve
from autotunenet_bench.report.drawing import Style
from autotunenet_bench.results.trace import Trace, is_restart

EVENT_MARKS = {
    "rollback": ("x", "rollback"),
    "accept": ("D", "new level accepted"),
    "restart": ("o", "training began anew"),
}
"""Marker and words of the decisions that the figures mark, by what `event_of` says."""

MAX_DECADES = 6
"""A log axis ends so many decades below its highest value."""


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
    with mpl.rc_context(drawing.SETTINGS):
        handles = _legend(rows, style_of)
        height = 0.7 + 1.7 * len(panels) + drawing.legend_inches(handles)
        figure = Figure(figsize=(drawing.WIDTH, height), layout="constrained")
        axes: list[Axes] = list(figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0])
        for index, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
            _draw_panel(ax, panel, rows, style_of, suffix=f"panel{index}")
        _finish(axes, rows)
        drawing.add_legend(figure, handles)
        return drawing.to_svg(figure)


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
                "alpha": drawing.BAND_ALPHA,
                "linewidth": 0,
                "step": "post" if panel.hold else None,
            }
            ax.fill_between(band.steps, band.low, band.high, **shade)
        mark = partial(_mark, ax, band, color=style["color"], suffix=f"{suffix}-row{index}")
        if panel.marks_events:
            for event, steps in _steps_by_event(row.finished).items():
                mark(steps, EVENT_MARKS[event][0], name=event)
        if panel.marks_non_finite:
            mark([s for run in row.finished for s in curves.non_finite_steps(run)], "v", name="non-finite")
    _set_scale(ax, panel, seen)
    ax.set_ylabel(panel.label)


def _band(panel: _Panel, runs: Sequence[Trace]) -> Band:
    band = curves.band([panel.curve(run) for run in runs], hold=panel.hold, geometric=panel.geometric)
    return Band(band.steps, *(panel.scale * values for values in (band.mean, band.low, band.high)))


def _steps_by_event(runs: Sequence[Trace]) -> dict[str, list[int]]:
    """Steps of the marked decisions of some runs, by what they are marked as; without any, an empty list."""
    steps: dict[str, list[int]] = {event: [] for event in EVENT_MARKS}
    for decision in (decision for run in runs for decision in run.decisions if decision.action is not Action.HOLD):
        if event := event_of(decision):
            steps[event].append(decision.observation.step)
    return steps


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
    if panel.may_be_log and low > 0 and high / low > (1.5 if panel.hold else drawing.LOG_RATIO):
        ax.set_yscale("log")
        if high / low > 10**MAX_DECADES:  # as while a launch stands still: the rest of the axis would be a line
            low = high / 10**MAX_DECADES
            ax.set_ylim(bottom=low)
        drawing.plain_log_ticks(ax.yaxis, low, high)


def _finish(axes: Sequence[Axes], rows: Sequence[Row]) -> None:
    """The shared axis of steps, and a line where the regime struck."""
    triggers = sorted({run.trigger.step for row in rows for run in row.finished if run.trigger})
    for index, ax in enumerate(axes):
        for step in triggers:
            drawing.vertical_line(ax, step, f"trigger-{step}-panel{index}")
    if triggers:
        words = f"trigger, step {triggers[0]}" if len(triggers) == 1 else "triggers"
        drawing.annotate_line(axes[0], triggers[0], words)
    axes[-1].set_xlabel("optimizer step")
    axes[-1].set_xlim(left=0)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend(rows: Sequence[Row], style_of: dict[str, Style]) -> list[Line2D]:
    handles = drawing.line_handles([row.controller for row in rows], style_of)
    runs = [run for row in rows for run in row.finished]
    marks: Style = {"color": drawing.INKS["tick"], "linestyle": "none", "markersize": 5}
    seen = _steps_by_event(runs)
    for event, (marker, words) in EVENT_MARKS.items():
        if seen[event]:
            handles.append(Line2D([], [], marker=marker, label=words, **marks))
    if any(curves.non_finite_steps(run) for run in runs):
        handles.append(Line2D([], [], marker="v", label="training loss not finite", **marks))
    return handles
