"""Modulation when things go wrong or end: steps that raise, two tuners, copies, and a resume."""

import copy
import gc
import io
import math
import pickle

import pytest
import torch
from scheduled import OPTIMIZERS, SCHEDULERS, Recorder, advance, gradients, grouped, new_layers, visible
from torch import nn
from torch.optim import lr_scheduler as sched

from autotunenet import Float, SearchSpace, Tuner
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.controllers import RandomWalk
from autotunenet.testing import same

# -- closures and steps that raise -----------------------------------------------------------------------------------


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("kind", ["float", "tensor"])
def test_a_closure_sees_the_schedulers_lr_and_the_step_the_scaled_one(kind, by_name):
    model = new_layers()
    optimizer = Recorder(model.parameters(), lr=0.1 if kind == "float" else torch.tensor(0.1))
    scheduler = sched.ExponentialLR(optimizer, 0.5)
    run = TorchRun(model, optimizer)
    run.set_hyperparams({"lr": 1.0})
    inside = []

    def closure():
        inside.append(float(optimizer.param_groups[0]["lr"]))
        return gradients(model, 0)

    for _ in range(2):
        loss = optimizer.step(closure=closure) if by_name else optimizer.step(closure)
        assert loss.item() > 0
        scheduler.step()
    assert inside == pytest.approx([0.1, 0.05])
    assert [float(used[0]) for used in optimizer.used] == pytest.approx([1.0, 0.5])


@pytest.mark.parametrize("options", [{}, {"line_search_fn": "strong_wolfe"}], ids=["plain", "wolfe"])
def test_lbfgs_under_a_schedule_is_lbfgs_at_that_lr(options):
    ends = []
    for lr, scheduled in ((0.5, False), (0.25, True)):
        model = new_layers()
        optimizer = torch.optim.LBFGS(model.parameters(), lr=lr, max_iter=4, **options)
        if scheduled:
            sched.LambdaLR(optimizer, lambda t: 1.0)
        run = TorchRun(model, optimizer)
        run.set_hyperparams({"lr": 0.5})
        for i in range(3):
            optimizer.step(lambda m=model, i=i: gradients(m, i))
        ends.append([p.detach().clone() for p in model.parameters()])
    assert same(*ends)


@pytest.mark.parametrize("kind", ["float", "tensor"])
def test_a_closure_that_raises_leaves_the_schedulers_lr(kind):
    model = new_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1 if kind == "float" else torch.tensor(0.1))
    sched.ExponentialLR(optimizer, 0.5)
    run = TorchRun(model, optimizer)
    run.set_hyperparams({"lr": 1.0})
    before = visible(optimizer)
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    assert same(visible(optimizer), before)


class Broken(torch.optim.SGD):
    def step(self, closure=None):
        self.seen = float(self.param_groups[0]["lr"])
        raise MemoryError


def step_again(optimizer):
    with pytest.raises(MemoryError):
        optimizer.step()


REPAIRS = {
    "step": lambda run, optimizer: step_again(optimizer),
    "read": lambda run, optimizer: run.effective_lr,
    "factor": lambda run, optimizer: run.schedule_factor,
    "snapshot": lambda run, optimizer: run.copy_into(None),
    "state": lambda run, optimizer: run.state_dict(),
    "state of the optimizer": lambda run, optimizer: optimizer.state_dict(),
    "close": lambda run, optimizer: run.close(),
}


@pytest.mark.parametrize("kind", ["float", "tensor"])
@pytest.mark.parametrize("repair", REPAIRS)
def test_a_step_that_raises_is_repaired_by_the_next_that_comes(repair, kind):
    model = new_layers()
    optimizer = Broken(model.parameters(), lr=0.5 if kind == "float" else torch.tensor(0.5))
    sched.ConstantLR(optimizer, 0.5, 3)
    run = TorchRun(model, optimizer)
    run.set_hyperparams({"lr": 2.0})
    with pytest.raises(MemoryError):
        optimizer.step()
    assert optimizer.seen == 1.0
    REPAIRS[repair](run, optimizer)
    assert optimizer.seen == 1.0, "no loan on top of a loan"
    if repair == "step":
        run.get_hyperparams()
        run.copy_into(None)
    assert float(optimizer.param_groups[0]["lr"]) == 0.25


@pytest.mark.parametrize("kind", ["float", "tensor"])
def test_a_repair_never_takes_back_what_the_scheduler_wrote_since(kind):
    model = new_layers()
    optimizer = Broken(model.parameters(), lr=0.5 if kind == "float" else torch.tensor(0.5))
    scheduler = sched.LambdaLR(optimizer, lambda t: 1 / (t + 1))
    run = TorchRun(model, optimizer)
    run.set_hyperparams({"lr": 2.0})
    with pytest.raises(MemoryError):
        optimizer.step()
    optimizer._opt_called = True
    scheduler.step()
    assert (run.schedule_factor, run.effective_lr) == (0.5, 1.0)
    assert float(optimizer.param_groups[0]["lr"]) == 0.25


