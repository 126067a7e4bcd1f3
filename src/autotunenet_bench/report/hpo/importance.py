"""Which hyperparameters matter: permutation importance of a random forest on points that it was not fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotunenet_bench.report.hpo.records import Study, value_of

MIN_POINTS = 10
"""Fewer points are not enough to leave a fifth of them out."""

NUM_TREES = 100
NUM_FOLDS = 5
NUM_PERMUTATIONS = 30

WEAK_R2 = 0.3
"""Below this share of the variance the importances say next to nothing."""


@dataclass(frozen=True, slots=True)
class Importance:
    """How much worse predictions become when one hyperparameter is shuffled.

    Attributes:
        names: The dimensions.
        shares: The mean squared error that shuffling adds, as a share of the variance of the values; shape (d,).
        r2: Share of the variance that the forest explains on points left out, at most 1; 0 and less: nothing.
        num_points: How many points.
    """

    names: tuple[str, ...]
    shares: NDArray[np.float64]
    r2: float
    num_points: int

    def ranked(self) -> list[tuple[str, float]]:
        """Return names and shares, the most important first."""
        return [(self.names[index], float(self.shares[index])) for index in np.argsort(-self.shares)]


def importance(study: Study) -> Importance | None:
    """Return the importance of every dimension; None of fewer than `MIN_POINTS` points, or where all are equally good.

    Breiman 2001, "Random Forests", section 10, on held-out data: the points are divided into five parts; a forest that
    is fitted to four predicts the fifth, as it is and with one dimension shuffled. The errors are added up over parts.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold

    points = study.points
    values = np.array([value_of(trial) for trial in points])
    if len(points) < MIN_POINTS or np.ptp(values) == 0:
        return None
    inputs = np.stack([study.space.to_unit(trial.params) for trial in points])
    rng = np.random.default_rng(0)
    errors, added = 0.0, np.zeros(inputs.shape[1])
    for fitted, left_out in KFold(NUM_FOLDS, shuffle=True, random_state=0).split(inputs):
        forest = RandomForestRegressor(NUM_TREES, random_state=0).fit(inputs[fitted], values[fitted])
        error = _squared_error(forest, inputs[left_out], values[left_out])
        errors += error
        for column in range(inputs.shape[1]):
            shuffled = np.concatenate([_shuffled(inputs[left_out], column, rng) for _ in range(NUM_PERMUTATIONS)])
            actual = np.tile(values[left_out], NUM_PERMUTATIONS)
            added[column] += _squared_error(forest, shuffled, actual) / NUM_PERMUTATIONS - error
    spread = float(np.sum((values - values.mean()) ** 2))
    return Importance(tuple(study.space), added / spread, 1 - errors / spread, len(points))


def _shuffled(inputs: NDArray[np.float64], column: int, rng: np.random.Generator) -> NDArray[np.float64]:
    copy: NDArray[np.float64] = inputs.copy()
    copy[:, column] = rng.permutation(copy[:, column])
    return copy


def _squared_error(forest: object, inputs: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    predicted = forest.predict(inputs)  # type: ignore[attr-defined]
    return float(np.sum((predicted - values) ** 2))
