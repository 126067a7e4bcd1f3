"""The methods that are compared, as they stand in a config."""

from autotunenet_bench.controllers.autotunenet import AutoTuneNetConfig
from autotunenet_bench.controllers.base import DIRECTIONS, ControllerConfig
from autotunenet_bench.controllers.dog import DogConfig
from autotunenet_bench.controllers.fixed import FixedConfig
from autotunenet_bench.controllers.heuristic import HeuristicConfig
from autotunenet_bench.controllers.lr_range_test import LrRangeTestConfig
from autotunenet_bench.controllers.momo import MomoConfig
from autotunenet_bench.controllers.plateau import PlateauConfig
from autotunenet_bench.controllers.plateau_backtrack import PlateauBacktrackConfig
from autotunenet_bench.controllers.prodigy import DAdaptAdamConfig, ProdigyConfig
from autotunenet_bench.controllers.random_walk import RandomWalkConfig
from autotunenet_bench.controllers.schedule_free import ScheduleFreeConfig
from autotunenet_bench.controllers.schedules import (
    ConstantConfig,
    CosineConfig,
    ExponentialDecayConfig,
    OneCycleConfig,
    StepDecayConfig,
    WarmupStableDecayConfig,
)
from autotunenet_bench.controllers.step_guards import ClipConfig, SigmaSkipConfig, ZClipConfig

CONTROLLERS: dict[str, type[ControllerConfig]] = {
    "fixed": FixedConfig,
    "constant": ConstantConfig,
    "step_decay": StepDecayConfig,
    "exponential_decay": ExponentialDecayConfig,
    "cosine": CosineConfig,
    "one_cycle": OneCycleConfig,
    "warmup_stable_decay": WarmupStableDecayConfig,
    "plateau": PlateauConfig,
    "plateau_backtrack": PlateauBacktrackConfig,
    "lr_range_test": LrRangeTestConfig,
    "prodigy": ProdigyConfig,
    "dadapt_adam": DAdaptAdamConfig,
    "dog": DogConfig,
    "schedule_free": ScheduleFreeConfig,
    "momo": MomoConfig,
    "clip": ClipConfig,
    "zclip": ZClipConfig,
    "sigma_skip": SigmaSkipConfig,
    "random_walk": RandomWalkConfig,
    "heuristic": HeuristicConfig,
    "autotunenet": AutoTuneNetConfig,
}
"""Controllers by the name that a config uses."""

__all__ = ["CONTROLLERS", "DIRECTIONS", "ControllerConfig"]
