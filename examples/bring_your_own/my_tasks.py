"""A task of my own: its data, its network and its name."""

from __future__ import annotations

import hashlib
import importlib.metadata
from typing import ClassVar, Literal

import torch
from pydantic import Field
from sklearn.datasets import load_breast_cancer
from torch import nn

from autotunenet_bench.data import DataSource, TensorBatches
from autotunenet_bench.data.splits import stratified_share, stratified_split
from autotunenet_bench.tasks.base import Task
from autotunenet_bench.types import DataInfo, TaskData

NUM_VAL = 114


class BreastCancer(Task):
    """Softmax regression (62 parameters) on the breast cancer data inside scikit-learn."""

    num_classes: ClassVar[int] = 2

    name: Literal["breast_cancer"] = "breast_cancer"
    batch_size: int = Field(32, ge=1, description="training examples a step")

    def load(self, source: DataSource) -> tuple[TaskData, DataInfo]:
        """Return 455 training and 114 validation examples, standardised."""
        bunch = load_breast_cancer()
        train, val = stratified_split(bunch.target.astype("uint8"), NUM_VAL)
        scaled = (bunch.data - bunch.data[train].mean(axis=0)) / bunch.data[train].std(axis=0)
        train, val = (part[stratified_share(bunch.target[part], self.data_fraction)] for part in (train, val))
        inputs, targets = torch.from_numpy(scaled).float(), torch.from_numpy(bunch.target).long()
        data = TaskData(
            TensorBatches(inputs[train], targets[train], self.batch_size),
            TensorBatches(inputs[val], targets[val], NUM_VAL),
        )
        info = DataInfo(
            name="breast-cancer",
            source=f"scikit-learn {importlib.metadata.version('scikit-learn')}",
            num_train=len(train),
            num_val=len(val),
            sha256=hashlib.sha256(bunch.data.tobytes() + bunch.target.tobytes()).hexdigest(),
        )
        return data, info

    def build_model(self) -> nn.Module:
        """Return the network; inputs ``(n, 30)``, logits ``(n, 2)``. Small weights: before training it guesses."""
        model = nn.Linear(30, self.num_classes)
        with torch.no_grad():
            model.weight.mul_(0.1)
        return model
