"""The user's scheduler plays on: nobody sees the tuner between steps, and every step runs at the scaled lr."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scheduled import OPTIMIZERS, SCHEDULERS, Recorder, advance, gradients, grouped, new_layers, visible
from torch.optim import lr_scheduler as sched

from autotunenet.adapters.pytorch import TorchRun
from autotunenet.testing import check_run, same


def play(optimizer_name, scheduler_name, lrs, *, factors=None):
    """Train for 18 steps; return what is visible after every half step, and the weights."""
    model = new_layers()
    given = [torch.tensor(lr) for lr in lrs] if optimizer_name == "tensor" and lrs[0] else lrs
    optimizer = OPTIMIZERS[optimizer_name](grouped(model, given))
    scheduler = SCHEDULERS[scheduler_name](optimizer)
    run = None
    if factors is not None:
        run = TorchRun(model, optimizer, modulate=True)
        base = run.get_hyperparams()["lr"]
    seen = []
    for i in range(18):
        if run is not None:
            run.set_hyperparams({"lr": base * factors[i % len(factors)]})
        gradients(model, i)
        optimizer.step()
        seen.append(visible(optimizer))
        advance(scheduler, i)
        seen.append(visible(optimizer))
        seen.append([float(lr) for lr in scheduler.get_last_lr()])
    return seen, [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("lrs", [(None, None), (0.1, 0.02)], ids=["one_lr", "two_lrs"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_nobody_sees_the_tuner_between_steps(optimizer, scheduler, lrs):
    expected, weights = play(optimizer, scheduler, lrs)
    seen, modulated = play(optimizer, scheduler, lrs, factors=(0.5, 3.0, 1.0, 1e-3))
    assert same(seen, expected)
    assert not same(modulated, weights), "the steps have to feel the factors"
    seen, modulated = play(optimizer, scheduler, lrs, factors=(1.0,))
    assert same((seen, modulated), (expected, weights))


@pytest.mark.parametrize("kind", ["float", "tensor"])
@pytest.mark.parametrize("scheduler", [name for name in SCHEDULERS if name not in ("cyclic", "one_cycle")])
def test_steps_run_at_the_scheduled_lr_times_the_factor(scheduler, kind):
    model = new_layers()
    lrs = (0.1, 0.02) if kind == "float" else (torch.tensor(0.1), torch.tensor(0.02))
    optimizer = Recorder(grouped(model, lrs), lr=9.0)
    run = TorchRun(model, optimizer, modulate=True)
    scheduler = SCHEDULERS[scheduler](optimizer)
    for i in range(12):
        value = 0.1 * (i + 1) / 3
        run.set_hyperparams({"lr": value})
        before = [float(group["lr"]) for group in optimizer.param_groups]
        assert run.schedule_factor == pytest.approx(before[0] / 0.1, rel=1e-6)
        expected = run.effective_lr
        gradients(model, i)
        optimizer.step()
        used = [float(lr) for lr in optimizer.used[-1]]
        assert used == pytest.approx([lr * value / 0.1 for lr in before], rel=1e-6)
        assert used[0] == expected
        assert run.get_hyperparams() == {"lr": value}
        advance(scheduler, i)


def test_an_unscaled_schedule_is_effective_to_the_last_bit():
    model = new_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = sched.ExponentialLR(optimizer, 0.9)
    run = TorchRun(model, optimizer)
    for _ in range(50):
        assert run.effective_lr == optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=6), st.sampled_from([(0.1, 0.1), (0.3, 0.007)]))
def test_a_constant_schedule_gives_the_training_without_one(values, lrs):
    """Bit for bit: at the factor 1, modulated steps are those of an lr that is written into the groups."""
    weights, read = [], []
    for scheduled in (False, True):
        model = new_layers()
        optimizer = torch.optim.Adam(grouped(model, lrs))
        if scheduled:
            sched.LambdaLR(optimizer, lambda t: 1.0)
        run = TorchRun(model, optimizer)
        for i, value in enumerate(values):
            run.set_hyperparams({"lr": value})
            read.append(run.get_hyperparams())
            assert run.effective_lr == value
            gradients(model, i)
            optimizer.step()
        weights.append([p.detach().clone() for p in model.parameters()])
    assert read == [{"lr": value} for value in values] * 2
    assert same(*weights)


@pytest.mark.parametrize("name", ["lambda", "one_cycle", "plateau"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_contract_of_adapters_holds(kind, name):
    def make():
        model = new_layers()
        optimizer = OPTIMIZERS[kind](grouped(model, (None, None)))
        scheduler = SCHEDULERS[name](optimizer)
        scheduler_too = () if kind == "sgd" else (scheduler,)
        run = TorchRun(model, optimizer, extras=scheduler_too, modulate=True)
        count = iter(range(1000))

        def train():
            gradients(model, 0)
            optimizer.step()
            if scheduler_too:
                advance(scheduler, next(count))

        return run, train

    if name == "lambda":
        run, train = make()
        train()  # its very first lr is zero, and then a step changes nothing
        check_run(lambda: (run, train))
    else:
        check_run(make)


# -- when it begins --------------------------------------------------------------------------------------------------


def test_a_scheduler_that_comes_later_takes_over_what_is_in_force():
    model = new_layers()
    optimizer = Recorder(grouped(model, (0.1, 0.05)), lr=9.0)
    run = TorchRun(model, optimizer)
    run.set_hyperparams({"lr": 0.04})
    buffers = run.copy_into(None)
    scheduler = sched.ExponentialLR(optimizer, 0.5)
    gradients(model, 0)
    optimizer.step()
    scheduler.step()
    assert run.get_hyperparams() == {"lr": 0.04}
    assert (run.schedule_factor, run.effective_lr) == (0.5, 0.02)
    run.set_hyperparams({"lr": 0.08})
    optimizer.step()
    assert optimizer.used == [[0.04, 0.02], [0.04, 0.02]]
    assert [g["lr"] for g in optimizer.param_groups] == [0.02, 0.01]
    run.copy_from(buffers)  # of a time when lr was the tuner's
    assert [g["lr"] for g in optimizer.param_groups] == [0.02, 0.01]


def test_a_scheduler_that_gives_the_groups_bases_of_their_own_sets_their_ratios():
    model = new_layers()
    optimizer = torch.optim.SGD(grouped(model, (0.1, 0.1)), lr=9.0)
    run = TorchRun(model, optimizer)
    sched.CyclicLR(optimizer, [0.25, 0.125], 1.0, cycle_momentum=False)
    assert run.get_hyperparams() == {"lr": 0.25}
    run.close()
    run.set_hyperparams({"lr": 0.5})
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.25]


def test_a_scheduler_is_known_by_its_wrapper_where_a_checkpoint_has_taken_initial_lr_away():
    model = new_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    plain = optimizer.state_dict()
    sched.ExponentialLR(optimizer, 0.5)
    optimizer.load_state_dict(plain)
    run = TorchRun(model, optimizer)
    run.set_hyperparams({"lr": 0.2})
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert run.effective_lr == 0.2


@pytest.mark.parametrize(("mark", "lr"), [("_with_counter", 0.1), ("_wrapped_by_lr_sched", 0.1), ("_mine", 0.2)])
def test_not_every_wrapper_is_a_schedulers(mark, lr):
    model = new_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.step = lambda: None
    setattr(optimizer.step, mark, True)
    TorchRun(model, optimizer).set_hyperparams({"lr": 0.2})
    assert optimizer.param_groups[0]["lr"] == lr


@pytest.mark.parametrize(("modulate", "in_extras"), [(None, False), (None, True), (True, False), (False, True)])
def test_reduce_on_plateau_leaves_no_trace(modulate, in_extras):
    model = new_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = sched.ReduceLROnPlateau(optimizer)
    run = TorchRun(model, optimizer, extras=(scheduler,) if in_extras else (), modulate=modulate)
    run.set_hyperparams({"lr": 0.2})
    modulated = modulate is True or (modulate is None and in_extras)
    assert optimizer.param_groups[0]["lr"] == (0.1 if modulated else 0.2)
    assert run.effective_lr == 0.2
    optimizer.param_groups[0]["lr"] *= 0.5
    assert run.get_hyperparams() == {"lr": 0.2 if modulated else 0.1}


def test_a_loop_that_writes_lr_by_itself_is_taken_over_as_ever():
    model = new_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = TorchRun(model, optimizer)
    for i in range(3):
        run.set_hyperparams({"lr": 0.7})
        optimizer.param_groups[0]["lr"] = 0.1 / (i + 1)
        assert run.get_hyperparams() == {"lr": 0.1 / (i + 1)}
        assert run.effective_lr == 0.1 / (i + 1)


def test_the_users_own_change_of_the_base_is_seen():
    model = new_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sched.LambdaLR(optimizer, lambda t: 1.0)
    run = TorchRun(model, optimizer)
    run.set_hyperparams({"lr": 0.2})
    optimizer.param_groups[0]["initial_lr"] = 0.05
    assert run.get_hyperparams() == {"lr": pytest.approx(0.1)}


def test_a_schedule_whose_base_is_zero_cannot_be_scaled():
    model = new_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    sched.LambdaLR(optimizer, lambda t: 1.0)
    run = TorchRun(model, optimizer)
    assert (run.get_hyperparams(), run.schedule_factor) == ({"lr": 0.0}, 1.0)
    run.set_hyperparams({"lr": 0.0})
    with pytest.raises(ValueError, match=r"lr cannot be set to 0\.1: a scheduler owns it, and its base \(initial_lr\)"):
        run.set_hyperparams({"lr": 0.1})


# -- momentum --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("name", ["cyclic", "one_cycle"])
def test_cycled_momentum_is_scaled_by_one_minus_itself(name, kind):
    model, used = new_layers(), []
    optimizer = OPTIMIZERS[kind](grouped(model, (None, None)))
    scheduler = SCHEDULERS[name](optimizer)

    def read():
        group = optimizer.param_groups[1]
        return group["momentum"] if kind == "sgd" else group["betas"][0]

    run = TorchRun(model, optimizer, names=("lr", "momentum"))
    optimizer.register_step_pre_hook(lambda *_: used.append(read()))  # after the run's own
    top = run.get_hyperparams()["momentum"]
    assert top == optimizer.param_groups[0]["max_momentum"]
    for value in (top, 0.9, 0.5, 0.0):
        run.set_hyperparams({"momentum": value})
        scheduled = read()
        gradients(model, 0)
        optimizer.step()
        assert used[-1] == pytest.approx(max(0.0, 1 - (1 - scheduled) * (1 - value) / (1 - top)))
        assert read() == scheduled
        scheduler.step()
        assert run.get_hyperparams()["momentum"] == value


def test_momentum_that_nobody_cycles_is_written_as_ever():
    model = new_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    run = TorchRun(model, optimizer, names=("momentum", "lr"))
    sched.ExponentialLR(optimizer, 0.9)
    run.set_hyperparams({"lr": 0.3, "momentum": 0.5})
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (0.1, 0.5)
    sched.CyclicLR(optimizer, 0.01, 0.1)  # from here on somebody does
    assert run.get_hyperparams()["momentum"] == 0.9
    run.set_hyperparams({"momentum": 0.5})
    assert optimizer.param_groups[0]["momentum"] == 0.9
