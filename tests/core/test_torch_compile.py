"""A compiled optimizer step: an lr kept in a tensor can move without a recompilation, because it is filled in place."""

import pytest
import torch
from torch import nn

from autotunenet.adapters.pytorch import TorchRun


@pytest.fixture
def counted():
    """Return a function that compiles and counts; without code generation, so that no compiler is needed."""
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    yield CompileCounter()
    torch._dynamo.reset()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_tensor_lr_moves_without_a_recompilation(kind, counted):
    model = nn.Linear(3, 2)
    lr = torch.tensor(0.1)
    optimizer = kind(model.parameters(), lr=lr)
    run = TorchRun(model, optimizer)
    step = torch.compile(optimizer.step, backend=counted)
    weights = []
    for i in range(12):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).sum().backward()
        step()
        weights.append(model.weight.detach().clone())
        if i == 1:
            num_frames = counted.frame_count  # AdamW makes its state in the first step
        run.set_hyperparams({"lr": 0.0 if i == 10 else 0.1 / (i + 2)})
    assert counted.frame_count == num_frames
    assert optimizer.param_groups[0]["lr"] is lr
    assert torch.equal(weights[-1], weights[-2]), "the compiled step has to see the lr of 0"
    assert not torch.equal(weights[-2], weights[-3])


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["float", "tensor"])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_compiled_step_under_a_scheduler_is_modulated_and_compiled_no_more_often(kind, lr, counted):
    ends, num_frames = [], []
    for compiled, tuned in ((False, True), (True, True), (True, False)):
        torch._dynamo.reset()
        counted.clear()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = nn.Linear(3, 2)
        optimizer = kind(model.parameters(), lr=lr.clone() if isinstance(lr, torch.Tensor) else lr)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        run = TorchRun(model, optimizer)
        step = torch.compile(optimizer.step, backend=counted) if compiled else optimizer.step
        for i in range(8):
            if tuned:
                run.set_hyperparams({"lr": 0.3 / (i + 1)})
            optimizer.zero_grad()
            model(torch.ones(4, 3)).sum().backward()
            step()
            assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.1 * 0.5**i)
            scheduler.step()
        ends.append(model.weight.detach().clone())
        num_frames.append(counted.frame_count)
    torch.testing.assert_close(ends[1], ends[0])
    assert not torch.equal(ends[2], ends[1])
    assert num_frames[1] == num_frames[2]
