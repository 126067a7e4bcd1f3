"""A two-layer perceptron on scikit-learn's digits: seconds, not minutes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from autotunenet_bench.data import DataSource
from autotunenet_bench.data.digits import load_digits
from autotunenet_bench.tasks.base import Task
from autotunenet_bench.types import DataInfo, TaskData


class DigitsMlp(Task):
    """MLP 64-64-10 (4,810 parameters) on scikit-learn's 8x8 digits; a run takes seconds."""

    name: Literal["digits_mlp"] = "digits_mlp"
    batch_size: int = Field(32, ge=1, description="training examples a step")

    def load(self, source: DataSource) -> tuple[TaskData, DataInfo]:
        """Return the digits inside scikit-learn, whatever `source` says: there is one copy, complete and installed."""
        return load_digits(self.batch_size, self.num_test, self.data_fraction)

    def build_model(self) -> nn.Module:
        """Return the network; inputs ``(n, 64)``, logits ``(n, 10)``."""
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, self.num_classes))
