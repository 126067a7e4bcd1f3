"""HOW to change: the controller family's base."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from autotunenet.state import PlainState
from autotunenet.types import Hyperparams


class Controller(PlainState, ABC):
    """Proposes hyperparameters from the metrics it has observed. It never touches the training run.

    The tuner calls `start` once, then `observe` and `propose` in turn, exactly once each at the end of every control
    interval, also when the proposal will be refused because the run is unstable. `follow` tells of values that somebody
    else put in force.

    >>> class Halve(Controller):
    ...     def observe(self, metric, step): pass
    ...     def propose(self, current_params): return {"lr": current_params["lr"] / 2}
    >>> Halve().propose({"lr": 0.1})
    {'lr': 0.05}
    """

    needs: tuple[str, ...] = ()
    """Hyperparameters that it changes by name; the search space has to name them."""

    def start(self, initial: Hyperparams) -> Hyperparams:
        """Return the values for the first interval, given the user's. The default keeps the user's."""
        return dict(initial)

    @abstractmethod
    def observe(self, metric: float, step: int) -> None:
        """Take note of one interval.

        Args:
            metric: Lower is better; may be NaN, and is inf for an interval that ended because the run was unstable. It
                belongs to the values that were in force until now.
            step: Optimizer steps so far, counted from 1.
        """

    @abstractmethod
    def propose(self, current_params: Hyperparams) -> Hyperparams:
        """Return the values wanted from now on, given those in force. Names left out stay as they are.

        The answer is a wish: a guard may bound it, a rollback may refuse it. What came of it is the next call's
        `current_params`.
        """

    reason: str = ""
    """Why the last proposal was made, as a sentence for the history; empty where the values say it all."""

    def observe_validation(self, metric: float, step: int) -> None:
        """Take note of a validation metric, lower is better, between two intervals on the training loss.

        The default does nothing. It is called where the control interval is counted in steps; elsewhere `observe` gets
        the metric.
        """

    def forget(self, step: int) -> None:
        """The world has changed at `step`: evidence from before no longer counts. The default does nothing."""

    def rewarm(self, current_params: Hyperparams) -> Hyperparams:
        """The data have changed, after `forget`: return the values to put in force at once. The default changes none.

        What was a safe step for the old data may be too large for the new ones.
        """
        return {}

    def follow(self, current_params: Hyperparams) -> None:
        """Go on from values that a rollback put in force.

        A controller that plans absolute values rebases its plan. The default does nothing: most controllers start from
        the values in force anyway.
        """


def is_same(value: float, other: float) -> bool:
    """Whether two values are the same but for rounding: an lr may have been kept in a float32 tensor.

    >>> is_same(0.1, 0.10000000149011612), is_same(0.1, 0.1001)
    (True, False)
    """
    return math.isclose(value, other, rel_tol=1e-6)
