"""Schedulers, optimizers and a tiny regression, for the tests of modulation."""

import copy

import torch
from torch import nn
from torch.optim import lr_scheduler as sched

SCHEDULERS = {
    "lambda": lambda o: sched.LambdaLR(o, lambda t: min(1.0, t / 4) * 0.95**t),
    "multiplicative": lambda o: sched.MultiplicativeLR(o, lambda t: 0.9),
    "step": lambda o: sched.StepLR(o, 3, 0.5),
    "exponential": lambda o: sched.ExponentialLR(o, 0.9),
    "linear": lambda o: sched.LinearLR(o, 0.1, 1.0, 8),
    "chained": lambda o: sched.ChainedScheduler([sched.ConstantLR(o, 0.5, 4), sched.ExponentialLR(o, 0.9)]),
    "polynomial": lambda o: sched.PolynomialLR(o, 15, 2.0),
    "cosine": lambda o: sched.CosineAnnealingLR(o, 10, 1e-4),
    "warm_restarts": lambda o: sched.CosineAnnealingWarmRestarts(o, 4, 2),
    "sequential": lambda o: sched.SequentialLR(o, [sched.LinearLR(o, 0.1, 1, 4), sched.CosineAnnealingLR(o, 9)], [4]),
    "cyclic": lambda o: sched.CyclicLR(o, 0.01, 0.1, 3, mode="exp_range", gamma=0.97, cycle_momentum=True),
    "one_cycle": lambda o: sched.OneCycleLR(o, 0.3, 20),
    "plateau": lambda o: sched.ReduceLROnPlateau(o, factor=0.5, patience=1),
}
OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.1),
    "tensor": lambda groups: torch.optim.AdamW(groups, lr=torch.tensor(0.1), foreach=False),
}


class Recorder(torch.optim.SGD):
    """Notes what the groups hold while the step computes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.used = []

    def step(self, closure=None):
        loss = None if closure is None else closure()
        self.used.append([copy.deepcopy(g["lr"]) for g in self.param_groups])
        return loss


def new_layers():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def grouped(model, lrs):
    """Two groups; a lr of None is left to the optimizer's default."""
    lrs = [{} if lr is None else {"lr": lr} for lr in lrs]
    return [{"params": list(model[0].parameters()), **lrs[0]}, {"params": list(model[2].parameters()), **lrs[1]}]


def gradients(model, i):
    inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(i))
    model.zero_grad()
    loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
    loss.backward()
    return loss


def visible(optimizer):
    """What anybody sees between two steps, bit for bit."""
    plain = [{k: copy.deepcopy(v) for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    return [{k: list(v) if isinstance(v, tuple) else v for k, v in group.items()} for group in plain]


def advance(scheduler, i):
    if isinstance(scheduler, sched.ReduceLROnPlateau):
        scheduler.step(1.0 + i)
    else:
        scheduler.step()
