"""The other methods: what they do to a step, to the weights that are evaluated and to lr, and that they resume."""

from __future__ import annotations

import copy
import math
import sys

import dadaptation
import dog
import momo
import numpy as np
import prodigyopt
import pytest
import schedulefree
import torch
from torch import nn

from autotunenet import Decision
from autotunenet_bench.config import ConfigError, RunConfig, expand
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.controllers.step_guards import SigmaSkipStepping
from autotunenet_bench.controllers.stepping import PACKAGES, Stepping, gradient_norm, params_of
from autotunenet_bench.data import DataSource
from autotunenet_bench.regimes import Stationary
from autotunenet_bench.runners.online import Training
from autotunenet_bench.suite import resolve
from autotunenet_bench.tasks import TASKS, DigitsMlp
from autotunenet_bench.types import Horizon

SOURCE = DataSource()
HORIZON = Horizon(num_epochs=4, steps_per_epoch=10)
OPTIMIZERS = ("adam", "adamw", "sgd")
PEERS = {
    "plateau_backtrack": None,
    "greedy_lr": "transformers.optimization",
    "lr_range_test": None,
    "hypergradient": None,
    "prodigy": "prodigyopt",
    "dadapt_adam": "dadaptation",
    "dadapt_sgd": "dadaptation",
    "dog": "dog",
    "schedule_free": "schedulefree",
    "momo": "momo",
    "clip": None,
    "zclip": "zclip",
    "sigma_skip": None,
}
"""The other methods, and the module that each needs."""

OF_SEARCHES = {"optuna", "scipy"}
"""Modules of offline searches, which are no peers inside a training: tests/bench/test_searches.py."""

NO_STEPPING = ("greedy_lr",)
"""Those of them with a package that leave the steps to the task's optimizer."""

every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)


def make_config(controller, num_epochs=4, task="digits_mlp", config=None, **options):
    return RunConfig(
        task=TASKS[task](**options),
        regime=Stationary(),
        controller=CONTROLLERS[controller](**(config or {})),
        num_epochs=num_epochs,
        seeds=(0,),
    )


def make_training(controller, **options):
    config = make_config(controller, **options)
    data, info = config.task.load(SOURCE)
    (cell,) = expand(config)
    with torch.random.fork_rng(devices=[]):
        return Training(cell.resolve(info), data)


def play(controller, num_epochs=4, **options):
    """Train; return the training, its decisions and the rows of its epochs."""
    training = make_training(controller, num_epochs=num_epochs, **options)
    events = [event for _ in range(num_epochs) for event in training.run_epoch()]
    decisions = [Decision.from_record(event) for event in events if event["event"] == "decision"]
    return training, decisions, [event for event in events if event["event"] == "epoch"]


class Small:
    """A small regression with a stepping on it, and the same with an optimizer driven by hand."""

    def __init__(self, controller, optimizer="adam", **fields):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
            self.inputs, noise = torch.randn(64, 3), torch.randn(64, 1)
        self.targets = self.inputs.sum(dim=1, keepdim=True) + 0.1 * noise
        task = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
        options = {"momentum": 0.8} if optimizer == "sgd" else {"betas": (0.8, 0.999)}
        self.task_optimizer = task(self.model.parameters(), lr=0.01, weight_decay=0.02, **options)
        self.stepping = CONTROLLERS[controller](**fields).build_stepping(self.model, self.task_optimizer, HORIZON)

    def loss(self, scale=1.0):
        return scale * (self.model(self.inputs) - self.targets).square().mean()

    def train(self, num_steps, step=None):
        for _ in range(num_steps):
            loss = self.loss()
            self.stepping.optimizer.zero_grad()
            loss.backward()
            if step:
                step(loss)
            else:
                self.stepping.step(loss, loss.item())
        return self.weights()

    def weights(self):
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])


# -- all of them -----------------------------------------------------------------------------------------------------


def test_the_peers_are_members_and_the_modules_are_those_of_the_extra():
    assert {module for module in PEERS.values() if module} | OF_SEARCHES == PACKAGES.keys()


@every_optimizer
@pytest.mark.parametrize("controller", PEERS)
def test_every_peer_learns_with_every_optimizer(controller, optimizer):
    num_epochs = 16 if controller in ("dog", "lr_range_test") else 8
    training = make_training(controller, num_epochs=num_epochs, optimizer=optimizer)
    first = training.start_event()["val"]["loss"]
    rows = [event for _ in range(num_epochs) for event in training.run_epoch() if event["event"] == "epoch"]
    assert rows[-1]["val"]["loss"] < 0.75 * first
    assert training.state_dict()["stepping"].keys() == training._stepping.state_dict().keys()


@every_optimizer
@pytest.mark.parametrize("controller", PEERS)
def test_a_run_goes_on_bit_for_bit_from_a_saved_state(controller, optimizer, tmp_path):
    options = {"optimizer": optimizer, "num_epochs": 6, "batch_size": 128}
    # Windows that fill, and a sweep that is cut in its middle; zclip warms up for 25 steps, two epochs and a bit.
    config = {"lr_range_test": {"fraction": 0.4}, "sigma_skip": {"window": 16, "sigmas": 1.5}}.get(controller)
    training, rows = make_training(controller, config=config, **options), []
    for epoch in range(6):
        torch.save(training.state_dict(), tmp_path / f"{epoch}.pt")
        rows.append(row_of(training))
    for epoch in range(6):
        resumed = make_training(controller, config=config, **options)
        resumed.load_state_dict(torch.load(tmp_path / f"{epoch}.pt", weights_only=True))
        assert [row_of(resumed) for _ in range(2 if epoch < 5 else 1)] == rows[epoch : epoch + 2]


def row_of(training):
    return [{key: value for key, value in event.items() if key != "clock"} for event in training.run_epoch()]


@pytest.mark.parametrize("controller", PEERS)
def test_evaluation_leaves_the_training_where_it_was(controller):
    small = Small(controller)
    small.train(40)  # schedule-free weights come back exact to rounding only, and not after every step
    before = copy.deepcopy((small.weights(), small.stepping.optimizer.state_dict(), small.stepping.state_dict()))
    with small.stepping.evaluating() as model:
        assert isinstance(model, nn.Module)
    after = (small.weights(), small.stepping.optimizer.state_dict(), small.stepping.state_dict())
    assert torch.equal(before[0], after[0])
    assert repr(before[1:]) == repr(after[1:])


@pytest.mark.parametrize("controller", PEERS)
def test_nothing_is_printed(controller, capsys):
    Small(controller, "adamw").train(3)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("controller", [name for name, module in PEERS.items() if module])
def test_a_missing_package_is_said_before_anything_runs(controller, monkeypatch):
    monkeypatch.setitem(sys.modules, PEERS[controller], None)
    with pytest.raises(
        ConfigError,
        match=rf"{controller} needs the package {PACKAGES[PEERS[controller]]}, .*pip install 'autotunenet\[peers\]'",
    ):
        resolve(make_config(controller), SOURCE)
    if controller not in NO_STEPPING:
        with pytest.raises(ValueError, match=r"autotunenet\[peers\]"):
            Small(controller)


def test_the_null_member_steps_as_the_optimizer_does():
    small, other = Small("fixed"), Small("fixed")
    assert type(small.stepping) is Stepping
    assert small.stepping.optimizer is small.task_optimizer
    assert torch.equal(small.train(5), other.train(5, lambda loss: other.task_optimizer.step()))
    with small.stepping.evaluating() as model:
        assert model is small.model
    assert small.stepping.state_dict() == {}


def test_a_stepping_goes_back_with_the_weights():
    """Its state is part of the snapshots: an average must not keep what a rollback threw away."""
    training = make_training("dog")
    training.run_epoch()
    kept = training._run.copy_into(None)
    before = copy.deepcopy(training._stepping.state_dict())
    training.run_epoch()
    assert training._stepping.state_dict()["t"] != before["t"]
    training._run.copy_from(kept)
    assert repr(training._stepping.state_dict()) == repr(before)


# -- other optimizers ------------------------------------------------------------------------------------------------


@every_optimizer
def test_prodigy_is_the_package_s_with_the_task_s_momentum_and_decay(optimizer):
    small, other = Small("prodigy", optimizer), Small("fixed", optimizer)
    reference = prodigyopt.Prodigy(
        other.model.parameters(), lr=1.0, betas=(0.8, 0.999), weight_decay=0.02, decouple=optimizer == "adamw"
    )
    other.stepping.optimizer = reference
    assert torch.equal(small.train(30), other.train(30, lambda loss: reference.step()))


@every_optimizer
@pytest.mark.parametrize("controller", ["dadapt_adam", "dadapt_sgd"])
def test_d_adaptation_is_the_package_s_with_the_task_s_momentum_and_decay(controller, optimizer):
    small, other = Small(controller, optimizer), Small("fixed", optimizer)
    params, options = other.model.parameters(), {"lr": 1.0, "weight_decay": 0.02}
    if controller == "dadapt_sgd":
        reference = dadaptation.DAdaptSGD(params, momentum=0.8, **options)
    else:
        reference = dadaptation.DAdaptAdam(params, betas=(0.8, 0.999), decouple=optimizer == "adamw", **options)
    other.stepping.optimizer = reference
    assert torch.equal(small.train(30), other.train(30, lambda loss: reference.step()))


@pytest.mark.parametrize("controller", ["prodigy", "dadapt_adam", "dadapt_sgd"])
def test_the_distance_methods_follow_a_cosine_from_one_whatever_the_task_s_lr(controller):
    training, decisions, rows = play(controller, num_epochs=2, lr=7e-5)
    num_steps = rows[-1]["step"]
    expected = [(1 + math.cos(math.pi * t / num_steps)) / 2 for t in range(1, num_steps + 1)]
    assert [decision.applied["lr"] for decision in decisions] == pytest.approx(expected)
    other, _, _ = play(controller, num_epochs=2, lr=0.3)
    assert other.end_event() == training.end_event()


@every_optimizer
def test_dog_is_the_package_s_and_its_average_is_evaluated(optimizer):
    small, other = Small("dog", optimizer), Small("fixed", optimizer)
    reference = dog.DoG(other.model.parameters(), reps_rel=1e-6, weight_decay=0.02)
    other.stepping.optimizer = reference
    average, num_steps = torch.zeros_like(small.weights()), 0

    def step(loss):
        nonlocal average, num_steps
        reference.step()
        num_steps += 1
        share = 9 / (8 + num_steps)  # (1 + gamma) / (t + gamma), equation of Shamir and Zhang
        average = (1 - share) * average + share * other.weights()

    assert torch.equal(small.train(40), other.train(40, step))
    with small.stepping.evaluating() as model:
        found = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert torch.allclose(found, average, atol=1e-6)
    assert not torch.allclose(found, small.weights(), atol=1e-6)


def test_dog_begins_bolder_where_there_is_batch_normalisation():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    config = CONTROLLERS["dog"]()
    assert config.build_stepping(model, optimizer, HORIZON).optimizer.param_groups[0]["reps_rel"] == 1e-4
    config = CONTROLLERS["dog"](reps_rel=1e-5)
    assert config.build_stepping(model, optimizer, HORIZON).optimizer.param_groups[0]["reps_rel"] == 1e-5


@every_optimizer
def test_schedule_free_is_the_package_s_sister_of_the_task_s_optimizer(optimizer):
    small, other = Small("schedule_free", optimizer), Small("fixed", optimizer)
    params, options = other.model.parameters(), {"lr": 0.01, "weight_decay": 0.02, "warmup_steps": 2}
    if optimizer == "sgd":
        reference = schedulefree.SGDScheduleFree(params, momentum=0.8, **options)
    else:
        reference = schedulefree.AdamWScheduleFree(params, betas=(0.8, 0.999), **options)
    reference.train()
    other.stepping.optimizer = reference
    assert torch.equal(small.train(40), other.train(40, lambda loss: reference.step()))
    reference.eval()
    with small.stepping.evaluating():
        assert torch.equal(small.weights(), other.weights())
    assert not torch.equal(small.weights(), other.weights())
    assert small.stepping.optimizer.param_groups[0]["train_mode"]


def test_a_training_is_validated_at_the_average(monkeypatch):
    seen = []
    evaluate = DigitsMlp.evaluate

    def watch(self, model, batches):
        seen.append([param.detach().clone() for param in model.parameters()])
        return evaluate(self, model, batches)

    monkeypatch.setattr(DigitsMlp, "evaluate", watch)
    for controller in ("dog", "schedule_free"):
        training, _, _ = play(controller, num_epochs=1)
        live = list(training._workload.model.parameters())
        assert not any(torch.equal(a, b) for a, b in zip(seen[-1], live, strict=True))


def test_schedule_free_without_momentum_is_refused():
    with pytest.raises(ValueError, match="schedule_free needs a momentum above 0"):
        make_training("schedule_free", optimizer="sgd", momentum=0.0)


