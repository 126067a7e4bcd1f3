"""The way to the figure; matplotlib is imported here and not before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autotunenet.optional import import_optional
from autotunenet.types import Decision

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(
    decisions: Sequence[Decision],
    validation: Sequence[tuple[int, float]] = (),
    *,
    metric: str = "training loss",
    title: str = "",
) -> Figure:
    """Draw a history: the loss of the intervals, each tuned value below it, and what happened when.

    A short launch has a column of its own on the left, with its trials. Grey are steps that were thrown away. A mark on
    the upper edge, with a line down, is a verdict on an alarm: triangle for a rollback, diamond for a return to the
    state of the alarm, square where the tuner stayed; its colour is the cause. A quantity above 0 that spans more than
    a factor of 20 is on a log axis, lr always; what is below the axis lies on its lower edge. Losses that are not
    finite leave a gap.

    The figure needs no display and is none of pyplot's: ``figure.savefig("run.png")``, or the last line of a notebook's
    cell.

    Args:
        decisions: In order, from `autotunenet.Tuner.history` or `autotunenet.sinks.read_run`.
        validation: Validation metrics as pairs of step and value, drawn over the loss.
        metric: What the decisions saw, for the axis.
        title: Above the figure.

    Raises:
        ImportError: If matplotlib is not installed.

    >>> from autotunenet.types import Action, Health, Observation
    >>> seen = Observation(20, 0.5, {"lr": 0.1})
    >>> figure = plot([Decision(seen, Health.STABLE, Action.ADAPT, {"lr": 0.3}, {"lr": 0.2}, 0, "Bounded.")])
    >>> [ax.get_ylabel() for ax in figure.axes]
    ['training loss', 'lr, log scale']
    """
    import_optional("matplotlib", "plot()", "plot")
    from autotunenet.views import figure

    return figure.draw(decisions, validation, metric=metric, title=title)
