"""The MNIST CNN from an initial lr that is wrong by a known factor."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autotunenet_bench.tasks.mnist_cnn import MnistCnnBase


class MnistCnnPoorInit(MnistCnnBase):
    """Small CNN (225,034 parameters) on MNIST, initial lr wrong by a factor (default 100)."""

    name: Literal["mnist_cnn_poor_init"] = "mnist_cnn_poor_init"
    lr_factor: float = Field(100.0, gt=0, description="factor on the good initial lr; below 1: too small")

    @property
    def defaults(self) -> dict[str, float]:
        """The initial values of what may be tuned, lr off by `lr_factor`."""
        good = super().defaults
        return {**good, "lr": good["lr"] * self.lr_factor}
