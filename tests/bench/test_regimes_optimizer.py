"""The kinds of `optimizer_shift`, each against a slow reference that has no hooks."""

import copy
import itertools
import random

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import SGD, Rprop

from autotunenet_bench.config import ConfigError, parse_config
from autotunenet_bench.data import DataSource, stream_seed
from autotunenet_bench.regimes import OptimizerShift
from autotunenet_bench.suite import resolve, run_suite
from stepping_world import OPTIMIZERS, TEN, World, every_optimizer, shift

# Those that act on every step from the trigger on; the others have sections of their own.
KINDS = ("update_gain", "gradient_noise", "weight_decay", "momentum")
every_kind = pytest.mark.parametrize("kind", KINDS)


# -- every kind ------------------------------------------------------------------------------------------------------


@every_kind
@every_optimizer
def test_steps_are_others_from_the_trigger_on_and_only_then(kind, make):
    plain = World(make).train()
    assert torch.equal(World(make).enter(shift(kind), 5).train(), plain)
    assert not torch.allclose(World(make).enter(shift(kind), 6).train(), plain)
    regime, world = shift(kind), World(make)
    world.enter(regime, 10).enter(regime, 5)
    assert torch.equal(world.train(), plain)


@every_kind
@every_optimizer
@pytest.mark.parametrize("profile", ["abrupt", "ramp", "recurring"])
def test_severity_zero_has_no_effect_at_all(kind, make, profile):
    world = World(make).enter(shift(kind, 0.0, profile=profile), 6)
    assert torch.equal(world.train(), World(make).train())


@every_kind
@every_optimizer
def test_a_second_call_doubles_nothing(kind, make):
    once, twice = World(make).enter(shift(kind), 6), World(make)
    regime = shift(kind)
    for _ in range(3):
        twice.enter(regime, 6)
    assert torch.equal(twice.train(), once.train())


@every_kind
def test_another_optimizer_is_served_and_the_first_one_left(kind):
    regime, first, second = shift(kind), World(), World()
    first.enter(regime, 6)
    second.enter(regime, 6)
    assert torch.equal(first.train(), World().train())
    assert torch.equal(second.train(), World().enter(shift(kind), 6).train())


@every_kind
@every_optimizer
def test_a_run_that_resumes_finds_the_same_world_and_the_checkpoint_is_clean(kind, make):
    def straight():
        regime, world = shift(kind, profile="ramp"), World(make)
        for epoch in (6, 7, 8):
            yield world, world.enter(regime, epoch).train()

    for number, (world, _) in enumerate(straight()):
        if number == 1:
            saved = copy.deepcopy((world.model.state_dict(), world.optimizer.state_dict(), world.num_steps))
            assert world.entries() == World(make).entries()
    resumed = World(make)
    resumed.model.load_state_dict(saved[0])
    resumed.optimizer.load_state_dict(saved[1])
    resumed.num_steps = saved[2]
    assert torch.equal(resumed.enter(shift(kind, profile="ramp"), 8).train(), world.weights())


@every_kind
def test_a_higher_severity_is_a_larger_effect(kind):
    def step(severity):
        world = World()
        world.train(1)  # so that there is a momentum
        return world.enter(shift(kind, severity), 6).train(1)

    distances = [(step(severity) - step(0.0)).norm().item() for severity in (0.0, 0.1, 0.4, 0.7, 1.0)]
    assert distances[0] == 0
    assert all(low < high for low, high in itertools.pairwise(distances)), distances


@every_kind
def test_global_generators_are_left_alone(kind):
    def states():
        return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002

    before = states()
    World().enter(shift(kind), 6).train()
    assert states() == before


@every_kind
def test_a_recurring_shift_is_taken_off_again(kind):
    regime, world, plain = shift(kind, profile="recurring", period_epochs=2), World(), World()
    for epoch in range(1, 6):
        assert torch.equal(world.enter(regime, epoch).train(), plain.train())
    world.enter(regime, 6).train()
    state, weights = copy.deepcopy(world.optimizer.state_dict()), world.weights()
    world.enter(regime, 7).train()  # off
    again = World()
    again.model.load_state_dict(world.model.state_dict())
    nn.utils.vector_to_parameters(weights, again.model.parameters())
    again.optimizer.load_state_dict(state)
    again.num_steps = world.num_steps - 4
    assert torch.equal(again.train(), world.weights())


# -- update_gain -----------------------------------------------------------------------------------------------------


