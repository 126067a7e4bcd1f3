"""The contracts of what a tuner is made of: controllers, monitors, guards and adapters."""

from __future__ import annotations

import copy
import io
import itertools
import math
from collections.abc import Callable
from typing import Any, TypeVar

from autotunenet.controllers import Controller
from autotunenet.guards import Guard
from autotunenet.monitors import Monitor
from autotunenet.testing.rules import no_side_effects, require, same
from autotunenet.types import Health, Hyperparams, Stateful, SteppingRun, TrainingRun, is_finite

INITIAL: Hyperparams = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}
"""What `check_controller` starts from."""

_ODD = (math.nan, math.inf, -math.inf, 1e300, -1e300, 0.0, -1.0)
_METRICS = (math.nan, 2.3, 2.1, 1.9, 1.9, math.inf, 1.7, 1e300, 1.5, 1.5, 1.5, 1.5, 0.0, -1.0, 1.4, 1.2, 1.0, -math.inf)
_LOSSES = (math.nan, 2.3, 2.2, *(2.0, 2.1, 1.9) * 3, math.inf, 9.0, 2.0, 1e300, 1e300, 9.0, 9.0, 9.0, 0.0, -1.0, 2.0)
_VALUES = (0.0, 1e-300, 1e-12, 1e-8, 1.2e-8, 3e-5, 0.09, 0.1, 0.11, 0.9, 1.0, 7.0, 1e6, 1e300, -1e-9, -0.1, -7.0)

T = TypeVar("T", bound=Stateful)


def check_controller(make: Callable[[], Controller]) -> None:
    """Check a controller: finite proposals for known names, no side effects, and a state that resumes bit for bit.

    Args:
        make: Returns a fresh controller, which will be started from `INITIAL`.

    Raises:
        AssertionError: If a rule is broken.

    >>> from autotunenet.controllers import Fixed
    >>> check_controller(Fixed)
    """

    def started() -> Controller:
        controller = make()
        _ask(controller.start, INITIAL)
        return controller

    def play(controller: Controller, i: int) -> dict[str, float]:
        current = {"lr": 0.1 * (1 + 0.5 * math.sin(i)), "momentum": 0.9 + 0.05 * math.cos(i), "weight_decay": 1e-4 * i}
        controller.observe(_METRICS[i % len(_METRICS)], step=3 * i + 3)
        if i % 7 == 6:
            controller.follow(current)
        if i % 11 == 10:
            controller.forget(3 * i + 3)
            _ask(controller.rewarm, current)
        return _ask(controller.propose, current)

    with no_side_effects():
        controller, current = started(), dict(INITIAL)
        for i in range(200):  # the proposals in force, as a tuner with a very wide box would have it
            controller.observe(_ODD[i % 8] if i % 8 < len(_ODD) else 1.0, step=i + 1)
            proposed = _ask(controller.propose, current)
            current.update({name: min(max(value, -1e6), 1e6) for name, value in proposed.items()})
        _check_state(started, play, num_plays=2 * len(_METRICS))


def check_monitor(make: Callable[[], Monitor]) -> None:
    """Check a monitor: a verdict on every loss, no poison, anchors that hold, constant memory, exact resume.

    Args:
        make: Returns a fresh monitor.

    Raises:
        AssertionError: If a rule is broken.

    >>> from autotunenet.monitors import Spike
    >>> check_monitor(Spike)
    """

    def play(monitor: Monitor, i: int) -> Health:
        if i % 11 == 10:
            monitor.reset((2.0, math.nan, 1e6)[i % 3])
        verdict = monitor.update(_LOSSES[i % len(_LOSSES)], step=i + 1)
        require(isinstance(verdict, Health), f"update() must return a Health, got {verdict!r}")
        return verdict

    with no_side_effects():
        _check_state(make, play, num_plays=2 * len(_LOSSES))
        _check_poison(make)
        _check_anchor(make)
        monitor, sizes = make(), []
        for step in range(1, 1201):
            monitor.update(2.0 + 0.1 * math.sin(step) + 50.0 * (step % 5 == 0), step)
            sizes.append(len(repr(monitor.state_dict())))
        require(sizes[-1] <= sizes[599] + 500, "memory must be constant; the state keeps growing")


