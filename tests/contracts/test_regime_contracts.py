"""Every kind of every regime keeps the family's contract; to register one is to test it."""

import copy
import random
import typing

import numpy as np
import pytest
import torch
from torch import nn

from autotunenet_bench.data import TensorBatches
from autotunenet_bench.regimes import REGIMES, TimedConfig
from autotunenet_bench.regimes.compound import DEFAULT_PARTS
from autotunenet_bench.regimes.stationary import StationaryRegime
from autotunenet_bench.types import Horizon, TaskData

TEN = Horizon(num_epochs=10, steps_per_epoch=40)
SEVERITY = 0.7
RARE = ("outliers", "nan_bursts")
"""Kinds of which an epoch may be spared."""


def generators():
    """The global generators, which are the user's."""
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002


def kinds_of(name):
    """Every kind of a regime, or None by itself where it has none."""
    field = REGIMES[name].model_fields.get("kind")
    return typing.get_args(field.annotation) if field else (None,)


def make_regime(name, kind=None, severity=SEVERITY, **fields):
    """A config; `severity` goes to the parts of one that has none of its own."""
    if name == "compound":
        parts = [{**part, "severity": severity} for part in DEFAULT_PARTS]
        return REGIMES[name](parts=parts, **fields)
    own = {"kind": kind, "severity": severity}
    return REGIMES[name](
        **{k: v for k, v in own.items() if k in REGIMES[name].model_fields and v is not None}, **fields
    )


CASES = [(name, kind) for name in REGIMES for kind in kinds_of(name)]
WITH_PROFILES = [(name, kind) for name, kind in CASES if "profile" in REGIMES[name].model_fields and kind != "lr_jump"]
PROFILES = [(*case, {}) for case in CASES]
PROFILES += [(*case, {"profile": profile}) for case in WITH_PROFILES for profile in ("ramp", "recurring")]
every_case = pytest.mark.parametrize(("name", "kind"), CASES)
every_case_and_profile = pytest.mark.parametrize(("name", "kind", "profile"), PROFILES)


def make_data(num_train=60, num_val=30, num_classes=10):
    """Images, because some kinds need these, all different."""
    generator = torch.Generator().manual_seed(0)

    def part(num, seed):
        return TensorBatches(torch.rand(num, 1, 4, 4, generator=generator), torch.arange(num) % num_classes, 16, seed)

    return TaskData(part(num_train, 1), part(num_val, None))


class World:
    """All that a regime may change: the data, the model, the optimizer and its steps, and the losses."""

    def __init__(self, checkpoint=None):
        self.data, self.regime, self.epoch = make_data(), StationaryRegime(seed=0), 1
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.model = nn.Linear(1, 10)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        if checkpoint:
            self.optimizer.load_state_dict(checkpoint)

    def enter(self, regime, epoch):
        regime.apply(epoch, self.model, self.data, self.optimizer)
        self.regime, self.epoch = regime, epoch
        return self

    def checkpoint(self):
        return copy.deepcopy(self.optimizer.state_dict())

    def contents(self):
        """Everything as text, so that two worlds can be compared: NaN equals itself there."""
        streams = [
            [tensor.tolist() for batch in stream.epoch(epoch) for tensor in batch]
            for stream in (self.data.train, self.data.val)
            for epoch in (1, 2)
        ]
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        state = {name: tensor.tolist() for name, tensor in self.model.state_dict().items()}
        return repr((streams, groups, state, self.losses(), self.weights_after_two_steps()))

    def losses(self):
        """What the epoch's steps make of losses of 1, and the epoch of a metric of 1."""
        steps = range((self.epoch - 1) * TEN.steps_per_epoch + 1, self.epoch * TEN.steps_per_epoch + 1)
        trained = [self.regime.training_loss(torch.ones(()), step).item() for step in steps]
        shown = [self.regime.shown_loss(1.0, step) for step in steps]
        return trained, shown, self.regime.shown_metric(1.0, self.epoch)

    def weights_after_two_steps(self):
        """What the optimizer makes of gradients of 1; weights and momentum are put back."""
        before, checkpoint = copy.deepcopy(self.model.state_dict()), self.checkpoint()
        for _ in range(2):
            for param in self.model.parameters():
                param.grad = torch.ones_like(param)
            self.optimizer.step()
        self.optimizer.zero_grad()
        after = [param.tolist() for param in self.model.parameters()]
        self.model.load_state_dict(before)
        self.optimizer.load_state_dict(checkpoint)
        return after


UNTOUCHED = World().contents()


def calm_and_changed(config, regime):
    """The epochs of the untouched world, and the others."""
    trigger, end = regime.trigger_epoch or TEN.num_epochs + 1, TEN.num_epochs + 1
    before, after = range(1, trigger), range(trigger, end)
    return (after, before) if config.is_removal else (before, after)


