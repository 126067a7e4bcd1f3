"""Every scheduler of torch and of transformers: what steps use is its lr times the multiplier, whatever happens."""

import copy
import inspect

import pytest
import torch
from plain_loops import batch, new_model
from torch import nn
from torch.optim import lr_scheduler as sched
from torch.optim.swa_utils import SWALR

from autotunenet import AutoTuneNet
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.testing import same

NUM_STEPS, LR = 100, 0.05
BREAK = 70  # the weights are gone after this step

TORCH = {
    "LambdaLR": lambda o: sched.LambdaLR(o, lambda i: min(1.0, i / 20) * 0.99**i),
    "MultiplicativeLR": lambda o: sched.MultiplicativeLR(o, lambda i: 0.98),
    "StepLR": lambda o: sched.StepLR(o, 25, 0.5),
    "MultiStepLR": lambda o: sched.MultiStepLR(o, [15, 60, 80], 0.3),
    "ConstantLR": lambda o: sched.ConstantLR(o, 0.2, 30),
    "LinearLR": lambda o: sched.LinearLR(o, 0.1, 1.0, 40),
    "ExponentialLR": lambda o: sched.ExponentialLR(o, 0.98),
    "SequentialLR": lambda o: sched.SequentialLR(
        o, [sched.LinearLR(o, 0.01, total_iters=20), sched.CosineAnnealingLR(o, 80)], [20]
    ),
    "PolynomialLR": lambda o: sched.PolynomialLR(o, 100, 2.0),
    "CosineAnnealingLR": lambda o: sched.CosineAnnealingLR(o, 100, 1e-4),
    "ChainedScheduler": lambda o: sched.ChainedScheduler([sched.ConstantLR(o, 0.5, 30), sched.ExponentialLR(o, 0.98)]),
    "ReduceLROnPlateau": lambda o: sched.ReduceLROnPlateau(o, factor=0.5, patience=3),
    "CyclicLR": lambda o: sched.CyclicLR(o, 0.01, 0.06, 15, mode="exp_range", gamma=0.99),
    "CosineAnnealingWarmRestarts": lambda o: sched.CosineAnnealingWarmRestarts(o, 15, 2),
    "OneCycleLR": lambda o: sched.OneCycleLR(o, 0.06, 101),
    "SWALR": lambda o: SWALR(o, swa_lr=0.01, anneal_epochs=40),
}

# By the name that `transformers.get_scheduler` takes: its arguments.
TRANSFORMERS = {
    "linear": {},
    "cosine": {},
    "cosine_with_restarts": {"num_cycles": 2},
    "polynomial": {"lr_end": 1e-4, "power": 2.0},
    "constant": {},
    "constant_with_warmup": {},
    "inverse_sqrt": {"timescale": 50},
    "reduce_lr_on_plateau": {"factor": 0.5, "patience": 3},
    "cosine_with_min_lr": {"min_lr": 1e-4},
    "cosine_warmup_with_min_lr": {"min_lr": 1e-4, "warmup_lr_rate": 0.1},
    "warmup_stable_decay": {"num_decay_steps": 30},
    "greedy": {"patience": 2, "factor": 0.8},
}

# These leave no trace before they write, and are told the metric.
BY_METRIC = {"ReduceLROnPlateau", "reduce_lr_on_plateau", "greedy"}


def make_scheduler(name, optimizer):
    if name in TORCH:
        return TORCH[name](optimizer)
    optimization = pytest.importorskip("transformers.optimization")
    return optimization.get_scheduler(name, optimizer, 15, 101, scheduler_specific_kwargs=TRANSFORMERS[name])


def test_there_is_no_other_scheduler_in_torch():
    """A new one has to be added above."""
    found = {
        name
        for name, kind in vars(sched).items()
        if inspect.isclass(kind) and issubclass(kind, sched.LRScheduler) and not name.endswith("LRScheduler")
    }
    assert found == TORCH.keys() - {"SWALR"}


def test_there_is_no_other_scheduler_in_transformers():
    types = pytest.importorskip("transformers.trainer_utils").SchedulerType
    assert {kind.value for kind in types} == TRANSFORMERS.keys()


