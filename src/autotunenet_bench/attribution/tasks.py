"""What the suite trains: two tasks of the benchmark, and three small ones that break in other ways."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from autotunenet_bench.data import DataSource
from autotunenet_bench.data.digits import load_digits
from autotunenet_bench.tasks import DigitsMlp, MnistCnn, Task
from autotunenet_bench.types import Batch, DataInfo, TaskData


class _Digits(Task):
    """What the tasks on the digits share. Has no name, and so is no member itself."""

    batch_size: int = Field(32, ge=1, description="training examples a step")

    def load(self, source: DataSource) -> tuple[TaskData, DataInfo]:
        """Return the digits inside scikit-learn, whatever `source` says."""
        return load_digits(self.batch_size, self.num_test, self.data_fraction)


class DigitsBatchNorm(_Digits):
    """MLP with batch normalisation: its statistics are state that a rollback must restore, and it hardly ever dies."""

    name: Literal["digits_bn"] = "digits_bn"

    def build_model(self) -> nn.Module:
        """Return the network; inputs ``(n, 64)``, logits ``(n, 10)``."""
        return nn.Sequential(
            nn.Linear(64, 64, bias=False),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Linear(64, 32, bias=False),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Linear(32, self.num_classes),
        )


class DigitsGru(_Digits):
    """GRU over the 8 rows of the digits: slow to learn, with sigmoids that saturate."""

    name: Literal["digits_gru"] = "digits_gru"

    def build_model(self) -> nn.Module:
        """Return the network; inputs ``(n, 64)``, logits ``(n, 10)``."""
        return _RowGru(self.num_classes)


class DigitsTanh(_Digits):
    """Tanh outputs and 100 times the squared distance to the class's corner: a loss of another scale and shape."""

    name: Literal["digits_tanh"] = "digits_tanh"

    @property
    def defaults(self) -> dict[str, float]:
        """The initial lr; that of SGD belongs to the scale of the loss."""
        return super().defaults if self.optimizer != "sgd" or self.lr is not None else {"lr": 2e-3}

    def build_model(self) -> nn.Module:
        """Return the network; inputs ``(n, 64)``, outputs ``(n, 10)`` in (-1, 1)."""
        return nn.Sequential(nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, self.num_classes), nn.Tanh())

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return 100 times the mean squared difference from +1 at the class and -1 elsewhere."""
        inputs, targets = batch
        return 100 * F.mse_loss(model(inputs), 2 * F.one_hot(targets, self.num_classes).float() - 1)


class _RowGru(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 32, batch_first=True)
        self.head = nn.Linear(32, num_classes)

    def forward(self, inputs: Tensor) -> Any:
        """Return logits ``(n, num_classes)`` of inputs ``(n, 64)``."""
        return self.head(torch.select(self.gru(inputs.view(-1, 8, 8))[0], 1, -1))


SUITE_TASKS: dict[str, type[Task]] = {
    "digits_mlp": DigitsMlp,
    "digits_bn": DigitsBatchNorm,
    "digits_gru": DigitsGru,
    "digits_tanh": DigitsTanh,
    "mnist_cnn": MnistCnn,
}
"""By name; the three in the middle are the suite's own."""
