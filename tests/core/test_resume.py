"""A training that is saved after any step and resumed in a new process goes on bit for bit."""

import numpy as np
import pytest
import torch
from checkpoints import Saved, plain
from torch import nn

from autotunenet import Float, SearchSpace, SnapshotBuffer, Tuner
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.controllers import CONTROLLERS, Schedule
from autotunenet.controllers.schedule import one_cycle
from autotunenet.monitors import NonFinite, Regression, Spike, WorstOf
from autotunenet.testing import same

NUM_STEPS = 48
SPACE = SearchSpace({"lr": Float(1e-5, 1.0, log=True), "momentum": Float(0.0, 0.99), "weight_decay": Float(0.0, 0.1)})
MEMBERS = {**CONTROLLERS, "one_cycle": lambda: Schedule(one_cycle(NUM_STEPS))}


class Training(Saved):
    """A small regression whose step i depends on nothing but i and the state; NaN at 16, weights blown up at 28."""

    def __init__(self, controller, *, interval, scope):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.05, weight_decay=0.01)
        run = TorchRun(self.model, self.optimizer, names=SPACE)
        self.tuner = Tuner(
            run,
            SPACE,
            controller=controller(),
            monitor=WorstOf(NonFinite(), Regression(patience=2), Spike(window=16, min_count=8)),
            snapshots=SnapshotBuffer(run, scope),
            interval=interval,
            snapshot_every=5,
            proof_steps=3,
        )
        self.every = interval is None

    def step(self, i):
        generator = torch.Generator().manual_seed(i)
        inputs = torch.randn(16, 3, generator=generator)
        loss = (self.model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        if i == 16:
            loss = loss * float("nan")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if i == 28:
            with torch.no_grad():
                self.model[3].weight.mul_(1e6)
        self.tuner.step(loss)
        if self.every and i % 4 == 3:
            self.tuner.observe(loss)


@pytest.mark.parametrize(
    ("interval", "scope"), [(4, "full"), (None, "hyperparameters")], ids=["interval-full", "observe-hyperparameters"]
)
@pytest.mark.parametrize("name", MEMBERS)
def test_resume_at_every_step(name, interval, scope):
    def make():
        return Training(MEMBERS[name], interval=interval, scope=scope)

    straight = make()
    files = []
    for i in range(NUM_STEPS):
        files.append(straight.save())
        straight.step(i)
    files.append(straight.save())
    assert sum(d.action.value == "rollback" for d in straight.tuner.history) >= 2, "the test would show little"

    for cut in range(NUM_STEPS):
        resumed = make()
        resumed.load(files[cut])
        # Three times the controller is asked. All the way is long, and the state has to be it.
        end = NUM_STEPS if cut % 8 == 0 else min(cut + 12, NUM_STEPS)
        for i in range(cut, end):
            resumed.step(i)
        files[end].seek(0)
        expected = plain(torch.load(files[end], weights_only=True))
        assert same(plain(resumed.state()), expected), f"resumed after {cut} steps, step {end} is another one"


def test_the_training_does_recover():
    training = Training(CONTROLLERS["fixed"], interval=4, scope="full")
    for i in range(NUM_STEPS):
        training.step(i)
    with torch.no_grad():
        inputs = torch.randn(256, 3, generator=torch.Generator().manual_seed(99))
        loss = float((training.model(inputs) - inputs.sum(1, keepdim=True)).square().mean())
    assert np.isfinite(loss)
    assert loss < 3.0  # the variance of what is to be predicted
