"""ResNet-50 on CIFAR-10, from weights pretrained on ImageNet where they are at hand."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from autotunenet_bench.data import DataSource
from autotunenet_bench.data.pretrained import NoWeightsError, find_pretrained
from autotunenet_bench.models import Bottleneck, ResNet
from autotunenet_bench.tasks.cifar10_resnet18 import Cifar10Base
from autotunenet_bench.types import DataInfo, TaskData

NONE_FOUND = "random weights, for no pretrained ones were found"

_log = logging.getLogger(__name__)


class BottleneckBase(Cifar10Base):
    """What the tasks with bottleneck blocks share. Has no name, and so is no member itself."""

    more_metrics: ClassVar[tuple[str, ...]] = ("f1", "top5_accuracy")

    optimizer: Literal["adam", "adamw", "sgd"] = Field("sgd", description="the optimizer that trains the model")
    weight_decay: float | None = Field(1e-4, ge=0, description="null: 0.01 for adamw, 0 for the others")


class Cifar10ResNet50(BottleneckBase):
    """ResNet-50 (23,520,842 parameters) on CIFAR-10, augmented; pretrained where the weights are."""

    name: Literal["cifar10_resnet50"] = "cifar10_resnet50"
    model: str = Field(
        "resnet-50",
        min_length=1,
        description="the pretrained model: resnet-50, or a folder, with a slash in its name, that holds config.json "
        "and model.safetensors of transformers' ResNet-50",
    )
    weights: Literal["auto", "pretrained", "none"] = Field(
        "auto",
        description="what the blocks begin with: pretrained weights or an error; random ones (none); or (auto) "
        "pretrained where they are found and else random, which the record of the run says",
    )

    def load(self, source: DataSource) -> tuple[TaskData, DataInfo]:
        """Return CIFAR-10, and the pretrained weights as `weights` asks for them.

        Raises:
            DataError: If the data are missing or damaged, or the weights that were asked for.
        """
        data, info = super().load(source)
        if self.weights == "none":
            return data, info
        try:
            pretrained = find_pretrained(self.model, source)
        except NoWeightsError as error:
            if self.weights == "pretrained":
                raise
            _log.warning("%s begins with %s: %s", self.name, NONE_FOUND, error)
            return data, replace(info, pretrained=NONE_FOUND)
        info = replace(info, pretrained=pretrained.words, weights_sha256=pretrained.sha256)
        return replace(data, pretrained=pretrained), info

    def build_model_for(self, data: TaskData) -> nn.Module:
        """Return the network with the weights that were loaded with the data, if any were."""
        model = self.build_model()
        if data.pretrained is not None:
            assert isinstance(model, ResNet)  # `_network` says so
            model.load_pretrained(data.pretrained.weights())
        return model

    def _network(self) -> ResNet:
        return ResNet((64, 128, 256, 512), (3, 4, 6, 3), self.num_classes, block=Bottleneck)
