r"""Acquisition functions: what a prediction is worth as the next trial. Higher is better, for losses that shall be low.

| symbol | meaning |
| --- | --- |
| m, s | mean and standard deviation of the loss at a point |
| b | the incumbent: the loss to beat |
| z | (b - m) / s |
| phi, Phi | density and distribution function of the standard normal distribution |

Each takes ``(mean, std, best)``, the first two of shape ``(n,)``, and returns values of shape ``(n,)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Acquisition = Callable[[Array, Array, float], Array]

TINY = 1e-12
"""Least standard deviation: predictions are of losses whose own is about 1."""

FAR = -1e4
"""Below this z the limit of log EI is as exact as its formula: either errs by 3e-8."""

LCB_WEIGHT = 2.0
"""Standard deviations that `lcb` is optimistic by."""


def expected_improvement(mean: Array, std: Array, best: float) -> Array:
    """Return E[max(b - loss, 0)] = s (z Phi(z) + phi(z)): Mockus 1975, and Jones, Schonlau and Welch 1998, eq. 15.

    >>> expected_improvement(np.array([0.0]), np.array([1.0]), 0.0).round(4).tolist()
    [0.3989]
    """
    from scipy.stats import norm

    std, z = _standardized(mean, std, best)
    return np.asarray(std * (z * norm.cdf(z) + norm.pdf(z)), dtype=np.float64)


def log_expected_improvement(mean: Array, std: Array, best: float) -> Array:
    """Return the logarithm of the expected improvement, exact where that itself is too small for a number.

    Eq. 9 of Ament, Daulton, Eriksson, Balandat and Bakshy 2023, "Unexpected Improvements to Expected Improvement for
    Bayesian Optimization". The order of points is that of `expected_improvement`, but far from the incumbent that is 0
    everywhere, and says nothing of where to look.

    >>> values = log_expected_improvement(np.array([0.0, 100.0]), np.array([1.0, 1.0]), 0.0)
    >>> values.round(3).tolist()
    [-0.919, -5010.13]
    """
    std, z = _standardized(mean, std, best)
    return np.log(std) + _log_h(z)


def probability_of_improvement(mean: Array, std: Array, best: float) -> Array:
    """Return log P(loss < b) = log Phi(z), Kushner 1964; the logarithm keeps the order where the probability is 0."""
    from scipy.stats import norm

    return np.asarray(norm.logcdf(_standardized(mean, std, best)[1]), dtype=np.float64)


def lower_confidence_bound(mean: Array, std: Array, best: float) -> Array:
    """Return -(m - 2 s): Cox and John 1992, and Srinivas, Krause, Kakade and Seeger 2010 ("GP-UCB")."""
    return LCB_WEIGHT * std - mean


def predicted_mean(mean: Array, std: Array, best: float) -> Array:
    """Return -m: no exploration; for the top predictions of a surrogate that has been trained on a subset."""
    return -mean


def _standardized(mean: Array, std: Array, best: float) -> tuple[Array, Array]:
    std = np.maximum(std, TINY)
    return std, (best - mean) / std


def _log_h(z: Array) -> Array:
    """Return log(phi(z) + z Phi(z)), in three ranges of z as Ament et al. 2023 have it."""
    from scipy.special import erfcx, log_ndtr

    near, middle = np.maximum(z, -1.0), np.clip(z, FAR, -1.0)
    by_definition = np.log(np.exp(-0.5 * near**2) / math.sqrt(2 * math.pi) + near * np.exp(log_ndtr(near)))
    log_ratio = np.log(erfcx(-middle / math.sqrt(2.0)) * np.abs(middle)) + 0.5 * math.log(math.pi / 2)
    log_density = -0.5 * np.minimum(z, -1.0) ** 2 - 0.5 * math.log(2 * math.pi)
    by_ratio = log_density + np.log(-np.expm1(np.minimum(log_ratio, -1e-300)))
    by_limit = log_density - 2.0 * np.log(-np.minimum(z, -1.0))
    return np.where(z > -1.0, by_definition, np.where(z > FAR, by_ratio, by_limit))


ACQUISITIONS: dict[str, Acquisition] = {
    "log_ei": log_expected_improvement,
    "ei": expected_improvement,
    "pi": probability_of_improvement,
    "lcb": lower_confidence_bound,
    "mean": predicted_mean,
}
