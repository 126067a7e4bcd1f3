"""A small world in which the contract of regimes looks at all that one of them may change."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from autotunenet_bench.data import TensorBatches
from autotunenet_bench.regimes.stationary import StationaryRegime
from autotunenet_bench.types import Horizon, Regime, TaskData

HORIZON = Horizon(num_epochs=10, steps_per_epoch=40)
"""How long the runs of the regimes are told to be."""

NUM_TRAIN, NUM_VAL = 60, 30


def make_data() -> TaskData:
    """Return images, because some kinds need these, all different."""
    generator = torch.Generator().manual_seed(0)

    def part(num: int, seed: int | None) -> TensorBatches:
        return TensorBatches(torch.rand(num, 1, 4, 4, generator=generator), torch.arange(num) % 10, 16, seed)

    return TaskData(part(NUM_TRAIN, 1), part(NUM_VAL, None))


class World:
    """All that a regime may change: the data, the model, the optimizer and its steps, and the losses.

    Args:
        checkpoint: State of the optimizer to begin with.
    """

    def __init__(self, checkpoint: dict[str, Any] | None = None) -> None:
        self.data: Any = make_data()
        self.regime: Regime = StationaryRegime(seed=0)
        self.epoch = 1
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.model = nn.Linear(1, 10)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        if checkpoint:
            self.optimizer.load_state_dict(checkpoint)

    def enter(self, regime: Regime, epoch: int) -> World:
        """Let a regime make the world what it is in an epoch; return the world."""
        regime.apply(epoch, self.model, self.data, self.optimizer)
        self.regime, self.epoch = regime, epoch
        return self

    def checkpoint(self) -> dict[str, Any]:
        """Return the state of the optimizer."""
        return copy.deepcopy(self.optimizer.state_dict())

    def contents(self) -> str:
        """Return everything as text, so that two worlds can be compared: NaN equals itself there."""
        streams = [
            [tensor.tolist() for batch in stream.epoch(epoch) for tensor in batch]
            for stream in (self.data.train, self.data.val)
            for epoch in (1, 2)
        ]
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        state = {name: tensor.tolist() for name, tensor in self.model.state_dict().items()}
        return repr((streams, groups, state, self.losses(), self.weights_after_two_steps()))

    def losses(self) -> tuple[list[float], list[float], float]:
        """Return what the epoch's steps make of losses of 1, and the epoch of a metric of 1."""
        steps = range((self.epoch - 1) * HORIZON.steps_per_epoch + 1, self.epoch * HORIZON.steps_per_epoch + 1)
        trained = [self.regime.training_loss(torch.ones(()), step).item() for step in steps]
        shown = [float(self.regime.shown_loss(1.0, step)) for step in steps]
        return trained, shown, self.regime.shown_metric(1.0, self.epoch)

    def weights_after_two_steps(self) -> list[Any]:
        """Return what the optimizer makes of gradients of 1; weights and momentum are put back."""
        before, checkpoint = copy.deepcopy(self.model.state_dict()), self.checkpoint()
        for _ in range(2):
            for param in self.model.parameters():
                param.grad = torch.ones_like(param)
            self.optimizer.step()
        self.optimizer.zero_grad()
        after = [param.tolist() for param in self.model.parameters()]
        self.model.load_state_dict(before)
        self.optimizer.load_state_dict(checkpoint)
        return after