@every_optimizer
@pytest.mark.parametrize(("severity", "gain"), [(0.5, 10.0), (1.0, 100.0), (0.25, 10**0.5)])
def test_every_update_is_multiplied(make, severity, gain):
    world, reference = World(make).enter(shift("update_gain", severity), 6), World(make)
    for _ in range(5):
        before = reference.weights()
        stretched = before + gain * (reference.train(1) - before)
        nn.utils.vector_to_parameters(stretched, reference.model.parameters())
        torch.testing.assert_close(world.train(1), stretched, rtol=1e-4, atol=1e-4)
        nn.utils.vector_to_parameters(world.weights(), reference.model.parameters())


def test_the_gain_holds_at_every_epoch_of_a_ramp():
    regime = shift("update_gain", 1.0, trigger_epoch=1, profile="ramp", ramp_epochs=4)
    for epoch, gain in ((1, 10**0.5), (2, 10.0), (4, 100.0), (9, 100.0)):
        world = World(weight_decay=0.0, momentum=0.0).enter(regime, epoch)
        plain = World(weight_decay=0.0, momentum=0.0)
        start = plain.weights()
        torch.testing.assert_close(world.train(1) - start, gain * (plain.train(1) - start), rtol=1e-4, atol=1e-5)


# -- gradient_noise --------------------------------------------------------------------------------------------------


def noisy_reference(first_step, scale, seed=0):
    """Plain SGD on gradients to which the noise is added by hand."""
    world, params = World(), []
    step = [first_step - 1]

    def change(param):
        params.append(param)
        if len(params) % 4 == 1:
            step[0] += 1
            change.generator = torch.Generator().manual_seed(stream_seed(seed, "gradient_noise", step[0]))
        rms = (param.grad**2).mean() ** 0.5
        param.grad += torch.randn(param.grad.shape, generator=change.generator) * (scale * rms)

    return world.train(4, change)


@pytest.mark.parametrize(("severity", "scale"), [(0.2, 0.6), (1.0, 3.0)])
def test_gradients_have_noise_of_their_own_size_at_every_step(severity, scale):
    noisy = World().enter(shift("gradient_noise", severity), 6).train()
    torch.testing.assert_close(noisy, noisy_reference(5 * TEN.steps_per_epoch + 1, scale))
    torch.testing.assert_close(
        World().enter(shift("gradient_noise", severity), 9).train(),
        noisy_reference(8 * TEN.steps_per_epoch + 1, scale),
    )


def test_the_noise_has_the_size_that_is_said():
    param = nn.Parameter(torch.zeros(20_000))
    other = nn.Parameter(torch.zeros(20_000))
    silent = nn.Parameter(torch.zeros(3))
    gradients = torch.full((20_000,), 7.0), torch.full((20_000,), 0.01)
    optimizer = SGD([param, other, silent], lr=1.0)
    OptimizerShift(kind="gradient_noise", severity=0.5).start(TEN, 0).apply(6, nn.Module(), None, optimizer)
    for tensor, gradient in zip((param, other), gradients, strict=True):
        tensor.grad = gradient.clone()
    optimizer.step()
    noises = []
    for tensor, gradient in zip((param, other), gradients, strict=True):
        noise = (-tensor.detach() - gradient) / gradient
        assert noise.mean().abs() < 0.05
        assert abs(noise.std() - 1.5) < 0.05
        noises.append(noise)
    assert abs((noises[0] * noises[1]).mean()) < 0.05  # tensors have noise of their own
    assert silent.grad is None


def test_seeds_and_steps_have_noise_of_their_own():
    def first_weights(seed, epoch):
        regime = OptimizerShift(kind="gradient_noise").start(TEN, seed)
        return World().enter(regime, epoch).train(1)

    assert torch.equal(first_weights(0, 6), first_weights(0, 6))
    assert not torch.allclose(first_weights(0, 6), first_weights(1, 6))
    assert not torch.allclose(first_weights(0, 6), first_weights(0, 7))


# -- weight_decay and momentum ---------------------------------------------------------------------------------------


@every_optimizer
@pytest.mark.parametrize(
    ("decay", "severity", "expected"), [(0.01, 1.0, 10.0), (0.01, 1 / 3, 0.1), (0.0, 1.0, 0.0999), (1e-5, 1.0, 0.09991)]
)
def test_the_steps_are_those_of_an_optimizer_with_more_decay(make, decay, severity, expected):
    shifted, other = World(make, weight_decay=decay), World(make, weight_decay=expected)
    torch.testing.assert_close(shifted.enter(shift("weight_decay", severity), 6).train(), other.train())
    assert shifted.entries() == World(make, weight_decay=decay).entries()


