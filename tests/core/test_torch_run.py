"""The torch adapter: what it writes, what it leaves alone, and exact copies there and back for every optimizer."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from autotunenet.adapters.pytorch import TorchRun
from autotunenet.testing import same


def new_model(seed=0, dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)


def batch(i, dtype=torch.float32):
    generator = torch.Generator().manual_seed(i)
    return torch.randn(16, 3, generator=generator).to(dtype), torch.randint(2, (16,), generator=generator)


def train(model, optimizer, steps, schedulers=()):
    """Train on the batches with the numbers in `steps`; return the losses."""
    losses = []
    dtype = next(model.parameters()).dtype
    for i in steps:
        inputs, targets = batch(i, dtype)

        def closure(inputs=inputs, targets=targets):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            return loss

        losses.append(optimizer.step(closure).item())
        for scheduler in schedulers:
            scheduler.step()
    return losses


def live_state(model, optimizer):
    """All there is, by torch's own means, independent of the code under test."""
    return copy.deepcopy((model.state_dict(), optimizer.state_dict()))


def as_plain(tree):
    if isinstance(tree, dict):
        return {key: as_plain(value) for key, value in tree.items()}
    return [as_plain(x) for x in tree] if isinstance(tree, list | tuple) else tree


def equal(a, b):
    return same(as_plain(a), as_plain(b))


def groups_without_params(optimizer):
    return [{k: copy.copy(v) for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adam foreach": lambda p: torch.optim.Adam(p, lr=0.01, foreach=True),
    "adamw tensor lr": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.01), foreach=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=1.0),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=3, history_size=3),
    "lbfgs wolfe": lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=4, line_search_fn="strong_wolfe"),
    "adam fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "sgd fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
}


@pytest.fixture(params=OPTIMIZERS)
def make_optimizer(request):
    if "fused" in request.param:
        try:
            OPTIMIZERS[request.param](new_model().parameters())
        except RuntimeError:
            pytest.skip("this build of torch has no fused optimizers for this device")
    return OPTIMIZERS[request.param]


# -- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_before", [0, 1, 7])
def test_restore_is_exact_twice_and_training_goes_on_the_same(make_optimizer, num_before):
    model = new_model()
    optimizer = make_optimizer(model.parameters())
    run = TorchRun(model, optimizer)
    train(model, optimizer, range(num_before))
    expected = live_state(model, optimizer)
    buffers = run.copy_into(None)
    saved = copy.deepcopy(buffers)
    straight_on = train(model, optimizer, range(50, 56)), live_state(model, optimizer)

    for broken in (False, True):
        if broken:
            with torch.no_grad():
                for tensor in model.parameters():
                    tensor.fill_(float("nan"))
        run.set_hyperparams({"lr": 0.5})
        identities = [id(t) for t in model.state_dict(keep_vars=True).values()]
        run.copy_from(buffers)
        assert equal(live_state(model, optimizer), expected)
        assert [id(t) for t in model.state_dict(keep_vars=True).values()] == identities
        assert equal((train(model, optimizer, range(50, 56)), live_state(model, optimizer)), straight_on)
        assert equal(buffers, saved)


def test_buffers_are_filled_in_place_the_second_time(make_optimizer):
    model = new_model()
    optimizer = make_optimizer(model.parameters())
    run = TorchRun(model, optimizer)
    train(model, optimizer, range(6))
    buffers = run.copy_into(None)
    pointers = {key: tensor.data_ptr() for key, tensor in buffers["model"].items()}
    train(model, optimizer, range(6, 8))
    again = run.copy_into(buffers)
    assert {key: tensor.data_ptr() for key, tensor in again["model"].items()} == pointers
    assert equal(again, run.copy_into(None))


def test_the_trap_that_in_place_copies_avoid():
    """torch's own way: the optimizer takes over the saved tensors, so the second restore is garbage."""
    model = new_model()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    train(model, optimizer, range(3))
    saved = copy.deepcopy(optimizer.state_dict())
    expected = copy.deepcopy(saved)
    optimizer.load_state_dict(saved)
    train(model, optimizer, range(3, 5))
    assert not equal(saved, expected), "torch no longer aliases: the in-place copies could be simplified"


def test_state_that_came_later_is_removed_and_made_afresh():
    model = new_model()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    run = TorchRun(model, optimizer)
    buffers = run.copy_into(None)
    first = train(model, optimizer, range(3))
    assert len(optimizer.state) > 0
    run.copy_from(buffers)
    assert len(optimizer.state) == 0
    assert train(model, optimizer, range(3)) == first


def test_a_state_entry_that_came_later_is_removed():
    model = new_model()
    optimizer = OPTIMIZERS["nesterov"](model.parameters())
    run = TorchRun(model, optimizer)
    train(model, optimizer, range(2))
    buffers = run.copy_into(None)
    for param in model.parameters():
        optimizer.state[param]["extra"] = torch.ones(1)
    run.copy_from(buffers)
    assert all("extra" not in optimizer.state[param] for param in model.parameters())


