"""Figures of one task and regime besides its curves: what the budget bought, and how runs came through the trigger."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from autotunenet_bench.metrics.compute import flop_budget
from autotunenet_bench.report import curves, drawing
from autotunenet_bench.report.aggregate import Group
from autotunenet_bench.report.curves import Array, Curve
from autotunenet_bench.report.drawing import Style
from autotunenet_bench.results.trace import Trace

_UNITS = ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1.0, "FLOP"))

_EPOCHS_BEFORE = 2
"""Validations before the trigger that are drawn."""


def budget_figure(group: Group, style_of: dict[str, Style]) -> str | None:
    """Validation loss over the operations spent, with the plain run's budget marked.

    Args:
        group: The runs; only finished ones are drawn.
        style_of: Line properties by controller, from `autotunenet_bench.report.drawing.styles`.

    Returns:
        An SVG document; None where no run spent more or less than the budget (the curve over the steps says the same
        then, and `budget_words` says so), where operations were not recorded, and without a finished run.
    """
    runs = _finished(group)
    if not _differ_in_cost(runs):
        return None
    budget = flop_budget(next(iter(runs.values()))[0])
    scale, unit = flop_unit(budget)
    with mpl.rc_context(drawing.SETTINGS):
        figure, ax = _figure(runs, style_of)
        seen = _draw(ax, runs, lambda run: _over_flops(run, scale), style_of)
        if 0 < min(seen, default=0.0) < max(seen) / drawing.LOG_RATIO:
            ax.set_yscale("log")
            drawing.plain_log_ticks(ax.yaxis, min(seen), max(seen))
        drawing.vertical_line(ax, budget / scale, "budget")
        drawing.annotate_line(ax, budget / scale, "budget of the plain run", to_the_left=True)
        ax.set_xlabel(f"operations spent [{unit}]")
        ax.set_ylabel("validation loss")
        ax.set_xlim(left=0)
        return drawing.to_svg(figure)


def budget_words(group: Group) -> str:
    """Return why there is no `budget_figure`: what a run cost where all cost the same; else empty."""
    runs = _finished(group)
    every = [run for group in runs.values() for run in group]
    if not every or _differ_in_cost(runs):
        return ""
    if any(run.flops is None for run in every):
        return "Floating point operations were not recorded in all runs, so there is no curve over them."
    scale, unit = flop_unit(flop_budget(every[0]))
    return (
        f"Every finished run spent what the plain run spends, {flop_budget(every[0]) / scale:.3g} {unit}: over the "
        "operations the validation loss looks as it does over the steps."
    )


def recovery_figure(group: Group, style_of: dict[str, Style]) -> str | None:
    """Validation loss less the last one before the trigger, over the epochs since then.

    Args:
        group: The runs; only finished ones that met a trigger are drawn.
        style_of: Line properties by controller, from `autotunenet_bench.report.drawing.styles`.

    Returns:
        An SVG document; None where no finished run met a trigger.
    """
    runs = {name: [run for run in mine if _met_a_trigger(run)] for name, mine in _finished(group).items()}
    runs = {name: mine for name, mine in runs.items() if mine}
    if not runs:
        return None
    with mpl.rc_context(drawing.SETTINGS):
        figure, ax = _figure(runs, style_of)
        seen = _draw(ax, runs, _excess, style_of)
        # A run that was lost would press all others into the zero line.
        typical = float(np.median(np.abs(seen))) if seen else 0.0
        if typical > 0 and max(map(abs, seen)) > drawing.LOG_RATIO * typical:
            ax.set_yscale("symlog", linthresh=typical)
            drawing.plain_numbers(ax.yaxis)
        ax.axhline(0.0, color=drawing.INKS["line"], linewidth=0.9, zorder=1)
        drawing.vertical_line(ax, 0.0, "trigger")
        drawing.annotate_line(ax, 0.0, "trigger")
        ax.set_xlabel("epochs under the new regime")
        ax.set_ylabel("validation loss less\nthe last one before")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        return drawing.to_svg(figure)


def _finished(group: Group) -> dict[str, list[Trace]]:
    return {row.controller: list(row.finished) for row in group.rows if row.finished}


def _met_a_trigger(run: Trace) -> bool:
    return run.trigger is not None and 1 <= run.trigger.epoch <= len(run.epochs)


def _differ_in_cost(runs: dict[str, list[Trace]]) -> bool:
    every = [run for group in runs.values() for run in group]
    if not every or any(run.flops is None for run in every):
        return False
    return any(_spent(run)[-1] != flop_budget(run) for run in every)


def _spent(run: Trace) -> Array:
    """Operations spent before the first step and after every epoch, validations included."""
    assert run.flops is not None  # callers look
    passes = [0, *(epoch.passes for epoch in run.epochs)]
    return np.array([run.flops.spent(number, 1 + index) for index, number in enumerate(passes)])


def flop_unit(flops: float) -> tuple[float, str]:
    """Return the largest unit that makes so many operations at least 1, as a divisor, and its name."""
    return next(((scale, unit) for scale, unit in _UNITS if flops >= scale), _UNITS[-1])


def _over_flops(run: Trace, scale: float) -> Curve:
    return _spent(run) / scale, curves.val_loss_curve(run)[1]


def _excess(run: Trace) -> Curve:
    assert run.trigger is not None  # callers look
    # Of the drawn losses, which are capped; where the level itself is lost, all is level with it.
    losses, epochs = curves.val_loss_curve(run)[1], np.arange(1 + len(run.epochs), dtype=np.float64)
    since = epochs - (run.trigger.epoch - 1)
    shown = since >= 1 - _EPOCHS_BEFORE
    return since[shown], (losses - losses[run.trigger.epoch - 1])[shown]


def _figure(runs: dict[str, list[Trace]], style_of: dict[str, Style]) -> tuple[Figure, Axes]:
    handles = drawing.line_handles(list(runs), style_of)
    figure = Figure(figsize=(drawing.WIDTH, 2.5 + drawing.legend_inches(handles)), layout="constrained")
    drawing.add_legend(figure, handles)
    return figure, figure.subplots()


def _draw(
    ax: Axes, runs: dict[str, list[Trace]], curve: Callable[[Trace], Curve], style_of: dict[str, Style]
) -> list[float]:
    """Mean lines and bands from the lowest to the highest seed; the finite values drawn."""
    seen: list[float] = []
    for name, mine in runs.items():
        band = curves.band([curve(run) for run in mine])
        seen += [float(value) for value in (*band.low, *band.high) if np.isfinite(value)]
        ax.plot(band.steps, band.mean, **style_of[name])
        if len(mine) > 1:
            shade: Style = {"color": style_of[name]["color"], "alpha": drawing.BAND_ALPHA, "linewidth": 0}
            ax.fill_between(band.steps, band.low, band.high, **shade)
    return seen
