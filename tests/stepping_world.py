"""A model and an optimizer whose steps need no data, for tests of what happens around a step."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from autotunenet_bench.regimes import OptimizerShift
from autotunenet_bench.types import Horizon

TEN = Horizon(num_epochs=10, steps_per_epoch=4)
OPTIMIZERS = {
    "sgd": lambda params, **options: SGD(params, **{"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, **options}),
    "adam": lambda params, **options: Adam(params, **{"lr": 0.01, "weight_decay": 0.01, **options}),
    "adamw": lambda params, **options: AdamW(params, **{"lr": 0.01, **options}),
}

every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


class World:
    """A model and an optimizer; `train` makes steps on gradients that are a function of the weights and the step."""

    def __init__(self, make=OPTIMIZERS["sgd"], **options):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        self.optimizer = make(self.model.parameters(), **options)
        self.num_steps = 0

    def enter(self, regime, epoch):
        regime.apply(epoch, self.model, None, self.optimizer)
        return self

    def train(self, num_steps=4, change=lambda param: None):
        """Return the weights after some steps; `change` acts on every parameter before each."""
        for _ in range(num_steps):
            self.num_steps += 1
            for number, param in enumerate(self.model.parameters()):
                wave = torch.arange(param.numel(), dtype=torch.float32).view_as(param)
                param.grad = param.detach() * 0.5 + torch.sin(wave + number + self.num_steps)
                change(param)
            self.optimizer.step()
        return self.weights()

    def weights(self):
        return torch.cat([param.detach().flatten() for param in self.model.parameters()])

    def entries(self):
        return copy.deepcopy([{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups])


def shift(kind, severity=0.5, **fields):
    return OptimizerShift(kind=kind, severity=severity, **fields).start(TEN, seed=0)
