"""Hypergradient descent: the published formulas, worked out in numpy; what is written down; safeguards."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from autotunenet import Action, Decision
from autotunenet_bench.config import RunConfig, expand
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.controllers.hypergradient import HypergradientConfig, HypergradientStepping
from autotunenet_bench.data import DataSource
from autotunenet_bench.regimes import REGIMES
from autotunenet_bench.runners.online import Training
from autotunenet_bench.tasks import DigitsMlp
from autotunenet_bench.types import Horizon

HORIZON = Horizon(num_epochs=4, steps_per_epoch=10)
LR, DECAY, MOMENTUM, BETAS, EPS = 0.05, 0.03, 0.7, (0.8, 0.95), 1e-8
KINDS = {
    "plain": lambda p: torch.optim.SGD(p, lr=LR, weight_decay=DECAY),
    "momentum": lambda p: torch.optim.SGD(p, lr=LR, weight_decay=DECAY, momentum=MOMENTUM),
    "nesterov": lambda p: torch.optim.SGD(p, lr=LR, weight_decay=DECAY, momentum=MOMENTUM, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=LR, weight_decay=DECAY, betas=BETAS, eps=EPS),
    "adamw": lambda p: torch.optim.AdamW(p, lr=LR, weight_decay=DECAY, betas=BETAS, eps=EPS),
}
BETA = {"additive": 1e-4, "multiplicative": 0.2}
every_kind = pytest.mark.parametrize("kind", KINDS)


def gradient_of(weights, step):
    """Of a small function that has no memory: some curvature, and a wave that makes the product change its sign."""
    return weights * np.array([1.0, 4.0, 0.5]) + 6.0 * np.sin(2.0 * step + np.arange(3.0))


def by_hand(kind, rule, beta, num_steps):
    """The paper's recursion, in float64: h, then lr, then the update."""
    weights, lr, last = np.array([1.0, -2.0, 0.5]), LR, np.zeros(3)
    velocity = first = second = np.zeros(3)
    lrs = []
    for t in range(1, num_steps + 1):
        gradient = gradient_of(weights, t)
        if kind != "adamw":
            gradient = gradient + DECAY * weights
        h = -float(gradient @ last)  # the gradient of the loss with respect to lr
        if rule == "additive":
            lr = lr - beta * h
        elif t > 1:
            lr = lr * (1 - beta * h / (np.linalg.norm(gradient) * np.linalg.norm(last)))
        if kind == "plain":
            last = gradient
        elif kind in ("momentum", "nesterov"):
            velocity = MOMENTUM * velocity + gradient
            last = velocity if kind == "momentum" else gradient + MOMENTUM * velocity
        else:
            first = BETAS[0] * first + (1 - BETAS[0]) * gradient
            second = BETAS[1] * second + (1 - BETAS[1]) * gradient**2
            last = first / (1 - BETAS[0] ** t) / (np.sqrt(second / (1 - BETAS[1] ** t)) + EPS)
            if kind == "adamw":
                last = last + DECAY * weights
        weights = weights - lr * last
        lrs.append(lr)
    return lrs, weights


class Live:
    """The same three weights in torch, in float64, in two tensors."""

    def __init__(self, kind, rule="additive", beta=None):
        self.weights = [nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in ([1.0, -2.0], [0.5])]
        self.optimizer = KINDS[kind](self.weights)
        self.stepping = HypergradientStepping(
            nn.ParameterList(self.weights), self.optimizer, rule, BETA[rule] if beta is None else beta
        )
        self.num_steps = 0

    def flat(self):
        return np.concatenate([weight.detach().numpy() for weight in self.weights])

    def step(self, scale=1.0):
        self.num_steps += 1
        gradient = scale * gradient_of(self.flat(), self.num_steps)
        self.weights[0].grad, self.weights[1].grad = torch.tensor(gradient[:2]), torch.tensor(gradient[2:])
        self.stepping.step(torch.tensor(0.0), 0.0)
        return self.optimizer.param_groups[0]["lr"]


@every_kind
@pytest.mark.parametrize("rule", BETA)
def test_it_is_the_recursion_of_the_paper(kind, rule):
    live = Live(kind, rule)
    lrs = [live.step() for _ in range(12)]
    expected, weights = by_hand(kind, rule, BETA[rule], 12)
    assert lrs == pytest.approx(expected, rel=1e-12)
    assert live.flat() == pytest.approx(weights, rel=1e-12)
    assert lrs[0] == LR  # there is no direction before the first step
    changes = np.sign(np.diff(lrs))
    assert {-1.0, 1.0} <= set(changes.tolist())  # both ways, so that a sign would be noticed


def test_two_steps_on_a_line_by_hand():
    """f(w) = w^2 / 2 from w = 1 at lr 0.1: g = 1, w = 0.9; then g = 0.9, lr = 0.1 + 0.01 * 0.9, w = 0.9 (1 - lr)."""
    weight = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    stepping = HypergradientStepping(nn.ParameterList([weight]), optimizer, "additive", 0.01)
    for _ in range(2):
        weight.grad = weight.detach().clone()
        stepping.step(torch.tensor(0.0), 0.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.109, rel=1e-12)
    assert weight.item() == pytest.approx(0.8019, rel=1e-12)


@every_kind
def test_without_a_beta_to_speak_of_it_is_the_task_s_optimizer(kind):
    live, other = Live(kind, beta=1e-300), Live(kind)
    for _ in range(6):
        live.step()
        gradient = gradient_of(other.flat(), live.num_steps)
        other.weights[0].grad, other.weights[1].grad = torch.tensor(gradient[:2]), torch.tensor(gradient[2:])
        other.optimizer.step()
    assert (live.flat() == other.flat()).all()


