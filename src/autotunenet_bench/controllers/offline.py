"""The base of the offline searches: training begins anew for every trial, and all of it is paid from one budget."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from pydantic import Field

from autotunenet import Hyperparams, SearchSpace
from autotunenet_bench.controllers.base import MethodConfig, Observable
from autotunenet_bench.types import Horizon


class Search(ABC):
    """Which values to try next. It is asked, and told how they did, in turn; it touches no training.

    Its answers depend on its seed and on what it was told, and on nothing else: a run that resumes asks a fresh one all
    of it again. It uses no global random generator, prints nothing, and leaves the process as it was.
    """

    @abstractmethod
    def ask(self) -> dict[str, float]:
        """Return the values of the next trial, a point of the space."""

    @abstractmethod
    def tell(self, params: Hyperparams, value: float) -> None:
        """Take note of a trial.

        Args:
            params: What was asked last.
            value: Lower is better; infinity for a trial that diverged. Never NaN.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPlan:
    """How the epochs of a run are shared out.

    Attributes:
        num_trials: Trainings that the search takes, at least 1.
        trial_epochs: Epochs of each of them, at least 1.
        final_epochs: Epochs of the training after them, at least 1.

    >>> plan = TrialPlan(num_trials=2, trial_epochs=3, final_epochs=4)
    >>> [epoch for epoch in range(1, 11) if plan.ends_trial(epoch)]
    [3, 6]
    """

    num_trials: int
    trial_epochs: int
    final_epochs: int

    def ends_trial(self, epoch: int) -> bool:
        """Whether a trial is over with this epoch of the run, counted from 1."""
        return epoch % self.trial_epochs == 0 and epoch <= self.num_trials * self.trial_epochs


class OfflineConfig(MethodConfig):
    """An offline search as it stands in a config: some trials, then a training with the best values found.

    Every training begins from scratch and from the same weights. Trials are equally long, or else a longer one would
    win for its length. All of them together have the epochs of one run: what the search takes, the last training
    lacks.
    """

    runner: ClassVar[str] = "offline"

    observe: Observable = Field("val_loss", description="the metric at their last epoch that trials are compared by")
    num_trials: int = Field(5, ge=1, le=1000, description="trainings from scratch that the search takes")
    search_share: float = Field(
        0.5, gt=0, lt=1, description="largest share of the run's epochs that the trials take; the rest is trained last"
    )

    def plan(self, num_epochs: int) -> TrialPlan:
        """Return how a run of this length is shared out.

        The trials get as many whole epochs each as fit into the share, the last training all that are left.

        Raises:
            ValueError: If a trial would have no epoch.

        >>> from autotunenet_bench.controllers.random_search import RandomSearchConfig
        >>> RandomSearchConfig(num_trials=3, search_share=0.7).plan(num_epochs=10)
        TrialPlan(num_trials=3, trial_epochs=2, final_epochs=4)
        """
        share = Fraction(repr(self.search_share))  # as a decimal number: 0.29 of 100 is 29
        available = int(share * num_epochs)
        trial_epochs = available // self.num_trials
        if trial_epochs == 0:
            raise ValueError(self._too_short(num_epochs, share, available))
        return TrialPlan(
            num_trials=self.num_trials,
            trial_epochs=trial_epochs,
            final_epochs=num_epochs - self.num_trials * trial_epochs,
        )

    def _too_short(self, num_epochs: int, share: Fraction, available: int) -> str:
        mends = [f"raise num_epochs to {math.ceil(self.num_trials / share)}"]
        if available:
            mends.append(f"lower num_trials to {available}")
        if (larger := math.ceil(100 * self.num_trials / num_epochs) / 100) < 1:
            mends.append(f"raise search_share to {larger:g}")
        return (
            f"{self.name} has num_trials={self.num_trials} trials of at least one epoch, and "
            f"search_share={self.search_share:g} of {num_epochs} epochs leaves them {available}; {', or '.join(mends)}"
        )

    def check_length(self, num_epochs: int) -> None:
        """Check that every trial has an epoch.

        Raises:
            ValueError: If it has none.
        """
        self.plan(num_epochs)

    def check_run(self, horizon: Horizon, space: SearchSpace, seed: int) -> None:
        """Build the search once.

        Raises:
            ValueError: If it cannot be built, or the run is too short.
        """
        self.plan(horizon.num_epochs)
        self.build_search(space, seed)

    @abstractmethod
    def build_search(self, space: SearchSpace, seed: int) -> Search:
        """Return a fresh search for one run.

        Args:
            space: What may be tuned: what online methods have too.
            seed: Seed of its own random stream.

        Raises:
            ValueError: If it cannot be built: a package is missing, or the space does not suit it.
        """
