"""Any order of training, breaking, committing and restoring: the state is exactly what an independent copy says."""

import copy

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import nn

from autotunenet import SnapshotBuffer
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.testing import same

OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw tensor lr": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.01), foreach=False),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
}


def plain(tree):
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    return [plain(x) for x in tree] if isinstance(tree, list | tuple) else tree


class WayBack(RuleBasedStateMachine):
    @initialize(kind=st.sampled_from(sorted(OPTIMIZERS)))
    def start(self, kind):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        self.optimizer = OPTIMIZERS[kind](self.model.parameters())
        self.run = TorchRun(self.model, self.optimizer)
        self.snapshots = SnapshotBuffer(self.run)
        self.good = self.candidate = None  # what torch's own state dicts said, copied deeply
        self.num_steps = 0

    def live(self):
        return plain(copy.deepcopy((self.model.state_dict(), self.optimizer.state_dict())))

    @rule(seed=st.integers(0, 5))
    def train(self, seed):
        inputs = torch.randn(4, 2, generator=torch.Generator().manual_seed(seed))
        self.optimizer.zero_grad()
        self.model(inputs).square().mean().backward()
        self.optimizer.step()
        self.num_steps += 1

    @rule(value=st.sampled_from([float("nan"), float("inf"), 0.0, 1e30]))
    def break_weights(self, value):
        with torch.no_grad():
            for tensor in self.model.parameters():
                tensor.fill_(value)

    @rule()
    def break_optimizer(self):
        for state in self.optimizer.state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    value.fill_(7.0)

    @rule()
    def forget_optimizer(self):
        self.optimizer.state.clear()

    @rule(lr=st.sampled_from([0.5, 0.25, 0.125]))
    def change_lr(self, lr):
        self.run.set_hyperparams({"lr": lr})

    @rule()
    def capture(self):
        self.snapshots.capture(self.num_steps)
        self.candidate = self.live()

    @precondition(lambda self: self.candidate is not None)
    @rule()
    def commit(self):
        self.snapshots.commit(1.0)
        self.good, self.candidate = self.candidate, None

    @rule()
    def discard(self):
        self.snapshots.discard()
        self.candidate = None

    @precondition(lambda self: self.good or self.candidate)
    @rule(times=st.integers(1, 2))
    def restore(self, times):
        for _ in range(times):
            self.snapshots.restore()
            self.good, self.candidate = self.good or self.candidate, None
            assert same(self.live(), self.good)

    @rule()
    def resume(self):
        """Save, and go on with new buffers: nothing may depend on which ones they are."""
        state = self.snapshots.state_dict()
        self.snapshots = SnapshotBuffer(self.run)
        self.snapshots.load_state_dict(state)

    @invariant()
    def slots_are_as_the_model_says(self):
        if hasattr(self, "snapshots"):
            assert (self.snapshots.good is None) == (self.good is None)
            assert (self.snapshots.candidate is None) == (self.candidate is None)


TestWayBack = WayBack.TestCase
TestWayBack.settings = settings(max_examples=60, stateful_step_count=40)