@every_optimizer
def test_momo_is_the_package_s_with_steps_as_long_as_the_task_s(optimizer):
    small, other = Small("momo", optimizer), Small("fixed", optimizer)
    params = other.model.parameters()
    if optimizer == "sgd":
        reference = momo.Momo(params, lr=0.01 / (1 - 0.8), beta=0.8, weight_decay=0.02)
    else:
        reference = momo.MomoAdam(params, lr=0.01, betas=(0.8, 0.999), weight_decay=0.02)
    other.stepping.optimizer = reference
    assert torch.equal(small.train(30), other.train(30, lambda loss: reference.step(loss=loss)))


# -- guards around a step --------------------------------------------------------------------------------------------


def test_clip_bounds_the_gradient_of_the_step():
    small = Small("clip", "sgd", max_norm=0.125)
    small.loss(100.0).backward()
    small.stepping.step(small.loss(), 1.0)
    assert gradient_norm(params_of(small.task_optimizer)) == pytest.approx(0.125, rel=1e-4)


def test_zclip_clips_what_stands_out():
    small = Small("zclip", "sgd", max_norm=None)
    small.train(40)
    small.stepping.optimizer.zero_grad()
    small.loss(1e4).backward()
    before = gradient_norm(params_of(small.task_optimizer))
    small.stepping.step(small.loss(), 1.0)
    assert gradient_norm(params_of(small.task_optimizer)) < 1e-2 * before


def make_sigma_skip(window=8, sigmas=3.0):
    weight = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(weight.weight)
    return SigmaSkipStepping(weight, torch.optim.SGD(weight.parameters(), lr=1.0), window, sigmas)


def feed(stepping, loss, norm):
    """Give it a loss and a gradient of this norm; return whether it made the step."""
    weight = stepping.model.weight
    before = weight.item()
    weight.grad = torch.full_like(weight, norm)
    stepping.step(torch.tensor(loss), loss)
    return weight.item() != before


def test_sigma_skip_is_the_rule_it_cites():
    """Against a plain reading of the rule: mean and unbiased deviation of the window, this step not among them."""
    generator = np.random.default_rng(0)
    stepping, losses, norms, verdicts = make_sigma_skip(), [], [], []
    for _ in range(300):
        loss, norm = generator.exponential() + 0.1, generator.exponential() + 0.1
        expected = True
        if len(losses) + 1 >= 4:
            for value, before in ((loss, losses[-8:]), (float(np.float32(norm)), norms[-8:])):
                expected &= bool(value <= np.mean(before) + 3.0 * np.std(before, ddof=1))
        verdicts.append(expected)
        assert feed(stepping, loss, norm) is expected
        losses.append(loss)
        norms.append(float(np.float32(norm)))
    assert 20 < verdicts.count(False) < 150
    assert stepping.num_skipped == verdicts.count(False)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_sigma_skip_skips_what_is_not_finite_and_forgets_it(loss):
    stepping = make_sigma_skip()
    assert not feed(stepping, loss, 1.0)
    assert not feed(stepping, 1.0, loss)
    for i in range(20):
        assert feed(stepping, 1.0 + 0.1 * (i % 2), 1.0 + 0.1 * (i % 2))
    assert not feed(stepping, loss, 1.0)
    assert feed(stepping, 1.0, 1.0)


def test_sigma_skip_judges_from_half_a_window_on():
    """Half a window with the step itself, as in the code it cites."""
    for num_before, made in ((2, True), (3, False)):
        stepping = make_sigma_skip()
        assert all(feed(stepping, 1.0 + 0.1 * i, 1.0) for i in range(num_before))
        assert feed(stepping, 100.0, 1.0) is made


def test_sigma_skip_is_shown_the_loss_that_tuners_see():
    stepping = make_sigma_skip()
    for i in range(8):
        feed(stepping, 1.0 + 0.1 * (i % 2), 1.0)
    stepping.model.weight.grad = torch.ones(1, 1)
    before = stepping.model.weight.item()
    stepping.step(torch.tensor(1.0), 100.0)
    assert stepping.model.weight.item() == before


def test_a_skipped_step_leaves_the_optimizer_s_memory_alone():
    small = Small("sigma_skip")
    small.train(70)
    before, weights = copy.deepcopy(small.task_optimizer.state_dict()), small.weights()
    small.loss(1e6).backward()
    small.stepping.step(small.loss(), 1.0)
    assert small.stepping.num_skipped == 1
    assert torch.equal(small.weights(), weights)
    assert repr(small.task_optimizer.state_dict()) == repr(before)
