"""Regimes: how the world changes while a model trains. One file a member, registered here."""

from autotunenet_bench.regimes.base import RegimeConfig, TriggeredConfig
from autotunenet_bench.regimes.data_shift import DataShift
from autotunenet_bench.regimes.loss_noise import LossNoise
from autotunenet_bench.regimes.optimizer_shift import OptimizerShift
from autotunenet_bench.regimes.stationary import Stationary

REGIMES: dict[str, type[RegimeConfig]] = {
    "stationary": Stationary,
    "data_shift": DataShift,
    "optimizer_shift": OptimizerShift,
    "loss_noise": LossNoise,
}

__all__ = ["REGIMES", "DataShift", "LossNoise", "OptimizerShift", "RegimeConfig", "Stationary", "TriggeredConfig"]