def test_a_step_that_calls_the_step_of_its_base_class_is_scaled_once():
    torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)  # from now on torch hooks SGD.step by itself

    class Derived(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    param = nn.Parameter(torch.zeros(1))
    model = nn.ParameterList([param])
    optimizer = Derived([param], lr=0.5)
    sched.LambdaLR(optimizer, lambda t: 1.0)
    run = TorchRun(model, optimizer)
    run.set_hyperparams({"lr": 4.0})
    param.grad = torch.ones(1)
    optimizer.step(lambda: torch.ones(()))
    assert param.tolist() == [-4.0]
    assert optimizer.param_groups[0]["lr"] == 0.5


# -- hooks: once, removable, never in the way ------------------------------------------------------------------------


def scheduled_run(lr=0.1, **kwargs):
    model = new_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    scheduler = sched.ExponentialLR(optimizer, 0.5)
    return model, optimizer, scheduler, TorchRun(model, optimizer, **kwargs)


def test_hooks_are_registered_once_and_removed():
    model, optimizer, _, run = scheduled_run()
    for _ in range(3):
        run.set_hyperparams({"lr": run.get_hyperparams()["lr"] * 2})
    assert len(optimizer._optimizer_step_pre_hooks) == len(optimizer._optimizer_step_post_hooks) == 1
    with pytest.raises(ValueError, match=r"another TorchRun modulates .* close\(\) that one first"):
        TorchRun(model, optimizer)
    TorchRun(model, optimizer, names=("weight_decay",))
    TorchRun(model, optimizer, modulate=False)
    run.close()
    run.close()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert run.get_hyperparams() == {"lr": 0.1}
    run.set_hyperparams({"lr": 0.3})
    assert optimizer.param_groups[0]["lr"] == 0.3
    assert TorchRun(model, optimizer).get_hyperparams() == {"lr": 0.1}


def test_hooks_of_the_user_see_the_lr_by_when_they_were_registered_and_may_write():
    model = new_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = {}

    def note(name):
        return lambda o, *_: seen.update({name: o.param_groups[0]["lr"]})

    for when in ("early", "late"):
        optimizer.register_step_pre_hook(note(f"{when} before"))
        optimizer.register_step_post_hook(note(f"{when} after"))
        if when == "early":
            scheduler = sched.ExponentialLR(optimizer, 0.5)
            run = TorchRun(model, optimizer)
            run.set_hyperparams({"lr": 0.4})
    optimizer.step()
    assert seen == {"early before": 0.1, "late before": 0.4, "early after": 0.4, "late after": 0.1}
    optimizer.register_step_post_hook(lambda o, *_: o.param_groups[0].update(lr=0.7))
    optimizer.step()
    assert (optimizer.param_groups[0]["lr"], scheduler.base_lrs) == (0.7, [0.1])


def test_a_dropped_run_takes_its_hooks_along_and_is_not_kept_alive():
    gc.disable()
    try:
        model, optimizer, _, run = scheduled_run()
        run.set_hyperparams({"lr": 1.0})
        del run
        assert not optimizer._optimizer_step_pre_hooks
        assert not optimizer._optimizer_step_post_hooks
        TorchRun(model, optimizer)
    finally:
        gc.enable()


def test_copies_and_pickles_of_the_optimizer_are_free_of_it():
    _, optimizer, _, run = scheduled_run()
    before = copy.deepcopy(optimizer.state_dict())
    run.set_hyperparams({"lr": 1.0})
    assert optimizer.state_dict() == before
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        other.param_groups[0]["params"][0].grad = torch.ones(4, 3)
        old = other.param_groups[0]["params"][0].detach().clone()
        other.step()
        assert same(other.param_groups[0]["params"][0].detach(), old - 0.1)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))], ids=["copy", "pickle"])
def test_a_copied_run_modulates_its_own_optimizer(clone):
    *_, run = scheduled_run()
    run.set_hyperparams({"lr": 1.0})
    other = clone(run)
    run.set_hyperparams({"lr": 2.0})
    assert other.get_hyperparams() == {"lr": 1.0}
    for this, lr in ((run, 2.0), (other, 1.0)):
        weight = this.model[0].weight
        weight.grad = torch.ones_like(weight)
        old = weight.detach().clone()
        this.optimizer.step()
        assert same(weight.detach(), old - lr)
    run.close()
    closed = clone(run)
    assert not closed.optimizer._optimizer_step_pre_hooks


def test_a_wrapped_optimizer_is_hooked_inside():
    class Wrapper(torch.optim.Optimizer):
        """Like accelerate's: has the groups of the optimizer inside, and no hooks of its own."""

        def __init__(self, optimizer):
            self.optimizer = optimizer

        param_groups = property(lambda self: self.optimizer.param_groups)
        state = property(lambda self: self.optimizer.state)

        def step(self):
            self.optimizer.step()

    param = nn.Parameter(torch.zeros(1))
    inner = torch.optim.SGD([param], lr=0.5)
    sched.LambdaLR(inner, lambda t: 1.0)
    run = TorchRun(nn.ParameterList([param]), Wrapper(inner))
    run.set_hyperparams({"lr": 2.0})
    param.grad = torch.ones(1)
    run.optimizer.step()
    assert param.tolist() == [-2.0]
    bare = Wrapper(inner)
    bare.__dict__["optimizer"] = None
    bare.__class__ = type("Bare", (Wrapper,), {"param_groups": inner.param_groups, "state": {}})
    del bare.__dict__["optimizer"]
    with pytest.raises(ValueError, match="Bare has no step hooks"):
        TorchRun(nn.ParameterList([param]), bare)


