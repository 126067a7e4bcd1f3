"""Contracts of the benchmark's families, as checks that can be called on members of your own.

``autotunenet-bench check my_methods:MyController`` calls them. Each is a list of small rules with names; the tests of
this package hold every registered member to the same ones. `autotunenet.testing` has those of the core.
"""

from autotunenet_bench.testing.controllers import CONTROLLER_RULES, check_controller
from autotunenet_bench.testing.regimes import REGIME_RULES, check_regime
from autotunenet_bench.testing.rules import Finding, Rule, Subject, findings
from autotunenet_bench.testing.searches import SEARCH_RULES, check_search
from autotunenet_bench.testing.tasks import TASK_RULES, check_task

__all__ = [
    "CONTROLLER_RULES",
    "REGIME_RULES",
    "SEARCH_RULES",
    "TASK_RULES",
    "Finding",
    "Rule",
    "Subject",
    "check_controller",
    "check_regime",
    "check_search",
    "check_task",
    "findings",
]
