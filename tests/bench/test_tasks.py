"""Tasks: what every registered member keeps, and what is particular to one."""

import random

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from autotunenet_bench.data import DataSource, TensorBatches
from autotunenet_bench.tasks import TASKS, DigitsMlp, MnistCnn, MnistCnnPoorInit
from autotunenet_bench.types import TaskData, Workload

OPTIMIZERS = ("adam", "adamw", "sgd")


@pytest.fixture(scope="module", params=sorted(TASKS))
def task(request):
    return TASKS[request.param]()


@pytest.fixture(scope="module")
def data(task):
    """A few batches of the task's data: the tests train on them."""
    full, _ = task.load(DataSource())
    few = TensorBatches(full.train.inputs[:200], full.train.targets[:200], task.batch_size)
    return TaskData(few, full.val)


def weights(workload: Workload) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in workload.model.parameters()])


def train_epoch(task, workload, epoch):
    losses = []
    for batch in workload.data.train.epoch(epoch):
        loss = task.loss(workload.model, batch)
        workload.optimizer.zero_grad()
        loss.backward()
        workload.optimizer.step()
        losses.append(loss.item())
    return losses


# -- every member ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TASKS))
def test_members_are_registered_under_their_name_with_a_one_line_description(name):
    member = TASKS[name]
    assert member().name == member().display == name
    assert 20 < len(member.__doc__.splitlines()[0]) < 100
    assert all(field.description for key, field in member.model_fields.items() if key != "name")


def test_members_are_frozen_and_refuse_unknown_keys(task):
    with pytest.raises(ValidationError, match="frozen"):
        task.batch_size = 1
    with pytest.raises(ValidationError, match="Extra inputs"):
        type(task)(learning_rate=0.1)


def test_members_survive_the_way_through_json(task):
    assert type(task).model_validate_json(task.model_dump_json(), strict=True) == task


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_defaults_lie_in_the_space(task, optimizer):
    member = type(task)(optimizer=optimizer)
    assert member.space.contains(member.defaults)


def test_the_data_is_what_its_info_says(task):
    data, info = task.load(DataSource())
    assert (data.train.num_examples, data.val.num_examples) == (info.num_train, info.num_val)
    assert data.train.batch_size == task.batch_size
    assert data.train.targets.unique().tolist() == list(range(task.num_classes))


def test_one_seed_is_one_run_and_another_seed_another(task, data):
    runs = []
    for seed in (0, 0, 1):
        workload = task.build(task.defaults, seed, data)
        start, losses = weights(workload), train_epoch(task, workload, 1)
        runs.append((start, losses, weights(workload)))
    same, other = runs[1], runs[2]
    assert torch.equal(runs[0][0], same[0])
    assert runs[0][1] == same[1]
    assert torch.equal(runs[0][2], same[2])
    assert not torch.equal(runs[0][0], other[0])
    assert runs[0][1] != other[1]


def test_building_gives_nothing_shared(task, data):
    first, second = (task.build(task.defaults, 0, data) for _ in range(2))
    train_epoch(task, first, 1)
    assert not torch.equal(weights(first), weights(second))
    first.data.train = first.data.val
    assert second.data.train is not second.data.val
    assert data.train.seed is None


def test_the_global_generators_are_left_alone_and_do_not_matter(task, data):
    built = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
        workload = task.build(task.defaults, 0, data)
        train_epoch(task, workload, 1)
        task.evaluate(workload.model, data.val)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
        assert random.getstate() == before[2]
        built.append(weights(workload))
    assert torch.equal(*built)


def test_the_order_is_the_seeds_and_does_not_hang_on_the_initial_weights(task, data, monkeypatch):
    plain = task.build(task.defaults, 5, data).data.train.seed
    assert task.build(task.defaults, 6, data).data.train.seed != plain
    monkeypatch.setattr(type(task), "build_model", lambda self: nn.Linear(1, 1))
    assert task.build(task.defaults, 5, data).data.train.seed == plain


def test_the_first_loss_is_that_of_guessing(task, data):
    workload = task.build(task.defaults, 0, data)
    val = task.evaluate(workload.model, data.val)
    assert val.keys() == {"loss", "accuracy"}
    assert abs(val["loss"] - np.log(task.num_classes)) < 0.25
    assert 0.0 <= val["accuracy"] <= 0.35


# -- evaluation ------------------------------------------------------------------------------------------------------


