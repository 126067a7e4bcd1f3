"""Tasks: evaluation, hyperparameters, and what is particular to one. What all keep stands in tests/contracts."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from autotunenet_bench.data import DataSource, TensorBatches
from autotunenet_bench.tasks import DigitsMlp, MnistCnn, MnistCnnPoorInit
from training import train_epoch

OPTIMIZERS = ("adam", "adamw", "sgd")


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


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan"), float("inf"), 1e-9, 1e5])
def test_an_impossible_initial_lr_is_refused(lr):
    with pytest.raises(ValidationError, match="lr"):
        MnistCnn(lr=lr)


def test_members_that_differ_have_display_names_that_differ():
    assert MnistCnn(optimizer="sgd", lr=0.1).display == "mnist_cnn, optimizer sgd, lr 0.1"
    assert MnistCnn(optimizer="sgd", label="mine").display == "mine"


def test_a_fraction_of_the_data_is_written_only_where_it_is_one():
    assert DigitsMlp().model_dump().keys() == {
        "name",
        "label",
        "optimizer",
        "lr",
        "momentum",
        "weight_decay",
        "batch_size",
    }
    assert DigitsMlp(data_fraction=0.5).model_dump()["data_fraction"] == 0.5
    assert DigitsMlp(data_fraction=0.5).display == "digits_mlp"
    for fraction in (0.0, 1.1):
        with pytest.raises(ValidationError, match="data_fraction"):
            DigitsMlp(data_fraction=fraction)


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