def check_guard(make: Callable[[], Guard]) -> None:
    """Check a guard: pure, finite, the names it was given, and never beyond what was asked for.

    Args:
        make: Returns the guard.

    Raises:
        AssertionError: If a rule is broken.

    >>> from autotunenet.guards import max_delta
    >>> check_guard(lambda: max_delta(0.5))
    """
    with no_side_effects():
        guard, other = make(), make()
        cases = list(itertools.product(_VALUES, _VALUES, (1, 2, 3, 8)))
        answers = [_check_guard_once(guard, *case) for case in cases]
        again = [_check_guard_once(other, *case) for case in reversed(cases)]
        require(answers == again[::-1], "a guard must be pure: earlier calls must not matter")


def check_run(make: Callable[[], tuple[TrainingRun, Callable[[], object]]]) -> None:
    """Check an adapter: exact, unaliased copies both ways, hyperparameters that read back as written, steps seen once.

    Args:
        make: Returns a fresh training and a function that trains it by one optimizer step, on the same data each time
            it is called anew.

    Raises:
        AssertionError: If a rule is broken.
    """
    run, train = make()
    initial = run.get_hyperparams()
    require(bool(initial), "get_hyperparams() must name at least one value")
    for share in (0.5, 0.25, 1.0):
        values = {name: value * share for name, value in initial.items()}
        run.set_hyperparams(values)
        require(run.get_hyperparams() == values, f"{values} was set, {run.get_hyperparams()} is read back")
    run.set_hyperparams({})
    require(run.get_hyperparams() == initial, "names that are left out of set_hyperparams() must stay as they are")
    try:
        run.set_hyperparams({"no such name": 0.1})
    except KeyError:
        pass
    else:
        require(False, "set_hyperparams() must raise KeyError for an unknown name")

    for num_steps in (0, 3):  # before the optimizer has a state, and after
        for _ in range(num_steps):
            train()
        buffers = run.copy_into(None)
        saved = copy.deepcopy(buffers)
        endings = []
        for _ in range(2):
            train()
            train()
            require(same(buffers, saved), "training must not reach the buffers: copy_into() must not alias")
            endings.append(run.copy_into(None))
            run.copy_from(buffers)
            require(same(buffers, saved), "copy_from() must not change the buffers")
            require(same(run.copy_into(None), saved), "copy_from() must restore exactly, each time")
        require(not same(endings[0], saved), "the function that trains changed nothing: the check would say nothing")
        again = run.copy_into(endings[0])
        require(same(again, saved), "copy_into() must give the live state, whatever the buffers held before")
    if isinstance(run, SteppingRun):
        _check_steps(run, train)


def _check_steps(run: SteppingRun, train: Callable[[], object]) -> None:
    run.took_step()  # from here on
    for _ in range(2):
        train()
        require(run.took_step() is not False, "took_step() must not deny a step that there was")
        require(run.took_step() is not True, "took_step() must tell a step once")


def _ask(method: Callable[[Hyperparams], Hyperparams], current: Hyperparams) -> dict[str, float]:
    given = dict(current)
    proposed = dict(method(given))
    require(given == current, f"{method.__name__}() must not change its argument")
    given.clear()  # whoever kept it finds it empty
    unknown = sorted(proposed.keys() - current.keys())
    require(not unknown, f"a proposal may only name what is tuned; it names {', '.join(unknown)}")
    require(is_finite(proposed), f"proposals must be finite whatever the metric was, got {proposed}")
    return proposed


