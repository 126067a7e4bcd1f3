"""Trainings whose losses vary by half of their level and more, in which nothing happens: no alarm is raised."""

import pytest
import torch
from torch import nn

from autotunenet import AutoTuneNet
from autotunenet.types import Health

NUM_STEPS = 4000


def teacher(generator, batch_size=16):
    """A noisy regression on another network, with fresh data at every step."""
    weights = torch.randn(16, 16, generator=torch.Generator().manual_seed(7)) / 4
    inputs = torch.randn(batch_size, 16, generator=generator)
    targets = torch.tanh(inputs @ weights * 2).mean(1) + 0.5 * torch.randn(batch_size, generator=generator)
    return inputs, targets


def clusters(generator, batch_size=8):
    """Ten clusters; a fifth of the labels is wrong, drawn anew at every step."""
    centres = torch.randn(10, 16, generator=torch.Generator().manual_seed(7))
    targets = torch.randint(10, (batch_size,), generator=generator)
    inputs = centres[targets] + 0.7 * torch.randn(batch_size, 16, generator=generator)
    wrong = torch.rand(batch_size, generator=generator) < 0.2
    return inputs, torch.where(wrong, torch.randint(10, (batch_size,), generator=generator), targets)


CASES = {
    "teacher, SGD": (teacher, 1, lambda p: torch.optim.SGD(p, 0.02, momentum=0.9)),
    "teacher, Adam": (teacher, 1, lambda p: torch.optim.Adam(p, 1e-3)),
    "clusters, SGD": (clusters, 10, lambda p: torch.optim.SGD(p, 0.01, momentum=0.9)),
    "clusters, Adam": (clusters, 10, lambda p: torch.optim.Adam(p, 1e-3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("total_steps", [None, NUM_STEPS])
def test_no_alarm_is_raised(name, total_steps):
    make_batch, num_outputs, make_optimizer = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, num_outputs))
    optimizer = make_optimizer(model.parameters())
    tuner = AutoTuneNet(model, optimizer, total_steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(NUM_STEPS):
        inputs, targets = make_batch(generator)
        outputs = model(inputs)
        loss = (
            (outputs[:, 0] - targets).square().mean()
            if num_outputs == 1
            else nn.functional.cross_entropy(outputs, targets)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tuner.step(loss)
    assert [decision.reason for decision in tuner.history if decision.health is Health.UNSTABLE] == []
