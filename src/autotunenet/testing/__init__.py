"""Contracts of the families, as checks that third parties can call on members of their own.

Each check takes a factory, makes as many members as it needs, and raises an AssertionError whose sentence says which
rule is broken. All members that a factory makes must be alike, seeds included.
"""

from autotunenet.testing.online import INITIAL, check_controller, check_guard, check_monitor, check_run
from autotunenet.testing.rules import same
from autotunenet.testing.searches import check_search
from autotunenet.testing.sinks import check_sink

__all__ = [
    "INITIAL",
    "check_controller",
    "check_guard",
    "check_monitor",
    "check_run",
    "check_search",
    "check_sink",
    "same",
]
