"""The loss becomes noisy at the trigger, while the weights are in order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.optim import Optimizer

from autotunenet_bench.data import stream_seed
from autotunenet_bench.regimes.base import TriggeredConfig, TriggeredRegime
from autotunenet_bench.types import Horizon, Loss, TaskData

KindName = Literal["gaussian", "outliers", "nan_bursts"]
Target = Literal["controller", "training", "both"]

OUTLIER_SHARE = 0.05
"""Probability of an outlier at severity 1."""

OUTLIER_FACTOR = 10.0

BURST_EVERY = 40
"""Steps that have at most one burst among them."""

LONGEST_BURST = 3


class LossNoise(TriggeredConfig):
    """From the trigger on, losses are noisy: as the tuner sees them, as they train, or both."""

    name: Literal["loss_noise"] = "loss_noise"
    kind: KindName = Field(
        "gaussian",
        description="gaussian: times exp(severity z - severity^2 / 2), z normal; outliers: times 10 with probability "
        "0.05 severity; nan_bursts: 1 to 3 losses in a row are NaN, with probability severity once in 40 steps",
    )
    target: Target = Field(
        "controller",
        description="controller: the losses and metrics that the tuner is shown; training: the loss that is "
        "differentiated; both: the same noise on either. What is recorded is never noisy",
    )

    @model_validator(mode="after")
    def _trains_on_numbers(self) -> LossNoise:
        if self.kind == "nan_bursts" and self.target != "controller":
            raise ValueError(
                f"kind nan_bursts with target {self.target} would destroy the weights at its first NaN; write target: "
                f"controller, or another kind"
            )
        return self

    @property
    def what(self) -> str:
        """For example ``loss noise (gaussian, controller) 0.4``."""
        return f"loss noise ({self.kind.replace('_', ' ')}, {self.target}) {self.severity:g}"

    @property
    def spares_epochs(self) -> bool:
        """Whether chance decides what is hit: which losses are outliers or missing."""
        return self.kind != "gaussian"

    def start(self, horizon: Horizon, seed: int) -> LossNoiseRegime:
        """Return a fresh regime for one run.

        Raises:
            ValueError: If the trigger lies beyond the end of the run.
        """
        onset = self.onset(horizon, seed)
        return LossNoiseRegime(onset, self.severity, seed, self.kind, self.target, horizon.steps_per_epoch)


@dataclass
class LossNoiseRegime(TriggeredRegime):
    """Multiplies losses by a factor that depends on the seed and the number of the step or epoch alone."""

    kind: KindName
    target: Target
    steps_per_epoch: int

    def apply(self, epoch: int, model: nn.Module, data: TaskData, optimizer: Optimizer) -> None:
        """Leave model, data and optimizer as they are."""

    def training_loss(self, loss: Tensor, step: int) -> Tensor:
        """Return the loss times the step's factor, and so the gradients, where training is the target."""
        factor = 1.0 if self.target == "controller" else self.step_factor(step)
        return loss if factor == 1.0 else loss * factor

    def shown_loss(self, loss: Loss, step: int) -> Loss:
        """Return the loss times the step's factor, where the controller is the target."""
        return loss if self.target == "training" else loss * self.step_factor(step)

    def shown_metric(self, metric: float, epoch: int) -> float:
        """Return the metric times the epoch's factor, where the controller is the target. Bursts leave it alone."""
        if self.target == "training" or self.kind == "nan_bursts":
            return metric
        return metric * self._factor(self.strength(epoch), "metrics", epoch)

    def step_factor(self, step: int) -> float:
        """Return the factor of a step, counted from 1: exactly 1 where there is no noise."""
        strength = self.strength((step - 1) // self.steps_per_epoch + 1)
        if self.kind == "nan_bursts":
            return math.nan if strength > 0 and self._is_in_burst(step, strength) else 1.0
        return self._factor(strength, "steps", step)

    @property
    def description(self) -> str:
        """What changes at the trigger."""
        kinds = {
            "gaussian": f"multiplied by log-normal noise of sigma {self.severity:g} and mean 1",
            "outliers": f"multiplied by {OUTLIER_FACTOR:g} with probability {OUTLIER_SHARE * self.severity:g}",
            "nan_bursts": f"NaN for 1 to {LONGEST_BURST} steps in a row, with probability {self.severity:g} once in "
            f"{BURST_EVERY} steps",
        }
        targets = {
            "controller": "losses as the tuner sees them",
            "training": "losses as they are differentiated",
            "both": "losses as they are differentiated and as the tuner sees them",
        }
        return f"{targets[self.target]} {kinds[self.kind]}{self.onset.words}"

    def _factor(self, strength: float, stream: str, number: int) -> float:
        if strength == 0:
            return 1.0
        # One draw, whatever the strength is: what is an outlier at one severity is one at every higher one.
        rng = np.random.default_rng(stream_seed(self.seed, f"loss_noise/{self.kind}/{stream}", number))
        if self.kind == "outliers":
            return OUTLIER_FACTOR if rng.random() < OUTLIER_SHARE * strength else 1.0
        return math.exp(strength * rng.standard_normal() - strength**2 / 2)

    def _is_in_burst(self, step: int, strength: float) -> bool:
        block, position = divmod(step - 1, BURST_EVERY)
        rng = np.random.default_rng(stream_seed(self.seed, "loss_noise/nan_bursts", block))
        is_drawn = rng.random() < strength
        length = int(rng.integers(1, LONGEST_BURST + 1))
        # The last step of a block is in no burst, so that two bursts never become one.
        begin = int(rng.integers(0, BURST_EVERY - LONGEST_BURST))
        return is_drawn and begin <= position < begin + length
