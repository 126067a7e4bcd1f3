"""The other methods that move lr: the range test, and the plateau that goes back to the best weights."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from autotunenet import Action, Decision, Float, SearchSpace
from autotunenet.adapters.pytorch import TorchRun
from autotunenet_bench.config import RunConfig, expand
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.controllers.lr_range_test import LrRangeTestConfig, RangeTest
from autotunenet_bench.controllers.plateau_backtrack import BacktrackingTuner
from autotunenet_bench.data import DataSource
from autotunenet_bench.regimes import Stationary
from autotunenet_bench.runners.online import Training
from autotunenet_bench.tasks import DigitsMlp
from autotunenet_bench.types import Horizon

HORIZON = Horizon(num_epochs=4, steps_per_epoch=10)


def make_training(controller, num_epochs):
    config = RunConfig(task=DigitsMlp(), regime=Stationary(), controller=controller, num_epochs=num_epochs, seeds=(0,))
    data, info = config.task.load(DataSource())
    (cell,) = expand(config)
    with torch.random.fork_rng(devices=[]):
        return Training(cell.resolve(info), data)


# -- the range test --------------------------------------------------------------------------------------------------


def finder_reference(raw, num_steps, lowest, highest):
    """What torch-lr-finder does, in its own words: history, smoothing, skips, gradient."""
    lrs = [lowest * (highest / lowest) ** (i / (num_steps - 1)) for i in range(num_steps)]
    history, best = [], None
    for i, value in enumerate(raw):
        loss = value if i == 0 else 0.05 * value + 0.95 * history[-1]
        best = loss if best is None else min(best, loss)
        history.append(loss)
        if loss > 5 * best:
            break
    losses, skipped = history[10:-5], lrs[10 : len(history) - 5]
    return skipped[int(np.gradient(np.array(losses)).argmin())], len(history)


@pytest.mark.parametrize("seed", range(5))
def test_the_range_test_picks_what_torch_lr_finder_picks(seed):
    generator = np.random.default_rng(seed)
    decades = np.linspace(-7, 1, 100)
    raw = 2.3 - 1.8 / (1 + np.exp(-3 * (decades + 3 - 0.3 * seed))) + np.exp(6 * (decades - 0.2))
    raw = (raw + 0.05 * generator.standard_normal(100)).tolist()
    expected, num_steps = finder_reference(raw, 100, 1e-7, 10.0)
    test = RangeTest(100, 1e-7, 10.0)
    for value in raw:
        if test.update(value):
            break
    assert test.num_done == num_steps
    assert test.is_over
    assert test.steepest() == pytest.approx(expected, rel=1e-12)


def test_a_shorter_test_finds_about_the_same_lr():
    """The smoothing lags behind by the same share of the test, whatever its length."""
    found = []
    for num_steps in (100, 50, 25):
        test = RangeTest(num_steps, 1e-7, 10.0)
        while not test.is_over:
            decade = math.log10(test.lr)
            test.update(2.3 - 1.8 / (1 + math.exp(-3 * (decade + 3))) + math.exp(6 * (decade - 0.2)))
        found.append(test.steepest())
    assert found == pytest.approx([found[0]] * 3, rel=1.0)
    assert 1e-3 < found[0] < 1e-1


def test_the_sweep_is_exponential_and_ends_where_the_loss_is_not_finite():
    test = RangeTest(5, 1e-4, 1.0)
    tried = []
    while not test.is_over:
        tried.append(test.lr)
        test.update(1.0)
    assert tried == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    test = RangeTest(50, 1e-4, 1.0)
    assert not test.update(1.0)
    assert test.update(math.nan)
    assert test.steepest() is None


def test_the_range_test_is_charged_goes_back_and_a_cosine_follows():
    training = make_training(LrRangeTestConfig(), num_epochs=4)
    start = copy.deepcopy(training._workload.model.state_dict())
    optimizer_state = copy.deepcopy(training._workload.optimizer.state_dict()["state"])
    restored = []
    tuner = training._tuner
    hand_over = tuner._hand_over

    def watch(loss):
        decision = hand_over(loss)
        restored.append(
            (copy.deepcopy(training._workload.model.state_dict()), training._workload.optimizer.state_dict()["state"])
        )
        return decision

    tuner._hand_over = watch
    events = [event for _ in range(4) for event in training.run_epoch()]
    decisions = [Decision.from_record(event) for event in events if event["event"] == "decision"]
    num_steps = [event for event in events if event["event"] == "epoch"][-1]["step"]
    assert not tuner.state_dict()["snapshots"]["slots"]  # no memory is kept for what has been done
    probe, *others = decisions
    num_used = probe.discarded_steps
    assert (probe.action, probe.observation.step) == (Action.PROBE, num_used)
    assert num_used <= num_steps // 10
    ((weights, state),) = restored
    assert all(torch.equal(weights[name], start[name]) for name in start)
    assert state == optimizer_state == {}
    assert [decision.observation.step for decision in others] == list(range(num_used + 1, num_steps + 1))
    left, lr = num_steps - num_used, probe.applied["lr"]
    expected = [lr * (1 + math.cos(math.pi * t / left)) / 2 for t in range(1, left + 1)]
    assert [decision.applied["lr"] for decision in others] == pytest.approx(expected, abs=1e-15)


def test_a_run_too_short_for_a_range_test_is_refused():
    config = LrRangeTestConfig()
    with pytest.raises(ValueError, match=r"takes at least 3 steps, and 0\.1 of 29 are 2; raise fraction"):
        config.build(Horizon(num_epochs=1, steps_per_epoch=29), DigitsMlp().space, seed=0)
    with pytest.raises(ValueError, match="lowest must lie below highest"):
        LrRangeTestConfig(lowest=1.0, highest=0.1)


# -- backtracking ----------------------------------------------------------------------------------------------------


def make_backtracking(**fields):
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    space = SearchSpace({"lr": Float(1e-6, 10.0, log=True)})
    run = TorchRun(model, optimizer, names=space)
    tuner = CONTROLLERS["plateau_backtrack"](**fields).build_tuner(run, HORIZON, space, seed=0)
    assert isinstance(tuner, BacktrackingTuner)
    return model, run, tuner


def test_a_cut_goes_back_to_the_best_weights_and_keeps_the_cut():
    model, run, tuner = make_backtracking(patience=1, factor=0.5)
    actions, weights = [], []
    for epoch, metric in enumerate([3.0, 1.0, 2.0, 2.5, 2.0, 2.0], start=1):
        nn.init.constant_(model.weight, float(epoch))
        tuner.step(1.0)
        decision = tuner.observe(metric)
        actions.append((decision.action, decision.discarded_steps))
        weights.append(model.weight.item())
    assert weights == [1.0, 2.0, 3.0, 2.0, 5.0, 2.0]  # two bad epochs, and back to the second each time
    assert [action is Action.ROLLBACK for action, _ in actions] == [False, False, False, True, False, True]
    assert [discarded for _, discarded in actions] == [0, 0, 0, 2, 0, 4]
    assert run.get_hyperparams() == {"lr": 0.025}


def test_a_cut_at_the_best_epoch_so_far_stays_there():
    """Better, but by less than the threshold: a plateau to the rule, and still the best weights."""
    model, run, tuner = make_backtracking(patience=0, factor=0.5, threshold=0.1)
    for epoch, metric in enumerate([1.0, 0.99], start=1):
        nn.init.constant_(model.weight, float(epoch))
        tuner.step(1.0)
        decision = tuner.observe(metric)
    assert decision.action is Action.ADAPT
    assert (model.weight.item(), run.get_hyperparams()["lr"]) == (2.0, 0.05)


def test_where_nothing_finite_was_seen_there_is_nowhere_to_go():
    model, _, tuner = make_backtracking(patience=0)
    nn.init.constant_(model.weight, 7.0)
    tuner.step(1.0)
    assert tuner.observe(math.nan).action is Action.ADAPT
    assert model.weight.item() == 7.0


def test_accuracies_are_better_when_higher():
    model, _, tuner = make_backtracking(patience=0, observe="val_accuracy")
    for epoch, metric in enumerate([0.5, 0.9, 0.4], start=1):
        nn.init.constant_(model.weight, float(epoch))
        tuner.step(1.0)
        tuner.observe(metric)
    assert model.weight.item() == 2.0


def test_a_resumed_run_goes_back_to_the_best_weights_of_before():
    model, _, tuner = make_backtracking(patience=1)
    for epoch, metric in enumerate([3.0, 1.0, 2.0], start=1):
        nn.init.constant_(model.weight, float(epoch))
        tuner.step(1.0)
        tuner.observe(metric)
    resumed_model, _, resumed = make_backtracking(patience=1)
    resumed.load_state_dict(copy.deepcopy(tuner.state_dict()))
    nn.init.constant_(resumed_model.weight, 4.0)
    resumed.step(1.0)
    assert resumed.observe(2.5).action is Action.ROLLBACK
    assert resumed_model.weight.item() == 2.0
