"""NaN and infinity."""

from __future__ import annotations

import math

from autotunenet.monitors.base import Monitor
from autotunenet.types import Health


class NonFinite(Monitor):
    """Unstable whenever the loss is NaN or infinite. Keeps no state.

    >>> NonFinite().update(float("nan"), step=1)
    <Health.UNSTABLE: 'unstable'>
    """

    def update(self, loss: float, step: int) -> Health:
        """Judge one step."""
        return Health.STABLE if math.isfinite(loss) else Health.UNSTABLE

    def reset(self, loss: float) -> None:
        """Do nothing: there is no memory."""
