"""What a tuner shows of itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from autotunenet.types import Decision
from autotunenet.views.frame import to_frame
from autotunenet.views.notebook import to_html, to_line
from autotunenet.views.plotting import plot

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Viewed:
    """The views of something with a history of decisions: `plot`, `to_frame`, and how a notebook shows it."""

    history: deque[Decision]
    _num_steps: int

    if TYPE_CHECKING:

        def metrics(self) -> dict[str, float]: ...  # noqa: D102

        @property
        def _phase(self) -> str: ...

        @property
        def _interval(self) -> int | None: ...

    def plot(self, validation: Sequence[tuple[int, float]] = (), *, title: str = "") -> Figure:
        """Draw the history: loss, tuned values, launch, discarded steps and verdicts, as `autotunenet.views.plot` says.

        Args:
            validation: Validation metrics as pairs of step and value, drawn over the loss.
            title: Above the figure.

        Returns:
            A matplotlib figure that needs no display and is none of pyplot's.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        metric = "metric (lower is better)" if self._interval is None else "training loss"
        return plot(list(self.history), validation, metric=metric, title=title)

    def to_frame(self) -> pd.DataFrame:
        """Return the history as a table with one row a decision; `autotunenet.views.to_frame` names the columns.

        Raises:
            ImportError: If pandas is not installed.
        """
        return to_frame(list(self.history))

    def __repr__(self) -> str:
        return to_line(type(self).__name__, self._phase, self._num_steps, self.metrics())

    def _repr_html_(self) -> str:
        return to_html(type(self).__name__, self._phase, self._num_steps, self.metrics(), list(self.history))
