"""Several monitors as one."""

from __future__ import annotations

from typing import Any

from autotunenet.monitors.base import Monitor
from autotunenet.state import check_keys
from autotunenet.types import Health

_SEVERITY = {Health.STABLE: 0, Health.SUSPECT: 1, Health.UNSTABLE: 2}


class WorstOf(Monitor):
    """Asks every monitor at every step and gives the worst verdict. Of no monitors at all: always stable.

    >>> from autotunenet.monitors import NonFinite, Regression
    >>> WorstOf(NonFinite(), Regression()).update(float("inf"), step=1)
    <Health.UNSTABLE: 'unstable'>
    """

    def __init__(self, *monitors: Monitor) -> None:
        self.monitors = monitors

    def update(self, loss: float, step: int) -> Health:
        """Judge one step."""
        # Every monitor hears of every loss, so no short cut at the first bad verdict.
        worst = Health.STABLE
        for monitor in self.monitors:
            verdict = monitor.update(loss, step)
            if verdict is not worst and _SEVERITY[verdict] > _SEVERITY[worst]:
                worst = verdict
        return worst

    def reset(self, loss: float) -> None:
        """Re-anchor all of them."""
        for monitor in self.monitors:
            monitor.reset(loss)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all, by position and class name."""
        return {key: monitor.state_dict() for key, monitor in self._by_key().items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state of the same monitors in the same order. Raises ValueError for any other."""
        check_keys(type(self).__name__, state_dict, self._by_key())
        for key, monitor in self._by_key().items():
            monitor.load_state_dict(state_dict[key])

    def _by_key(self) -> dict[str, Monitor]:
        return {f"{i}.{type(monitor).__name__}": monitor for i, monitor in enumerate(self.monitors)}