def _check_guard_once(guard: Guard, old: float, new: float, step: int) -> dict[str, float]:
    current, proposed = {"lr": old, "momentum": 0.9}, {"lr": new, "momentum": 0.8}
    allowed = guard(current, proposed, step)
    unchanged = current == {"lr": old, "momentum": 0.9} and proposed == {"lr": new, "momentum": 0.8}
    require(unchanged, "a guard must not change its arguments")
    require(allowed.keys() == proposed.keys(), f"a guard must answer for the names asked for, got {allowed}")
    require(is_finite(allowed), f"finite values must stay finite; {old} -> {new} became {allowed}")
    again = guard(current, allowed, step)
    require(again == allowed, f"what is allowed must be allowed; {allowed} from {current} became {again}")
    if guard(current, current, step) == current:
        for name, value in allowed.items():
            low, high = sorted((current[name], proposed[name]))
            rule = f"a guard may hold back but not add: {name} {current[name]} -> {proposed[name]} became {value}"
            require(low <= value <= high, rule)
    return allowed


def _check_state(make: Callable[[], T], play: Callable[[T, int], object], num_plays: int) -> None:
    """Check that a member saved after any number of plays goes on as if nothing had been."""
    reference, bystander = make(), make()
    untouched = copy.deepcopy(bystander.state_dict())
    outcomes = [play(reference, i) for i in range(num_plays)]
    require(same(bystander.state_dict(), untouched), "two instances must share nothing")
    for cut in range(num_plays):
        live = make()
        for i in range(cut):
            play(live, i)
        saved = live.state_dict()
        frozen = copy.deepcopy(saved)
        _check_plain(saved, "state_dict()")
        _check_refusals(live, saved)
        rest = [play(live, i) for i in range(cut, num_plays)]
        require(rest == outcomes[cut:], "state_dict() and refused states must not change what comes next")
        require(same(saved, frozen), "a saved state must not change while the live object goes on")
        for state in (saved, _through_a_file(saved)):
            resumed = make()
            resumed.load_state_dict(state)
            require(same(resumed.state_dict(), frozen), "a loaded state must read back as it was saved")
            rest = [play(resumed, i) for i in range(cut, num_plays)]
            require(rest == outcomes[cut:], f"resumed after {cut} of {num_plays}, it must go on bit for bit")
        require(same(saved, frozen), "a state must not change after it was loaded, so that it can be loaded again")


def _check_refusals(live: Stateful, saved: dict[str, Any]) -> None:
    foreign = [{**saved, "no such key": 1}, {"no such key": 1}]
    foreign += [{key: value for key, value in saved.items() if key != left_out} for left_out in saved]
    for state in foreign:
        try:
            live.load_state_dict(state)
        except ValueError:
            require(same(live.state_dict(), saved), "a refused state must not be loaded in part")
        else:
            require(False, f"load_state_dict() must refuse a state with the keys {sorted(state)} with a ValueError")


def _check_poison(make: Callable[[], Monitor]) -> None:
    healthy, sick = make(), make()
    for step in range(1, 301):
        loss = 2.0 + 0.1 * math.sin(step)
        healthy.update(loss, 2 * step)
        sick.update(math.nan if step % 2 else math.inf, 2 * step - 1)
        sick.update(loss, 2 * step)
    healthy.reset(2.0)
    sick.reset(2.0)
    for i in range(300):
        loss, step = 2.0 + 0.1 * math.cos(i) + (i % 50 == 49) * 40.0, 601 + i
        verdicts = healthy.update(loss, step), sick.update(loss, step)
        require(verdicts[0] is verdicts[1], f"NaN must poison nothing: after reset() {loss} was judged {verdicts}")


def _check_anchor(make: Callable[[], Monitor]) -> None:
    first, second = make(), make()
    for monitor in (first, second):
        for step in range(1, 301):
            monitor.update(0.1 + 0.005 * math.sin(step), step)
    judges_levels = first.update(1e13, 301) is not Health.STABLE
    second.reset(0.1)
    if judges_levels:
        verdict = second.update(1e13, 301)
        require(verdict is not Health.STABLE, "reset(0.1) must anchor: a loss of 1e13 right after it was called stable")


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            require(isinstance(key, str | int), f"keys of a state must be strings or numbers, got {key!r} in {where}")
            _check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_plain(item, f"{where}[{i}]")
    else:
        plain = value is None or type(value) in (bool, int, float, str) or hasattr(value, "untyped_storage")
        require(plain, f"a state holds tensors and plain values only; {where} is a {type(value).__name__}")


def _through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    import torch

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded
