"""The contract of regimes: every kind of one is looked at by itself."""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch

from autotunenet_bench.regimes.base import RegimeConfig, TimedConfig
from autotunenet_bench.regimes.compound import DEFAULT_PARTS, Compound
from autotunenet_bench.testing.members import MEMBER_RULES
from autotunenet_bench.testing.rules import Rule, Subject, generators_left_alone, hold, require
from autotunenet_bench.testing.world import HORIZON, NUM_TRAIN, NUM_VAL, World, make_data

SEVERITY = 0.7
"""Of the regimes that are looked at."""


def kinds_of(member: type[RegimeConfig]) -> tuple[str | None, ...]:
    """Return the kinds of a regime, or None by itself where it has none.

    >>> from autotunenet_bench.regimes import LossNoise, Stationary
    >>> kinds_of(LossNoise), kinds_of(Stationary)
    (('gaussian', 'outliers', 'nan_bursts'), (None,))
    """
    field = member.model_fields.get("kind")
    return typing.get_args(field.annotation) or (None,) if field else (None,)


def subjects(member: type[RegimeConfig], **fields: Any) -> Iterator[Subject]:
    """Yield a regime kind by kind; only the kind that `fields` name, where they name one."""
    for kind in kinds_of(member):
        if kind is None or "kind" in fields:
            yield Subject(member, fields)
            return
        yield Subject(member, {**fields, "kind": kind})


def strikes_and_is_described(subject: Subject) -> None:
    """A live regime tells its seed, its severity, its trigger epoch within the run, and what it does."""
    config = _config(subject)
    regime = config.start(HORIZON, seed=7)
    require(regime.seed == 7, f"started with seed 7, it has {regime.seed}")
    severity = getattr(config, "severity", 0.0)
    require(regime.severity == severity, f"its severity is {regime.severity}, the config's {severity}")
    require(0 <= regime.trigger_epoch <= HORIZON.num_epochs, f"its trigger epoch is {regime.trigger_epoch}")
    require(len(regime.description) > 10, f"its description is {regime.description!r}")


def nothing_happens_on_the_calm_side(subject: Subject) -> None:
    """Before the trigger the world is untouched; from it on, where something is taken away there."""
    config = _config(subject)
    regime, world = config.start(HORIZON, seed=0), World()
    calm, changed = _calm_and_changed(config, regime)
    if config.is_removal and changed:
        world.enter(regime, changed[-1])  # what was there goes without a trace
    touched = [epoch for epoch in calm if world.enter(regime, epoch).contents() != _untouched()]
    require(not touched, f"with the trigger at epoch {regime.trigger_epoch} of {HORIZON.num_epochs}, {_in(touched)}")


def something_happens_on_the_other_side(subject: Subject) -> None:
    """On the other side of the trigger every epoch is changed where the severity says so, and none where not."""
    config = _config(subject)
    regime, world = config.start(HORIZON, seed=0), World()
    _, changed = _calm_and_changed(config, regime)
    differs = [world.enter(regime, epoch).contents() != _untouched() for epoch in changed]
    told = f"with a severity of {regime.severity:g}"
    require(any(differs) == (regime.severity > 0), f"{told}, {sum(differs)} of {len(differs)} epochs are changed")
    spared = [epoch for epoch, is_changed in zip(changed, differs, strict=True) if not is_changed]
    complete = config.spares_epochs or not any(differs) or not spared
    require(complete, f"{told}, epochs {spared} are spared, and spares_epochs is false")


def severity_zero_is_no_effect(subject: Subject) -> None:
    """With a severity of 0 nothing happens in any epoch, whatever the profile."""
    for profile in _profiles(subject):
        config = _config(subject, 0.0, **profile)
        regime, world = config.start(HORIZON, seed=0), World()
        require(regime.severity == 0, f"its severity is {regime.severity}")
        epochs = range(1, HORIZON.num_epochs + 1)
        touched = [epoch for epoch in epochs if world.enter(regime, epoch).contents() != _untouched()]
        require(not touched, _in(touched) + _with(profile))


def epochs_do_not_compound(subject: Subject) -> None:
    """An epoch begun twice is the same, and so is one that a resumed run begins with, whatever the profile."""
    for profile in _profiles(subject):
        config = _config(subject, **profile)
        regime, straight = config.start(HORIZON, seed=0), World()
        for epoch in range(1, HORIZON.num_epochs + 1):
            where = f"epoch {epoch}{_with(profile)}"
            checkpoint = straight.checkpoint()
            expected = straight.enter(regime, epoch).contents()
            require(straight.enter(regime, epoch).contents() == expected, f"applied twice, {where} differs")
            resumed = World(checkpoint).enter(config.start(HORIZON, seed=0), epoch).contents()
            require(resumed == expected, f"resumed at it, {where} differs")
            if not config.leaves_a_trace:
                clean = straight.checkpoint() == World().checkpoint()
                require(clean, f"{where} is written into the optimizer, and leaves_a_trace is false")
                alone = World().enter(config.start(HORIZON, seed=0), epoch).contents()
                require(alone == expected, f"without the epochs before it, {where} differs")


def an_earlier_epoch_is_as_it_was(subject: Subject) -> None:
    """After the last epoch the first one is the first one again, unless the regime says that it leaves a trace."""
    config = _config(subject)
    if config.leaves_a_trace:
        return
    regime, world = config.start(HORIZON, seed=0), World()
    world.enter(regime, HORIZON.num_epochs)
    again = world.enter(regime, 1).contents()
    require(again == World().enter(config.start(HORIZON, seed=0), 1).contents(), "something of the last epoch is left")


def pristine_data_and_generators_are_left_alone(subject: Subject) -> None:
    """The untouched data stay untouched and known, no example is lost, and no global generator is used."""
    world = World()
    pristine = world.data.train, world.data.val
    with generators_left_alone():
        regime = _config(subject).start(HORIZON, seed=0)
        for epoch in (1, HORIZON.num_epochs):
            world.enter(regime, epoch)
            known = (world.data.train.pristine, world.data.val.pristine) == pristine
            require(known, f"in epoch {epoch} `pristine` is no longer the untouched data")
            sizes = world.data.train.num_examples, world.data.val.num_examples
            require(sizes == (NUM_TRAIN, NUM_VAL), f"in epoch {epoch} there are {sizes}, not {NUM_TRAIN, NUM_VAL}")
    fresh: Any = make_data()
    for stream, other in zip(pristine, (fresh.train, fresh.val), strict=True):
        same = torch.equal(stream.inputs, other.inputs) and torch.equal(stream.targets, other.targets)
        require(same, "the untouched tensors were written into")


def each_seed_keeps_its_trigger(subject: Subject) -> None:
    """With a jitter every seed draws a trigger within it, the same one each time, and it is told."""
    if not issubclass(subject.member, TimedConfig):
        return
    config = _config(subject, trigger_epoch=5, trigger_jitter=2)
    starts = {seed: config.start(HORIZON, seed).trigger_epoch for seed in range(40)}
    require(set(starts.values()) == {3, 4, 5, 6, 7}, f"40 seeds drew the epochs {sorted(set(starts.values()))}")
    again = {seed: config.start(HORIZON, seed).trigger_epoch for seed in range(40)}
    require(starts == again, "a seed drew another trigger the second time")
    require("5 +- 2" in config.display, f"display is {config.display!r}, without 5 +- 2")
    words = config.start(HORIZON, 0).description
    require("drawn from the epochs 3 to 7" in words, f"description is {words!r}, without the epochs 3 to 7")
    stored = config.model_dump_json()
    require(type(config).model_validate_json(stored, strict=True) == config, f"{stored} is read as another config")


def _config(subject: Subject, severity: float = SEVERITY, **fields: Any) -> Any:
    """Return a config; `severity` goes to the parts of one that has none of its own."""
    if issubclass(subject.member, Compound):
        parts = [{**part, "severity": severity} for part in subject.fields.get("parts", DEFAULT_PARTS)]
        return subject.make(parts=parts, **fields)
    return subject.make(**({"severity": severity} if subject.has("severity") else {}), **fields)


def _profiles(subject: Subject) -> list[dict[str, Any]]:
    """Return the profiles that the regime can have, as fields; one that leaves a trace strikes at once or never."""
    has_one = subject.has("profile") and not _config(subject).leaves_a_trace
    return [{}, {"profile": "ramp"}, {"profile": "recurring"}] if has_one else [{}]


def _calm_and_changed(config: RegimeConfig, regime: Any) -> tuple[range, range]:
    """Return the epochs of the untouched world, and the others."""
    trigger, end = regime.trigger_epoch or HORIZON.num_epochs + 1, HORIZON.num_epochs + 1
    before, after = range(1, trigger), range(trigger, end)
    return (after, before) if config.is_removal else (before, after)


@cache
def _untouched() -> str:
    return World().contents()


def _in(epochs: list[int]) -> str:
    return f"something happens in {'epoch' if len(epochs) == 1 else 'epochs'} {', '.join(map(str, epochs))}"


def _with(profile: dict[str, Any]) -> str:
    return f" with profile {profile['profile']}" if profile else ""


def losses_on_a_device_are_shown_alike(subject: Subject) -> None:
    """A loss that is a tensor, as on a GPU, is shown as the number would be."""
    regime = _config(subject).start(HORIZON, seed=0)
    for step in range(1, HORIZON.num_epochs * HORIZON.steps_per_epoch + 1):
        number, tensor = regime.shown_loss(0.5, step), regime.shown_loss(torch.tensor(0.5, dtype=torch.float64), step)
        alike = math.isclose(float(tensor), number) or (math.isnan(number) and math.isnan(float(tensor)))
        require(alike, f"at step {step} 0.5 is shown as {number}, and a tensor with 0.5 as {float(tensor)}")


REGIME_RULES = (
    *MEMBER_RULES,
    Rule(strikes_and_is_described, "derive from TriggeredConfig and TriggeredRegime, or tell them in start()"),
    Rule(nothing_happens_on_the_calm_side, "put the pristine data back while strength(epoch) is 0"),
    Rule(
        something_happens_on_the_other_side,
        "act whenever strength(epoch) is above 0; say spares_epochs where by chance",
    ),
    Rule(severity_zero_is_no_effect, "scale everything by strength(epoch)"),
    Rule(epochs_do_not_compound, "start from `pristine` in every epoch, and keep nothing between epochs"),
    Rule(an_earlier_epoch_is_as_it_was, "take away in apply() what the epoch before has put there"),
    Rule(
        pristine_data_and_generators_are_left_alone, "make new tensors by with_tensors(), and draw from stream_seed()"
    ),
    Rule(losses_on_a_device_are_shown_alike, "let shown_loss() do arithmetic that tensors know, without math.*"),
    Rule(each_seed_keeps_its_trigger, "take the trigger from onset(horizon, seed), and its words into the description"),
)


def check_regime(member: type[RegimeConfig], **fields: Any) -> None:
    """Check every kind of a regime against every rule of its family.

    Args:
        member: The config class.
        **fields: Keys that it is made with.

    Raises:
        AssertionError: If a rule is broken, with the reason and the mend.

    >>> from autotunenet_bench.regimes import Stationary
    >>> check_regime(Stationary)
    """
    hold(REGIME_RULES, *subjects(member, **fields))
