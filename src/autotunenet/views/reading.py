"""What all views ask of a history: its launch, its alarms, its discarded steps, its tuned values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autotunenet.types import Action, Decision, Health


def is_launch_move(decision: Decision) -> bool:
    """Whether this is a trial of the launch; one that looks into an alarm is unstable."""
    return decision.action is Action.PROBE and decision.health is Health.STABLE


def is_verdict(decision: Decision) -> bool:
    """Whether this is what was done about an alarm in the end."""
    return decision.health is Health.UNSTABLE and decision.action not in (Action.PROBE, Action.ADAPT)


def is_interval(decision: Decision) -> bool:
    """Whether this is the end of a control interval, whose metric is a mean over it; or a standstill."""
    return decision.action in (Action.HOLD, Action.ADAPT)


def verdict_name(decision: Decision) -> str:
    """Return what was done, and whose fault it was where that is known.

    >>> from autotunenet.types import Cause, Observation
    >>> seen = Observation(40, 9.0, {"lr": 0.4})
    >>> verdict_name(Decision(seen, Health.UNSTABLE, Action.ROLLBACK, {}, {}, 10, "", Cause.KNOB))
    'rollback (knob)'
    """
    return decision.action.value + (f" ({decision.cause.value})" if decision.cause else "")


def launch_end(decisions: Iterable[Decision]) -> int:
    """Return the step of the last trial of the launch; 0 where there was none."""
    return max((each.observation.step for each in decisions if is_launch_move(each)), default=0)


def discarded_spans(decisions: Iterable[Decision]) -> list[tuple[int, int]]:
    """Return the optimizer steps that were thrown away, as pairs: after which, up to which.

    >>> from autotunenet.types import Observation
    >>> seen = Observation(8, 4.2, {"lr": 30.0})
    >>> discarded_spans([Decision(seen, Health.STABLE, Action.PROBE, {}, {}, 2, "")])
    [(6, 8)]
    """
    return [
        (each.observation.step - each.discarded_steps, each.observation.step)
        for each in decisions
        if each.discarded_steps
    ]


def tuned_names(decisions: Sequence[Decision]) -> list[str]:
    """Return the names of the tuned values, lr first."""
    names = dict.fromkeys(name for each in decisions for name in (*each.observation.hyperparams, *each.applied))
    return sorted(names, key=lambda name: name != "lr")
