"""How good the model was at which lr: the way of every controller through lr and validation loss, as an SVG string."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from autotunenet_bench.report import curves, drawing
from autotunenet_bench.report.aggregate import Group
from autotunenet_bench.report.curves import Array
from autotunenet_bench.report.drawing import Style
from autotunenet_bench.results.trace import Trace

MAX_DECADES = 5
"""Decades of lr that are drawn below the highest: a schedule that lands at zero would press all others to the right."""

MAX_SEEDS = 20
"""Seeds of a controller that are drawn one by one; of more, the first."""

_SEED_ALPHA = 0.45
_HEIGHT = 3.6
_LR = "lr"


def lr_figure(group: Group, style_of: dict[str, Style]) -> str | None:
    """Validation loss after every epoch over the lr in force at its end, a line a controller.

    A line goes from the first epoch (open circle) to the last (dot): its geometric means over seeds of lr and its means
    of the loss. The seeds stand behind it, lighter, the first `MAX_SEEDS` of them.

    Args:
        group: The runs; only finished ones are drawn.
        style_of: Line properties by controller, from `autotunenet_bench.report.drawing.styles`.

    Returns:
        An SVG document; None where no finished run has an lr above 0, and where none has ever moved it.
    """
    runs = {row.controller: list(row.finished) for row in group.rows if row.finished}
    if not any(map(_moves, (run for mine in runs.values() for run in mine))):
        return None
    ways = {name: [_way(run) for run in mine] for name, mine in runs.items()}
    top = max((float(np.nanmax(lr)) for mine in ways.values() for lr, _ in mine if np.isfinite(lr).any()), default=0.0)
    if top <= 0:
        return None
    with mpl.rc_context(drawing.SETTINGS):
        handles = [*drawing.line_handles(list(runs), style_of), *_mark_handles()]
        height = _HEIGHT + drawing.legend_inches(handles)
        figure = Figure(figsize=(drawing.WIDTH, height), layout="constrained")
        ax = figure.subplots()
        shown = [
            (np.maximum(lr, top / 10**MAX_DECADES), loss, style_of[name], len(mine) > 1)
            for name, mine in ways.items()
            for lr, loss in mine[:MAX_SEEDS]
        ]
        for lr, loss, style, is_one_of_several in shown:
            if is_one_of_several:
                ax.plot(lr, loss, color=style["color"], linewidth=0.7, alpha=_SEED_ALPHA)
        for name, mine in ways.items():
            _draw_mean(ax, mine, top, style_of[name])
        _set_axes(ax, [(lr, loss) for lr, loss, *_ in shown])
        drawing.add_legend(figure, handles)
        return drawing.to_svg(figure)


def _moves(run: Trace) -> bool:
    return len({*(epoch.hyperparams.get(_LR) for epoch in run.epochs), run.initial_hyperparams.get(_LR)}) > 1


def _way(run: Trace) -> tuple[Array, Array]:
    """Lr at the end of every epoch and validation loss after it, both of shape (epochs,); NaN where there is none."""
    lr = np.array([epoch.hyperparams.get(_LR, np.nan) for epoch in run.epochs], dtype=np.float64)
    lr[~np.isfinite(lr) | (lr < 0)] = np.nan
    return lr, curves.val_loss_curve(run)[1][1:]


def _draw_mean(ax: Axes, ways: Sequence[tuple[Array, Array]], top: float, style: Style) -> None:
    length = min(len(lr) for lr, _ in ways)
    lr = np.exp(np.mean([np.log(np.maximum(lr[:length], top / 10**MAX_DECADES)) for lr, _ in ways], axis=0))
    loss = np.mean([loss[:length] for _, loss in ways], axis=0)
    ax.plot(lr, loss, marker=".", markersize=3.5, **style)
    mark: Style = {"color": style["color"], "linestyle": "none", "marker": "o", "markersize": 5, "zorder": 3}
    ax.plot(lr[:1], loss[:1], markerfacecolor="none", **mark)
    ax.plot(lr[-1:], loss[-1:], **mark)


def _set_axes(ax: Axes, shown: Sequence[tuple[Array, Array]]) -> None:
    ax.set_xscale("log")
    lrs, losses = (np.concatenate(values) for values in zip(*shown, strict=True))
    drawing.plain_log_ticks(ax.xaxis, float(np.nanmin(lrs)), float(np.nanmax(lrs)))
    finite = losses[np.isfinite(losses)]
    if finite.size and 0 < finite.min() < finite.max() / drawing.LOG_RATIO:
        ax.set_yscale("log")
        drawing.plain_log_ticks(ax.yaxis, float(finite.min()), float(finite.max()))
    ax.set_xlabel("lr at the end of an epoch")
    ax.set_ylabel("validation loss after it")


def _mark_handles() -> list[Line2D]:
    marks: Style = {"color": drawing.INKS["tick"], "linestyle": "none", "marker": "o", "markersize": 5}
    return [
        Line2D([], [], label="first epoch", markerfacecolor="none", **marks),
        Line2D([], [], label="last epoch", **marks),
    ]
