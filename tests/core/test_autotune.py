"""One call, on real trainings: from a learning rate that is wrong by decades to the loss of a good one."""

import io
import math
import weakref

import pytest
import torch
from test_optimizers import LazyLion
from torch import nn
from torch.optim import lr_scheduler as sched

from autotunenet import Action, AutoTuneNet, Float, SearchSpace
from autotunenet.autotune import make_controller, make_tuner
from autotunenet.controllers import Bayesian, Cruise
from autotunenet.testing import same

NAN, INF = math.nan, math.inf
NUM_STEPS = 320


class MuonAdamW(torch.optim.Optimizer):
    """Orthogonalized momentum for the matrices (Jordan et al. 2024), Adam for the rest, in two groups."""

    def __init__(self, groups, lr):
        super().__init__(groups, {"lr": lr, "is_matrix": False})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                state = self.state[param]
                first = state.setdefault("first", torch.zeros_like(param))
                second = state.setdefault("second", torch.zeros_like(param))
                first.lerp_(param.grad, 0.1)
                second.lerp_(param.grad.square(), 0.01)
                update = self.orthogonal(first) if group["is_matrix"] else first / (second.sqrt() + 1e-8)
                param.sub_(group["lr"] * update)

    @staticmethod
    def orthogonal(matrix):
        x = matrix / (matrix.norm() + 1e-7)
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
        return x


def muon(model, lr):
    matrices, rest = ([p for p in model.parameters() if (p.ndim == 2) is wanted] for wanted in (True, False))
    return MuonAdamW([{"params": matrices, "is_matrix": True}, {"params": rest, "lr": 0.2 * lr}], lr=lr)


def schedule_free(model, lr):
    optimizer = pytest.importorskip("schedulefree").AdamWScheduleFree(model.parameters(), lr=lr)
    optimizer.train()
    return optimizer


# Optimizer and an lr that is good for it.
KINDS = {
    "sgd": (lambda model, lr: torch.optim.SGD(model.parameters(), lr=lr), 0.3),
    "momentum": (lambda model, lr: torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4), 0.05),
    "adam": (lambda model, lr: torch.optim.Adam(model.parameters(), lr=lr), 0.01),
    "rmsprop": (lambda model, lr: torch.optim.RMSprop(model.parameters(), lr=lr), 0.003),
    "muon": (muon, 0.02),
    "schedule-free": (schedule_free, 0.03),
    "lion": (lambda model, lr: LazyLion(model.parameters(), lr=lr), 0.001),
}


@pytest.fixture(scope="module")
def digits():
    datasets = pytest.importorskip("sklearn.datasets")
    inputs, targets = datasets.load_digits(return_X_y=True)
    return torch.tensor(inputs, dtype=torch.float32) / 16, torch.tensor(targets)


