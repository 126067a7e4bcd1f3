"""Steps use exactly the lr that is set, and the groups keep what they hold: the launch's way to try learning rates."""

import pytest
import torch
from scheduled import SCHEDULERS, Recorder, gradients, grouped, new_layers, visible
from torch.optim import lr_scheduler as sched

from autotunenet.adapters.pytorch import TorchRun
from autotunenet.testing import same


@pytest.mark.parametrize("kind", ["float", "tensor"])
def test_an_override_uses_exactly_the_set_lr_even_at_a_factor_of_zero(kind):
    model = new_layers()
    lrs = (0.1, 0.025) if kind == "float" else (torch.tensor(0.125), torch.tensor(0.03125))
    optimizer = Recorder(grouped(model, lrs), lr=9.0)
    scheduler = sched.LambdaLR(optimizer, lambda t: t / 10)
    run = TorchRun(model, optimizer)
    own = run.get_hyperparams()["lr"]
    assert (run.schedule_factor, run.effective_lr) == (0.0, 0.0)
    for value in (own, 0.5):
        run.set_hyperparams({"lr": value})
        run.override_schedule(True)
        assert (run.schedule_factor, run.effective_lr) == (0.0, value)
        gradients(model, 0)
        optimizer.step()
        assert [float(lr) for lr in optimizer.used[-1]] == [value, value / 4]
        assert [float(g["lr"]) for g in optimizer.param_groups] == [0.0, 0.0]
        run.override_schedule(False)
        assert run.effective_lr == 0.0
    scheduler.step()
    assert run.effective_lr == pytest.approx(0.05)


def test_an_override_waits_for_the_scheduler():
    model = new_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = TorchRun(model, optimizer)
    run.override_schedule(True)
    sched.LambdaLR(optimizer, lambda t: 0.0)
    assert run.effective_lr == 0.1


@pytest.mark.parametrize("name", ["lambda", "one_cycle", "cyclic", "cosine"])
def test_a_scheduler_that_comes_while_others_are_tried_changes_nothing_for_them(name):
    model = new_layers()
    optimizer = Recorder(grouped(model, (0.1, 0.1)), lr=9.0, momentum=0.9)
    run = TorchRun(model, optimizer)
    run.override_schedule(True)
    run.set_hyperparams({"lr": 0.7})
    optimizer.step()
    scheduler = SCHEDULERS[name](optimizer)
    before = visible(optimizer)
    optimizer.step()  # nobody has asked the run for anything since
    assert (run.get_hyperparams(), run.effective_lr, run.has_schedule) == ({"lr": 0.7}, 0.7, True)
    optimizer.step()
    assert optimizer.used == [[0.7, 0.7]] * 3
    assert same(visible(optimizer), before)
    run.override_schedule(False)
    run.set_hyperparams({"lr": 0.7})
    scheduler.step()
    assert run.effective_lr == pytest.approx(0.7 * run.schedule_factor)


def test_a_scheduler_that_comes_at_the_very_end_of_the_trials_is_seen():
    model = new_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = TorchRun(model, optimizer)
    run.override_schedule(True)
    run.set_hyperparams({"lr": 0.7})
    sched.ExponentialLR(optimizer, 0.5)
    run.override_schedule(False)
    run.set_hyperparams({"lr": 0.2})
    assert (optimizer.param_groups[0]["lr"], run.effective_lr, run.has_schedule) == (0.1, 0.2, True)


def test_an_lr_that_somebody_writes_while_others_are_tried_is_in_force():
    model = new_layers()
    optimizer = Recorder(grouped(model, (0.1, 0.05)), lr=9.0)
    run = TorchRun(model, optimizer)
    run.override_schedule(True)
    run.set_hyperparams({"lr": 0.7})
    optimizer.step()
    assert run.get_hyperparams() == {"lr": 0.7}
    for group in optimizer.param_groups:
        group["lr"] *= 0.5
    assert (run.get_hyperparams(), run.effective_lr, run.has_schedule) == ({"lr": 0.05}, 0.05, False)
    optimizer.step()
    run.set_hyperparams({"lr": 0.3})
    optimizer.step()
    assert optimizer.used == [pytest.approx([lr, lr / 2]) for lr in (0.7, 0.05, 0.3)]


