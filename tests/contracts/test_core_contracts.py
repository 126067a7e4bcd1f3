"""Every member of every family of the core keeps its family's contract; the registries say who they are."""

import inspect
import math

import pytest
import torch
from torch import nn

from autotunenet import Float, Health, SearchSpace
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.controllers import CONTROLLERS, SCHEDULES, Controller, Fixed, Schedule
from autotunenet.guards import GUARDS, chain, cooldown, max_delta, warmup, within
from autotunenet.monitors import MONITORS, Monitor, NonFinite, Regression, Spike, WorstOf
from autotunenet.testing import check_controller, check_guard, check_monitor, check_run

BOX = SearchSpace({"lr": Float(1e-5, 1.0, log=True), "momentum": Float(0.0, 0.99)})

# Values for arguments without a default, by the names that makers share.
REQUIRED = {"space": BOX, "delta": 0.5, "num_steps": 2, "total": 20, "period": 3, "gamma": 0.7}


def made(maker):
    empty = inspect.Parameter.empty
    needed = [
        p.name
        for p in inspect.signature(maker).parameters.values()
        if p.default is empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    return maker(**{name: REQUIRED[name] for name in needed})


@pytest.mark.parametrize("name", CONTROLLERS)
def test_controllers(name):
    check_controller(CONTROLLERS[name])


@pytest.mark.parametrize("name", CONTROLLERS)
def test_controllers_are_controllers_with_a_docstring(name):
    assert issubclass(CONTROLLERS[name], Controller)
    assert CONTROLLERS[name].__doc__


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    check_controller(lambda: Schedule(made(SCHEDULES[name]), steps_per_unit=2))


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_factors_are_pure_bounded_and_defined_for_ever(name):
    factor, other = made(SCHEDULES[name]), made(SCHEDULES[name])
    times = [*range(60), 10**6]
    values = [factor(t) for t in times]
    assert all(type(value) is float and math.isfinite(value) and 0 <= value <= 1 + 1e-12 for value in values)
    assert [other(t) for t in reversed(times)] == values[::-1]


@pytest.mark.parametrize("name", MONITORS)
def test_monitors(name):
    check_monitor(MONITORS[name])


def test_a_monitor_of_monitors():
    check_monitor(lambda: WorstOf(NonFinite(), Regression(), Spike(), WorstOf(Regression(patience=1, cooldown=3))))
    check_monitor(lambda: Spike(window=8, min_count=4, patience=1))
    check_monitor(lambda: Regression(patience=2, window=3, cooldown=2, atol=0.0))


@pytest.mark.parametrize("name", GUARDS)
def test_guards(name):
    check_guard(lambda: made(GUARDS[name]))


def test_a_chain_of_guards():
    check_guard(lambda: chain(warmup(2), cooldown(1), max_delta(0.25), within(BOX)))


@pytest.mark.parametrize("kind", ["sgd", "adam", "tensor lr"])
def test_torch_run(kind):
    def make():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        if kind == "sgd":
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
        elif kind == "adam":
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        else:
            optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.125), foreach=False)
        inputs = torch.randn(8, 3)

        def train():
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()

        return TorchRun(model, optimizer, names=("lr", "momentum") if kind != "tensor lr" else ("lr",)), train

    with torch.random.fork_rng():
        check_run(make)


# The checks themselves: what breaks a rule must be found, and named.


class Leaky(Fixed):
    state_names = ("log",)
    memory: list[float] = []  # noqa: RUF012

    def __init__(self):
        self.log = self.memory

    def observe(self, metric, step):
        self.log.append(metric)


class Forgetful(Fixed):
    num = 0

    def observe(self, metric, step):
        self.num += 1

    def propose(self, current_params):
        return {"lr": current_params["lr"] * self.num}


class Aliasing(Fixed):
    def __init__(self):
        self.log = []

    def observe(self, metric, step):
        self.log.append(1.0)

    def state_dict(self):
        return {"log": self.log}

    def load_state_dict(self, state_dict):
        if state_dict.keys() != {"log"}:
            raise ValueError("foreign")
        self.log = list(state_dict["log"])


class Global(Fixed):
    def observe(self, metric, step):
        torch.rand(1)


class Chatty(Fixed):
    def observe(self, metric, step):
        print("hello")  # noqa: T201