class Training:
    """Handwritten digits, 8 x 8, in a network with one hidden layer; step i depends on i and the state alone."""

    def __init__(self, digits, kind="sgd", factor=1.0, *, scheduler=None, tuned=True, total=NUM_STEPS, **kwargs):
        self.inputs, self.targets = digits
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        make, self.good_lr = KINDS[kind]
        self.optimizer = make(self.model, self.good_lr * factor)
        self.scheduler = scheduler(self.optimizer) if scheduler else None
        self.tuner = AutoTuneNet(self.model, self.optimizer, total, **kwargs) if tuned else None

    def step(self, i, *, observe=0, scale=1.0):
        batch = torch.randint(1500, (64,), generator=torch.Generator().manual_seed(i))
        loss = scale * nn.functional.cross_entropy(self.model(self.inputs[batch]), self.targets[batch])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        decision = self.tuner.step(loss) if self.tuner else None
        if self.scheduler:
            self.scheduler.step()
        if observe and i % observe == 0:
            self.tuner.observe(self.loss(validation=True))
        return decision

    def run(self, num_steps=NUM_STEPS, **kwargs):
        for i in range(num_steps):
            self.step(i, **kwargs)
        return self

    @torch.no_grad()
    def loss(self, validation=False):
        if hasattr(self.optimizer, "eval"):
            self.optimizer.eval()
        part = slice(1500, None) if validation else slice(1500)
        loss = float(nn.functional.cross_entropy(self.model(self.inputs[part]), self.targets[part]))
        if hasattr(self.optimizer, "train"):
            self.optimizer.train()
        return loss

    def actions(self):
        return [decision.action for decision in self.tuner.history]

    def state(self):
        parts = {"model": self.model, "optimizer": self.optimizer, "tuner": self.tuner, "scheduler": self.scheduler}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load(self, file):
        file.seek(0)
        state = torch.load(file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        self.tuner.load_state_dict(state["tuner"])


@pytest.fixture(scope="module")
def plain(digits):
    """Losses of the good lr with a linear landing, without a tuner."""

    def landing(optimizer):
        return sched.LambdaLR(optimizer, lambda i: min(1.0, 2 * (1 - i / NUM_STEPS)))

    return {kind: Training(digits, kind, tuned=False, scheduler=landing).run().loss() for kind in KINDS}


# -- whatever the lr -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [-4, -2, 0, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_near_the_loss_of_a_good_lr_from_eight_decades(digits, plain, kind, exponent):
    training = Training(digits, kind, 10.0**exponent).run()
    assert all(param.isfinite().all() for param in training.model.parameters())
    assert training.loss() < plain[kind] + 0.15  # chance is 2.3
    assert training.tuner._launching.launch.is_done
    discarded = sum(decision.discarded_steps for decision in training.tuner.history)
    assert discarded <= 90


@pytest.mark.parametrize("observe", [0, 20])
@pytest.mark.parametrize("total", [None, NUM_STEPS])
def test_with_and_without_an_end_and_a_validation_metric(digits, total, observe):
    training = Training(digits, "adam", 100.0, total=total).run(observe=observe)
    assert training.loss() < 0.2
    lr = training.optimizer.param_groups[0]["lr"]
    peak = training.tuner._launching.launch.peak
    assert lr < 0.1 * peak if total else lr > 0.02 * peak


def test_the_defaults_land_and_a_plan_without_landing_does_not(digits):
    training = Training(digits, "sgd", bayesian=False, land=False).run()
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(training.tuner._launching.launch.peak)


def test_without_a_launch_the_users_lr_is_the_plan(digits):
    training = Training(digits, "sgd", launch=False, bayesian=False).run(NUM_STEPS // 2)
    assert training.optimizer.param_groups[0]["lr"] == 0.3
    assert Action.PROBE not in training.actions()


def test_more_than_lr_may_be_tuned(digits):
    boxes = {"lr": Float(1e-8, 1e4, log=True), "momentum": Float(0.0, 0.99), "weight_decay": Float(1e-8, 0.1, log=True)}
    training = Training(digits, "momentum", 10.0, space=SearchSpace(boxes)).run()
    assert training.loss() < 0.2
    group = training.optimizer.param_groups[0]
    assert 0 <= group["momentum"] <= 0.99
    assert 1e-8 <= group["weight_decay"] <= 0.1
    assert all(decision.applied.keys() == boxes.keys() for decision in training.tuner.history)


def test_the_ratios_of_groups_are_kept_at_every_step(digits):
    training = Training(digits, "muon", 100.0)
    for i in range(NUM_STEPS):
        training.step(i)
        first, second = (group["lr"] for group in training.optimizer.param_groups)
        assert second == pytest.approx(0.2 * first)


def test_after_the_calibration_no_lr_is_outside_the_space(digits):
    space = SearchSpace({"lr": Float(1e-3, 1.0, log=True)})
    training = Training(digits, "sgd", 0.01, space=space)
    for i in range(NUM_STEPS):
        training.step(i)
        assert (1e-3 if i >= 3 else 0.0) <= training.optimizer.param_groups[0]["lr"] <= 1.0


# -- beside a scheduler ----------------------------------------------------------------------------------------------

SCHEDULERS = {
    "warm-up from zero": lambda optimizer: sched.LambdaLR(optimizer, lambda i: min(1.0, i / 40)),
    "cosine": lambda optimizer: sched.CosineAnnealingLR(optimizer, NUM_STEPS),
    "one cycle": lambda optimizer: sched.OneCycleLR(
        optimizer, 10 * optimizer.param_groups[0]["lr"], NUM_STEPS, cycle_momentum=False
    ),
}


@pytest.mark.parametrize("factor", [1e-2, 1e2])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_schedule_is_left_alone_and_scaled(digits, name, kind, factor):
    training = Training(digits, kind, factor, scheduler=SCHEDULERS[name])
    twin = Training(digits, kind, factor, scheduler=SCHEDULERS[name], tuned=False)
    for i in range(NUM_STEPS - 1):
        training.step(i)
        twin.optimizer.step()
        twin.scheduler.step()
        assert training.scheduler.get_last_lr() == twin.scheduler.get_last_lr()
        assert [g["lr"] for g in training.optimizer.param_groups] == [g["lr"] for g in twin.optimizer.param_groups]
    # From above the climb ends lower, and a cycle is on its way up for a third of the run.
    assert training.loss() < (0.6 if factor > 1 else 0.35)
    run = training.tuner._run
    expected = training.optimizer.param_groups[0]["lr"] / training.optimizer.param_groups[0]["initial_lr"]
    assert run.schedule_factor == pytest.approx(expected)
    assert run.effective_lr == pytest.approx(run.get_hyperparams()["lr"] * expected)


def test_a_tuner_made_after_a_warm_up_from_zero_knows_the_base(digits):
    training = Training(digits, "sgd", 1.0, scheduler=SCHEDULERS["warm-up from zero"])
    assert training.optimizer.param_groups[0]["lr"] == 0.0
    assert training.tuner._space["lr"].high == pytest.approx(0.3 * 1e7)


# -- the same again --------------------------------------------------------------------------------------------------


def test_it_is_deterministic(digits):
    states = [Training(digits, "adam", 1e3, space=None, seed=3).run().state() for _ in range(2)]
    assert same(*states)


def test_it_draws_no_global_random_numbers(digits):
    before = torch.random.get_rng_state()
    Training(digits, "adam", 1e2).run(150)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "scheduler"),
    [("adam", None), ("muon", None), ("schedule-free", None), ("sgd", "warm-up from zero"), ("adam", "one cycle")],
)
def test_resume_in_the_middle_equals_the_uninterrupted_run(digits, kind, scheduler):
    def make():
        return Training(digits, kind, 300.0, scheduler=SCHEDULERS.get(scheduler))

    last = NUM_STEPS - 1
    to_the_end, a_while = dict.fromkeys((1, 47, 120, 200, 300), last), {i: i + 60 for i in (3, 4, 5, 9, 23, 80)}
    cuts = {**to_the_end, **a_while}
    straight = make()
    files = {}
    for i in range(NUM_STEPS):
        if i in cuts or i in cuts.values():
            files[i] = io.BytesIO()
            torch.save(straight.state(), files[i])
        if i < last:
            straight.step(i)
    assert sum(i < straight.tuner._launching.launch._num_steps for i in cuts) >= 5, "the test would show little"
    for cut, end in cuts.items():
        resumed = make()
        resumed.load(files[cut])
        for i in range(cut, end):
            resumed.step(i)
        files[end].seek(0)
        assert same(resumed.state(), torch.load(files[end], weights_only=True)), cut


