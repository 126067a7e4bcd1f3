"""Every optimizer: a real short training, there and back, bit for bit; torch's own and those of others."""

import copy

import pytest
import torch
from torch import nn

from autotunenet import Float, SearchSpace, Tuner
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.controllers import Fixed
from autotunenet.testing import check_run, same


class LazyLion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023), with a state that a parameter only gets with its first gradient."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        if closure is not None:
            with torch.enable_grad():
                closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["exp_avg"] = torch.zeros_like(param)
                    state["history"] = []  # of plain numbers, and growing
                param.mul_(1 - group["lr"] * group["weight_decay"])
                param.sub_(group["lr"] * state["exp_avg"].lerp(param.grad, 1 - beta1).sign())
                state["exp_avg"].lerp_(param.grad, 1 - beta2)
                state["history"].append(float(param.grad.norm()))


def third_party(module, name, **kwargs):
    def make(params):
        return getattr(pytest.importorskip(module), name)(params, **kwargs)

    return make


TORCH = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.1, weight_decay=1e-3),
    "sgd nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, foreach=False),
    "adam amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, capturable=False),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "adamw fused amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True, amsgrad=True),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, lr_decay=0.01),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.01, decoupled_weight_decay=True),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=1.0),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.05, t0=3),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.05),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.05, max_iter=3, history_size=4),
}
OTHERS = {
    "lazy lion": LazyLion,
    "lion": third_party("lion_pytorch", "Lion", lr=0.003, weight_decay=0.01),
    "prodigy": third_party("prodigyopt", "Prodigy", d0=1e-4, safeguard_warmup=True),
    "schedule-free adamw": third_party("schedulefree", "AdamWScheduleFree", lr=0.02, warmup_steps=4),
    "schedule-free sgd": third_party("schedulefree", "SGDScheduleFree", lr=0.2, foreach=False),
    "schedule-free radam": third_party("schedulefree", "RAdamScheduleFree", lr=0.02),
}
SCHEDULE_FREE = [name for name in OTHERS if name.startswith("schedule-free")]
OPTIMIZERS = TORCH | OTHERS


def new_model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def in_train_mode(optimizer):
    if hasattr(optimizer, "train"):
        optimizer.train()
    return optimizer


def new_training(name, groups=False):
    model = new_model()
    given = [{"params": m.parameters()} for m in (model[0], model[1], model[3])] if groups else model.parameters()
    try:
        return model, in_train_mode(OPTIMIZERS[name](given))
    except RuntimeError as error:
        if "fused" not in name:
            raise
        pytest.skip(f"this build of torch has no fused optimizers for this device: {error}")


def train(model, optimizer, steps):
    losses = []
    for i in steps:
        generator = torch.Generator().manual_seed(i)
        inputs = torch.randn(16, 4, generator=generator)

        def closure(inputs=inputs):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), inputs.argmax(1).clamp(max=2))
            loss.backward()
            return loss

        if isinstance(optimizer, torch.optim.LBFGS):
            loss = optimizer.step(closure)
        else:
            loss = closure()
            optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def as_plain(tree):
    if isinstance(tree, dict):
        return {str(key): as_plain(value) for key, value in tree.items()}
    return [as_plain(x) for x in tree] if isinstance(tree, list | tuple) else tree


def state_of(model, optimizer):
    """All there is, by torch's own means.

    Prodigy notes two values in its groups that no step reads again; schedule-free makes empty states by looking.
    """
    state = as_plain(copy.deepcopy([model.state_dict(), optimizer.state_dict()]))
    state[1]["state"] = {key: value for key, value in state[1]["state"].items() if value}
    for group in state[1]["param_groups"]:
        group.pop("d_denom", None)
        group.pop("d_hat", None)
    return state


