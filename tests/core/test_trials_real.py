"""Trials in real trainings, and resume in the middle of them."""

import pytest
import torch
from checkpoints import Saved, plain
from torch import nn

from autotunenet import Action, Float, SearchSpace, Tuner
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.attribution import Attribution
from autotunenet.autotune import make_controller
from autotunenet.guards import chain, within
from autotunenet.launch import Launch
from autotunenet.testing import same
from autotunenet.types import Cause

SPACE = SearchSpace({"lr": Float(1e-8, 1e3, log=True)})


class Training(Saved):
    """A regression whose step i depends on nothing but i and the state; `events` turn a knob or change the data."""

    def __init__(self, events=(), *, with_replay=False, launch=True, lr=0.05, bayesian=True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr)
        self.events = dict(events)
        self.offset = 0.0
        self.states = {}
        run = TorchRun(self.model, self.optimizer, names=SPACE)
        self.tuner = Tuner(
            run,
            SPACE,
            controller=make_controller(SPACE, 300, bayesian=bayesian),
            guard=chain(within(SPACE)),
            interval=5,
            snapshot_every=10,
            proof_steps=5,
            attribution=Attribution(),
            launch=Launch() if launch else None,
            replay=self.update if with_replay else None,
        )

    def update(self, batch):
        inputs, targets = batch
        loss = (self.model(inputs) - targets).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def step(self, i):
        what = self.events.get(i)
        if what == "data":
            self.offset = 6.0
        if what == "knob":
            with torch.no_grad():
                self.model[3].weight.mul_(40.0)
        generator = torch.Generator().manual_seed(i)
        inputs = torch.randn(16, 3, generator=generator)
        batch = inputs, inputs.sum(1, keepdim=True) + 3.0 + self.offset
        loss = self.update(batch)
        weights = [p.detach().clone() for p in self.model.parameters()]
        decision = self.tuner.step(loss, list(batch))
        if decision and decision.action is Action.PROBE and self.tuner._recovery.is_on_trial:
            self.states["alarm"] = weights
        return decision

    def state(self):
        return {**super().state(), "offset": self.offset}

    def load(self, file):
        self.offset = super().load(file)["offset"]


def causes(training):
    return [decision.cause for decision in training.tuner.history if decision.cause]


@pytest.mark.slow
@pytest.mark.parametrize("with_replay", [False, True])
def test_in_a_real_training_the_data_are_told_from_a_knob(with_replay):
    for event, expected in (("data", Cause.DATA), ("knob", Cause.KNOB)):
        training = Training({121: event}, with_replay=with_replay, launch=False, bayesian=False)
        decisions = [training.step(i) for i in range(160)]
        assert causes(training)[:1] == [expected], event
        actions_then = [decision.action for decision in decisions[121:130] if decision]
        assert set(actions_then) & {Action.PROBE, Action.ROLLBACK, Action.RESTORE_SUSPECT}


def test_data_bring_the_very_weights_of_the_alarm_back():
    training = Training({121: "data"}, launch=False, bayesian=False)
    for i in range(160):
        decision = training.step(i)
        if decision and decision.action is Action.RESTORE_SUSPECT:
            break
    assert all(map(torch.equal, training.model.parameters(), training.states["alarm"]))


@pytest.mark.slow
@pytest.mark.parametrize("with_replay", [False, True])
def test_resume_in_the_middle_of_launches_and_trials(with_replay):
    num_steps = 190

    def make():
        return Training({130: "knob", 160: "data"}, with_replay=with_replay, lr=5.0)

    straight = make()
    files, on_trial, in_launch = [], [], []
    for i in range(num_steps):
        files.append(straight.save())
        on_trial.append(straight.tuner._recovery.is_on_trial)
        in_launch.append(not straight.tuner._launching.launch.is_done)
        straight.step(i)
    files.append(straight.save())
    assert causes(straight), "the test would show little"
    assert with_replay or sum(on_trial) >= 6, "the test would show little"
    assert sum(in_launch) >= 30, "the test would show little"
    cuts = [i for i in range(num_steps) if on_trial[i] or i % 7 == 0 or (in_launch[i] and i % 2)]
    for cut in cuts:
        resumed = make()
        resumed.load(files[cut])
        end = num_steps if cut % 21 == 0 else min(cut + 30, num_steps)  # all the way is long; the state has to be it
        for i in range(cut, end):
            resumed.step(i)
        files[end].seek(0)
        expected = plain(torch.load(files[end], weights_only=True))
        assert same(plain(resumed.state()), expected), f"resumed after {cut} steps, step {end} is another one"
