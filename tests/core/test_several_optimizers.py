"""Several optimizers for one loss have one tuner; several losses, as in a GAN, have a tuner each."""

import copy
import gc

import pytest
import torch
from plain_loops import NUM_STEPS, Loop, batch, muon_and_adamw, new_model, sgd, warm_up_and_cosine
from torch import nn
from torch.optim import lr_scheduler as sched

from autotunenet import AutoTuneNet
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.testing import check_run, same

# -- one loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_muon_beside_adamw_from_any_lr(factor):
    def make(model):
        return muon_and_adamw(model, 0.02 * factor)

    loop = Loop(make, total=2 * NUM_STEPS).run(2 * NUM_STEPS)
    assert loop.loss() < 0.3
    assert loop.lrs()[1] == pytest.approx(loop.lrs()[0] / 2)
    for muon, adamw in zip(loop.used[::2], loop.used[1::2], strict=True):
        assert adamw == pytest.approx([muon[0] / 2])


def test_a_factor_scales_every_group_of_every_optimizer():
    model = new_model()
    first = torch.optim.SGD([{"params": model[0].weight}, {"params": model[0].bias, "lr": 0.05}], lr=0.2)
    second = torch.optim.AdamW(model[2].parameters(), lr=torch.tensor(0.01))
    run = TorchRun(model, [first, second])
    assert (run.get_hyperparams(), run.users_lr, run.effective_lr) == ({"lr": 0.2}, 0.2, 0.2)
    run.set_hyperparams({"lr": 0.4})
    assert [float(g["lr"]) for o in run.optimizers for g in o.param_groups] == pytest.approx([0.4, 0.1, 0.02])
    assert isinstance(second.param_groups[0]["lr"], torch.Tensor)


def test_momentum_of_both_kinds():
    model = new_model()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1, momentum=0.5)
    second = torch.optim.AdamW(model[2].parameters(), betas=(0.9, 0.99))
    TorchRun(model, [first, second], names=("momentum",)).set_hyperparams({"momentum": 0.75})
    assert (first.param_groups[0]["momentum"], second.param_groups[0]["betas"]) == (0.75, (pytest.approx(0.95), 0.99))


@pytest.mark.parametrize("scheduled", [(0, 1), (0,), (1,)])
def test_each_may_have_its_own_scheduler(scheduled):
    model = new_model()
    optimizers = [torch.optim.SGD(model[0].parameters(), lr=0.2), torch.optim.SGD(model[2].parameters(), lr=0.05)]
    kinds = [lambda o: sched.ExponentialLR(o, 0.9), lambda o: sched.LambdaLR(o, lambda i: (i + 1) / 10)]
    schedulers = [kinds[i](optimizers[i]) for i in scheduled]
    run, used = TorchRun(model, optimizers), []
    for optimizer in optimizers:
        optimizer.register_step_pre_hook(lambda o, *_: used.append(o.param_groups[0]["lr"]))
    for i in range(6):
        factor = (i + 1) / 2
        run.set_hyperparams({"lr": 0.2 * factor})
        before = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
        for optimizer in optimizers:
            optimizer.step()
        assert used[-2:] == pytest.approx([lr * factor for lr in before])
        assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == before
        for scheduler in schedulers:
            scheduler.step()
    assert run.has_schedule


def test_only_the_groups_of_the_one_that_steps_are_lent_a_value():
    """What it costs is linear in the number of optimizers, of which there may be one for every parameter."""
    model = new_model()
    optimizers = [torch.optim.SGD([param], lr=0.1) for param in model.parameters()]
    run, seen = TorchRun(model, optimizers, modulate=True), []
    run.set_hyperparams({"lr": 0.4})
    for optimizer in optimizers:
        optimizer.register_step_pre_hook(lambda *_: seen.append([o.param_groups[0]["lr"] for o in optimizers]))
    for active in (False, True):
        run.override_schedule(active)
        for optimizer in optimizers:
            optimizer.step()
        assert seen == [[0.4 if i == stepping else 0.1 for i in range(4)] for stepping in range(4)]
        seen.clear()


def test_a_run_of_several_holds_the_contract_of_adapters():
    def make():
        model = new_model()
        optimizers = muon_and_adamw(model)
        run = TorchRun(model, optimizers, names=("lr", "weight_decay"))

        def train():
            inputs, targets = batch(0)
            nn.functional.mse_loss(model(inputs), targets).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()

        return run, train

    check_run(make)