def test_a_group_that_joins_is_scaled_too():
    model = new_layers()
    optimizer = Recorder(model[0].parameters(), lr=0.1)
    run = TorchRun(model, optimizer, modulate=True)
    run.set_hyperparams({"lr": 0.2})
    optimizer.add_param_group({"params": list(model[2].parameters()), "lr": 0.4})
    gradients(model, 0)
    optimizer.step()
    run.override_schedule(True)
    optimizer.step()
    assert optimizer.used == [[0.2, 0.8], [0.2, 0.8]]
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.4]


# -- resume ----------------------------------------------------------------------------------------------------------


class Training:
    """A regression under a tuner and a scheduler; a NaN at step 11 makes it go back."""

    def __init__(self, name, kind):
        self.model = new_layers()
        self.optimizer = OPTIMIZERS[kind](grouped(self.model, (None, None)))
        self.scheduler = SCHEDULERS[name](self.optimizer)
        space = SearchSpace({"lr": Float(1e-4, 10.0, log=True), "momentum": Float(0.0, 0.99)})
        self.run = TorchRun(self.model, self.optimizer, names=space, modulate=True)
        self.tuner = Tuner(self.run, space, controller=RandomWalk(), interval=2, snapshot_every=3, proof_steps=2)

    def step(self, i):
        loss = gradients(self.model, i) * (math.nan if i == 11 else 1.0)
        if i % 5 in (1, 4):
            self.run.override_schedule(i % 5 == 1)
        self.optimizer.step()
        self.tuner.step(loss)
        advance(self.scheduler, i)

    def parts(self):
        return {k: getattr(self, k) for k in ("model", "optimizer", "scheduler", "tuner")}

    def save(self):
        file = io.BytesIO()
        torch.save({k: part.state_dict() for k, part in self.parts().items()}, file)
        return file

    def load(self, file):
        file.seek(0)
        state = torch.load(file, weights_only=False)  # schedulers keep objects
        for k, part in self.parts().items():
            part.load_state_dict(state[k])


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("name", ["lambda", "one_cycle", "plateau", "linear"])
def test_resume_bit_for_bit(name, kind):
    straight, files = Training(name, kind), []
    for i in range(20):
        files.append(straight.save())
        straight.step(i)
    assert {"rollback", "adapt"} <= {d.action.value for d in straight.tuner.history}
    for cut in range(0, 20, 3):
        resumed = Training(name, kind)
        resumed.load(files[cut])
        for i in range(cut, 20):
            resumed.step(i)
        assert same(visible(resumed.optimizer), visible(straight.optimizer))
        assert same([*resumed.model.parameters()], [*straight.model.parameters()])
        assert same(resumed.run.state_dict(), straight.run.state_dict())
        assert same(resumed.tuner.history[-1].to_record(), straight.tuner.history[-1].to_record())


def test_the_scheduler_is_no_foreign_writer():
    training = Training("lambda", "adamw")
    for i in range(10):
        training.step(i)
    assert not [d.reason for d in training.tuner.history if "Somebody" in d.reason]


def test_states_that_do_not_fit_are_refused_and_nothing_is_loaded():
    _, _, _, run = scheduled_run()
    run.set_hyperparams({"lr": 0.7})
    state = run.state_dict()
    *_, plain = scheduled_run(modulate=False)
    with pytest.raises(ValueError, match="this run has modulate=False"):
        plain.load_state_dict(state)
    foreign = {"settings": {"lr": [0.1, 0.1], "eps": [1.0, 1.0]}, "bases": {"lr": [0.1], "eps": [1.0]}}
    many = {"settings": {"lr": [0.1, 0.1]}, "bases": {"lr": [0.1, 0.1]}}
    for modulation in (foreign, many, {"settings": {}}, {"settings": {"lr": [1, 1]}, "bases": {}}):
        with pytest.raises(ValueError, match=r"this (state )?is"):
            run.load_state_dict({**state, "modulation": modulation})
        assert run.state_dict() == state
    plain = TorchRun(new_layers(), torch.optim.SGD(new_layers().parameters(), lr=0.1))
    run.load_state_dict(plain.state_dict() | {"ratios": {"lr": [1.0]}})
    assert run.get_hyperparams() == {"lr": 0.1}, "a run saved without a schedule goes on at the schedule's own base"
    plain.load_state_dict(state)
    assert plain.get_hyperparams() == {"lr": 0.7}
    assert plain.optimizer.param_groups[0]["lr"] == 0.1