@every_kind
@pytest.mark.parametrize("rule", BETA)
def test_it_goes_on_bit_for_bit_from_a_saved_state(kind, rule, tmp_path):
    whole = Live(kind, rule)
    for cut in range(5):
        torch.save((whole.stepping.state_dict(), whole.optimizer.state_dict()), tmp_path / "state.pt")
        weights = [weight.detach().clone() for weight in whole.weights]
        resumed = Live(kind, rule)
        resumed.num_steps = cut
        for weight, saved in zip(resumed.weights, weights, strict=True):
            weight.data.copy_(saved)
        stepping, optimizer = torch.load(tmp_path / "state.pt", weights_only=True)
        resumed.stepping.load_state_dict(stepping)
        resumed.optimizer.load_state_dict(optimizer)
        first = whole.step()
        assert resumed.step() == first
        assert (resumed.flat() == whole.flat()).all()


def test_a_saved_state_does_not_move_on():
    live = Live("momentum")
    live.step()
    saved = live.stepping.state_dict()
    before = [tensor.clone() for tensor in saved["directions"][0]]
    live.step()
    assert all(torch.equal(a, b) for a, b in zip(saved["directions"][0], before, strict=True))
    with pytest.raises(ValueError, match="no state of HypergradientStepping"):
        live.stepping.load_state_dict({})


@every_kind
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_leaves_lr_alone(kind, bad):
    live = Live(kind)
    live.step()
    lr = live.step()
    assert live.step(scale=bad) == lr
    assert math.isfinite(live.step())


@given(st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(BETA)), st.floats(1e-6, 0.999))
def test_lr_is_never_negative(kind, rule, beta):
    live = Live(kind, rule, beta * (1000 if rule == "additive" else 1))
    for _ in range(12):
        lr = live.step()
        assert lr >= 0
        assert math.isfinite(lr)
        assert rule == "additive" or lr > 0


def test_a_parameter_without_a_gradient_does_not_count():
    weights = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))]
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.5)
    stepping = HypergradientStepping(nn.ParameterList(weights), optimizer, "additive", 0.01)
    for _ in range(3):
        weights[0].grad = torch.ones(2)
        stepping.step(torch.tensor(0.0), 0.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 + 0.01 * (2 + 3))
    assert torch.equal(weights[1], torch.ones(2))


def test_the_usual_betas_are_those_of_the_authors():
    for name, beta in (("sgd", 1e-3), ("adam", 1e-7), ("adamw", 1e-7)):
        kind = {"sgd": "momentum"}.get(name, name)
        optimizer = Live(kind).optimizer
        model = nn.Linear(1, 1)
        assert HypergradientConfig().build_stepping(model, optimizer, HORIZON).beta == beta
        given_beta = HypergradientConfig(beta=0.5).build_stepping(model, optimizer, HORIZON)
        assert given_beta.beta == 0.5
        assert HypergradientConfig(rule="multiplicative").build_stepping(model, optimizer, HORIZON).beta == 0.01


def test_directions_that_were_saved_go_to_where_the_parameters_are():
    here, there = nn.Linear(2, 1), nn.Linear(2, 1, device="meta")
    steppings = [
        HypergradientConfig().build_stepping(m, torch.optim.SGD(m.parameters(), 0.1), HORIZON) for m in (here, there)
    ]
    here(torch.ones(1, 2)).sum().backward()
    steppings[0].step(torch.zeros(()), 0.0)
    steppings[1].load_state_dict(steppings[0].state_dict())
    assert [tensor.device.type for group in steppings[1]._directions for tensor in group] == ["meta", "meta"]


def test_what_it_cannot_do_is_said():
    model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"knows the directions of SGD, Adam and AdamW, not of Adagrad; give"):
        HypergradientConfig().build_stepping(model, torch.optim.Adagrad(model.parameters()), HORIZON)
    with pytest.raises(ValidationError, match=r"lies in \(0, 1\)"):
        HypergradientConfig(rule="multiplicative", beta=1.0)


def play(regime="stationary", num_epochs=2, **fields):
    controller = CONTROLLERS["hypergradient"](**fields)
    config = RunConfig(
        task=DigitsMlp(optimizer="sgd", lr=0.01),
        regime=REGIMES[regime](),
        controller=controller,
        num_epochs=num_epochs,
        seeds=(0,),
    )
    data, info = config.task.load(DataSource())
    (cell,) = expand(config)
    with torch.random.fork_rng(devices=[]):
        training = Training(cell.resolve(info), data)
    events = [event for _ in range(num_epochs) for event in training.run_epoch()]
    decisions = [Decision.from_record(event) for event in events if event["event"] == "decision"]
    return decisions, [event for event in events if event["event"] == "epoch"]


def test_every_move_of_lr_is_written_down():
    decisions, epochs = play()
    moves = [decision for decision in decisions if decision.action is Action.ADAPT]
    num_steps = epochs[-1]["step"]
    assert [move.observation.step for move in moves] == list(range(2, num_steps + 1))
    for before, after in itertools.pairwise(moves):
        assert after.observation.hyperparams == before.applied
    assert moves[-1].applied == epochs[-1]["hyperparams"]
    assert {decision.action for decision in decisions} == {Action.ADAPT, Action.HOLD}
    holds = [decision for decision in decisions if decision.action is Action.HOLD]
    assert len(holds) == 2
    assert all("hypergradient descent moves lr" in hold.reason for hold in holds)


def test_it_can_be_given_a_way_back():
    decisions, _ = play("data_shift", num_epochs=6, rollback="full", beta=30.0)
    assert Action.ROLLBACK in {decision.action for decision in decisions}
    assert all(math.isfinite(decision.applied["lr"]) for decision in decisions)