@pytest.mark.parametrize("optimizer", ["first", "second"])
def test_a_group_that_joins_any_of_them_keeps_its_ratio_also_after_a_resume(optimizer):
    def make(joined):
        model = nn.ModuleList([nn.Linear(1, 1, bias=False) for _ in range(3)])
        parts = [torch.optim.SGD(model[0].parameters(), lr=0.2), torch.optim.SGD(model[1].parameters(), lr=0.1)]
        run = None if joined else TorchRun(model, parts)
        if not joined:
            run.set_hyperparams({"lr": 0.4})
        parts[optimizer == "second"].add_param_group({"params": list(model[2].parameters()), "lr": 0.04})
        return run or TorchRun(model, parts), parts

    def lrs(parts):
        return [group["lr"] for part in parts for group in part.param_groups]

    run, parts = make(joined=False)
    run.set_hyperparams({"lr": 0.8})
    expected = pytest.approx([0.8, 0.08, 0.4] if optimizer == "first" else [0.8, 0.4, 0.08])
    assert lrs(parts) == expected
    resumed, others = make(joined=True)
    for other, part in zip(others, parts, strict=True):
        other.load_state_dict(copy.deepcopy(part.state_dict()))
    resumed.load_state_dict(run.state_dict())
    resumed.copy_from(run.copy_into(None))  # a snapshot has the groups in the same order
    resumed.set_hyperparams({"lr": 0.4})
    resumed.set_hyperparams({"lr": 0.8})
    assert lrs(others) == expected


def test_an_optimizer_for_every_parameter_that_steps_in_the_backward_pass():
    """As it is done to save the memory of gradients."""
    torch.manual_seed(0)
    model = new_model()
    owner = {param: torch.optim.AdamW([param], lr=1e-5) for param in model.parameters()}

    def step(param):
        owner[param].step()
        owner[param].zero_grad()

    for param in model.parameters():
        param.register_post_accumulate_grad_hook(step)
    tuner = AutoTuneNet(model, list(owner.values()), NUM_STEPS)
    for i in range(NUM_STEPS):
        inputs, targets = batch(i)
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        tuner.step(loss)
    assert loss.item() < 0.5
    lrs = [decision.applied["lr"] for decision in tuner.history]
    assert max(lrs) / 5 > lrs[-1] > 10 * 1e-5, "it has been found, and has landed"
    assert len({optimizer.param_groups[0]["lr"] for optimizer in owner.values()}) == 1


@pytest.mark.parametrize("schedule", [None, warm_up_and_cosine], ids=["alone", "scheduled"])
@pytest.mark.parametrize("cut", [7, 25, 90])
def test_a_resume_is_exact_with_two_optimizers(cut, schedule):
    straight = Loop(muon_and_adamw, schedule).run(cut)
    saved = straight.save()
    resumed = Loop(muon_and_adamw, schedule).load(saved).run(130, start=cut)
    straight.run(130, start=cut)
    assert straight.launch.is_done
    assert same(resumed.state(), straight.state())
    assert resumed.used == straight.used[2 * cut :]


def test_states_of_other_optimizers_are_refused():
    model = new_model()
    parts = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (model[0], model[2])]
    state = TorchRun(model, parts).state_dict()
    one = torch.optim.SGD([{"params": layer.parameters()} for layer in (model[0], model[2])], lr=0.1)
    with pytest.raises(ValueError, match="of other optimizers: optimizer 1 has no param group 0 here"):
        TorchRun(model, one).load_state_dict(state)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda model, one: [], ValueError, "the list of optimizers is empty"),
        (lambda model, one: [one, torch.optim.SGD([model[2].bias])], ValueError, r"0 and 1 both train 2\.bias; give"),
        (lambda model, one: [one, "adam"], TypeError, "or a list of such, got str"),
        (lambda model, one: [one, torch.optim.SGD], TypeError, "not the class SGD"),
        (lambda model, one: {"a": one}, TypeError, "got dict"),
    ],
)
def test_what_is_no_list_of_optimizers_is_named(make, kind, words):
    model = new_model()
    one = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(kind, match=words):
        AutoTuneNet(model, make(model, one))


def test_an_optimizer_has_one_tuner_also_where_it_is_one_of_several():
    model = new_model()
    optimizers = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (model[0], model[2])]
    tuner = AutoTuneNet(model, optimizers)
    with pytest.raises(ValueError, match="has a tuner already"):
        AutoTuneNet(model[2], optimizers[1])
    tuner.close()
    AutoTuneNet(model[2], optimizers[1])