# -- wrong ways ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_loss_that_never_is_a_number_ends_in_words_and_harms_nothing(digits, bad):
    training = Training(digits, "adam", 1.0)
    before = [param.detach().clone() for param in training.model.parameters()]
    training.run(160, scale=bad)
    assert all(map(torch.equal, training.model.parameters(), before))
    assert any("look at the data" in decision.reason for decision in training.tuner.history)
    assert math.isfinite(training.optimizer.param_groups[0]["lr"])


def test_a_loss_that_ends_as_no_number_harms_nothing(digits):
    training = Training(digits, "adam", 1.0).run(200)
    for i in range(200, 300):
        training.step(i, scale=NAN)
    assert all(param.isfinite().all() for param in training.model.parameters())
    assert training.loss() < 0.3
    assert sum("it is the data, look at them" in decision.reason for decision in training.tuner.history) == 1


@pytest.mark.filterwarnings("error")
def test_the_loss_may_come_with_its_graph_and_is_let_go(digits, warn_always):
    training = Training(digits, "sgd")
    loss = nn.functional.cross_entropy(training.model(training.inputs[:8]), training.targets[:8])
    loss.backward()
    training.optimizer.step()
    training.tuner.step(loss)
    gone = weakref.ref(loss)
    del loss
    assert gone() is None