def test_module_buffers_come_back_counters_and_hidden_ones_too():
    model = new_model()
    model.register_buffer("hidden", torch.zeros(2), persistent=False)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    run = TorchRun(model, optimizer)
    train(model, optimizer, range(4))
    buffers = run.copy_into(None)
    train(model, optimizer, range(3))
    model.hidden.fill_(9.0)
    assert int(model[1].num_batches_tracked) == 7
    run.copy_from(buffers)
    assert int(model[1].num_batches_tracked) == 4
    assert model.hidden.tolist() == [0.0, 0.0]


def test_tied_and_frozen_weights():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    model[1].weight = model[0].weight
    for param in model[2].parameters():
        param.requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.1)
    run = TorchRun(model, optimizer)
    train(model, optimizer, range(2))
    expected, buffers = live_state(model, optimizer), run.copy_into(None)
    train(model, optimizer, range(4))
    with torch.no_grad():
        model[2].weight.zero_()
    run.copy_from(buffers)
    assert equal(live_state(model, optimizer), expected)
    assert model[1].weight is model[0].weight
    assert not model[2].weight.requires_grad


def test_what_the_optimizer_trains_beside_the_model_comes_back_too():
    model, temperature = new_model(), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([*model.parameters(), temperature], lr=0.1)
    run = TorchRun(model, optimizer)
    buffers = run.copy_into(None)
    with torch.no_grad():
        temperature.fill_(float("nan"))
    run.copy_from(buffers)
    assert temperature.tolist() == [1.0]
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    run.copy_from(buffers)  # what joined later has no saved value and stays
    assert run.copy_from(run.copy_into(buffers)) is None


def test_bfloat16():
    model = new_model(dtype=torch.bfloat16)
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    run = TorchRun(model, optimizer)
    train(model, optimizer, range(2))
    expected, buffers = live_state(model, optimizer), run.copy_into(None)
    train(model, optimizer, range(3))
    run.copy_from(buffers)
    assert equal(live_state(model, optimizer), expected)


@pytest.mark.parametrize("change", [lambda m: m.double(), lambda m: m.append(nn.Linear(2, 2))])
def test_the_snapshot_of_another_model_is_refused_and_nothing_changed(change):
    model = new_model()
    run = TorchRun(model, OPTIMIZERS["sgd"](model.parameters()))
    buffers = run.copy_into(None)
    change(model)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="another model or optimizer"):
        run.copy_from(buffers)
    assert equal(before, model.state_dict())
    with pytest.raises(ValueError, match="no state of TorchRun"):
        run.copy_from({"model": {}})


def test_the_difference_to_another_model_is_named():
    model, other = new_model(), nn.Sequential(nn.Linear(3, 5))
    run, foreign = (TorchRun(m, OPTIMIZERS["sgd"](m.parameters())) for m in (model, other))
    with pytest.raises(ValueError, match=r"param\.1\.weight is missing there and torch\.float32 of shape \(5,\) here"):
        run.check_buffers(foreign.copy_into(None))
    with pytest.raises(ValueError, match=r"6 parameters in 1 groups there, 2 in 1 here"):
        foreign.check_buffers(run.copy_into(None))
    with pytest.raises(ValueError, match=r"this snapshot is of 1 extras, and this run has 0"):
        run.copy_from(TorchRun(model, run.optimizer, extras=[torch.amp.GradScaler("cpu")]).copy_into(None))


def test_lazy_modules_are_named():
    model = nn.Sequential(nn.LazyLinear(3))
    run = TorchRun(model, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match=r"0\.weight is lazy: run one forward pass"):
        run.copy_into(None)


SCHEDULERS = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.9**t),
    "one_cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, 40),
    "warm_restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5),
    "linear": lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 10),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 4), lr_scheduler.CosineAnnealingLR(o, 30)], [4]
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_extras_come_back_and_the_schedule_goes_on_from_there(name):
    model, scaler = new_model(), torch.amp.GradScaler("cpu")
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    scheduler = SCHEDULERS[name](optimizer)
    run = TorchRun(model, optimizer, extras=(scheduler, scaler))
    train(model, optimizer, range(3), [scheduler])
    expected, buffers = live_state(model, optimizer), run.copy_into(None)
    straight_on = train(model, optimizer, range(10, 16), [scheduler]), live_state(model, optimizer)
    for _ in range(2):
        scaler.load_state_dict({**scaler.state_dict(), "scale": 0.5, "_growth_tracker": 7})
        run.copy_from(buffers)
        assert equal(live_state(model, optimizer), expected)
        assert (scaler.get_scale(), scaler.state_dict()["_growth_tracker"]) == (65536.0, 0)
        assert equal(
            (train(model, optimizer, range(10, 16), [scheduler]), live_state(model, optimizer)),
            straight_on,
        )


