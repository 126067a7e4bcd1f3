"""The base of the surrogates: regression that says how sure it is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Posterior(ABC):
    """A surrogate that has been fitted.

    Attributes:
        noise_std: Standard deviation that it ascribes to the noise of one observation.
    """

    noise_std: float = 0.0

    @abstractmethod
    def predict(self, x: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation of the loss without its noise, each of shape ``(n,)``.

        Args:
            x: Features of shape ``(n, num_features)``.
        """


class Surrogate(ABC):
    """How to fit. It holds settings only, so one may serve many fits."""

    @abstractmethod
    def fit(self, x: Array, y: Array, groups: NDArray[np.intp], rng: np.random.Generator) -> Posterior:
        """Return what the observations teach.

        Args:
            x: Features of shape ``(n, num_features)``, between 0 and 1, n >= 1.
            y: Losses of shape ``(n,)``, with a standard deviation of about 1.
            groups: Number of the dimension that each feature comes from, shape ``(num_features,)``, ascending.
            rng: Of its random choices.
        """
