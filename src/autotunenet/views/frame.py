"""A history as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from autotunenet.optional import import_optional
from autotunenet.types import Decision
from autotunenet.views.reading import tuned_names

if TYPE_CHECKING:
    import pandas as pd


def to_frame(decisions: Sequence[Decision]) -> pd.DataFrame:
    """Return one row a decision.

    | column | what |
    | --- | --- |
    | ``step`` | optimizer steps so far, counted from 1 |
    | ``metric`` | what was seen, lower is better; infinite where an interval ended in a rollback |
    | ``action``, ``health``, ``cause`` | as words; ``cause`` is missing where none was found out |
    | ``discarded_steps`` | optimizer steps thrown away |
    | ``lr_in_force`` | the value while the metric arose |
    | ``lr_proposed`` | what the controller asked for |
    | ``lr_applied`` | the value from then on |
    | ``evidence_<name>`` | the numbers that the cause rests on; missing elsewhere |
    | ``reason`` | a sentence |

    Each tuned value has its three columns. A frame of no decisions has the columns that need no name.

    Raises:
        ImportError: If pandas is not installed.

    >>> from autotunenet.types import Action, Health, Observation
    >>> seen = Observation(20, 0.5, {"lr": 0.1})
    >>> frame = to_frame([Decision(seen, Health.STABLE, Action.ADAPT, {"lr": 0.3}, {"lr": 0.2}, 0, "Bounded.")])
    >>> print(frame[["action", "lr_in_force", "lr_proposed", "lr_applied"]].to_string(index=False))
    action  lr_in_force  lr_proposed  lr_applied
     adapt          0.1          0.3         0.2
    """
    pandas = import_optional("pandas", "to_frame()", "plot")
    names = tuned_names(decisions)
    evidence = dict.fromkeys(name for each in decisions for name in each.evidence)
    columns: dict[str, tuple[str, list[Any]]] = {
        "step": ("int64", [each.observation.step for each in decisions]),
        "metric": ("float64", [each.observation.metric for each in decisions]),
        "action": ("object", [each.action.value for each in decisions]),
        "health": ("object", [each.health.value for each in decisions]),
        "cause": ("object", [each.cause.value if each.cause else None for each in decisions]),
        "discarded_steps": ("int64", [each.discarded_steps for each in decisions]),
    }
    for name in names:
        columns[f"{name}_in_force"] = "float64", [each.observation.hyperparams.get(name) for each in decisions]
        columns[f"{name}_proposed"] = "float64", [each.proposed.get(name) for each in decisions]
        columns[f"{name}_applied"] = "float64", [each.applied.get(name) for each in decisions]
    for name in evidence:
        columns[f"evidence_{name}"] = "float64", [each.evidence.get(name) for each in decisions]
    columns["reason"] = "object", [each.reason for each in decisions]
    return pandas.DataFrame({name: pandas.Series(values, dtype=kind) for name, (kind, values) in columns.items()})
