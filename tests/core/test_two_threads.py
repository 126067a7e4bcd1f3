"""Two tuners in two threads share nothing: each decides as it does alone, bit for bit."""

from __future__ import annotations

import sys
import threading

import pytest
import torch

from autotunenet import AutoTuneNet

NUM_STEPS = 150


def train(seed, lr, out, barrier=None):
    """A training with a launch, and with a break in the middle that brings an alarm."""
    generator = torch.Generator().manual_seed(seed)
    model = torch.nn.Linear(4, 1)
    with torch.no_grad():
        for param in model.parameters():
            param.copy_(torch.randn(param.shape, generator=generator))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    tuner = AutoTuneNet(model, optimizer, NUM_STEPS, interval=5, seed=seed)
    for step in range(NUM_STEPS):
        if barrier is not None and step % 10 == 0:
            barrier.wait(timeout=60)  # so that the threads are in the middle of it together
        inputs = torch.randn(8, 4, generator=generator)
        loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tuner.step(loss * 1e6 if step == NUM_STEPS // 2 else loss)
    weights = [param.detach().clone() for param in model.parameters()]
    out[seed] = [decision.to_record() for decision in tuner.history], weights
    tuner.close()


@pytest.fixture
def _many_switches():
    """Let the interpreter change threads a thousand times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_many_switches")
def test_trainings_in_threads_are_those_of_one_after_the_other():
    settings = [(1, 0.01), (2, 30.0), (3, 0.3)]
    alone, together = {}, {}
    for seed, lr in settings:
        train(seed, lr, alone)
    barrier = threading.Barrier(len(settings))
    threads = [threading.Thread(target=train, args=(seed, lr, together, barrier)) for seed, lr in settings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert together.keys() == alone.keys()
    for seed, (history, weights) in alone.items():
        assert len(history) > 5
        assert str(together[seed][0]) == str(history)
        assert all(map(torch.equal, together[seed][1], weights))
