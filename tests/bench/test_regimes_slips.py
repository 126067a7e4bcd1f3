"""Two kinds of `optimizer_shift` of their own sort: clipping that is removed, and an lr that is written once."""

import copy
import itertools

import pytest
import torch
from pydantic import ValidationError
from torch.optim import SGD

from autotunenet_bench.regimes import OptimizerShift
from stepping_world import World, every_optimizer, shift

# -- clipping_removed ------------------------------------------------------------------------------------------------


def clipped_reference(bound, num_steps=4):
    """Plain SGD on gradients that are scaled down by hand."""
    world, gradients = World(), []

    def change(param):
        gradients.append(param.grad)
        if len(gradients) == 4:
            norm = sum(float((gradient.double() ** 2).sum()) for gradient in gradients) ** 0.5
            for gradient in gradients:
                gradient.mul_(min(1.0, bound / norm))
            gradients.clear()

    return world.train(num_steps, change)


@pytest.mark.parametrize(
    ("severity", "fields", "bound"), [(1.0, {}, 1.0), (0.5, {}, 2.0), (0.5, {"max_norm": 0.1}, 0.2)]
)
def test_until_the_trigger_gradients_are_clipped_and_then_no_longer(severity, fields, bound):
    for epoch in (1, 5):
        clipped = World().enter(shift("clipping_removed", severity, **fields), epoch).train()
        torch.testing.assert_close(clipped, clipped_reference(bound))
        assert not torch.allclose(clipped, World().train())
    for epoch in (6, 10):
        assert torch.equal(World().enter(shift("clipping_removed", severity, **fields), epoch).train(), World().train())


@every_optimizer
@pytest.mark.parametrize("profile", ["abrupt", "ramp", "recurring"])
def test_without_severity_nothing_was_ever_clipped(make, profile):
    for epoch in (1, 5, 6, 9):
        world = World(make).enter(shift("clipping_removed", 0.0, profile=profile), epoch)
        assert torch.equal(world.train(), World(make).train())


def test_a_higher_severity_clips_harder():
    def step(severity, epoch=5):
        return World().enter(shift("clipping_removed", severity, max_norm=0.5), epoch).train(1)

    plain = World().train(1)
    distances = [(step(severity) - plain).norm().item() for severity in (0.0, 0.3, 0.6, 1.0)]
    assert distances[0] == 0
    assert all(low < high for low, high in itertools.pairwise(distances)), distances


def test_small_gradients_are_left_alone_bit_for_bit():
    world = World().enter(shift("clipping_removed", 1.0, max_norm=1e6), 1)
    assert torch.equal(world.train(), World().train())


@pytest.mark.parametrize(
    ("profile", "bounds"),
    [("ramp", {5: 1.0, 6: 4 / 3, 7: 2.0, 8: 4.0, 9: None}), ("recurring", {5: 1.0, 6: None, 8: 1.0})],
)
def test_clipping_goes_as_its_profile_says(profile, bounds):
    for epoch, bound in bounds.items():
        world = World().enter(shift("clipping_removed", 1.0, profile=profile), epoch)
        torch.testing.assert_close(world.train(), World().train() if bound is None else clipped_reference(bound))


def test_a_norm_is_written_for_clipping_alone():
    assert "max_norm" not in OptimizerShift().model_dump()
    assert OptimizerShift(kind="clipping_removed").model_dump()["max_norm"] == 1.0
    assert OptimizerShift(kind="clipping_removed", max_norm=3).display == "clipping removed 0.4 (max norm 3) @ 50 %"
    for fields in ({"max_norm": 1.0}, {"max_norm": 1.0, "kind": "momentum"}):
        with pytest.raises(ValidationError, match=r"max_norm has no effect because kind is (update_gain|momentum)"):
            OptimizerShift(**fields)
    with pytest.raises(ValidationError, match="max_norm"):
        OptimizerShift(kind="clipping_removed", max_norm=0)
    with pytest.raises(ValueError, match=r"clipping removed 0\.4 is in force until its trigger"):
        shift("clipping_removed", 0.4, trigger_epoch=1)


# -- lr_jump ---------------------------------------------------------------------------------------------------------


@every_optimizer
@pytest.mark.parametrize(("severity", "factor"), [(0.5, 10.0), (1.0, 100.0), (0.0, 1.0)])
def test_lr_is_written_once_as_the_trigger_comes(make, severity, factor):
    regime, world = shift("lr_jump", severity), World(make)
    before = world.entries()
    for epoch in range(1, 11):
        world.enter(regime, epoch).enter(regime, epoch)
        expected = [{**group, "lr": group["lr"] * (factor if epoch >= 6 else 1.0)} for group in before]
        assert [group.pop("lr") for group in world.entries()] == pytest.approx([e["lr"] for e in expected])
        world.train(1)
        assert [{**e, "lr": 0} for e in world.entries()] == [{**e, "lr": 0} for e in before]


def test_every_group_jumps_and_what_a_controller_writes_then_holds():
    regime, world = shift("lr_jump"), World()
    first, *others = world.model.parameters()
    world.optimizer = SGD([{"params": [first], "lr": 0.3}, {"params": others}], lr=0.1)
    world.enter(regime, 5).enter(regime, 6)
    assert [group["lr"] for group in world.optimizer.param_groups] == pytest.approx([3.0, 1.0])
    world.optimizer.param_groups[0]["lr"] = 0.02
    for epoch in (6, 7, 10):
        world.enter(regime, epoch).train(1)
    assert [group["lr"] for group in world.optimizer.param_groups] == pytest.approx([0.02, 1.0])


def test_a_run_that_resumes_jumps_if_it_has_not_yet():
    for last in (5, 6):
        world = World()
        for epoch in range(1, last + 1):
            world.enter(shift("lr_jump"), epoch)  # a fresh process every epoch
        resumed = World()
        resumed.optimizer.load_state_dict(copy.deepcopy(world.optimizer.state_dict()))
        resumed.enter(shift("lr_jump"), last + 1)
        assert resumed.optimizer.param_groups[0]["lr"] == pytest.approx(1.0)


def test_another_optimizer_jumps_too():
    regime, first, second = shift("lr_jump"), World(), World()
    first.enter(regime, 6)
    second.enter(regime, 6)
    assert first.optimizer.param_groups[0]["lr"] == second.optimizer.param_groups[0]["lr"] == pytest.approx(1.0)


@pytest.mark.parametrize("profile", ["ramp", "recurring"])
def test_a_jump_has_no_profile(profile):
    with pytest.raises(ValidationError, match=f"profile {profile} does not go with kind lr_jump"):
        OptimizerShift(kind="lr_jump", profile=profile)
