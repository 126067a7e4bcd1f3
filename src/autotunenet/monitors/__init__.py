"""IS IT HEALTHY: judges of the training loss, one verdict a step."""

from autotunenet.monitors.base import Monitor
from autotunenet.monitors.change_point import ChangePoint
from autotunenet.monitors.collapse import Collapse
from autotunenet.monitors.non_finite import NonFinite
from autotunenet.monitors.overshoot import Overshoot
from autotunenet.monitors.regression import Regression
from autotunenet.monitors.spike import Spike
from autotunenet.monitors.worst_of import WorstOf

MONITORS: dict[str, type[Monitor]] = {
    "change_point": ChangePoint,
    "collapse": Collapse,
    "non_finite": NonFinite,
    "overshoot": Overshoot,
    "regression": Regression,
    "spike": Spike,
    "worst_of": WorstOf,
}
"""Monitor classes by name; each can be made without arguments, and `WorstOf()` of nothing is the null member."""

__all__ = [
    "MONITORS",
    "ChangePoint",
    "Collapse",
    "Monitor",
    "NonFinite",
    "Overshoot",
    "Regression",
    "Spike",
    "WorstOf",
    "default_monitor",
]


def default_monitor() -> Monitor:
    """Return what judges a run where nobody says otherwise: all of them, with their defaults."""
    return WorstOf(NonFinite(), Overshoot(), Regression(), Spike(), Collapse(), ChangePoint())
