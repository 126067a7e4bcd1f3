"""Real trainings that break, with every default in place: the tuner brings them back, and says what it did."""

import math

import numpy as np
import pytest
import torch
from doubles import NumberRun
from torch import nn

from autotunenet import Action, Float, SearchSpace, Tuner
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.attribution import Attribution
from autotunenet.controllers import CONTROLLERS, Fixed, Heuristic, Plateau, Schedule
from autotunenet.types import Cause

SPACE = SearchSpace({"lr": Float(1e-6, 100.0, log=True)})


class Classifier:
    """Two noisy clusters in 8 dimensions."""

    def __init__(self, kind, lr, controller, **kwargs):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        self.optimizer = kind(self.model.parameters(), lr=lr)
        self.data = torch.Generator().manual_seed(1)
        self.flipped = False
        run = TorchRun(self.model, self.optimizer, names=SPACE)
        self.tuner = Tuner(run, SPACE, controller=controller, interval=20, **kwargs)

    def loss(self, size=32):
        targets = torch.randint(2, (size,), generator=self.data)
        inputs = torch.randn(size, 8, generator=self.data) + (2 * targets - 1).unsqueeze(1) * 0.7
        return nn.functional.cross_entropy(self.model(inputs), 1 - targets if self.flipped else targets)

    def train(self, num_steps):
        for _ in range(num_steps):
            loss = self.loss()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.tuner.step(loss)

    def validation(self):
        with torch.no_grad():
            return float(self.loss(2000))

    def rollbacks(self):
        return [d for d in self.tuner.history if d.action.value == "rollback"]


@pytest.mark.parametrize("name", CONTROLLERS)
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_wrecked_model_comes_back(kind, name):
    training = Classifier(kind, 0.01, CONTROLLERS[name]())
    training.train(300)
    before = training.validation()
    with torch.no_grad():
        for param in training.model.parameters():
            param.mul_(100.0).neg_()
    training.train(30)
    assert len(training.rollbacks()) >= 1
    training.train(70)
    assert training.validation() < before + 0.1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_come_back_at_once(value):
    training = Classifier(torch.optim.SGD, 0.05, Fixed())
    training.train(200)
    with torch.no_grad():
        training.model[0].weight.fill_(value)
    training.train(1)
    assert len(training.rollbacks()) == 1
    assert all(param.isfinite().all() for param in training.model.parameters())


def test_lr_blown_up_from_outside_is_undone_with_what_it_did():
    training = Classifier(torch.optim.SGD, 0.05, Fixed())
    training.train(210)
    training.optimizer.param_groups[0]["lr"] = 80.0
    training.train(200)
    assert training.optimizer.param_groups[0]["lr"] <= 0.05
    assert training.validation() < 0.2
    assert 1 <= len(training.rollbacks()) <= 3


def test_a_much_too_high_lr_is_cut_until_the_training_works():
    training = Classifier(torch.optim.SGD, 100.0, Fixed())
    training.train(600)
    assert len(training.rollbacks()) >= 1
    assert training.validation() < 0.69  # better than chance


def test_a_changed_world_is_accepted_and_learned():
    """All labels flip: no earlier state is any better, so the tuner stays and the training goes on at its lr."""
    training = Classifier(torch.optim.Adam, 0.01, Fixed())
    training.train(400)
    training.flipped = True
    training.train(400)
    said = [d.reason for d in training.tuner.history if "the data have changed" in d.reason]
    assert 1 <= len(said) <= 2
    assert training.validation() < 0.2
    assert training.optimizer.param_groups[0]["lr"] >= 0.0025


def test_a_healthy_training_is_left_alone():
    """Under `Fixed` and the default monitor, weights are those of a training without a tuner, bit for bit."""
    training, plain = (Classifier(torch.optim.Adam, 0.01, Fixed()) for _ in range(2))
    training.train(500)
    plain.tuner.step = lambda loss: None
    plain.train(500)
    assert not training.rollbacks()
    assert all(map(torch.equal, training.model.parameters(), plain.model.parameters()))


def test_under_a_scheduler_that_writes_at_every_step_the_way_back_still_moves():
    """Foreign values are reported at the next control step and taken over; the state is captured there."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.999**step)
    space = SearchSpace({"lr": Float(1e-6, 1.0, log=True)})
    tuner = Tuner(TorchRun(model, optimizer, names=space, modulate=False), space, controller=Fixed(), interval=20)
    for step in range(1, 301):
        optimizer.step()
        tuner.step(math.nan if step == 300 else 1.0)
        scheduler.step()
    rollback = tuner.history[-1]
    assert rollback.action is Action.ROLLBACK
    assert rollback.discarded_steps < 100
    assert "Somebody else had changed lr" in tuner.history[0].reason


def test_a_controller_whose_value_is_not_in_the_space_is_refused():
    run = NumberRun(momentum=0.9)
    for make in (Heuristic, Plateau, Schedule):
        with pytest.raises(ValueError, match=f"{make.__name__} changes lr, which the space does not name"):
            Tuner(run, SearchSpace({"momentum": Float(0.0, 0.99)}), controller=make())


def test_loading_is_all_or_nothing():
    space = SearchSpace({"lr": Float(1e-6, 1.0, log=True)})
    donor, tuner = (Tuner(NumberRun(), space, controller=Heuristic(), interval=2) for _ in range(2))
    for loss in (3.0, 2.0, 1.0, 0.5):
        donor.step(loss)
    state = donor.state_dict()
    state["recovery"]["way_back"]["snapshots"]["scope"] = "none"
    before = tuner.state_dict()
    with pytest.raises(ValueError, match="scope"):
        tuner.load_state_dict(state)
    assert tuner.state_dict() == before


@pytest.mark.parametrize("seed", range(4))
def test_a_slow_rise_is_undone_from_where_it_began(seed):
    """lr lies a little too high: the loss doubles over 400 noisy steps, each hardly worse than the one before."""
    rng = np.random.default_rng(seed)
    run = NumberRun(0.0, lr=0.1)
    space = SearchSpace({"lr": Float(1e-6, 1.0, log=True)})
    tuner = Tuner(run, space, controller=Fixed(), interval=20, attribution=Attribution())
    for step in range(1, 1001):
        run.weight += 1.0
        drift = max(0.0, run.weight - 400) / 400 if run.hyperparams["lr"] == 0.1 else 0.0
        tuner.step(math.exp(-step / 20) + (1 + drift) * rng.lognormal(0.0, 0.15))
    rollbacks = [decision for decision in tuner.history if decision.action is Action.ROLLBACK]
    assert [decision.cause for decision in rollbacks] == [Cause.KNOB]
    assert 480 <= run.weight - (1000 - rollbacks[0].observation.step) <= 620