@pytest.mark.parametrize(("momentum", "severity", "expected"), [(0.9, 0.5, 0.99), (0.9, 1.0, 0.999), (0.0, 0.5, 0.9)])
def test_the_steps_are_those_of_an_optimizer_with_more_momentum(momentum, severity, expected):
    for make, key in ((OPTIMIZERS["sgd"], "momentum"), (OPTIMIZERS["adam"], "betas")):
        values = [value if key == "momentum" else (value, 0.999) for value in (momentum, expected)]
        shifted, other = (World(make, **{key: value}) for value in values)
        torch.testing.assert_close(shifted.enter(shift("momentum", severity), 6).train(), other.train())
        assert shifted.entries() == World(make, **{key: values[0]}).entries()


def test_what_a_controller_writes_meanwhile_is_changed_alike_and_kept():
    shifted, other = World(weight_decay=0.01), World(weight_decay=0.1)
    shifted.enter(shift("weight_decay", 1 / 3), 6)
    for world, decay in ((shifted, 0.03), (other, 0.3)):
        world.train(2)
        world.optimizer.param_groups[0]["weight_decay"] = decay
        world.train(2)
    torch.testing.assert_close(shifted.weights(), other.weights())
    assert shifted.optimizer.param_groups[0]["weight_decay"] == 0.03


def test_groups_keep_their_own_values():
    world = World()
    first, *others = world.model.parameters()
    world.optimizer = SGD([{"params": [first], "weight_decay": 0.1}, {"params": others}], lr=0.1)
    other = World()
    first, *others = other.model.parameters()
    other.optimizer = SGD([{"params": [first], "weight_decay": 1.0}, {"params": others, "weight_decay": 9e-4}], lr=0.1)
    torch.testing.assert_close(world.enter(shift("weight_decay", 1 / 3), 6).train(), other.train())
    assert [entry["weight_decay"] for entry in world.entries()] == [0.1, 0.0]


@pytest.mark.parametrize("kind", ["weight_decay", "momentum"])
def test_an_optimizer_without_the_entry_is_refused_at_the_first_epoch(kind):
    world = World(lambda params: Rprop(params, lr=0.1))
    words = kind.replace("_", " ")
    with pytest.raises(ValueError, match=f"has no {words} that could change .*use another kind"):
        world.enter(shift(kind), 1)


SUITE = """
tasks: [digits_mlp, {name: digits_mlp, optimizer: sgd, momentum: 0.0}]
regimes: [stationary, REGIME]
controllers: [fixed, dog, random_search, momo]
num_epochs: 10
seeds: [0, 1]
"""
MOMENTUM = "{name: optimizer_shift, kind: momentum}"
COMPOUND = f"{{name: compound, parts: [{{name: data_shift}}, {MOMENTUM}]}}"


@pytest.mark.parametrize("regime", [MOMENTUM, COMPOUND])
def test_a_suite_with_a_controller_whose_optimizer_lacks_the_entry_is_refused_before_its_first_run(regime, tmp_path):
    config = parse_config(SUITE.replace("REGIME", regime), "a.yaml")
    before = torch.get_rng_state()
    with pytest.raises(ConfigError) as caught:
        run_suite(config, tmp_path / "results", DataSource())
    task, other, momo = str(caught.value).splitlines()  # once for all seeds; the other controllers are none the worse
    assert task.startswith(f"regime {config.regimes[1].display}, controller dog, task digits_mlp: this optimizer has ")
    assert "no momentum that could change (its groups have " in task
    assert task.endswith("; use another kind, or another optimizer")
    assert "controller dog, task digits_mlp, optimizer sgd, momentum 0.0: " in other
    assert (
        "controller momo, task digits_mlp, optimizer sgd, momentum 0.0: " in momo
    )  # keeps it elsewhere than Adam's does
    assert not (tmp_path / "results").exists()
    assert torch.equal(before, torch.get_rng_state())


def test_no_optimizer_is_made_for_a_regime_that_takes_any(monkeypatch):
    monkeypatch.setattr("autotunenet_bench.suite._make_optimizer", lambda spec, data: 1 / 0)
    text = SUITE.replace("REGIME", "{name: optimizer_shift, kind: lr_jump}")
    assert len(resolve(parse_config(text, "a.yaml"), DataSource())) == 32


# -- words -----------------------------------------------------------------------------------------------------------


def test_descriptions_have_the_numbers():
    descriptions = [shift(kind).description for kind in (*KINDS, "clipping_removed", "lr_jump")]
    assert descriptions == [
        "every update of the weights multiplied by 10",
        "Gaussian noise of 1.5 times its root mean square on every gradient",
        "weight decay multiplied by 31.6, at least from 0.0001",
        "memory of the momentum 10 times as long",
        "gradients, which were clipped to the norm 2, clipped no longer",
        "lr multiplied by 10, once, as if by somebody's slip",
    ]
    assert shift("clipping_removed", 0.0).description == "gradients, which were not clipped either, clipped no longer"
    with pytest.raises(ValidationError, match="kind"):
        OptimizerShift(kind="gain")
