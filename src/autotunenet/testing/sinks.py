"""The contract of the sinks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from autotunenet.sinks import ResumableSink, Sink
from autotunenet.testing.rules import no_side_effects, require, same
from autotunenet.types import Action, Cause, Decision, Health, Observation

_LAST = {
    "autotunenet/lr": 0.125,
    "autotunenet/loss": 0.5,
    "autotunenet/rollbacks": 2.0,
    "autotunenet/discarded_steps": 31,
}
_ODD = (math.nan, math.inf, -math.inf, 1e300, -1e300, 1e-300, 0.0)
_WORDS = ("It was the knob.", "", 'Quotes " and \\ and <b>tags</b>,\nlines\tand | signs: ü € 学', "x" * 5000)


def check_sink(make: Callable[[], Sink], *, read: Callable[[], Mapping[str, float]] | None = None) -> None:
    """Check a sink: it takes every number and every decision, changes none, prints nothing, and can be closed twice.

    Args:
        make: Returns a fresh sink. It is called more than once; all of them may write to the same place.
        read: Returns the last number under each name, read from where the last sink has written; it is called after
            that one was closed. None: what was written is not looked at.

    Raises:
        AssertionError: If a rule is broken.

    >>> class Last:
    ...     values: dict[str, float] = {}
    ...     def log(self, values, step):
    ...         self.values.update(values)
    ...     def event(self, decision):
    ...         pass
    ...     def close(self):
    ...         pass
    >>> check_sink(Last, read=lambda: Last.values)
    """
    with no_side_effects():
        idle = make()
        require(isinstance(idle, Sink), f"a sink has log(), event() and close(); {idle!r} lacks one of them")
        idle.close()
        idle.close()  # without having been told anything
        sink = make()
        decisions = list(_decisions())
        for step, decision in enumerate(decisions, start=1):
            _tell(sink, decision, {"autotunenet/lr": 0.1 / step, "autotunenet/loss": _ODD[step % len(_ODD)]})
        last = decisions[-1].observation.step
        sink.log({"autotunenet/validation": math.nan}, last)
        if isinstance(sink, ResumableSink):
            sink.resumed(last - 2, 2 * (last - 2))
        _tell(sink, decisions[-2], _LAST)  # steps run back once, at a resume
        sink.close()
        sink.close()
    if read is not None:
        _check_read(read())


def _tell(sink: Sink, decision: Decision, values: Mapping[str, float]) -> None:
    """Tell a sink a decision and its numbers, and see that it leaves both alone."""
    told, record = dict(values), decision.to_record()
    sink.log(MappingProxyType(told), decision.observation.step)
    sink.event(decision)
    require(same(told, dict(values)) and same(decision.to_record(), record), "a sink must not change what it is told")


def _check_read(found: Mapping[str, float]) -> None:
    for name, value in _LAST.items():
        require(name in found, f"{name} was logged, and is not there; there are {', '.join(sorted(found)) or 'none'}")
        # Some tools keep 32 bits.
        require(math.isclose(found[name], value, rel_tol=1e-6), f"{name} was logged as {value}, read as {found[name]}")


def _decisions() -> list[Decision]:
    """Return decisions of every kind, with numbers of every kind."""
    kinds = itertools.product(Action, Health, [None, *Cause])
    return [
        Decision(
            Observation(step, _ODD[step % len(_ODD)], {"lr": 0.1, "momentum": 0.9}),
            health,
            action,
            {"lr": _ODD[step % len(_ODD)], "momentum": 0.9},
            {"lr": 0.05, "momentum": 0.9},
            step % 3,
            _WORDS[step % len(_WORDS)],
            cause,
            {"loss_before": 0.5, "loss_again": _ODD[step % len(_ODD)]} if cause else {},
        )
        for step, (action, health, cause) in enumerate(kinds, start=1)
    ]
