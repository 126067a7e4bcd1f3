"""What the sinks share: which decisions are news, and how one is told in a line."""

from __future__ import annotations

from autotunenet.types import Action, Decision, Health


def is_news(decision: Decision) -> bool:
    """Whether a person who reads texts wants this one: anything but another quiet interval."""
    return decision.action is not Action.HOLD or decision.health is not Health.STABLE


def is_alarm(decision: Decision) -> bool:
    """Whether a decision is about an alarm: its look into it, its verdict, a rollback."""
    return decision.health is Health.UNSTABLE


def headline(decision: Decision) -> str:
    """Return a decision in one line.

    >>> from autotunenet.types import Cause, Observation
    >>> seen = Observation(40, 9.0, {"lr": 0.4})
    >>> decision = Decision(
    ...     seen, Health.UNSTABLE, Action.ROLLBACK, {"lr": 0.4}, {"lr": 0.1}, 10, "It was the knob.", Cause.KNOB
    ... )
    >>> headline(decision)
    'step 40, rollback (knob): It was the knob.'
    """
    cause = f" ({decision.cause.value})" if decision.cause else ""
    return f"step {decision.observation.step}, {decision.action.value}{cause}: {decision.reason}"
