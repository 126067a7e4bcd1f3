"""The methods that are compared, as they stand in a config."""

from autotunenet_bench.controllers.autotunenet import AutoTuneNetConfig
from autotunenet_bench.controllers.base import DIRECTIONS, ControllerConfig
from autotunenet_bench.controllers.fixed import FixedConfig
from autotunenet_bench.controllers.heuristic import HeuristicConfig
from autotunenet_bench.controllers.plateau import PlateauConfig
from autotunenet_bench.controllers.random_walk import RandomWalkConfig
from autotunenet_bench.controllers.schedules import (
    ConstantConfig,
    CosineConfig,
    ExponentialDecayConfig,
    OneCycleConfig,
    StepDecayConfig,
    WarmupStableDecayConfig,
)

CONTROLLERS: dict[str, type[ControllerConfig]] = {
    "fixed": FixedConfig,
    "constant": ConstantConfig,
    "step_decay": StepDecayConfig,
    "exponential_decay": ExponentialDecayConfig,
    "cosine": CosineConfig,
    "one_cycle": OneCycleConfig,
    "warmup_stable_decay": WarmupStableDecayConfig,
    "plateau": PlateauConfig,
    "random_walk": RandomWalkConfig,
    "heuristic": HeuristicConfig,
    "autotunenet": AutoTuneNetConfig,
}
"""Controllers by the name that a config uses."""

__all__ = ["CONTROLLERS", "DIRECTIONS", "ControllerConfig"]
