"""The monitors on real trainings: no alarm while all is well, and one in time when the weights are ruined."""

import math
import statistics

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from autotunenet import Health
from autotunenet.monitors import ChangePoint, Collapse, NonFinite, Overshoot, Regression, Spike, WorstOf

pytestmark = pytest.mark.slow
OPTIMIZERS = {"sgd": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9), "adam": torch.optim.Adam}


def usual():
    return WorstOf(NonFinite(), Overshoot(), Regression(), Spike())


def everything():
    return WorstOf(NonFinite(), Overshoot(), Regression(), Spike(), Collapse(), ChangePoint())


def losses_of(optimizer, lr, num_steps, *, depth=1, batch_size=32, seed=0, decay=False, change=None):
    """Train an MLP on the digits; `change` is (step, factor on lr, share of labels that are drawn anew)."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        hidden = [layer for _ in range(depth) for layer in (nn.Linear(64, 64), nn.ReLU())]
        model = nn.Sequential(*hidden, nn.Linear(64, 10))
    digits = load_digits()
    inputs, targets = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    draw = torch.Generator().manual_seed(seed)
    opt = OPTIMIZERS[optimizer](model.parameters(), lr)
    losses = []
    for step in range(num_steps):
        chosen = torch.randint(len(inputs), (batch_size,), generator=draw)
        x, y, factor = inputs[chosen], targets[chosen], 1 - step / num_steps if decay else 1.0
        if change and step >= change[0]:
            factor *= change[1]
            y = torch.where(torch.rand(batch_size, generator=draw) < change[2], torch.randint(10, y.shape), y)
        opt.param_groups[0]["lr"] = lr * factor
        loss = F.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses


def judge(make, losses):
    """Return the verdicts; after an alarm the monitor is reset to the loss before, as after a return."""
    monitor, found = make(), []
    for step, loss in enumerate(losses, start=1):
        found.append(monitor.update(loss, step))
        if found[-1] is Health.UNSTABLE:
            monitor.reset(statistics.fmean(losses[max(0, step - 12) : step - 2]) if step > 2 else math.nan)
    return found


def test_hardly_a_false_alarm_in_healthy_trainings():
    """Until the losses lie near zero; constant and decaying lr, small and large batches."""
    settings = [
        (optimizer, lr, batch_size, decay)
        for optimizer, lrs in (("sgd", (0.01, 0.05)), ("adam", (3e-4, 1e-3, 3e-3)))
        for lr in lrs
        for batch_size, decay in ((16, False), (32, True), (128, False))
    ]
    found, collapses = [], []
    for seed, (optimizer, lr, batch_size, decay) in enumerate(settings):
        losses = losses_of(optimizer, lr, 1500, batch_size=batch_size, seed=seed, decay=decay)
        assert statistics.fmean(losses[-100:]) < 0.7, "this one was not healthy, so it says nothing"
        found += judge(everything, losses)
        collapses += judge(Collapse, losses)
    assert len(found) > 20_000
    assert found.count(Health.UNSTABLE) <= 1e-4 * len(found)
    assert set(collapses) == {Health.STABLE}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("factor", "noise", "most"), [(30, 0.0, 5), (100, 0.0, 5), (1, 0.4, 6)])
def test_damage_is_seen_within_a_few_steps(optimizer, factor, noise, most):
    lr, depth, delays = {"sgd": 0.05, "adam": 1e-3}[optimizer], 4, []
    for seed in range(5):
        losses = losses_of(optimizer, lr, 440, depth=depth, seed=seed, change=(400, factor, noise))
        # Counted from the first loss that the change could reach: a larger lr shows one step later.
        after = judge(everything, losses)[400 + (noise == 0) :]
        delays.append(after.index(Health.UNSTABLE) + 1 if Health.UNSTABLE in after else math.inf)
    assert statistics.median(delays) <= most


def test_networks_that_die_after_learning_a_little_are_caught_before_their_state_could_be_proven():
    """An lr too high by five: the loss comes down by a third at most, then the network is dead, often unnoticed."""
    num_dead = num_caught = num_unnoticed = 0
    for seed in range(8):
        losses = losses_of("sgd", 0.25, 600, depth=4, seed=seed)
        died = max((t for t, loss in enumerate(losses) if loss < 0.9 * math.log(10)), default=-1) + 1
        if died > 500 or statistics.fmean(losses[:died]) > 10:
            continue  # alive, or blown up for everybody to see
        num_dead += 1
        monitor, others = Collapse(), usual()
        found = [monitor.update(loss, step) for step, loss in enumerate(losses, start=1)]
        verdicts = [others.update(loss, step) for step, loss in enumerate(losses, start=1)]
        start = max(0, died - 10)
        num_caught += Health.UNSTABLE in found[start : died + 30] and found[died:].count(Health.STABLE) < 10
        num_unnoticed += Health.UNSTABLE not in verdicts[start:]
    assert num_dead >= 3, "too few died: the test says nothing"
    # Training at such an lr is chaotic: who dies, and when, is another on every kind of processor. One may be late.
    assert num_caught >= num_dead - 1
    assert num_unnoticed >= 2
