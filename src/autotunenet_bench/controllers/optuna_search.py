"""Optuna's samplers over restarts, through its ask-and-tell interface."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from autotunenet import Hyperparams, SearchSpace
from autotunenet.hpo.optuna_bridge import from_sampled, leaving_no_trace, to_distribution
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
    """A study in memory, which keeps one sampler: `autotunenet.hpo.OptunaSearch` makes a new one for every trial.

    Args:
        optuna: The package.
        sampler: One of its samplers.
        space: Where.
    """

    def __init__(self, optuna: Any, sampler: Any, space: SearchSpace) -> None:
        self._optuna = optuna
        self._space = space
        self._distributions = {name: to_distribution(optuna, dimension) for name, dimension in space.items()}
        self._study = optuna.create_study(sampler=sampler, direction="minimize")
        self._trial: Any = None

    def ask(self) -> dict[str, float]:
        """Return the next point."""
        with leaving_no_trace(self._optuna):
            self._trial = self._study.ask(self._distributions)
        values = self._trial.params
        return {name: from_sampled(dimension, values[name]) for name, dimension in self._space.items()}

    def tell(self, params: Hyperparams, value: float) -> None:
        """Take note of a trial. TPE ranks infinity last; the Gaussian process takes it for the worst finite value."""
        with leaving_no_trace(self._optuna):
            self._study.tell(self._trial, value)