def test_extras_need_a_state():
    model = new_model()
    with pytest.raises(TypeError, match="list lacks them"):
        TorchRun(model, OPTIMIZERS["sgd"](model.parameters()), extras=([],))


# -- hyperparameters -------------------------------------------------------------------------------------------------


def grouped(*groups, kind=torch.optim.SGD, **defaults):
    model = new_model()
    layers = [model[0], model[1], model[3]]
    given = [{"params": list(layer.parameters()), **group} for layer, group in zip(layers, groups, strict=False)]
    return model, kind(given, **defaults)


def test_groups_keep_their_ratios():
    model, optimizer = grouped({"lr": 0.1, "weight_decay": 0.0}, {"lr": 0.01, "weight_decay": 0.5}, {"lr": 0.0}, lr=9.0)
    run = TorchRun(model, optimizer, names=("lr", "weight_decay"))
    assert run.get_hyperparams() == {"lr": 0.1, "weight_decay": 0.5}
    for values in ({"lr": 0.2, "weight_decay": 0.25}, {"lr": 1e-9, "weight_decay": 0.0}, {"lr": 0.3}):
        run.set_hyperparams(values)
    run.set_hyperparams({"weight_decay": 0.125})
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.3, 0.03, 0.0])
    assert [g["weight_decay"] for g in optimizer.param_groups] == pytest.approx([0.0, 0.125, 0.0])


def test_the_first_group_above_zero_speaks_for_all():
    model, optimizer = grouped({"lr": 0.0}, {"lr": 0.4}, {"lr": 0.2}, lr=9.0)
    run = TorchRun(model, optimizer)
    assert run.get_hyperparams() == {"lr": 0.4}
    run.set_hyperparams({"lr": 0.2})
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.0, 0.2, 0.1])


def test_all_zero_moves_together():
    model, optimizer = grouped({}, {}, lr=0.1)
    run = TorchRun(model, optimizer, names=("lr", "weight_decay"))
    run.set_hyperparams({"weight_decay": 0.1})
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 0.1]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_momentum_of_groups_keeps_the_ratio_of_one_minus_itself(kind):
    name = "momentum" if kind is torch.optim.SGD else "betas"
    groups = [{name: 0.9 if name == "momentum" else (0.9, 0.95)}, {name: 0.95 if name == "momentum" else (0.95, 0.99)}]
    model, optimizer = grouped(*groups, kind=kind, lr=0.1)
    run = TorchRun(model, optimizer, names=("momentum",))
    run.set_hyperparams({"momentum": 0.8})
    read = [g[name] if name == "momentum" else g[name][0] for g in optimizer.param_groups]
    assert read == pytest.approx([0.8, 0.9])
    run.set_hyperparams({"momentum": 0.0})
    assert [g[name] if name == "momentum" else g[name][0] for g in optimizer.param_groups] == pytest.approx([0.0, 0.5])


def test_momentum_is_the_first_beta_and_the_second_one_stays():
    model, optimizer = grouped({"betas": (0.9, 0.95)}, {"betas": (0.9, 0.999)}, kind=torch.optim.AdamW, lr=0.1)
    TorchRun(model, optimizer, names=("momentum",)).set_hyperparams({"momentum": 0.5})
    assert [g["betas"] for g in optimizer.param_groups] == [(0.5, 0.95), (0.5, 0.999)]
    assert all(type(g["betas"]) is tuple for g in optimizer.param_groups)


def test_a_group_that_joins_later_keeps_its_own_ratio():
    model, optimizer = grouped({"lr": 0.1}, {"lr": 0.05}, lr=9.0)
    run = TorchRun(model, optimizer)
    run.set_hyperparams({"lr": 0.2})
    buffers = run.copy_into(None)
    optimizer.add_param_group({"params": list(model[3].parameters()), "lr": 0.4})
    assert run.get_hyperparams() == {"lr": 0.2}
    run.set_hyperparams({"lr": 0.1})
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.1, 0.05, 0.2])
    train(model, optimizer, range(3))
    run.copy_from(buffers)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.2, 0.1, 0.2])
    assert same(run.copy_into(None)["model"], buffers["model"])


def test_ratios_survive_a_schedule_at_zero_and_a_resume():
    def make():
        model, optimizer = grouped({"lr": 0.1}, {"lr": 0.05}, lr=9.0)
        return model, optimizer, TorchRun(model, optimizer)

    _, optimizer, run = make()
    run.set_hyperparams({"lr": 0.0})
    state = run.state_dict()
    model, second = make()[:2]
    second.load_state_dict(optimizer.state_dict())
    resumed = TorchRun(model, second)  # measures nothing but zeros
    resumed.load_state_dict(state)
    resumed.set_hyperparams({"lr": 0.2})
    assert [g["lr"] for g in second.param_groups] == pytest.approx([0.2, 0.1])
    for foreign in ({"momentum": [1.0]}, {"lr": [1.0, 0.5, 0.1]}):
        before = resumed.state_dict()
        with pytest.raises(ValueError, match=r"no state of the tuned|of 3 param groups, and this optimizer has 2"):
            resumed.load_state_dict({**state, "ratios": foreign})
        assert resumed.state_dict() == before