@every_case
def test_the_world_is_untouched_before_the_trigger_or_from_it_on_where_something_is_removed(name, kind):
    config = make_regime(name, kind)
    regime, world = config.start(TEN, seed=0), World()
    calm, changed = calm_and_changed(config, regime)
    if config.is_removal:
        world.enter(regime, changed[-1])  # what was there goes without a trace
    assert [world.enter(regime, epoch).contents() == UNTOUCHED for epoch in calm] == [True] * len(calm)


@every_case
def test_on_the_other_side_of_the_trigger_something_has_changed_where_the_severity_says_so(name, kind):
    config = make_regime(name, kind)
    regime, world = config.start(TEN, seed=0), World()
    assert (regime.severity > 0) == (name not in ("stationary", "null"))
    differs = [world.enter(regime, epoch).contents() != UNTOUCHED for epoch in calm_and_changed(config, regime)[1]]
    assert any(differs) == (regime.severity > 0)
    assert kind in RARE or not differs or all(differs) == any(differs)


@every_case_and_profile
def test_severity_zero_has_no_effect_at_all(name, kind, profile):
    config = make_regime(name, kind, 0.0, **profile)
    regime, world = config.start(TEN, seed=0), World()
    assert regime.severity == 0
    for epoch in range(1, TEN.num_epochs + 1):
        assert world.enter(regime, epoch).contents() == UNTOUCHED


@every_case_and_profile
def test_epochs_do_not_compound_and_a_resumed_run_finds_the_same_world(name, kind, profile):
    config = make_regime(name, kind, **profile)
    regime, straight = config.start(TEN, seed=0), World()
    for epoch in range(1, TEN.num_epochs + 1):
        checkpoint = straight.checkpoint()
        expected = straight.enter(regime, epoch).contents()
        assert straight.enter(regime, epoch).contents() == expected
        assert World(checkpoint).enter(config.start(TEN, seed=0), epoch).contents() == expected
        if not config.leaves_a_trace:
            assert straight.checkpoint() == World().checkpoint()
            assert World().enter(config.start(TEN, seed=0), epoch).contents() == expected


@pytest.mark.parametrize(("name", "kind"), [case for case in CASES if not make_regime(*case).leaves_a_trace])
def test_an_earlier_epoch_sees_the_earlier_world_again(name, kind):
    config = make_regime(name, kind)
    regime, world = config.start(TEN, seed=0), World()
    world.enter(regime, TEN.num_epochs)
    assert world.enter(regime, 1).contents() == World().enter(config.start(TEN, seed=0), 1).contents()


@every_case
def test_the_pristine_tensors_and_the_generators_are_left_alone(name, kind):
    world, before = World(), generators()
    pristine = world.data.train, world.data.val
    regime = make_regime(name, kind).start(TEN, seed=0)
    for epoch in (1, TEN.num_epochs):
        world.enter(regime, epoch)
        assert (world.data.train.pristine, world.data.val.pristine) == pristine
        assert (world.data.train.num_examples, world.data.val.num_examples) == (60, 30)
    assert generators() == before
    for stream, fresh in zip(pristine, (make_data().train, make_data().val), strict=True):
        assert torch.equal(stream.inputs, fresh.inputs)
        assert torch.equal(stream.targets, fresh.targets)


@every_case
def test_runtime_attributes_are_told(name, kind):
    config = make_regime(name, kind)
    regime = config.start(TEN, seed=7)
    assert regime.seed == 7
    assert regime.severity == getattr(config, "severity", 0.0)
    assert 0 <= regime.trigger_epoch <= TEN.num_epochs
    assert len(regime.description) > 10


@every_case
def test_a_stored_config_gives_the_same_one_back(name, kind):
    config = make_regime(name, kind)
    stored = config.model_dump_json()
    assert REGIMES[name].model_validate_json(stored, strict=True) == config
    assert REGIMES[name].model_validate_json(stored, strict=True).model_dump_json() == stored


@pytest.mark.parametrize("name", [name for name in REGIMES if issubclass(REGIMES[name], TimedConfig)])
def test_with_a_jitter_seeds_have_triggers_of_their_own_and_runs_keep_theirs(name):
    config = make_regime(name, trigger_epoch=5, trigger_jitter=2)
    starts = {seed: config.start(TEN, seed).trigger_epoch for seed in range(40)}
    assert set(starts.values()) == {3, 4, 5, 6, 7}
    assert starts == {seed: config.start(TEN, seed).trigger_epoch for seed in range(40)}
    assert "5 +- 2" in config.display
    assert "drawn from the epochs 3 to 7" in config.start(TEN, 0).description
    assert REGIMES[name].model_validate_json(config.model_dump_json(), strict=True) == config