# -- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_before", [0, 9])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_back_and_on_again_bit_for_bit(name, num_before):
    model, optimizer = new_training(name)
    run = TorchRun(model, optimizer)
    before = train(model, optimizer, range(num_before))
    expected, buffers = state_of(model, optimizer), run.copy_into(None)
    straight_on = train(model, optimizer, range(20, 28)), state_of(model, optimizer)
    assert len({*before, *straight_on[0]}) > 5, "nothing was learnt: the test would say nothing"
    for value in (float("nan"), 1e6):
        with torch.no_grad():
            for param in model.parameters():
                param.fill_(value)
        train(model, optimizer, range(30, 32))
        run.copy_from(buffers)
        assert same(state_of(model, optimizer), expected)
        assert same((train(model, optimizer, range(20, 28)), state_of(model, optimizer)), straight_on)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_training_learns_and_the_contract_holds(name):
    model, optimizer = new_training(name)
    losses = train(model, optimizer, [0] * 40)
    assert losses[-1] < 0.95 * losses[0]

    def make():
        model, optimizer = new_training(name)
        return TorchRun(model, optimizer), lambda: train(model, optimizer, [0])

    if name != "prodigy":  # its groups get two more entries in the first step, which a copy made before lacks
        check_run(make)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_set_lr_is_the_lr_of_the_steps(name):
    """A training whose lr is set equals one that was made with that lr."""
    ends = []
    for way in ("set", "made"):
        model, optimizer = new_training(name)
        run = TorchRun(model, optimizer)
        lr = run.get_hyperparams()["lr"] / 2
        if way == "set":
            run.set_hyperparams({"lr": lr})
        else:
            for group in optimizer.param_groups:
                group["lr"] = lr
        ends.append((train(model, optimizer, range(6)), run.get_hyperparams()))
        assert ends[-1][1] == {"lr": lr}
    assert same(*ends)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ("lbfgs", "prodigy")])
def test_groups_keep_their_ratios(name):
    model, optimizer = new_training(name, groups=True)
    first = optimizer.param_groups[0]["lr"]
    for group, share in zip(optimizer.param_groups, (1.0, 0.5, 0.0), strict=True):
        group["lr"] = first * share
    run = TorchRun(model, optimizer)
    still = model[3].weight.detach().clone()
    for value in (first * 0.25, first * 0.75):
        run.set_hyperparams({"lr": value})
        train(model, optimizer, range(2))
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([value, value / 2, 0.0])
    if name != "rprop":  # its lr is a start only
        assert same(model[3].weight.detach(), still)


WITHOUT_MOMENTUM = {"sgd", "adagrad", "adadelta", "asgd", "rprop", "adafactor", "lbfgs"}


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in WITHOUT_MOMENTUM])
def test_momentum_reads_back_and_moves_the_steps(name):
    ends = []
    for momentum in (None, 0.25):
        model, optimizer = new_training(name)
        run = TorchRun(model, optimizer, names=("momentum",))
        train(model, optimizer, range(3))
        if momentum is not None:
            run.set_hyperparams({"momentum": momentum})
            assert run.get_hyperparams() == {"momentum": momentum}
        ends.append(train(model, optimizer, range(3, 9)))
    assert ends[0] != ends[1]


def test_a_group_of_zeros_is_left_alone_by_prodigy_and_the_estimate_comes_back():
    model, optimizer = new_training("prodigy", groups=True)
    optimizer.param_groups[1]["lr"] = 0.0  # Prodigy takes one lr, or zero
    run = TorchRun(model, optimizer)
    run.set_hyperparams({"lr": 0.5})
    train(model, optimizer, [0] * 8)
    estimate, buffers = optimizer.param_groups[0]["d"], run.copy_into(None)
    train(model, optimizer, [0] * 30)
    assert optimizer.param_groups[0]["d"] > estimate
    run.copy_from(buffers)
    assert [g["d"] for g in optimizer.param_groups] == [estimate] * 3
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.0, 0.5]


# -- Muon takes matrices only: two groups of parameters, two optimizers ----------------------------------------------


@pytest.fixture
def muon():
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this version of torch has no Muon")
    model = new_model()
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    return model, torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(others, lr=0.01)


class Both:
    """Two optimizers that are stepped as one."""

    def __init__(self, *parts):
        self.parts = parts

    def zero_grad(self):
        for part in self.parts:
            part.zero_grad()

    def step(self):
        for part in self.parts:
            part.step()


