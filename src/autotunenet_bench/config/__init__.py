"""Configs: YAML and ``--set`` in, checked and frozen models out, and the run specs that they expand to."""

from autotunenet_bench.config.errors import ConfigError, Problem
from autotunenet_bench.config.experiment import Departure, Experiment
from autotunenet_bench.config.files import LoadedConfig, find_config, load_config, parse_config, shipped_configs
from autotunenet_bench.config.hpo import HpoConfig, HpoSetConfig
from autotunenet_bench.config.models import Range, RunConfig, SuiteConfig
from autotunenet_bench.config.specs import PROTOCOL_VERSION, Cell, RunSpec, expand

__all__ = [
    "PROTOCOL_VERSION",
    "Cell",
    "ConfigError",
    "Departure",
    "Experiment",
    "HpoConfig",
    "HpoSetConfig",
    "LoadedConfig",
    "Problem",
    "Range",
    "RunConfig",
    "RunSpec",
    "SuiteConfig",
    "expand",
    "find_config",
    "load_config",
    "parse_config",
    "shipped_configs",
]
