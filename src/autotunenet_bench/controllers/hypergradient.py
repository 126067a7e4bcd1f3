"""Hypergradient descent: lr moved at every step by the inner product of this gradient and the last direction."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, SupportsFloat

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.parameter import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer

from autotunenet import Decision, Observation, SearchSpace, TrainingRun
from autotunenet.controllers import Controller, Fixed
from autotunenet.state import check_keys
from autotunenet.types import Action, Health
from autotunenet_bench.controllers.base import ControllerConfig, OnlineTuner
from autotunenet_bench.controllers.stepping import Stepping
from autotunenet_bench.types import Horizon, Loss

Rule = Literal["additive", "multiplicative"]


class HypergradientConfig(ControllerConfig):
    """Hypergradient descent on lr: SGD-HD or Adam-HD, from the task's lr.

    Baydin et al. 2018, "Online Learning Rate Adaptation with Hypergradient Descent", arXiv 1703.04782, algorithms 4 to
    6. The update is u_t = -lr_t d_t. Before it is made, lr moves against h_t = -g_t . d_(t-1), the gradient of the loss
    with respect to lr; d_0 = 0:

        additive:        lr_t = lr_(t-1) - beta h_t
        multiplicative:  lr_t = lr_(t-1) (1 - beta h_t / (|g_t| |d_(t-1)|))

    The additive rule is that of the algorithms. The multiplicative one is that of Martinez Rubio 2017, "Convergence
    Analysis of an Adaptive Method of Gradient Descent" (a thesis at Oxford): the same with a beta in proportion to
    lr / (|g_t| |d_(t-1)|), so that the scale of the loss does not matter.

    d is the direction of the task's optimizer: the gradient (sgd without momentum), the momentum buffer as torch keeps
    it, v_t = momentum v_(t-1) + g_t (sgd with momentum; with nesterov g_t + momentum v_t, which is algorithm 5), or
    Adam's bias-corrected ratio. An L2 penalty is part of the gradient, as in the authors' code
    (github.com/gbaydin/hypergradient-descent); AdamW's decoupled decay is part of d. One lr for all parameters of a
    group. Other than there, lr does not fall below 0, and stays where it is where the new one is not finite.
    """

    name: Literal["hypergradient"] = "hypergradient"
    rule: Rule = Field("additive", description="how lr moves")
    beta: float | None = Field(
        None,
        gt=0,
        description="lr of lr; null: 1e-3 for sgd and 1e-7 for adam and adamw, as in results that the authors have "
        "published, and 0.01 for the multiplicative rule",
    )

    @model_validator(mode="after")
    def _stays_positive(self) -> HypergradientConfig:
        if self.rule == "multiplicative" and self.beta is not None and self.beta >= 1:
            raise ValueError(f"beta of the multiplicative rule lies in (0, 1), or lr may become 0; got {self.beta:g}")
        return self

    def idle_keys(self) -> dict[str, str]:
        """Return the keys that nothing reads in this configuration, each with the reason why."""
        inside = "lr moves inside the step, where no guard is"
        guards = dict.fromkeys(("max_delta", "within_space", "warmup", "cooldown"), inside)
        return {**super().idle_keys(), **guards, "observe": "lr follows gradients; no metric is looked at"}

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return a controller that changes nothing: the steps do."""
        return Fixed()

    def build_stepping(self, model: nn.Module, optimizer: Optimizer, horizon: Horizon) -> Stepping:
        """Return steps of the task's optimizer that move lr.

        Raises:
            ValueError: If it is not SGD, Adam or AdamW.
        """
        if type(optimizer) not in (SGD, Adam, AdamW):
            raise ValueError(
                f"hypergradient knows the directions of SGD, Adam and AdamW, not of {type(optimizer).__name__}; "
                "give the task one of them, or leave this controller out"
            )
        usual = 0.01 if self.rule == "multiplicative" else 1e-3 if isinstance(optimizer, SGD) else 1e-7
        return HypergradientStepping(model, optimizer, self.rule, usual if self.beta is None else self.beta)

    def build_tuner(
        self, run: TrainingRun, horizon: Horizon, space: SearchSpace, seed: int, **options: Any
    ) -> OnlineTuner:
        """Return the tuner with the safeguards, which also writes down how lr has moved."""
        return MovedTuner(super().build_tuner(run, horizon, space, seed, **options), run)