def test_ratios_are_those_of_the_user_even_where_a_scheduler_has_begun_at_zero():
    model, optimizer = grouped({"lr": 0.1}, {"lr": 0.05}, lr=9.0)
    lr_scheduler.LambdaLR(optimizer, lambda t: t / 10)
    run = TorchRun(model, optimizer, modulate=False)
    run.set_hyperparams({"lr": 0.2})
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.2, 0.1])


def test_a_tensor_lr_stays_the_same_object():
    model = new_model()
    lr = torch.tensor(0.125)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, foreach=False)
    run = TorchRun(model, optimizer)
    buffers = run.copy_into(None)
    run.set_hyperparams({"lr": 0.5})
    assert optimizer.param_groups[0]["lr"] is lr
    assert float(lr) == 0.5
    run.copy_from(buffers)
    assert optimizer.param_groups[0]["lr"] is lr
    assert float(lr) == 0.125
    run.set_hyperparams({"lr": 0.25})
    run.copy_from(buffers)
    assert float(lr) == 0.125


@pytest.mark.parametrize(("with_scheduler", "modulate"), [(False, None), (True, False), (True, None)])
def test_only_what_is_named_is_ever_written(with_scheduler, modulate):
    """No entry but lr changes its value, whatever else in a group is a number."""
    model, optimizer = grouped({}, {"weight_decay": 0.3}, kind=torch.optim.AdamW, lr=0.1)
    if with_scheduler:
        lr_scheduler.OneCycleLR(optimizer, 0.1, 50)
    run = TorchRun(model, optimizer, modulate=modulate)
    before = groups_without_params(optimizer)
    run.set_hyperparams({"lr": 0.05})
    after = groups_without_params(optimizer)
    changed = [{k for k in b if b[k] != a[k]} for b, a in zip(before, after, strict=True)]
    assert changed == [set() if with_scheduler and modulate is None else {"lr"}] * 2


def test_a_restore_leaves_what_a_scheduler_outside_of_the_snapshot_does():
    """The user's OneCycle cycles betas, which are not tuned here: a restore of the weights does not turn them back."""
    model = new_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = lr_scheduler.OneCycleLR(optimizer, 0.1, 40)
    run = TorchRun(model, optimizer, names=("weight_decay",))
    train(model, optimizer, range(2), [scheduler])
    buffers = run.copy_into(None)
    train(model, optimizer, range(5), [scheduler])
    run.set_hyperparams({"weight_decay": 0.7})
    before = groups_without_params(optimizer)
    run.copy_from(buffers)
    after = groups_without_params(optimizer)
    assert {k for k in before[0] if before[0][k] != after[0][k]} == {"weight_decay"}
    assert after[0]["weight_decay"] == 0.01


@pytest.mark.parametrize(
    ("name", "kind", "alternatives"),
    [
        ("momentum", torch.optim.Adagrad, "eps, initial_accumulator_value, lr, lr_decay, weight_decay"),
        ("lrr", torch.optim.AdamW, "eps, lr, momentum, weight_decay"),
        ("foreach", torch.optim.AdamW, "eps, lr, momentum, weight_decay"),
        ("betas", torch.optim.AdamW, "eps, lr, momentum, weight_decay"),
        ("amsgrad", torch.optim.AdamW, "eps, lr, momentum, weight_decay"),
    ],
)
def test_unknown_names_are_refused_with_the_names_there_are(name, kind, alternatives):
    model = new_model()
    with pytest.raises(ValueError, match=rf"group 0 has no number '{name}' .*groups have {alternatives}"):
        TorchRun(model, kind(model.parameters(), lr=0.1), names=(name,))


def test_setting_a_name_that_is_not_tuned_is_refused_and_nothing_written():
    model = new_model()
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    run = TorchRun(model, optimizer, names=("lr", "momentum"))
    before = groups_without_params(optimizer)
    with pytest.raises(KeyError, match="'weight_decay' is not tuned here; this run was made for lr, momentum"):
        run.set_hyperparams({"weight_decay": 0.5})
    assert groups_without_params(optimizer) == before


def test_what_is_in_force_is_read_and_not_remembered():
    model = new_model()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    run = TorchRun(model, optimizer)
    optimizer.param_groups[0]["lr"] = 0.7
    assert run.get_hyperparams() == {"lr": 0.7}
