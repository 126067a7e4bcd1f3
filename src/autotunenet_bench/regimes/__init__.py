"""Regimes: how the world changes while a model trains. One file a member, registered here."""

from autotunenet_bench.regimes.base import RegimeConfig, TimedConfig, TriggeredConfig
from autotunenet_bench.regimes.compound import PARTS, Compound
from autotunenet_bench.regimes.curriculum_shift import CurriculumShift
from autotunenet_bench.regimes.data_shift import DataShift
from autotunenet_bench.regimes.loss_noise import LossNoise
from autotunenet_bench.regimes.null import Null
from autotunenet_bench.regimes.optimizer_shift import OptimizerShift
from autotunenet_bench.regimes.stationary import Stationary

REGIMES: dict[str, type[RegimeConfig]] = {
    "stationary": Stationary,
    "null": Null,
    "data_shift": DataShift,
    "curriculum_shift": CurriculumShift,
    "optimizer_shift": OptimizerShift,
    "loss_noise": LossNoise,
    "compound": Compound,
}

PARTS.update({name: member for name, member in REGIMES.items() if issubclass(member, TriggeredConfig)})

__all__ = [
    "REGIMES",
    "Compound",
    "CurriculumShift",
    "DataShift",
    "LossNoise",
    "Null",
    "OptimizerShift",
    "RegimeConfig",
    "Stationary",
    "TimedConfig",
    "TriggeredConfig",
]
