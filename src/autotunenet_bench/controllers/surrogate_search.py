"""This project's own surrogate search over restarts."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from autotunenet import Hyperparams, SearchSpace
from autotunenet.hpo import Search as CoreSearch
from autotunenet.hpo import SurrogateSearch
from autotunenet_bench.controllers.offline import OfflineConfig, Search


class SurrogateConfig(OfflineConfig):
    """A search by `autotunenet.hpo.SurrogateSearch`."""

    packages: ClassVar[tuple[str, ...]] = ("scikit-learn", "scipy")

    num_initial: int = Field(
        2, ge=1, le=1000, description="trials at points of a Sobol sequence before the surrogate is asked"
    )

    @model_validator(mode="after")
    def _leaves_something(self) -> SurrogateConfig:
        if self.num_initial >= self.num_trials:
            raise ValueError(
                f"num_initial={self.num_initial} of num_trials={self.num_trials} leave the surrogate nothing; "
                f"lower num_initial, or raise num_trials to at least {self.num_initial + 1}, or use random_search"
            )
        return self

    def build_search(self, space: SearchSpace, seed: int) -> Search:
        """Return the search.

        Raises:
            ValueError: If scipy or scikit-learn cannot be imported.
        """
        try:
            return Restarts(self._search(space, seed))
        except ImportError as error:
            raise ValueError(f"the controller {self.name} cannot be built: {error}") from error

    @abstractmethod
    def _search(self, space: SearchSpace, seed: int) -> CoreSearch:
        """Return a fresh search."""


class SurrogateGpConfig(SurrogateConfig):
    """Offline: trials where this project's Gaussian process wants them, then a training with the best.

    `autotunenet.hpo.SurrogateSearch` as it is by default, but for `num_initial`.
    """

    name: Literal["surrogate_gp"] = "surrogate_gp"

    def _search(self, space: SearchSpace, seed: int) -> CoreSearch:
        return SurrogateSearch(space, surrogate="gp", num_initial=self.num_initial, seed=seed)


class SurrogateForestConfig(SurrogateConfig):
    """Offline: trials where this project's random forest wants them, then a training with the best.

    `autotunenet.hpo.SurrogateSearch` as it is by default, but for the surrogate and `num_initial`.
    """

    name: Literal["surrogate_forest"] = "surrogate_forest"

    def _search(self, space: SearchSpace, seed: int) -> CoreSearch:
        return SurrogateSearch(space, surrogate="random_forest", num_initial=self.num_initial, seed=seed)


class Restarts(Search):
    """A search of `autotunenet.hpo`, asked for one trial at a time.

    Args:
        search: A fresh one, which minimizes.
    """

    def __init__(self, search: CoreSearch) -> None:
        self._search = search

    def ask(self) -> dict[str, float]:
        """Return the next point.

        Raises:
            RuntimeError: If the space is finite and has no more.
        """
        trial = self._search.ask()
        if trial is None:
            num_points = self._search.space.num_points
            raise RuntimeError(f"all {num_points} points of the space have been tried; lower num_trials")
        return dict(trial.params)

    def tell(self, params: Hyperparams, value: float) -> None:
        """Take note of a trial; one that diverged has failed."""
        number = len(self._search.trials) - 1
        if math.isfinite(value):
            self._search.tell(number, value)
        else:
            self._search.tell(number, None, error="diverged")
