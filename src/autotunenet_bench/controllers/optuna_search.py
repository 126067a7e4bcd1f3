"""Optuna's samplers over restarts, through its ask-and-tell interface."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator

from autotunenet import Hyperparams, SearchSpace
from autotunenet.space import Categorical, Dimension, Int, Ordinal
from autotunenet_bench.controllers.offline import OfflineConfig, Search
from autotunenet_bench.controllers.stepping import require


class OptunaConfig(OfflineConfig):
    """A search by a sampler of Optuna."""

    packages: ClassVar[tuple[str, ...]] = ("optuna",)

    num_random: int = Field(
        2, ge=1, le=1000, description="trials at random points before the sampler uses what it was told"
    )

    @model_validator(mode="after")
    def _leaves_something(self) -> OptunaConfig:
        if self.num_random >= self.num_trials:
            raise ValueError(
                f"num_random={self.num_random} of num_trials={self.num_trials} leave the sampler nothing to choose; "
                f"lower num_random, or raise num_trials to at least {self.num_random + 1}, or use random_search"
            )
        return self

    def build_search(self, space: SearchSpace, seed: int) -> Search:
        """Return the search.

        Raises:
            ValueError: If Optuna cannot be imported.
        """
        optuna = require("optuna", self.name)
        with leaving_no_trace(optuna):
            return OptunaSearch(optuna, self._sampler(optuna, seed % 2**32), space)

    @abstractmethod
    def _sampler(self, optuna: Any, seed: int) -> Any:
        """Return a fresh sampler."""


class OptunaTpeConfig(OptunaConfig):
    """Offline: trials where Optuna's TPE sampler wants them, then a training with the best.

    Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization". All is as Optuna has it by default, but for
    `num_random`: its default of 10 would make random search of so few trials.
    """

    name: Literal["optuna_tpe"] = "optuna_tpe"

    def _sampler(self, optuna: Any, seed: int) -> Any:
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.num_random)


class OptunaGpConfig(OptunaConfig):
    """Offline: trials where Optuna's Gaussian process sampler wants them, then a training with the best.

    All is as Optuna has it by default, but for `num_random`, as in `optuna_tpe`.
    """

    packages: ClassVar[tuple[str, ...]] = ("optuna", "scipy")

    name: Literal["optuna_gp"] = "optuna_gp"

    def _sampler(self, optuna: Any, seed: int) -> Any:
        require("scipy", self.name)
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=self.num_random)


class OptunaSearch(Search):
    """A study in memory.

    Args:
        optuna: The package.
        sampler: One of its samplers.
        space: Where.
    """

    def __init__(self, optuna: Any, sampler: Any, space: SearchSpace) -> None:
        self._optuna = optuna
        self._distributions = {name: _distribution(optuna, dimension) for name, dimension in space.items()}
        self._study = optuna.create_study(sampler=sampler, direction="minimize")
        self._trial: Any = None

    def ask(self) -> dict[str, float]:
        """Return the next point."""
        with leaving_no_trace(self._optuna):
            self._trial = self._study.ask(self._distributions)
        return dict(self._trial.params)

    def tell(self, params: Hyperparams, value: float) -> None:
        """Take note of a trial. TPE ranks infinity last; the Gaussian process takes it for the worst finite value."""
        with leaving_no_trace(self._optuna):
            self._study.tell(self._trial, value)


@contextmanager
def leaving_no_trace(optuna: Any) -> Iterator[None]:
    """Keep Optuna quiet; afterwards its log level and torch's number of threads are what they were.

    It logs to stderr, and warns, about things that are no news here. Its Gaussian process sets torch's threads for the
    whole process while it works: with others than the spec's, the weights would be others.
    """
    verbosity, num_threads = optuna.logging.get_verbosity(), torch.get_num_threads()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
        if torch.get_num_threads() != num_threads:
            torch.set_num_threads(num_threads)


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    distributions = optuna.distributions
    if isinstance(dimension, Categorical):
        return distributions.CategoricalDistribution(dimension.choices)
    if isinstance(dimension, Ordinal):
        return distributions.CategoricalDistribution(dimension.values)
    make = distributions.IntDistribution if isinstance(dimension, Int) else distributions.FloatDistribution
    return make(dimension.low, dimension.high, log=dimension.log)