class HypergradientStepping(Stepping):
    """Moves lr, then steps. See `HypergradientConfig`.

    Args:
        model: What is trained.
        optimizer: SGD, Adam or AdamW.
        rule: How lr moves.
        beta: lr of lr; positive, and below 1 where the rule is multiplicative.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, rule: Rule, beta: float) -> None:
        super().__init__(model, optimizer)
        self.rule, self.beta = rule, beta
        self._directions: list[list[Tensor | None]] = []  # of the last step, by group and parameter

    @torch.no_grad()
    def step(self, objective: Tensor, shown: Loss) -> None:
        """Move lr of every group, and make the step with it."""
        groups = self.optimizer.param_groups
        for group, directions in zip(groups, self._directions, strict=False):  # there are none before the first step
            moved = self._moved(group, directions)
            if math.isfinite(moved):
                group["lr"] = max(0.0, moved)
        before = [[param.detach().clone() for param in group["params"]] for group in groups]
        self.optimizer.step()
        self._directions = [
            [self._direction(group, param, was) for param, was in zip(group["params"], weights, strict=True)]
            for group, weights in zip(groups, before, strict=True)
        ]

    def _moved(self, group: dict[str, Any], directions: list[Tensor | None]) -> float:
        inner = gradient_square = direction_square = 0.0
        for param, direction in zip(group["params"], directions, strict=True):
            if param.grad is None or direction is None:
                continue
            gradient = self._gradient(group, param, param)
            inner += float((gradient * direction).sum())
            gradient_square += float(gradient.square().sum())
            direction_square += float(direction.square().sum())
        lr = float(group["lr"])
        if self.rule == "additive":
            return lr + self.beta * inner
        norms = math.sqrt(gradient_square * direction_square)
        return lr * (1 + self.beta * inner / norms) if norms > 0 else lr

    def _gradient(self, group: dict[str, Any], param: Parameter, weights: Tensor) -> Tensor:
        """Return the gradient of what is minimised: with the L2 penalty, without a decoupled decay."""
        assert param.grad is not None
        if isinstance(self.optimizer, AdamW):
            return param.grad
        gradient: Tensor = param.grad + group["weight_decay"] * weights
        return gradient

    def _direction(self, group: dict[str, Any], param: Parameter, before: Tensor) -> Tensor | None:
        """Return d of the step that was just made from the weights `before`: what lr was multiplied with, negated."""
        if param.grad is None:
            return None
        state: dict[str, Any] = self.optimizer.state[param]
        if isinstance(self.optimizer, SGD):
            gradient = self._gradient(group, param, before)
            if group["momentum"] == 0:
                return gradient
            buffer: Tensor = state["momentum_buffer"]
            ahead: Tensor = gradient + group["momentum"] * buffer
            return ahead if group["nesterov"] else buffer.clone()
        num_steps, (first, second) = float(state["step"]), group["betas"]
        square_key = "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"
        scale = (state[square_key] / (1 - second**num_steps)).sqrt() + group["eps"]
        ratio: Tensor = state["exp_avg"] / (1 - first**num_steps) / scale
        if isinstance(self.optimizer, AdamW):
            ratio += group["weight_decay"] * before
        return ratio

    def state_dict(self) -> dict[str, Any]:
        """Return the directions of the last step."""
        return {"directions": _copies(self._directions)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ValueError: If it is no state of this class.
        """
        check_keys(type(self).__name__, state_dict, ("directions",))
        groups = zip(self.optimizer.param_groups, state_dict["directions"], strict=False)  # none before the first step
        self._directions = [
            [
                None if direction is None else direction.to(param.device, copy=True)
                for param, direction in zip(group["params"], directions, strict=True)
            ]
            for group, directions in groups
        ]


class MovedTuner:
    """Writes down what has moved lr inside a step; all else is left to the tuner inside.

    Args:
        tuner: Keeps the way back.
        run: The training.
    """

    def __init__(self, tuner: OnlineTuner, run: TrainingRun) -> None:
        self._tuner, self._run = tuner, run
        self._num_steps = 0
        self._seen = dict(run.get_hyperparams())

    def step(self, loss: SupportsFloat, batch: Any = None) -> Decision | None:
        """Take note of one optimizer step, and of the lr that it was made with."""
        self._num_steps += 1
        before, now = self._seen, dict(self._run.get_hyperparams())
        decision = self._tuner.step(loss, batch)
        self._seen = dict(self._run.get_hyperparams())
        if decision is not None or now == before:
            return decision
        seen, reason = Observation(self._num_steps, float(loss), before), "Hypergradient descent, inside the step."
        return Decision(seen, Health.STABLE, Action.ADAPT, now, now, 0, reason)

    def observe(self, metric: SupportsFloat) -> Decision | None:
        """Take note of a validation metric."""
        decision = self._tuner.observe(metric)
        if decision is None or decision.action is not Action.HOLD:
            return decision
        return replace(decision, reason="Nothing is decided here: hypergradient descent moves lr inside the steps.")

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on bit for bit."""
        return {"tuner": self._tuner.state_dict(), "num_steps": self._num_steps, "seen": dict(self._seen)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state; load model and optimizer first.

        Raises:
            ValueError: If it is no state of this class.
        """
        check_keys(type(self).__name__, state_dict, ("tuner", "num_steps", "seen"))
        self._tuner.load_state_dict(state_dict["tuner"])
        self._num_steps, self._seen = state_dict["num_steps"], dict(state_dict["seen"])


def _copies(directions: list[list[Tensor | None]]) -> list[list[Tensor | None]]:
    return [[None if tensor is None else tensor.clone() for tensor in group] for group in directions]
