"""A compiled optimizer step: an lr kept in a tensor can move without a recompilation, because it is filled in place."""

import pytest
import torch
from plain_loops import Loop, muon_and_adamw, sgd, warm_up_and_cosine
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


# -- a whole training ------------------------------------------------------------------------------------------------


def of_tensor_lr(model):
    return [torch.optim.SGD(model.parameters(), lr=torch.tensor(0.01), momentum=0.9)]


def adamw_of_tensor_lr(model):
    return [torch.optim.AdamW(model.parameters(), lr=torch.tensor(0.003))]


@pytest.mark.parametrize("make", [of_tensor_lr, adamw_of_tensor_lr])
@pytest.mark.parametrize("schedule", [None, warm_up_and_cosine], ids=["alone", "scheduled"])
def test_a_compiled_training_is_compiled_once_whatever_the_tuner_does(make, schedule, counted, caplog):
    """Model and step, through launch, adaptations and a rollback; the lr is the tensor that the user gave."""
    loop = Loop(make, schedule)
    given = loop.optimizers[0].param_groups[0]["lr"]
    loop.model.forward = torch.compile(loop.model.forward, backend=counted)
    loop.optimizers[0].step = torch.compile(loop.optimizers[0].step, backend=counted)
    loop.run(4)
    before = counted.frame_count, dict(torch._dynamo.utils.counters["stats"])
    loop.run(100, start=4)
    with torch.no_grad():
        loop.model[0].weight.fill_(float("nan"))
    loop.run(start=100)
    assert "rollback" in [decision.action.value for decision in loop.tuner.history]
    assert (counted.frame_count, dict(torch._dynamo.utils.counters["stats"])) == before
    assert loop.losses[-1] < 0.2 * loop.losses[0]
    assert loop.optimizers[0].param_groups[0]["lr"] is given
    assert loop.tuner._num_steps == len(loop.losses), "every compiled step was seen"
    assert "torch.compile" not in caplog.text


@pytest.mark.parametrize("make", [sgd, muon_and_adamw])
def test_a_float_lr_in_a_compiled_step_is_warned_of_once(make, counted, caplog):
    loop = Loop(make)
    for optimizer in loop.optimizers:
        optimizer.step = torch.compile(optimizer.step, backend=counted)
    loop.run(40)
    words = [record.getMessage() for record in caplog.records if "torch.compile" in record.getMessage()]
    assert len(words) == 1
    assert "the optimizer's step is compiled and its lr is a float" in words[0]
    assert loop.losses[-1] < loop.losses[0]


def test_a_float_lr_that_is_not_compiled_is_not_warned_of(counted, caplog):
    loop = Loop()
    loop.model.forward = torch.compile(loop.model.forward, backend=counted)
    loop.run(20)
    assert "torch.compile" not in caplog.text


def test_a_function_that_is_all_of_a_step_may_be_compiled(counted):
    loop = Loop(of_tensor_lr)
    inputs, targets = torch.randn(256, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(256, 1)

    @torch.compile(backend=counted)
    def train(inputs, targets):
        loss = nn.functional.mse_loss(loop.model(inputs), targets)
        loop.optimizers[0].zero_grad()
        loss.backward()
        loop.optimizers[0].step()
        return loss

    losses = []
    for i in range(60):
        losses.append(train(inputs, targets))
        loop.tuner.step(losses[-1])
        if i == 3:
            num_frames = counted.frame_count
    assert losses[-1] < 0.5 * losses[0]
    assert counted.frame_count == num_frames
    assert loop.tuner._num_steps == 60
