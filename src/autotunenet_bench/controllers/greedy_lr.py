"""GreedyLR: lr up while the metric improves, down while it does not."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from autotunenet import SearchSpace
from autotunenet.controllers import Controller
from autotunenet.space import Float
from autotunenet.state import check_keys, copy_plain
from autotunenet.types import Hyperparams
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.controllers.stepping import require
from autotunenet_bench.types import Horizon


class GreedyLrConfig(ControllerConfig):
    """GreedyLR of transformers: divides lr by `factor` while it gets better, else multiplies.

    "GreedyLR: A Novel Adaptive Learning Rate Scheduler", arXiv 2512.14527; `transformers.optimization.GreedyLR`, from
    transformers 5.4 on, driven as its `Trainer` does: once after every validation. Its defaults but for the patience,
    which is that of short runs (10 would hardly act in them), and the bounds: its smallest lr, 1e-3, is larger than
    what many tasks begin with.
    """

    packages: ClassVar[tuple[str, ...]] = ("transformers",)

    name: Literal["greedy_lr"] = "greedy_lr"
    per: Literal["step", "epoch"] = Field("epoch", description="the unit of time: step sees the training loss")
    factor: float = Field(0.95, gt=0, lt=1, description="factor of a cut; a raise divides by it")
    patience: int = Field(1, ge=0, description="units of time, better or not in a row, that are let pass")
    threshold: float = Field(1e-6, ge=0, description="improvement that counts, absolute")
    cooldown_units: int = Field(0, ge=0, description="units of time after a cut in which nothing is counted")
    warmup_units: int = Field(0, ge=0, description="units of time after a raise in which nothing is counted")
    smoothing: int = Field(0, ge=0, description="units of time that the metric is averaged over; 0: none")
    min_lr: float | None = Field(None, ge=0, description="smallest lr; null: that of the search space")
    max_lr: float | None = Field(None, gt=0, description="largest lr; null: that of the search space")
    reset_after: int = Field(500, ge=1, description="cuts at the smallest lr after which all begins anew")

    @property
    def interval(self) -> int | None:
        """One control step per unit of time."""
        return 1 if self.per == "step" else None

    def idle_keys(self) -> dict[str, str]:
        """Return the keys that nothing reads in this configuration, each with the reason why."""
        if self.interval is None:
            return super().idle_keys()
        return {**super().idle_keys(), "observe": "per step, it is shown the training loss"}

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return the controller.

        Raises:
            ValueError: If the package is missing or too old, or no lr lies between the bounds.
        """
        module = require("transformers.optimization", self.name)
        if not hasattr(module, "GreedyLR"):
            raise ValueError(
                "the controller greedy_lr needs transformers 5.4 or newer, which this is not: "
                "pip install --upgrade 'autotunenet[peers]', or leave this controller out"
            )
        low, high = self._bounds(space)
        return GreedyLr(
            module.GreedyLR,
            factor=self.factor,
            patience=self.patience,
            threshold=self.threshold,
            cooldown=self.cooldown_units,
            warmup=self.warmup_units,
            smooth=self.smoothing > 0,
            window_size=max(1, self.smoothing),
            min_lr=low,
            max_lr=high,
            reset_start=self.reset_after,
        )

    def _bounds(self, space: SearchSpace) -> tuple[float, float]:
        box = space.get("lr")
        low, high = (box.low, box.high) if isinstance(box, Float) else (0.0, math.inf)
        low = low if self.min_lr is None else self.min_lr
        high = high if self.max_lr is None else self.max_lr
        if low >= high:
            raise ValueError(f"min_lr must lie below max_lr, got {low:g} and {high:g}")
        return low, high


class GreedyLr(Controller):
    """The scheduler of transformers on an optimizer of its own, whose lr is the one in force.

    Args:
        make: The scheduler's class.
        **options: Its arguments, but for the optimizer.
    """

    needs = ("lr",)

    def __init__(self, make: Any, **options: Any) -> None:
        self._make, self._options = make, options
        self._metric = math.nan
        self._begin(1.0)

    def _begin(self, lr: float) -> None:
        self._stand_in = torch.optim.SGD([torch.zeros(1)], lr=lr)
        self._scheduler = self._make(self._stand_in, **self._options)

    def start(self, initial: Hyperparams) -> Hyperparams:
        """Keep the user's values; lr is what a reset goes back to."""
        self._begin(float(initial["lr"]))
        return dict(initial)

    def observe(self, metric: float, step: int) -> None:
        """Take note of one unit of time."""
        self._metric = float(metric)

    def propose(self, current_params: Hyperparams) -> Hyperparams:
        """Return what the scheduler makes of the lr in force."""
        group = self._stand_in.param_groups[0]
        group["lr"] = current_params["lr"]
        self._scheduler.step(self._metric)
        return {"lr": float(group["lr"])}

    def state_dict(self) -> dict[str, Any]:
        """Return the scheduler's state."""
        return {"metric": self._metric, "scheduler": copy_plain(self._scheduler.state_dict())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ValueError: If it is no state of this class.
        """
        check_keys(type(self).__name__, state_dict, ("metric", "scheduler"))
        self._metric = state_dict["metric"]
        self._scheduler.load_state_dict(copy_plain(state_dict["scheduler"]))
