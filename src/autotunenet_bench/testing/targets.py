"""What ``autotunenet-bench check`` looks at: a name, its family and the rules of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from autotunenet_bench.config.errors import did_you_mean
from autotunenet_bench.config.models import CONTROLLER, REGIME, TASK
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.controllers.offline import OfflineConfig
from autotunenet_bench.data import DataSource
from autotunenet_bench.member import Member
from autotunenet_bench.references import ClassNotFoundError, import_class, is_reference
from autotunenet_bench.regimes.base import RegimeConfig
from autotunenet_bench.tasks.base import Task
from autotunenet_bench.testing.controllers import CONTROLLER_RULES
from autotunenet_bench.testing.regimes import REGIME_RULES, subjects
from autotunenet_bench.testing.rules import Finding, Subject, findings
from autotunenet_bench.testing.searches import SEARCH_RULES
from autotunenet_bench.testing.tasks import TASK_RULES

FAMILIES = (CONTROLLER, REGIME, TASK)

_RULES = {
    OfflineConfig: SEARCH_RULES,
    ControllerConfig: CONTROLLER_RULES,
    RegimeConfig: REGIME_RULES,
    Task: TASK_RULES,
}


def family_of(name: str) -> Member:
    """Return the family of a registered name or of a class of the user's own.

    Raises:
        ClassNotFoundError: If there is no such member.

    >>> family_of("cosine").family
    'controller'
    """
    if not is_reference(name):
        known = [member for family in FAMILIES for member in family.registry]
        mend = f"{did_you_mean(name, known)}see autotunenet-bench list, or name a class of your own, module:Class"
        found = [family for family in FAMILIES if name in family.registry]
        if not found:
            raise ClassNotFoundError("no controller, regime or task has this name", mend)
        return found[0]
    cls = import_class(name)
    for family in FAMILIES:
        if family.takes(cls):
            return family
    bases = ", ".join(f"{base.__module__}.{base.__name__}" for family in FAMILIES for base in family.bases)
    raise ClassNotFoundError(
        f"the class {cls.__name__} is no controller, regime or task", f"derive it from one of {bases}"
    )


def model_of(name: str) -> type[BaseModel]:
    """Return the config model of a registered name or of a class of the user's own.

    Raises:
        ClassNotFoundError: If there is no such member.

    >>> model_of("cosine").__name__
    'CosineConfig'
    """
    family = family_of(name)
    return family.find_own(name) if is_reference(name) else family.registry[name]


def check(name: str, fields: Mapping[str, Any], source: DataSource) -> Iterator[Finding]:
    """Check a member against the rules of its family, one after the other.

    Args:
        name: Of a registry, or ``module:Class``.
        fields: Keys that it is made with.
        source: Where the data of a task may come from.

    Raises:
        ClassNotFoundError: If there is no such member.
        DataError: If the data of a task are missing or damaged, as it comes to them.
    """
    model: Any = model_of(name)
    looked_at = subjects(model, **fields) if family_of(name) is REGIME else [Subject(model, fields, source)]
    rules = next(rules for base, rules in _RULES.items() if issubclass(model, base))
    return findings(rules, *looked_at)