class Training:
    """SGD in two groups, of which the second has half the lr, under a scheduler, with or without a tuner."""

    def __init__(self, name, *, tuned=True, in_extras=False):
        self.name, self.model = name, new_model()
        groups = [{"params": self.model[0].parameters()}, {"params": self.model[2].parameters(), "lr": LR / 2}]
        self.optimizer = torch.optim.SGD(groups, lr=LR, momentum=0.9)
        self.scheduler = make_scheduler(name, self.optimizer)
        self.tuner = None
        if tuned:
            modulate = True if name in BY_METRIC and not in_extras else None
            extras = [self.scheduler] if in_extras else []
            self.tuner = AutoTuneNet(
                self.model,
                self.optimizer,
                NUM_STEPS,
                extras=extras,
                modulate=modulate,
                snapshot_every=10,
                proof_steps=5,
            )
        self.shown, self.used, self.values = [], [], []

    def lrs(self):
        return [group["lr"] for group in self.optimizer.param_groups]

    def step(self, i):
        inputs, targets = batch(i)
        loss = nn.functional.mse_loss(self.model(inputs), targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.shown.append(self.lrs())
        if self.tuner:
            overridden = not self.tuner._launching.launch.is_done
            self.values.append((self.tuner._run.get_hyperparams()["lr"], overridden))
        last = self.optimizer.register_step_pre_hook(lambda *_: self.used.append(self.lrs()))
        self.optimizer.step()
        last.remove()
        if i == BREAK:
            with torch.no_grad():
                self.model[0].weight.fill_(float("nan"))
        if self.tuner:
            self.tuner.step(loss)
        if self.name in BY_METRIC:
            self.scheduler.step(1.0 / (1 + i // 30) - 0.002 * (i % 30 < 12) * (i % 30))  # falls, and then it does not
        else:
            self.scheduler.step()

    def run(self, end=NUM_STEPS, start=0):
        for i in range(start, end):
            self.step(i)
        return self

    def parts(self):
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler, "tuner": self.tuner}

    def save(self):
        return copy.deepcopy({name: part.state_dict() for name, part in self.parts().items()})

    def load(self, saved):
        for name, part in self.parts().items():
            part.load_state_dict(copy.deepcopy(saved[name]))
        return self


@pytest.mark.parametrize("name", [*TORCH, *TRANSFORMERS])
def test_steps_use_the_schedule_times_the_multiplier(name):
    """Also in the launch, which overrides the schedule, and after a rollback, which leaves it where it is."""
    training, twin = Training(name).run(), Training(name, tuned=False).run()
    assert training.shown == twin.shown, "the schedule plays on as if there were no tuner, bit for bit"
    base, second = (
        group.get("initial_lr", lr) for group, lr in zip(training.optimizer.param_groups, (LR, LR / 2), strict=True)
    )
    num_overridden = 0
    for used, shown, (value, overridden) in zip(training.used, training.shown, training.values, strict=True):
        if overridden:
            assert used == pytest.approx([value, value * second / base], rel=1e-12)
        else:
            assert used == pytest.approx([lr * (value / base) for lr in shown], rel=1e-12)
        num_overridden += overridden
    actions = [decision.action.value for decision in training.tuner.history]
    assert 20 < num_overridden < BREAK
    assert "rollback" in actions
    assert len({value for value, _ in training.values}) >= 4
    assert len({lr for lr, _ in training.shown}) > (0 if "onstant" in name else 1)


@pytest.mark.parametrize("name", [*TORCH, *TRANSFORMERS])
def test_a_scheduler_among_the_extras_goes_back_with_the_rest_and_is_resumed(name):
    """In the launch, before the rollback, and after it; the file has what users save."""
    straight, saved = Training(name, in_extras=True), {}
    for i in range(NUM_STEPS):
        if i in (15, 60, 90):
            saved[i] = straight.save()
        straight.step(i)
    assert same([float(lr) for lr in straight.scheduler.get_last_lr()], straight.lrs())
    base = straight.optimizer.param_groups[0].get("initial_lr", LR)
    for used, shown, (value, overridden) in zip(straight.used, straight.shown, straight.values, strict=True):
        if not overridden:
            assert used == pytest.approx([lr * (value / base) for lr in shown], rel=1e-12)
    for cut, state in saved.items():
        end = min(cut + 25, NUM_STEPS)
        resumed = Training(name, in_extras=True).load(state).run(end, start=cut)
        assert resumed.used == straight.used[cut:end]
        assert resumed.shown == straight.shown[cut:end]


def test_a_scheduler_that_leaves_no_trace_is_guessed_from_its_first_cut():
    model = new_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    tuner = AutoTuneNet(model, optimizer, launch=False, bayesian=False, interval=5)
    scheduler = sched.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    reasons = []
    for i, metric in enumerate((1.0, 0.9, 2.0, 0.8)):
        for j in range(5):
            inputs, targets = batch(5 * i + j)
            loss = nn.functional.mse_loss(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decision = tuner.step(loss)
        reasons.append(decision.reason)
        scheduler.step(metric)
    hint = "If it was a scheduler like ReduceLROnPlateau"
    assert [hint in reason for reason in reasons] == [False, False, False, True]
    optimizer.param_groups[0]["lr"] *= 20  # no plateau does this
    for _ in range(5):
        optimizer.step()
        decision = tuner.step(loss)
    assert "Somebody else had changed lr" in decision.reason
    assert hint not in decision.reason


def test_a_scheduler_of_another_class_is_known_among_the_extras():
    optimization = pytest.importorskip("transformers.optimization")
    model = new_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    greedy = optimization.GreedyLR(optimizer)
    run = TorchRun(model, optimizer, extras=[greedy])
    run.set_hyperparams({"lr": 4 * LR})
    assert (run.has_schedule, optimizer.param_groups[0]["lr"], run.effective_lr) == (True, LR, 4 * LR)
