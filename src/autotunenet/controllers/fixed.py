"""Change nothing: the null member."""

from __future__ import annotations

from autotunenet.controllers.base import Controller
from autotunenet.types import Hyperparams


class Fixed(Controller):
    """Keeps whatever is in force.

    >>> Fixed().propose({"lr": 0.1})
    {'lr': 0.1}
    """

    def observe(self, metric: float, step: int) -> None:
        """Do nothing."""

    def propose(self, current_params: Hyperparams) -> Hyperparams:
        """Return the values in force."""
        return dict(current_params)