# -- several losses --------------------------------------------------------------------------------------------------


class Adversaries:
    """A GAN that learns a line of points: a generator and a discriminator, each with its optimizer and its tuner."""

    def __init__(self, *, tuned=True, lr=2e-3):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.generator = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
            self.discriminator = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
        self.parts = [self.generator, self.discriminator]
        self.optimizers = [torch.optim.Adam(part.parameters(), lr=lr, betas=(0.5, 0.9)) for part in self.parts]
        pairs = zip(self.parts, self.optimizers, strict=True)
        self.tuners = [AutoTuneNet(*pair, launch=False) for pair in pairs] if tuned else []

    def run(self, num_steps, break_at=None):
        generator = torch.Generator().manual_seed(0)
        for i in range(num_steps):
            noise, points = torch.randn(2, 64, 1, generator=generator)
            real, fake = torch.cat([points, 2 * points], 1), self.generator(noise.expand(-1, 2))
            bce = nn.functional.binary_cross_entropy_with_logits
            judged = self.discriminator(real), self.discriminator(fake.detach())
            self.go_down(1, bce(judged[0], torch.ones_like(judged[0])) + bce(judged[1], torch.zeros_like(judged[1])))
            judged = self.discriminator(fake)
            self.go_down(0, bce(judged, torch.ones_like(judged)))
            if i == break_at:
                with torch.no_grad():
                    self.generator[0].weight.fill_(float("nan"))
        return self

    def go_down(self, which, loss):
        self.optimizers[which].zero_grad()
        loss.backward()
        self.optimizers[which].step()
        if self.tuners:
            self.tuners[which].step(loss)


def test_two_tuners_for_two_losses_know_nothing_of_each_other():
    gan = Adversaries().run(60)
    before = copy.deepcopy(gan.discriminator.state_dict())
    weights = copy.deepcopy(gan.generator.state_dict())
    gan.tuners[0].step(1.0)  # no alarm
    gan.tuners[0]._snapshots.restore()
    assert not same(dict(gan.generator.state_dict()), dict(weights))
    assert same(dict(gan.discriminator.state_dict()), dict(before))
    assert [len(tuner.history) for tuner in gan.tuners] == [3, 3]


def test_a_generator_that_breaks_comes_back():
    gan = Adversaries().run(150, break_at=120)
    rollbacks = [sum(d.action.value == "rollback" for d in tuner.history) for tuner in gan.tuners]
    assert rollbacks[0] >= 1
    assert all(torch.isfinite(p).all() for part in gan.parts for p in part.parameters())


def test_of_two_tuners_on_the_same_weights_the_older_one_is_closed():
    gan = Adversaries(tuned=False)
    both = nn.ModuleDict({"generator": gan.generator, "discriminator": gan.discriminator})
    first = AutoTuneNet(both, gan.optimizers[0])
    second = AutoTuneNet(both, gan.optimizers[1])
    words = (
        r"closed: a tuner that was made later holds (gener|discrimin)ator\.0\.weight too, .* AutoTuneNet\(model\.part"
    )
    with pytest.raises(RuntimeError, match=words):
        first.step(1.0)
    second.step(1.0)


def test_a_second_phase_needs_no_close():
    """A head first, then all of it, with another optimizer."""
    model = new_model()
    first = AutoTuneNet(model, torch.optim.SGD(model[2].parameters(), lr=0.1))
    second = AutoTuneNet(model, torch.optim.SGD(model.parameters(), lr=0.01))
    second.step(1.0)
    with pytest.raises(RuntimeError, match="closed"):
        first.step(1.0)


def test_a_frozen_part_may_be_shared():
    backbone = nn.Linear(3, 3).requires_grad_(False)
    heads = [nn.Sequential(backbone, nn.Linear(3, 1)) for _ in range(2)]
    tuners = [AutoTuneNet(head, torch.optim.SGD(head[1].parameters(), lr=0.1)) for head in heads]
    for tuner in tuners:
        tuner.step(1.0)


def test_a_tuner_that_is_gone_is_in_nobodys_way():
    loop = Loop(sgd).run(3)
    loop.tuner = None
    gc.collect()
    AutoTuneNet(loop.model, torch.optim.Adam(loop.model.parameters())).step(1.0)