def test_a_step_that_raises_while_others_are_tried_has_written_nothing():
    model = new_layers()
    optimizer = Recorder(model.parameters(), lr=0.1)
    run = TorchRun(model, optimizer)
    run.override_schedule(True)
    run.set_hyperparams({"lr": 0.7})
    optimizer.used = None
    with pytest.raises(AttributeError):
        optimizer.step()
    assert run.get_hyperparams() == {"lr": 0.7}
    assert optimizer.param_groups[0]["lr"] == 0.1


def no_step_hooks(optimizer):
    """Return a wrapper without hooks of its own, and with nothing inside that has some."""

    class Bare:
        param_groups = optimizer.param_groups
        state = optimizer.state

    return Bare()


def test_without_a_scheduler_the_groups_keep_the_users_lr_while_others_are_tried():
    model = new_layers()
    optimizer = Recorder(grouped(model, (0.0, 0.4)), lr=9.0)
    run = TorchRun(model, optimizer)
    run.override_schedule(True)
    for value in (0.2, 0.1):
        run.set_hyperparams({"lr": value})
        optimizer.step()
        assert [g["lr"] for g in optimizer.param_groups] == [0.0, 0.4]
        assert (run.get_hyperparams(), run.effective_lr, run.schedule_factor) == ({"lr": value}, value, 1.0)
        assert not run.has_schedule
    run.override_schedule(False)
    assert [g["lr"] for g in optimizer.param_groups] == [0.0, 0.1]
    assert optimizer.used == [[0.0, 0.2], [0.0, 0.1]]
    assert not optimizer._optimizer_step_pre_hooks
    run.set_hyperparams({"lr": 0.3})
    assert [g["lr"] for g in optimizer.param_groups] == [0.0, 0.3]


def unhooked(kind):
    """Return a run whose steps cannot be told what to use, and the groups."""
    model = new_layers()
    lrs = (torch.tensor(0.5), torch.tensor(0.25)) if kind == "tensor" else (0.5, 0.25)
    optimizer = torch.optim.SGD(grouped(model, lrs), lr=9.0)
    run = TorchRun(
        model,
        no_step_hooks(optimizer) if kind == "no hooks" else optimizer,
        modulate=False if kind == "modulate=False" else None,
    )
    return run, optimizer


@pytest.mark.parametrize("kind", ["no hooks", "tensor", "modulate=False", "never stepped"])
def test_where_steps_cannot_be_told_what_to_use_it_is_written(kind):
    run, optimizer = unhooked(kind)
    run.override_schedule(True)
    for value in (1.0, 2.0):
        run.set_hyperparams({"lr": value})
        if kind != "never stepped":
            assert [float(g["lr"]) for g in optimizer.param_groups] == [value, value / 2]
    assert [float(g["lr"]) for g in optimizer.param_groups] == [2.0, 1.0]
    assert (run.get_hyperparams(), run.effective_lr) == ({"lr": 2.0}, 2.0)
    run.close()
    assert [float(g["lr"]) for g in optimizer.param_groups] == [0.5, 0.25], "the user's"


@pytest.mark.parametrize("kind", ["tensor", "never stepped"])
def test_a_scheduler_that_takes_an_lr_on_trial_is_refused(kind):
    run, optimizer = unhooked(kind)
    run.override_schedule(True)
    run.set_hyperparams({"lr": 1.0})
    run.set_hyperparams({"lr": 2.0})
    sched.CosineAnnealingLR(optimizer, 10, eta_min=1e-3)
    with pytest.raises(ValueError, match=r"after the tuner.* your lr, 2\. Make the scheduler before the tuner"):
        run.get_hyperparams()