class Uneven(nn.Module):
    """Dropout in front and a part frozen in evaluation mode behind."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.9)
        self.frozen = nn.BatchNorm1d(4)
        self.frozen.eval()

    def forward(self, inputs):
        return self.frozen(self.dropout(inputs))


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_evaluation_is_the_mean_over_examples_whatever_the_batch_size(batch_size):
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(30, 4, generator=generator), torch.arange(30) % 4
    model = Uneven()
    expected = F.cross_entropy(model.eval()(inputs).double(), targets).item()
    accuracy = (model(inputs).argmax(1) == targets).double().mean().item()
    result = DigitsMlp().evaluate(model, TensorBatches(inputs, targets, batch_size))
    assert result["loss"] == pytest.approx(expected, rel=1e-6)
    assert result["accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize("fails", [False, True])
def test_evaluation_leaves_every_module_in_its_mode(fails):
    model = Uneven()
    batches = TensorBatches(torch.zeros(3, 5 if fails else 4), torch.zeros(3, dtype=torch.int64), 3)
    if fails:
        with pytest.raises(RuntimeError):
            DigitsMlp().evaluate(model, batches)
    else:
        DigitsMlp().evaluate(model, batches)
    assert [module.training for module in (model, model.dropout, model.frozen)] == [True, True, False]


def test_a_broken_model_has_a_broken_loss():
    model = nn.Linear(4, 4)
    nn.init.constant_(model.weight, float("nan"))
    result = DigitsMlp().evaluate(model, TensorBatches(torch.ones(3, 4), torch.zeros(3, dtype=torch.int64), 3))
    assert np.isnan(result["loss"])


# -- hyperparameters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "kind", "expected"),
    [
        ("adam", torch.optim.Adam, {"lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 0.0}),
        ("adamw", torch.optim.AdamW, {"lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 0.01}),
        ("sgd", torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.0}),
    ],
)
def test_the_optimizer_has_the_documented_defaults(optimizer, kind, expected):
    task = DigitsMlp(optimizer=optimizer)
    built = task.build(task.defaults, 0, task.load(DataSource())[0]).optimizer
    assert type(built) is kind
    assert {key: built.param_groups[0][key] for key in expected} == expected


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_config_and_then_the_hyperparameters_decide(optimizer):
    task = DigitsMlp(optimizer=optimizer, lr=0.02, momentum=0.5, weight_decay=0.1, batch_size=11)
    data, _ = task.load(DataSource())
    group = task.build({}, 0, data).optimizer.param_groups[0]
    momentum = group["momentum"] if optimizer == "sgd" else group["betas"][0]
    assert (group["lr"], momentum, group["weight_decay"], data.train.batch_size) == (0.02, 0.5, 0.1, 11)
    group = task.build({"lr": 0.3, "momentum": 0.25, "weight_decay": 0.0}, 0, data).optimizer.param_groups[0]
    momentum = group["momentum"] if optimizer == "sgd" else group["betas"][0]
    assert (group["lr"], momentum, group["weight_decay"]) == (0.3, 0.25, 0.0)


def test_unknown_hyperparameters_are_refused():
    task = DigitsMlp()
    with pytest.raises(ValueError, match="no hyperparameter dropout; it has momentum, weight_decay, lr"):
        task.build({"lr": 0.1, "dropout": 0.5}, 0, task.load(DataSource())[0])


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan"), float("inf"), 1e-9, 11.0])
def test_an_impossible_initial_lr_is_refused(lr):
    with pytest.raises(ValidationError, match="lr"):
        MnistCnn(lr=lr)


def test_members_that_differ_have_display_names_that_differ():
    assert MnistCnn(optimizer="sgd", lr=0.1).display == "mnist_cnn, optimizer sgd, lr 0.1"
    assert MnistCnn(optimizer="sgd", label="mine").display == "mine"


# -- members ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "num_parameters", "shape"),
    [(MnistCnn(), 225_034, (1, 28, 28)), (MnistCnnPoorInit(), 225_034, (1, 28, 28)), (DigitsMlp(), 4_810, (64,))],
    ids=lambda value: getattr(value, "name", None),
)
def test_networks_have_the_documented_size(task, num_parameters, shape):
    with torch.random.fork_rng(devices=[]):
        model = task.build_model()
    assert sum(p.numel() for p in model.parameters()) == num_parameters
    assert model(torch.zeros(3, *shape)).shape == (3, task.num_classes)


def test_the_cnn_is_the_textbook_one():
    with torch.random.fork_rng(devices=[]):
        model = MnistCnn().build_model()
    conv1, conv2, fc1, fc2 = (m for m in model if isinstance(m, nn.Conv2d | nn.Linear))
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    hidden = F.max_pool2d(F.relu(conv2(F.max_pool2d(F.relu(conv1(x)), 2))), 2).flatten(1)
    assert torch.allclose(model(x), fc2(F.relu(fc1(hidden))), atol=1e-6)


@pytest.mark.parametrize(("fields", "expected"), [({}, 0.1), ({"lr_factor": 0.01}, 1e-5), ({"lr": 0.01}, 1.0)])
def test_a_poor_initial_lr_is_off_by_the_factor(fields, expected):
    assert MnistCnnPoorInit(**fields).defaults["lr"] == pytest.approx(expected)


def test_a_factor_that_leaves_the_space_is_refused():
    with pytest.raises(ValidationError, match="outside of its space"):
        MnistCnnPoorInit(lr_factor=1e6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_default_lr_learns(optimizer):
    task = DigitsMlp(optimizer=optimizer)
    data, _ = task.load(DataSource())
    workload = task.build(task.defaults, 0, data)
    for epoch in range(1, 6):
        train_epoch(task, workload, epoch)
    assert task.evaluate(workload.model, data.val)["accuracy"] > 0.9
