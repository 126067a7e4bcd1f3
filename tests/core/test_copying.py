"""Where copies of a training's state lie. The device "meta" stands for one that is not the host's memory."""

import pytest
import torch

from autotunenet.adapters._copying import TreeCopier, restore_state
from autotunenet.adapters.pytorch import TorchRun

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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_snapshot_of_a_gpu_lies_in_pinned_memory_and_comes_back():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)).cuda()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    run = TorchRun(model, optimizer, snapshots_in_host_memory=True)

    def train():
        optimizer.zero_grad()
        model(torch.randn(8, 3, device="cuda")).square().sum().backward()
        optimizer.step()

    train()
    held = [*model.state_dict().values(), *(value for state in optimizer.state.values() for value in state.values())]
    buffers = run.copy_into(run.copy_into(None))  # the second time into what is there
    before = [tensor.clone() for tensor in held]
    assert all(tensor.is_pinned() for tensor in buffers["model"].values())
    train()
    run.copy_from(buffers)
    assert all(map(torch.equal, held, before))