def test_a_tuner_step_before_the_optimizers_does_no_harm(digits):
    """One step late, but no more."""
    training = Training(digits, "adam", 100.0)
    for i in range(NUM_STEPS):
        batch = torch.randint(1500, (64,), generator=torch.Generator().manual_seed(i))
        loss = nn.functional.cross_entropy(training.model(training.inputs[batch]), training.targets[batch])
        training.optimizer.zero_grad()
        loss.backward()
        training.tuner.step(loss)
        training.optimizer.step()
    assert training.loss() < 0.5


def test_more_steps_than_were_said_end_at_the_lowest_lr(digits):
    training = Training(digits, "sgd", total=150).run(200)
    assert training.optimizer.param_groups[0]["lr"] < 1e-3 * training.tuner._launching.launch.peak
    assert training.loss() < 1.0


def model_and_optimizer(lr=0.1):
    model = nn.Linear(2, 1)
    return model, torch.optim.SGD(model.parameters(), lr=lr)


def test_an_lr_of_zero_is_refused_in_words():
    with pytest.raises(ValueError, match="the optimizer's lr is 0 in every group"):
        AutoTuneNet(*model_and_optimizer(0.0))


def test_an_lr_of_zero_with_a_space_is_refused_in_words():
    with pytest.raises(ValueError, match="a launch starts from a finite lr above 0, got 0"):
        AutoTuneNet(*model_and_optimizer(0.0), space=SearchSpace({"lr": Float(0.0, 1.0)}))


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"mode": "sideways"}, "mode must be 'min' or 'max'"),
        ({"total_steps": 0}, "total_steps must be at least 1"),
        ({"interval": 0}, "interval must be at least 1"),
        ({"scope": "half"}, "scope must be one of"),
        ({"space": SearchSpace({"weight_decay": Float(0.0, 1.0)})}, "lr"),
        ({"snapshot_every": 0}, "snapshot_every must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused_in_words(kwargs, words):
    with pytest.raises(ValueError, match=words):
        AutoTuneNet(*model_and_optimizer(), **kwargs)


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="no_such_option"):
        AutoTuneNet(*model_and_optimizer(), no_such_option=1)


@pytest.mark.parametrize(("total", "expected"), [(None, 20), (100, 5), (2000, 20), (10**6, 500)])
def test_the_control_interval(total, expected):
    assert AutoTuneNet(*model_and_optimizer(), total)._control.interval == expected
    assert AutoTuneNet(*model_and_optimizer(), total, interval=7)._interval == 7


def test_the_parts(digits):
    space = SearchSpace({"lr": Float(1e-4, 1.0, log=True)})
    assert isinstance(make_controller(space), Bayesian)
    plan = make_controller(space, 100, bayesian=False, land=False)
    assert isinstance(plan, Cruise)
    assert (plan.total_steps, plan.land) == (100, False)
    run = Training(digits, "sgd").tuner._run
    for scope in ("hyperparameters", "none"):
        assert make_tuner(run, space, scope=scope)._launching is None
    assert make_tuner(run, space, attribution=False)._recovery._attribution is None
