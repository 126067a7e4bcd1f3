"""What a surrogate is told of trials: losses of about unit size, failures and pending trials included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotunenet.hpo.trial import Trial, TrialState

Array = NDArray[np.float64]

CAP = 3.0
"""Largest loss that is told, as distances from the best to the median: what is far worse is only known to be bad."""


@dataclass(frozen=True, slots=True)
class LossScale:
    """Standardizes losses, after bad outliers have been cut to a cap.

    Attributes:
        center: Mean of the losses, cut.
        scale: Their standard deviation; 1 where they are all equal.
        cap: Where they are cut.

    >>> scale = LossScale.of(np.array([0.2, 0.3, 0.4, 1e300]))
    >>> round(scale.cap, 6), scale.to_unit(np.array([0.2, 1e300])).round(3).tolist()
    (0.8, [-0.988, 1.646])
    """

    center: float
    scale: float
    cap: float

    @classmethod
    def of(cls, losses: Array) -> LossScale:
        """Return the scale of some losses, finite ones of any size, shape ``(n,)``, n >= 1."""
        unit = max(1.0, float(np.abs(losses).max()))  # sums and squares of 1e300 are no numbers
        y = losses / unit
        best, median = float(y.min()), float(np.median(y))
        cap = min(float(y.max()), median + CAP * (median - best)) if median > best else float(y.max())
        shares = np.minimum(y, cap) - best
        if cap == best:
            return cls(best * unit, 1.0, cap * unit)
        shares /= cap - best
        center = best + (cap - best) * float(shares.mean())
        return cls(center * unit, (cap - best) * unit * float(shares.std()), cap * unit)

    def to_unit(self, losses: Array) -> Array:
        """Return losses cut and standardized."""
        return (np.minimum(losses, self.cap) - self.center) / self.scale

    def from_unit(self, mean: float, std: float) -> tuple[float, float]:
        """Return a prediction in units of the losses."""
        return mean * self.scale + self.center, std * self.scale


@dataclass(frozen=True, slots=True)
class Evidence:
    """What trials say, as a surrogate is told it.

    A failed trial counts as bad as the worst that is done. A pending one counts as an average one, the failed among
    them: the "constant liar" of Ginsbourger, Le Riche and Carraro 2010, with the mean for a lie. Where nothing is done,
    all losses are 0.

    Attributes:
        losses: Standardized, shape ``(n,)``.
        is_done: Which of them were measured, shape ``(n,)``.
        scale: What standardized them.
    """

    losses: Array
    is_done: NDArray[np.bool_]
    scale: LossScale

    @property
    def tells_apart(self) -> bool:
        """Whether any two losses differ, so that there is something to learn."""
        return bool(self.losses.min() < self.losses.max())

    @classmethod
    def of(cls, trials: Sequence[Trial], loss: Callable[[Trial], float]) -> Evidence:
        """Return the evidence of some trials.

        Args:
            trials: At least one.
            loss: Gives the loss of a trial that is done.
        """
        is_done = np.array([trial.state is TrialState.DONE for trial in trials])
        is_pending = np.array([trial.state is TrialState.PENDING for trial in trials])
        if not is_done.any():
            return cls(np.zeros(len(trials)), is_done, LossScale(0.0, 1.0, 0.0))
        losses = np.zeros(len(trials))
        losses[is_done] = [loss(trial) for trial in trials if trial.state is TrialState.DONE]
        losses[~is_done] = losses[is_done].max()
        scale = LossScale.of(losses[~is_pending])
        return cls(np.where(is_pending, 0.0, scale.to_unit(losses)), is_done, scale)
