"""The contract of the benchmark's controllers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from autotunenet import testing as core
from autotunenet.controllers import Controller
from autotunenet_bench.config import ConfigError
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.controllers.own import config_of
from autotunenet_bench.regimes import REGIMES, RegimeConfig, Stationary
from autotunenet_bench.tasks import DigitsMlp
from autotunenet_bench.testing.members import MEMBER_RULES
from autotunenet_bench.testing.regimes import kinds_of
from autotunenet_bench.testing.rules import Rule, Subject, generators_left_alone, hold, require
from autotunenet_bench.testing.runs import check_resume, check_run, make_spec, suits
from autotunenet_bench.types import Horizon

HORIZONS = (Horizon(num_epochs=3, steps_per_epoch=40), Horizon(num_epochs=40, steps_per_epoch=3))
SPACE = DigitsMlp().space


def keeps_the_contract_of_the_core(subject: Subject) -> None:
    """What it builds is a controller of the core and keeps that family's contract, in short runs and long ones."""
    config = subject.make()
    for horizon in HORIZONS:
        with generators_left_alone():
            built = config.build(horizon, SPACE, seed=3)
        require(isinstance(built, Controller), f"build() returned {built!r}, which is no autotunenet Controller")
        core.check_controller(partial(config.build, horizon, SPACE, seed=3))


def has_a_control_interval(subject: Subject) -> None:
    """Its control interval is None, an epoch, or a number of steps."""
    interval = subject.make().interval
    require(interval is None or interval >= 1, f"interval is {interval!r}")


def guard_keeps_the_contract_of_the_core(subject: Subject) -> None:
    """Its guard is pure and holds back without adding."""
    core.check_guard(lambda: subject.make().build_guard(SPACE))


def max_delta_and_space_are_respected(subject: Subject) -> None:
    """Where max_delta and within_space are set the guard respects them, and with null and false nothing is bounded."""

    def allowed(lr: float, wish: float, **fields: object) -> float:
        guard = subject.make(**{"warmup": 0, "cooldown": 0, **fields}).build_guard(SPACE)
        return float(guard({"lr": lr}, {"lr": wish}, 1)["lr"])

    small = 1 + 1e-12
    for lr in (2e-6, 1e-3, 9.0):
        for wish in (1e-12, 1e-4, 1.0, 1e12):
            told = f"lr {lr:g}, asked for {wish:g}, max_delta"
            bounded = allowed(lr, wish, max_delta=0.25, within_space=False)
            require(1 / 1.25 / small <= bounded / lr <= 1.25 * small, f"{told} 0.25: it allows {bounded:g}")
            for max_delta in (None, 0.25):
                inside = allowed(lr, wish, max_delta=max_delta, within_space=True)
                require(SPACE["lr"].contains(inside), f"{told} {max_delta}, within_space: it allows {inside:g}")
            free = allowed(lr, wish, max_delta=None, within_space=False)
            require(free == wish, f"{told} null: it allows {free:g}")
            held = allowed(lr, wish, max_delta=None, warmup=1)
            require(held == lr, f"{told} null, warmup 1: it allows {held:g} in the first control step")


def null_means_unbounded(subject: Subject) -> None:
    """With max_delta null and within_space false a value may go anywhere, in every control step."""
    guard = subject.make(max_delta=None, within_space=False).build_guard(SPACE)
    found = [guard({"lr": 1.0}, {"lr": 1e9}, step)["lr"] for step in (1, 2, 3)]
    require(found == [1e9] * 3, f"from 1 to 1e9 it allows {found}")


def idle_keys_say_why(subject: Subject) -> None:
    """Keys that it says nothing reads are keys of it, each with the reason."""
    idle = subject.make().idle_keys()
    unknown = sorted(idle.keys() - subject.member.model_fields.keys())
    require(not unknown, f"{', '.join(unknown)} is no key")
    silent = [key for key, reason in idle.items() if not reason]
    require(not silent, f"{', '.join(silent)} has no reason")


def runs_under_every_regime(subject: Subject) -> None:
    """Under every kind of every regime it comes to the end with sound values, twice the same, drawing nothing."""
    make_spec(subject.make(), Stationary())  # a missing package is said as it is, and not taken for what does not suit
    for regime in regimes():
        try:
            if suits(subject.make(), regime):
                check_run(make_spec(subject.make(), regime))
        except ConfigError:  # says itself what is wrong and what to do
            raise
        except Exception as error:
            raise AssertionError(f"under {regime.display}: {type(error).__name__}: {error}") from error


def resumes_where_it_was_cut_off(subject: Subject) -> None:
    """A run that is cut off and goes on from its checkpoint is the run that was not."""
    check_resume(make_spec(subject.make(), Stationary(), num_epochs=3))


def regimes() -> Iterator[RegimeConfig]:
    """Yield every kind of every regime of the benchmark, otherwise as it is by default."""
    for member in REGIMES.values():
        for kind in kinds_of(member):
            yield member.model_validate({"kind": kind} if kind else {})


RUNNING_RULES = (
    Rule(idle_keys_say_why, "return {key: reason} for keys of this config"),
    Rule(runs_under_every_regime, "propose finite values, hold back after losses that are not, and draw from `seed`"),
    Rule(resumes_where_it_was_cut_off, "name in state_names what it remembers, and save generators in state_dict()"),
)
"""Come last in the contract of every method, online or offline."""

CONTROLLER_RULES = (
    *MEMBER_RULES,
    Rule(
        keeps_the_contract_of_the_core,
        "see autotunenet.testing.check_controller; name in state_names what it remembers",
    ),
    Rule(has_a_control_interval, "return None or a number of steps, at least 1"),
    Rule(guard_keeps_the_contract_of_the_core, "leave build_guard() to the base"),
    Rule(max_delta_and_space_are_respected, "leave build_guard() to the base"),
    Rule(null_means_unbounded, "leave build_guard() to the base"),
    *RUNNING_RULES,
)


def check_controller(member: type[ControllerConfig] | type[Controller], **fields: object) -> None:
    """Check a controller of the benchmark against every rule of its family; makes some fifty short runs.

    Args:
        member: The config class, or a controller of the core, whose keys are its arguments.
        **fields: Keys that it is made with.

    Raises:
        AssertionError: If a rule is broken, with the reason and the mend.

    >>> from autotunenet_bench.controllers.fixed import FixedConfig
    >>> check_controller(FixedConfig)
    """
    model = config_of(member) if issubclass(member, Controller) else member
    hold(CONTROLLER_RULES, Subject(model, fields))
