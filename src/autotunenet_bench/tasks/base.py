"""The base of the tasks: what a config says about one, and how its model, optimizer and data are built."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer

from autotunenet.space import Float, SearchSpace
from autotunenet_bench.data import DataSource, as_tensor_batches, stream_seed
from autotunenet_bench.tasks.tally import METRICS, Tally
from autotunenet_bench.types import Batch, Batches, DataInfo, TaskData, Workload

_DEFAULT_LR = {"adam": 1e-3, "adamw": 1e-3, "sgd": 0.05}
_HIGHEST_LR = {"adam": 100.0, "adamw": 100.0, "sgd": 10_000.0}
_DEFAULT_WEIGHT_DECAY = {"adam": 0.0, "adamw": 0.01, "sgd": 0.0}
_UNWRITTEN = {"num_test": 0, "data_fraction": 1.0}
"""How much of the data is used for what, and the values at which that goes without saying."""


class Task(BaseModel, ABC):
    """A training task as it stands in a config: a classifier, its data and its initial hyperparameters.

    A member gives its `name`, its data (`load`) and its network (`build_model`); the rest may stay as it is here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_classes: ClassVar[int] = 10
    packages: ClassVar[tuple[str, ...]] = ()
    """Whose versions decide about its numbers, beside those that every run needs."""
    more_metrics: ClassVar[tuple[str, ...]] = ()
    """What `evaluate` gives beside loss and accuracy, of `autotunenet_bench.tasks.tally.METRICS`."""

    name: str
    label: str | None = Field(None, min_length=1, max_length=60, description="name in tables; default: made from name")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="the optimizer that trains the model")
    lr: float | None = Field(None, gt=0, description="initial lr; null: 1e-3 for adam and adamw, 0.05 for sgd")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd; the first beta of adam and adamw")
    weight_decay: float | None = Field(None, ge=0, description="null: 0.01 for adamw, 0 for the others")
    batch_size: int = Field(64, ge=1, description="training examples a step")
    num_test: int = Field(
        0,
        ge=0,
        description="training examples kept for a test of the finished model, which no controller sees; not used where "
        "the data at hand have a test part of their own",
    )
    data_fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of every part of the data (training, validation, test) that is used, of every class alike",
    )

    @model_validator(mode="after")
    def _check_initial_point(self) -> Task:
        lr, allowed = self.defaults["lr"], self.space["lr"]
        if not allowed.contains(lr):
            raise ValueError(f"the initial lr {lr:g} of {self.name} lies outside of its space, {allowed}; change it")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the sizes only where they are used: an id is a hash of what is written, and earlier runs keep it."""
        values: dict[str, Any] = handler(self)
        return {key: value for key, value in values.items() if key not in _UNWRITTEN or value != _UNWRITTEN[key]}

    @property
    def display(self) -> str:
        """The name in tables and plots: the label, or the name and whatever differs from its default."""
        fields = [item for item in type(self).model_fields.items() if item[0] not in _UNWRITTEN]  # not what is trained
        changed = [f"{key} {value}" for key, field in fields if (value := getattr(self, key)) != field.default]
        return self.label or ", ".join([self.name, *changed])

    @property
    def space(self) -> SearchSpace:
        """What may be tuned, within which bounds."""
        return SearchSpace({"lr": Float(1e-8, _HIGHEST_LR[self.optimizer], log=True)})

    @property
    def defaults(self) -> dict[str, float]:
        """The initial values of what may be tuned; the names are those of `space`."""
        return {"lr": _DEFAULT_LR[self.optimizer] if self.lr is None else self.lr}

    @abstractmethod
    def load(self, source: DataSource) -> tuple[TaskData, DataInfo]:
        """Return the data in a fixed order, and what it is. A run's own order is given to it by `build`.

        Raises:
            DataError: If the data is missing or damaged.
        """

    @abstractmethod
    def build_model(self) -> nn.Module:
        """Return a network with weights drawn from torch's global generator, which the caller has seeded."""

    def build_model_for(self, data: TaskData) -> nn.Module:
        """Return the network for data as from `load`; a task that begins with pretrained weights finds them there."""
        return self.build_model()

    def build(self, hyperparams: Mapping[str, float], seed: int, data: TaskData) -> Workload:
        """Return a fresh model, its optimizer, and the data in the order of `seed`.

        Every purpose has a random stream of its own, and the global generators are left as they were.

        Args:
            hyperparams: ``"lr"``, ``"momentum"`` and ``"weight_decay"`` in any number; the rest is this task's.
            seed: The run's seed.
            data: As from `load`; stays as it is.

        Raises:
            ValueError: If there is a hyperparameter of another name.
        """
        # Not torch.manual_seed: it seeds the accelerators too, which fork_rng(devices=[]) does not guard.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stream_seed(seed, "init"))
            model = self.build_model_for(data)
        train = as_tensor_batches(data.train, self.name).shuffled(stream_seed(seed, "order"))
        return Workload(model, self._build_optimizer(model, hyperparams), replace(data, train=train))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss that is minimised: the mean cross entropy of a batch, a scalar with a graph."""
        inputs, targets = batch
        return F.cross_entropy(model(inputs), targets)

    def evaluate(self, model: nn.Module, batches: Batches) -> dict[str, float]:
        """Return ``{"loss": mean cross entropy in nats, "accuracy": share in [0, 1]}`` over all examples.

        And whatever `more_metrics` names. Sums are kept in float64, so that the batch size does not show. Every module
        is left in the mode it was in.
        """
        modes = [(module, module.training) for module in model.modules()]
        loss: Tensor | float = 0.0  # both sums stay where the model is, so that no batch waits for the one before it
        correct: Tensor | int = 0
        count = 0
        tally = Tally(self.num_classes) if self.more_metrics else None
        model.eval()
        try:
            with torch.inference_mode():
                for inputs, targets in batches.epoch(1):
                    logits = model(inputs)
                    loss = loss + F.cross_entropy(logits, targets, reduction="none").double().sum()
                    correct = correct + (logits.argmax(dim=1) == targets).sum()
                    count += len(targets)
                    if tally is not None:
                        tally.add(logits, targets)
        finally:
            # One by one: `model.train()` would wake up the parts that were frozen in evaluation mode.
            for module, training in modes:
                module.training = training
        more = {name: METRICS[name](tally) for name in self.more_metrics} if tally is not None else {}
        return {"loss": float(loss) / count, "accuracy": int(correct) / count, **more}

    def _build_optimizer(self, model: nn.Module, hyperparams: Mapping[str, float]) -> Optimizer:
        decay = _DEFAULT_WEIGHT_DECAY[self.optimizer] if self.weight_decay is None else self.weight_decay
        known = {"momentum": self.momentum, "weight_decay": decay, **self.defaults}
        if unknown := sorted(set(hyperparams) - set(known)):
            raise ValueError(f"{self.name} has no hyperparameter {', '.join(unknown)}; it has {', '.join(known)}")
        values = {**known, **hyperparams}
        if self.optimizer == "sgd":
            return SGD(model.parameters(), values["lr"], values["momentum"], weight_decay=values["weight_decay"])
        make = Adam if self.optimizer == "adam" else AdamW
        betas = (values["momentum"], 0.999)
        return make(model.parameters(), lr=values["lr"], betas=betas, weight_decay=values["weight_decay"])
