"""Where copies of a training's state lie. The device "meta" stands for one that is not the host's memory."""

import torch

from autotunenet.adapters._copying import TreeCopier, restore_state

HERE, THERE = torch.arange(3.0), torch.empty(3, device="meta")


def test_what_lies_where_copies_are_to_lie_is_used_again_and_all_else_is_new():
    for into, source, target, is_used in (
        ("beside", HERE, torch.zeros(3), True),
        ("beside", HERE, THERE, False),  # of a state that was loaded to another device
        ("beside", THERE, THERE, True),
        ("host", HERE, torch.zeros(3), True),
        ("host", HERE, THERE, False),
        ("anywhere", HERE, THERE, True),
    ):
        copied = TreeCopier(into=into).copy(source, target)
        assert (copied is target) == is_used, (into, source.device, target.device)
        assert is_used or copied.device == source.device


def test_copies_of_several_types_and_devices_are_all_carried_out():
    source = {"a": torch.arange(3.0), "b": torch.arange(3), "c": torch.arange(2.0, dtype=torch.float64)}
    target = {**{name: torch.zeros_like(tensor) for name, tensor in source.items()}, "d": THERE}
    copier = TreeCopier()
    copied = copier.copy({**source, "d": HERE}, target)
    copier.run()
    assert all(torch.equal(copied[name], tensor) and copied[name] is target[name] for name, tensor in source.items())
    assert copied["d"] is THERE


def test_state_that_an_optimizer_has_lost_comes_back_beside_its_parameter():
    param = torch.nn.Parameter(torch.empty(3, device="meta"))
    saved = {"step": torch.tensor(4.0), "exp_avg": torch.arange(3.0), "momentum_buffer": None}
    for options, steps_at in (({}, "cpu"), ({"capturable": True}, "meta"), ({"fused": True}, "meta")):
        optimizer = torch.optim.SGD([param], lr=0.1)
        copier = TreeCopier()
        restore_state(optimizer, {**optimizer.param_groups[0], **options}, param, saved, copier)
        copier.run()
        state = optimizer.state[param]
        assert (state["exp_avg"].device.type, state["step"].device.type) == ("meta", steps_at)
        assert state["momentum_buffer"] is None
