"""A random forest whose trees disagree where little is known. By scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotunenet.hpo.surrogates.base import Array, Posterior, Surrogate


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomForest(Surrogate):
    """Breiman 2001, with the mean and the spread over its trees as in Hutter, Hoos and Leyton-Brown 2011 (SMAC).

    Attributes:
        num_trees: How many.
        max_features: Share of the features that each split chooses from.
        bootstrap: Whether each tree sees a sample of the observations, drawn with replacement, instead of all.
        min_samples_leaf: Observations in a leaf, at least.
    """

    num_trees: int = 50
    max_features: float = 1.0
    bootstrap: bool = True
    min_samples_leaf: int = 1

    def fit(self, x: Array, y: Array, groups: NDArray[np.intp], rng: np.random.Generator) -> ForestPosterior:
        """Return the forest."""
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(
            n_estimators=self.num_trees,
            max_features=self.max_features,
            bootstrap=self.bootstrap,
            min_samples_leaf=self.min_samples_leaf,
            random_state=int(rng.integers(2**31)),
        )
        return ForestPosterior(forest.fit(x, y).estimators_)


class ForestPosterior(Posterior):
    """Mean and standard deviation over trees.

    Args:
        trees: Fitted regression trees.
    """

    def __init__(self, trees: Any) -> None:
        self._trees = trees

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation over the trees."""
        narrow = x.astype(np.float32)  # what trees compare; told so, they do not check it a hundred times
        values = np.stack([tree.predict(narrow, check_input=False) for tree in self._trees])
        return values.mean(axis=0), values.std(axis=0)
