"""What the tuner costs: a step, a proposal, a snapshot; on one CPU core. Read the medians.

Goals: a step 25 us, a proposal 1 ms, a snapshot 1 % of the 50 training steps between two.

python -m pytest benchmarks/bench_tuner.py -o python_files="bench_*.py" --benchmark-only -p no:xdist
"""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from autotunenet import AutoTuneNet, Float, SearchSpace, SnapshotBuffer
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.controllers import Bayesian, Cruise
from autotunenet_bench.data import DataSource
from autotunenet_bench.tasks import TASKS


@pytest.fixture(autouse=True, scope="module")
def _one_core():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def falling_losses(num=100_000):
    rng = np.random.default_rng(0)
    return [float(loss) for loss in 2 / (1 + np.arange(num) / 200) ** 0.5 * np.exp(0.1 * rng.standard_normal(num))]


@pytest.mark.parametrize("as_tensor", [False, True], ids=["float", "tensor"])
def test_step_outside_of_launch_and_snapshots(benchmark, as_tensor):
    model = nn.Linear(4, 1)
    tuner = AutoTuneNet(model, torch.optim.Adam(model.parameters()), total_steps=1_000_000, snapshot_every=10**9)
    losses = falling_losses()
    for loss in losses[:500]:
        tuner.step(loss)
    stream = itertools.cycle([torch.tensor(loss) for loss in losses[500:]] if as_tensor else losses[500:])
    benchmark.pedantic(lambda: tuner.step(next(stream)), rounds=20_000, iterations=1, warmup_rounds=200)


def test_bayesian_proposal_on_a_full_window(benchmark):
    controller = Bayesian(prior=Cruise(total_steps=10**9), noise_limit=1e9)
    controller.start({"lr": 0.1})
    losses = iter(falling_losses())
    steps = itertools.count(10, 10)

    def propose():
        controller.observe(next(losses), next(steps))
        return controller.propose({"lr": 0.1})

    for _ in range(200):
        propose()
    benchmark.pedantic(propose, rounds=1_000, iterations=1)


@pytest.fixture(scope="module")
def workload():
    task = TASKS["mnist_cnn"]()
    data, _ = task.load(DataSource())
    return task, task.build({}, 0, data)


def train_step(task, workload):
    batches = itertools.cycle(list(workload.data.train.epoch(1)))

    def step():
        loss = task.loss(workload.model, next(batches))
        workload.optimizer.zero_grad()
        loss.backward()
        workload.optimizer.step()

    return step


def test_training_step_of_mnist_cnn_for_comparison(benchmark, workload):
    benchmark.pedantic(train_step(*workload), rounds=100, iterations=1, warmup_rounds=5)


def test_snapshot_of_mnist_cnn(benchmark, workload):
    task, live = workload
    train_step(task, live)()
    space = SearchSpace({"lr": Float(1e-9, 1e3, log=True)})
    snapshots = SnapshotBuffer(TorchRun(live.model, live.optimizer, names=space))
    steps = itertools.count()

    def snapshot():
        snapshots.capture(next(steps))
        snapshots.commit(1.0)

    benchmark.pedantic(snapshot, rounds=200, iterations=1, warmup_rounds=3)
