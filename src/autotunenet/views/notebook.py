"""A history in a line of text, and in a box of a notebook."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from autotunenet.types import Decision
from autotunenet.views.reading import is_verdict, tuned_names, verdict_name
from autotunenet.views.sparkline import sparkline

_PREFIX = "autotunenet/"
_LEVELS = ("stable", "suspect", "unstable")
_ASIDE = ("multiplier", "loss", "validation")
_MOST_VERDICTS = 3

_BOX = "font-family:sans-serif;font-size:13px;line-height:1.35;max-width:60em"
_CELL = "display:inline-block;margin-right:18px"
_LABEL = "opacity:.65"  # no colour of its own: pages are light and dark


def to_line(name: str, phase: str, step: int, metrics: Mapping[str, float]) -> str:
    """Return what matters now in one line.

    Args:
        name: Of the class.
        phase: What it is doing.
        step: Optimizer steps so far.
        metrics: As `autotunenet.Tuner.metrics` has them.

    >>> numbers = {"lr": 0.1, "health": 0.0, "rollbacks": 2.0, "discarded_steps": 31.0}
    >>> to_line("Tuner", "running", 300, {f"autotunenet/{name}": value for name, value in numbers.items()})
    '<Tuner: running, step 300, stable, lr 0.1; 2 rollbacks, 31 steps thrown away>'
    """
    values = _short_names(metrics)
    rollbacks, discarded = int(values.pop("rollbacks", 0)), int(values.pop("discarded_steps", 0))
    health = _LEVELS[int(values.pop("health", 0))]
    shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items() if name not in _ASIDE)
    return (
        f"<{name}: {phase}, step {step}, {health}{', ' if shown else ''}{shown}; "
        f"{rollbacks} rollback{'s' * (rollbacks != 1)}, {discarded} step{'s' * (discarded != 1)} thrown away>"
    )


def to_html(name: str, phase: str, step: int, metrics: Mapping[str, float], decisions: Sequence[Decision]) -> str:
    """Return a small box of HTML: the numbers, the curves of loss and values, the last verdicts. Loads nothing.

    Args:
        name: Of the class.
        phase: What it is doing.
        step: Optimizer steps so far.
        metrics: As `autotunenet.Tuner.metrics` has them.
        decisions: The history.
    """
    head = f"<b>{escape(name)}</b>: {escape(phase)}, step {step:,}"
    parts = [head, _numbers(metrics), _curves(decisions), _counts(decisions), _last(decisions)]
    return f'<div style="{_BOX}">{"".join(parts)}</div>'


def _numbers(metrics: Mapping[str, float]) -> str:
    values: dict[str, float | str] = {**_short_names(metrics)}
    values["health"] = _LEVELS[int(values.get("health", 0))]
    cells = (
        f'<span style="{_CELL}"><span style="{_LABEL}">{escape(label.replace("_", " "))}</span><br>'
        f"{escape(_shown(value))}</span>"
        for label, value in values.items()
    )
    return f'<div style="margin:4px 0">{"".join(cells)}</div>'


def _counts(decisions: Sequence[Decision]) -> str:
    counted = Counter(each.action.value for each in decisions).most_common()
    words = ", ".join(f"{count:,} {action}" for action, count in counted)
    plural = "" if len(decisions) == 1 else "s"
    return f"<div>{len(decisions):,} decision{plural}{': ' if words else ''}{escape(words)}</div>"


def _last(decisions: Sequence[Decision]) -> str:
    verdicts = [each for each in decisions if is_verdict(each)][-_MOST_VERDICTS:]
    told = verdicts or list(decisions[-1:])
    if not told:
        return ""
    items = (
        f"<li><b>step {each.observation.step:,}, {escape(verdict_name(each))}</b>: {escape(each.reason)}</li>"
        for each in reversed(told)
    )
    heading = "Last verdicts" if verdicts else "Last decision"
    return f'<div style="margin-top:4px">{heading}<ul style="margin:0 0 0 1.2em;padding:0">{"".join(items)}</ul></div>'


def _curves(decisions: Sequence[Decision]) -> str:
    curves = {"loss": [each.observation.metric for each in decisions]}
    for name in tuned_names(decisions):
        curves[name] = [each.applied.get(name, math.nan) for each in decisions]
    marked = [index for index, each in enumerate(decisions) if is_verdict(each)]
    drawn = (
        f'<span style="{_CELL}"><span style="{_LABEL}">{escape(name)}</span><br>{sparkline(values, marked)}</span>'
        for name, values in curves.items()
    )
    return f"<div>{''.join(drawn)}</div>" if len(decisions) > 1 else ""


def _short_names(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix(_PREFIX): value for name, value in metrics.items()}


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.4g}"
