"""The methods that are compared, as they stand in a config."""

from autotunenet_bench.controllers.autotunenet import AutoTuneNetConfig
from autotunenet_bench.controllers.autotunenet_1_0_2 import AutoTuneNet102Config
from autotunenet_bench.controllers.base import DIRECTIONS, ControllerConfig, MethodConfig
from autotunenet_bench.controllers.dog import DogConfig
from autotunenet_bench.controllers.fixed import FixedConfig
from autotunenet_bench.controllers.greedy_lr import GreedyLrConfig
from autotunenet_bench.controllers.grid_search import GridSearchConfig
from autotunenet_bench.controllers.heuristic import HeuristicConfig
from autotunenet_bench.controllers.hypergradient import HypergradientConfig
from autotunenet_bench.controllers.lr_range_test import LrRangeTestConfig
from autotunenet_bench.controllers.momo import MomoConfig
from autotunenet_bench.controllers.optuna_search import OptunaGpConfig, OptunaTpeConfig
from autotunenet_bench.controllers.plateau import PlateauConfig
from autotunenet_bench.controllers.plateau_backtrack import PlateauBacktrackConfig
from autotunenet_bench.controllers.prodigy import DAdaptAdamConfig, DAdaptSGDConfig, ProdigyConfig
from autotunenet_bench.controllers.random_search import RandomSearchConfig
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
from autotunenet_bench.controllers.surrogate_search import SurrogateForestConfig, SurrogateGpConfig

CONTROLLERS: dict[str, type[MethodConfig]] = {
    "fixed": FixedConfig,
    "constant": ConstantConfig,
    "step_decay": StepDecayConfig,
    "exponential_decay": ExponentialDecayConfig,
    "cosine": CosineConfig,
    "one_cycle": OneCycleConfig,
    "warmup_stable_decay": WarmupStableDecayConfig,
    "plateau": PlateauConfig,
    "plateau_backtrack": PlateauBacktrackConfig,
    "greedy_lr": GreedyLrConfig,
    "lr_range_test": LrRangeTestConfig,
    "hypergradient": HypergradientConfig,
    "prodigy": ProdigyConfig,
    "dadapt_adam": DAdaptAdamConfig,
    "dadapt_sgd": DAdaptSGDConfig,
    "dog": DogConfig,
    "schedule_free": ScheduleFreeConfig,
    "momo": MomoConfig,
    "clip": ClipConfig,
    "zclip": ZClipConfig,
    "sigma_skip": SigmaSkipConfig,
    "random_walk": RandomWalkConfig,
    "heuristic": HeuristicConfig,
    "grid_search": GridSearchConfig,
    "random_search": RandomSearchConfig,
    "optuna_tpe": OptunaTpeConfig,
    "optuna_gp": OptunaGpConfig,
    "surrogate_gp": SurrogateGpConfig,
    "surrogate_forest": SurrogateForestConfig,
    "autotunenet_1_0_2": AutoTuneNet102Config,
    "autotunenet": AutoTuneNetConfig,
}
"""Controllers by the name that a config uses."""

__all__ = ["CONTROLLERS", "DIRECTIONS", "ControllerConfig", "MethodConfig"]
