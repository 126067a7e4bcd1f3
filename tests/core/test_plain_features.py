"""What plain trainings are made of: each finds its lr, comes back when it breaks, and is resumed bit for bit."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn

from autotunenet import AutoTuneNet
from autotunenet.adapters.pytorch import TorchRun
from autotunenet.testing import same

NUM_STEPS, BREAK = 110, 70


def sin_batch(i, dtype=torch.float32):
    inputs = torch.randn(128, 6, generator=torch.Generator().manual_seed(i))
    return inputs.to(dtype), torch.sin(inputs).sum(1, keepdim=True).to(dtype)


class Plain:
    """A regression with SGD in two groups, one of which has no weight decay; the others change what they are about."""

    lr = 0.05

    def __init__(self, tuned=True, total=NUM_STEPS):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = self.make_model()
        self.optimizers = self.make_optimizers()
        self.extras = self.make_extras()
        given = self.optimizers if len(self.optimizers) > 1 else self.optimizers[0]
        self.tuner = AutoTuneNet(self.model, given, total, extras=self.extras, snapshot_every=10, proof_steps=5)

    def make_model(self):
        return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))

    def make_optimizers(self):
        decayed, others = ([p for p in self.model.parameters() if (p.ndim > 1) is wanted] for wanted in (True, False))
        groups = [{"params": decayed, "weight_decay": 1e-4}, {"params": others, "weight_decay": 0.0}]
        return [torch.optim.SGD(groups, lr=self.lr, momentum=0.9)]

    def make_extras(self):
        return []

    def loss(self, i):
        inputs, targets = sin_batch(i)
        return nn.functional.mse_loss(self.model(inputs), targets)

    def step(self, i):
        loss = self.loss(i)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        self.after_step(i)
        if i == BREAK:
            self.spoil()
        self.tuner.step(loss)
        return loss.item()

    def after_step(self, i):
        pass

    def spoil(self):
        with torch.no_grad():
            next(p for p in self.model.parameters() if p.requires_grad).fill_(float("nan"))

    def run(self, end=NUM_STEPS, start=0):
        self.losses = [self.step(i) for i in range(start, end)]
        return self

    def parts(self):
        return {"model": self.model, "tuner": self.tuner} | {
            f"{name} {i}": part
            for name, parts in (("optimizer", self.optimizers), ("extra", self.extras))
            for i, part in enumerate(parts)
        }

    def save(self):
        file = io.BytesIO()
        torch.save({name: part.state_dict() for name, part in self.parts().items()}, file)
        return file.getvalue()

    def load(self, file):
        saved = torch.load(io.BytesIO(file), weights_only=True)
        order = sorted(self.parts(), key=lambda name: name == "tuner")  # last
        for name in order:
            self.parts()[name].load_state_dict(copy.deepcopy(saved[name]))
        return self


class TensorLr(Plain):
    def make_optimizers(self):
        self.given = torch.tensor(self.lr)
        return [torch.optim.SGD(self.model.parameters(), lr=self.given, momentum=0.9, foreach=True)]


class FusedAdamW(Plain):
    def make_optimizers(self):
        return [torch.optim.AdamW(self.model.parameters(), lr=torch.tensor(0.01), fused=True)]


class FusedSGD(Plain):
    def make_optimizers(self):
        return [torch.optim.SGD(self.model.parameters(), lr=self.lr, momentum=0.9, fused=True)]


class FusedAdagrad(Plain):
    def make_optimizers(self):
        return [torch.optim.Adagrad(self.model.parameters(), lr=0.1, fused=True)]


class ForeachAdam(Plain):
    def make_optimizers(self):
        return [torch.optim.Adam(self.model.parameters(), lr=0.01, foreach=True, amsgrad=True)]


class WeightNorm(Plain):
    def make_model(self):
        first, last = nn.Linear(6, 16), nn.Linear(16, 1)
        return nn.Sequential(parametrizations.weight_norm(first), nn.Tanh(), parametrizations.spectral_norm(last))


class Averaged(Plain):
    """Two averages of the weights, and the schedule that goes with one of them."""

    def make_extras(self):
        self.average = AveragedModel(self.model, use_buffers=True)
        self.ema = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.95))
        return [self.average, self.ema, SWALR(self.optimizers[0], swa_lr=0.01, anneal_epochs=60)]

    def after_step(self, i):
        self.ema.update_parameters(self.model)
        if i >= 40:
            self.average.update_parameters(self.model)
        self.extras[2].step()


class SparseEmbedding(Plain):
    def make_model(self):
        return nn.ModuleDict({"words": nn.EmbeddingBag(50, 8, sparse=True), "head": nn.Linear(8, 3)})

    def make_optimizers(self):
        return [
            torch.optim.SparseAdam(self.model["words"].parameters(), lr=0.02),
            torch.optim.AdamW(self.model["head"].parameters(), lr=0.02),
        ]

    def loss(self, i):
        words = torch.randint(50, (128, 4), generator=torch.Generator().manual_seed(i))
        return nn.functional.cross_entropy(self.model["head"](self.model["words"](words)), words[:, 0] % 3)


class Complex(Plain):
    def make_model(self):
        return nn.Linear(6, 4, dtype=torch.complex64)

    def make_optimizers(self):
        return [torch.optim.Adam(self.model.parameters(), lr=0.01)]

    def loss(self, i):
        inputs = torch.randn(64, 6, dtype=torch.complex64, generator=torch.Generator().manual_seed(i))
        return (self.model(inputs) - inputs[:, :4] * 1j).abs().square().mean()


class Double(Plain):
    def make_model(self):
        return super().make_model().double()

    def loss(self, i):
        inputs, targets = sin_batch(i, torch.float64)
        return nn.functional.mse_loss(self.model(inputs), targets)


class Half(Plain):
    def make_model(self):
        return super().make_model().bfloat16()

    def loss(self, i):
        inputs, targets = sin_batch(i, torch.bfloat16)
        return nn.functional.mse_loss(self.model(inputs), targets)


class Tied(Plain):
    def make_model(self):
        model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))
        model[2].weight = model[0].weight
        return model


class ChannelsLast(Plain):
    def make_model(self):
        layers = (
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 1),
        )
        return nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def loss(self, i):
        images = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(i))
        targets = images.amax((1, 2, 3)).unsqueeze(1) - 2.5
        return nn.functional.mse_loss(self.model(images.to(memory_format=torch.channels_last)), targets)


class Frozen(Plain):
    """The first layer is frozen, and joins in the middle."""

    unfreeze_at = 30

    def __init__(self, joined=False, **kwargs):
        super().__init__(**kwargs)
        if joined:
            self.unfreeze()

    def make_optimizers(self):
        self.model[0].requires_grad_(False)
        return [torch.optim.AdamW(self.model[2].parameters(), lr=0.01)]

    def unfreeze(self):
        self.model[0].requires_grad_(True)
        lr = self.optimizers[0].param_groups[0]["lr"]
        self.optimizers[0].add_param_group({"params": list(self.model[0].parameters()), "lr": lr / 2})

    def after_step(self, i):
        if i == self.unfreeze_at:
            self.unfreeze()

    def spoil(self):
        with torch.no_grad():
            self.model[0].weight.fill_(float("nan"))


class Functional(Plain):
    """The weights that are trained are not those of the module."""

    def make_optimizers(self):
        self.params = {name: p.detach().clone().requires_grad_() for name, p in self.model.named_parameters()}
        return [torch.optim.AdamW(self.params.values(), lr=0.01)]

    def loss(self, i):
        inputs, targets = sin_batch(i)
        return nn.functional.mse_loss(torch.func.functional_call(self.model, self.params, inputs), targets)

    def spoil(self):
        with torch.no_grad():
            self.params["0.weight"].fill_(float("nan"))

    def parts(self):
        class Params:
            state_dict = lambda _: dict(self.params)  # noqa: E731

            def load_state_dict(_, state):  # noqa: N805
                with torch.no_grad():
                    for name, param in self.params.items():
                        param.copy_(state[name])

        return {"params": Params(), **super().parts()}


class CompiledModel(Plain):
    def make_model(self):
        return torch.compile(super().make_model(), backend="eager")


class ZeroedGradients(Plain):
    def step(self, i):
        self.optimizers[0].zero_grad(set_to_none=False)
        return super().step(i)


KINDS = [
    Plain,
    TensorLr,
    FusedAdamW,
    FusedSGD,
    FusedAdagrad,
    ForeachAdam,
    WeightNorm,
    Averaged,
    SparseEmbedding,
    Complex,
    Double,
    Half,
    Tied,
    ChannelsLast,
    Frozen,
    Functional,
    CompiledModel,
    ZeroedGradients,
]


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_comes_back_and_is_resumed(kind):
    straight, saved = kind(), {}
    for i in range(BREAK + 15):
        if i in (4, 25, BREAK - 10):
            saved[i] = straight.save()
        loss = straight.step(i)
    first = kind().loss(0).item()
    assert loss < 0.9 * first
    actions = [decision.action.value for decision in straight.tuner.history]
    assert {"probe", "rollback"} <= set(actions)
    for cut, file in saved.items():
        resumed = (kind(joined=cut > kind.unfreeze_at) if kind is Frozen else kind()).load(file)
        end = cut + 20 if cut < BREAK - 10 else BREAK + 15
        resumed.run(end, start=cut)
        if end == BREAK + 15:
            left, right = (
                copy.deepcopy([part.state_dict() for part in t.parts().values()]) for t in (resumed, straight)
            )
            assert same(plain(left), plain(right))
        else:
            records = [
                [d.to_record() for d in t.tuner.history if d.observation.step <= end] for t in (resumed, straight)
            ]
            assert same(*records)


def plain(tree):
    if isinstance(tree, dict):
        return {str(key): plain(value) for key, value in tree.items()}
    return [plain(value) for value in tree] if isinstance(tree, list | tuple) else tree


# -- what a snapshot holds -------------------------------------------------------------------------------------------


def test_a_compiled_model_and_the_one_inside_have_the_same_state():
    plain, compiled = Plain().run(40), CompiledModel()
    compiled.model._orig_mod.load_state_dict(plain.model.state_dict())
    compiled.optimizers[0].load_state_dict(copy.deepcopy(plain.optimizers[0].state_dict()))
    compiled.tuner.load_state_dict(plain.tuner.state_dict())
    assert compiled.run(60, start=40).losses == pytest.approx(plain.run(60, start=40).losses)


def test_parameters_without_values_are_named():
    with torch.device("meta"):
        model = nn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"param\.weight is on the meta device and has no values: load or make them"):
        AutoTuneNet(model, torch.optim.SGD(model.parameters(), lr=0.1))


class SharedMemory(torch.optim.SGD):
    """Keeps something for all parameters together, in its state, and begins to keep more with its first step."""

    def step(self, closure=None):
        memory = self.state.setdefault("all", {"norms": torch.zeros(())})
        memory["norms"] += sum(p.grad.norm() for group in self.param_groups for p in group["params"])
        self.state["num"] = self.state.get("num", 0) + 1
        return super().step(closure)


@pytest.mark.parametrize("num_before", [0, 3])
def test_what_an_optimizer_keeps_for_all_parameters_together_comes_back_too(num_before):
    model = nn.Linear(2, 1)
    optimizer = SharedMemory(model.parameters(), lr=0.1)
    run = TorchRun(model, optimizer)

    def train(num):
        for _ in range(num):
            optimizer.zero_grad()
            model(torch.ones(4, 2)).square().mean().backward()
            optimizer.step()
        return copy.deepcopy({key: value for key, value in optimizer.state.items() if isinstance(key, str)})

    before = train(num_before)
    buffers = run.copy_into(None)
    after = train(2)
    for _ in range(2):
        run.copy_from(buffers)
        assert same(train(0), before)
        assert same(train(2), after)