def test_muon_beside_adamw_with_the_other_optimizer_among_the_extras(muon):
    model, matrices, others = muon

    class InPlace:
        """An optimizer as an extra: torch's load_state_dict takes over what it is given, so it gets a copy."""

        def __init__(self, optimizer):
            self.state_dict = optimizer.state_dict
            self.load_state_dict = lambda state: optimizer.load_state_dict(copy.deepcopy(state))

    run, both = TorchRun(model, matrices, extras=(InPlace(others),)), Both(matrices, others)
    train(model, both, range(5))
    expected = [state_of(model, part) for part in both.parts]
    buffers = run.copy_into(None)
    straight_on = train(model, both, range(5, 12))
    for _ in range(2):
        with torch.no_grad():
            model[0].weight.fill_(float("nan"))
        train(model, both, range(30, 32))
        run.set_hyperparams({"lr": 0.1})
        run.copy_from(buffers)
        assert same([state_of(model, part) for part in both.parts], expected)
        assert train(model, both, range(5, 12)) == straight_on


def test_muons_ratios_and_momentum(muon):
    model, matrices, _ = muon
    run = TorchRun(model, matrices, names=("lr", "momentum", "weight_decay"))
    run.set_hyperparams({"lr": 0.5, "momentum": 0.5, "weight_decay": 0.0})
    assert run.get_hyperparams() == {"lr": 0.5, "momentum": 0.5, "weight_decay": 0.0}
    assert (matrices.param_groups[0]["lr"], matrices.param_groups[0]["momentum"]) == (0.5, 0.5)


# -- schedule-free: two points, two modes ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode_then", ["train", "eval"])
@pytest.mark.parametrize("mode_now", ["train", "eval"])
@pytest.mark.parametrize("name", SCHEDULE_FREE)
def test_a_restore_keeps_the_mode_and_brings_back_the_point_of_that_mode(name, mode_then, mode_now):
    model, optimizer = new_training(name)
    run = TorchRun(model, optimizer)
    train(model, optimizer, range(7))
    getattr(optimizer, mode_then)()
    buffers = run.copy_into(None)
    # What the user's own call would have given from there.
    getattr(optimizer, mode_now)()
    expected = state_of(model, optimizer)
    in_train_mode(optimizer)
    straight_on = train(model, optimizer, range(7, 12))

    for _ in range(2):
        train(model, optimizer, range(40, 43))
        getattr(optimizer, mode_now)()
        run.copy_from(buffers)
        assert same(state_of(model, optimizer), expected)
        in_train_mode(optimizer)
        assert train(model, optimizer, range(7, 12)) == straight_on


@pytest.mark.parametrize("name", SCHEDULE_FREE)
def test_another_momentum_leaves_the_average_where_it_is(name):
    averages = []
    for momentum in (None, 0.5):
        model, optimizer = new_training(name)
        run = TorchRun(model, optimizer, names=("momentum",))
        train(model, optimizer, range(8))
        if momentum is not None:
            run.set_hyperparams({"momentum": momentum})
        assert optimizer.param_groups[0]["train_mode"]
        optimizer.eval()
        averages.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.allclose(*averages, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SCHEDULE_FREE)
def test_a_tuner_made_before_train_mode_can_go_back_to_its_start(name):
    """The tuner's first snapshot is taken at once, and the optimizer may still be in the mode it was made in."""
    model, optimizer = new_training(name)
    optimizer.eval()
    space = SearchSpace({"lr": Float(1e-5, 1.0, log=True)})
    run = TorchRun(model, optimizer)
    tuner = Tuner(run, space, controller=Fixed(), interval=5, snapshot_every=100)
    start = copy.deepcopy(model.state_dict())
    optimizer.train()
    losses = train(model, optimizer, range(3))
    decision = [tuner.step(loss) for loss in (*losses, float("nan"))][-1]
    assert decision.action.value == "rollback"
    assert same(dict(model.state_dict()), dict(start))
    train(model, optimizer, range(3))  # in train mode still, or this would raise