def breaking(**methods):
    return type("Broken", (Fixed,), {name: staticmethod(method) for name, method in methods.items()})


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (Leaky, "share nothing"),
        (Forgetful, "bit for bit"),
        (Aliasing, "must not change while"),
        (Global, "random generators"),
        (Chatty, "must not print"),
        (breaking(propose=lambda current: {"lr": math.nan}), "must be finite"),
        (breaking(propose=lambda current: {"beta3": 1.0}), "beta3"),
        (breaking(propose=lambda current: current.pop("lr") and {}), "must not change its argument"),
        (breaking(load_state_dict=lambda state: None), "must refuse"),
        (breaking(state_dict=lambda: {"x": {1, 2}}), "plain values only"),
    ],
)
def test_a_broken_controller_is_found_out(make, rule):
    with pytest.raises(AssertionError, match=rule):
        check_controller(make)


@pytest.mark.parametrize(
    ("guard", "rule"),
    [
        (lambda current, proposed, step: {}, "names asked for"),
        (lambda current, proposed, step: proposed.update(lr=1.0) or dict(proposed), "not change its arguments"),
        (lambda current, proposed, step: dict.fromkeys(proposed, math.inf), "finite"),
        (lambda current, proposed, step: {k: (v + current[k]) / 2 for k, v in proposed.items()}, "must be allowed"),
        (lambda current, proposed, step: dict.fromkeys(proposed, 2.0) if proposed != current else proposed, "not add"),
    ],
)
def test_a_broken_guard_is_found_out(guard, rule):
    with pytest.raises(AssertionError, match=rule):
        check_guard(lambda: lambda current, proposed, step: dict(guard(current, proposed, step)))


class Poisoned(Monitor):
    state_names = ("total",)
    total = 0.0

    def update(self, loss, step):
        self.total += loss
        return Health.UNSTABLE if self.total > 650 else Health.STABLE

    def reset(self, loss):
        pass


class Amnesiac(Poisoned):
    """Forgets at a reset instead of anchoring."""

    state_names = ("level",)
    level = None

    def update(self, loss, step):
        if not math.isfinite(loss):
            return Health.UNSTABLE
        if self.level is None:
            self.level = loss
        return Health.SUSPECT if loss > 10 * self.level else Health.STABLE

    def reset(self, loss):
        self.level = None


class Hoarder(Poisoned):
    state_names = ("all",)

    def __init__(self):
        self.all = []

    def update(self, loss, step):
        self.all.append(loss)
        return Health.STABLE


@pytest.mark.parametrize(
    ("make", "rule"), [(Poisoned, "poison"), (Amnesiac, "must anchor"), (Hoarder, "memory must be constant")]
)
def test_a_broken_monitor_is_found_out(make, rule):
    with pytest.raises(AssertionError, match=rule):
        check_monitor(make)


class AliasingRun:
    """Hands out its live weights as a snapshot."""

    def __init__(self):
        self.weight, self.lr = torch.ones(2), 0.1

    def get_hyperparams(self):
        return {"lr": self.lr}

    def set_hyperparams(self, hyperparams):
        if hyperparams.keys() - {"lr"}:
            raise KeyError("unknown")
        self.lr = hyperparams.get("lr", self.lr)

    def copy_into(self, buffers):
        return {"weight": self.weight}

    def copy_from(self, buffers):
        self.weight.copy_(buffers["weight"])

    def train(self):
        self.weight.mul_(0.5)


class DeafRun(AliasingRun):
    def set_hyperparams(self, hyperparams):
        pass


class CarelessRun(AliasingRun):
    def set_hyperparams(self, hyperparams):
        self.lr = hyperparams.get("lr", self.lr)


class LossyRun(AliasingRun):
    def copy_into(self, buffers):
        return {"weight": self.weight.bfloat16().clone()}

    def copy_from(self, buffers):
        pass


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (AliasingRun, "must not alias"),
        (DeafRun, "read back"),
        (CarelessRun, "KeyError"),
        (LossyRun, "must restore exactly"),
    ],
)
def test_a_broken_run_is_found_out(kind, rule):
    def make():
        run = kind()
        return run, run.train

    with pytest.raises(AssertionError, match=rule):
        check_run(make)
