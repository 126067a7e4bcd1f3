r"""A small exact Gaussian process for the online loop, and what is asked of its predictions. Numpy only.

| symbol | meaning | shape |
| --- | --- | --- |
| x, t, y | point in the unit cube, time, observed value (lower is better) | (d,), (), () |
| l, tau | length scale in units of x, time constant in units of t | (), () |
| s2 | variance of the latent function f | () |
| R | correlations: Matern 5/2 of the distance / l, times exp(-\|dt\| / tau) | (n, n) |
| D | diagonal of noise variances / s2 | (n,) |
| A = R + D | covariance of the observations / s2 = K / s2 | (n, n) |
| L, w | lower Cholesky factor of A; solution of L w = z, z the standardized y | (n, n), (n,) |

The temporal kernel is that of time-varying GP bandits, (1 - eps)^(\|dt\| / 2), Bogunovic, Scarlett and Cevher 2016,
with tau = -2 / ln(1 - eps): eps = 0.05 is tau = 39. The rest is algorithm 2.1 of Rasmussen and Williams 2006.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autotunenet.state import PlainState, check_keys

Array = NDArray[np.float64]

LARGEST = 1e60
"""Largest magnitude of an input: squares of ratios of such numbers are still finite."""

MIN_NOISE_RATIO = 1e-8
"""Least noise variance / s2 of an observation: duplicated points stay well away from a singular matrix."""

PRIOR_COUNT = 4.0
"""Observations that the prior of s2 is worth.

With both priors, 90 % intervals hold the truth of functions drawn from such models in 1 and 3 dimensions 84-85 times
in 100 after 2 observations and 81-84 after 5; with flat grids and the bare scale of y, 64-67 and 75-79.
"""

PRIOR_PRECISION = 1.0
"""Precision of the normal prior over the place in the grid of a hyper-parameter, in steps of that grid."""


@dataclass(frozen=True, slots=True)
class GPHyperparams:
    """What the marginal likelihood chose.

    Attributes:
        length_scale: In units of x, the same in all dimensions.
        tau: Time constant, in units of t.
        signal_variance: Variance of the latent function, in units of y squared.
        noise_variance: Variance of an observation whose noise nobody gave, in units of y squared.
    """

    length_scale: float
    tau: float
    signal_variance: float
    noise_variance: float


@dataclass(frozen=True, slots=True)
class _Fit:
    hyperparams: GPHyperparams
    x: Array  # (n, d)
    t: Array  # (n,)
    factor: Array  # L, (n, n)
    whitened: Array  # w, (n,), in units of y
    log_marginal_likelihood: float


class TimeDecayGP(PlainState):
    """Exact GP regression over points and time, made to be asked after every observation.

    The hyper-parameters are chosen anew after every change, over the whole grid `length_scales` x `taus` x
    `noise_ratios`: the largest log marginal likelihood plus log prior. The prior keeps a few observations harmless: a
    normal one over the place in each grid, around its middle (`PRIOR_PRECISION`), and for s2 a scaled inverse
    chi-squared one worth `PRIOR_COUNT` observations of `scale` squared, under which the best s2 has a closed form.
    Once an observation comes with its noise, noises are absolute: s2 is then chosen from `signal_ratios` x `scale`
    squared in place of a noise ratio, and an observation without its noise gets the mean of those given.

    The state is the observations alone, at most `window` of them; everything else follows from them.

    Args:
        num_dims: Coordinates of a point, at least 1. The unit cube is the scale that the defaults are made for.
        mean: Prior mean of the latent function.
        scale: Prior standard deviation of the latent function around `mean`. None: the root mean square of y - mean
            over the window, times sqrt(1 + PRIOR_COUNT / n), and 1 while that is 0.
        window: Observations that are kept, the newest by time, at least 1.
        length_scales: Grid, ascending, in units of x.
        taus: Grid, ascending, in units of t; `math.inf` is a world that does not change.
        noise_ratios: Grid of noise variance / s2, ascending.
        signal_ratios: Grid of s2 / scale squared, ascending; used where noises are given.

    Raises:
        ValueError: If an argument is out of its range.

    >>> gp = TimeDecayGP(1)
    >>> for step, (x, y) in enumerate([(0.1, 1.0), (0.5, 0.2), (0.9, 0.8)]):
    ...     gp.add([x], t=step, y=y)
    >>> mean, std = gp.predict([[0.5], [0.9]], t=3)
    >>> bool(mean[0] < mean[1])
    True
    >>> bool((gp.predict([[0.5], [0.9]], t=30)[1] > std).all())  # evidence grows old
    True
    """

    state_names = ("_observations",)

    def __init__(
        self,
        num_dims: int,
        *,
        mean: float = 0.0,
        scale: float | None = None,
        window: int = 64,
        length_scales: Sequence[float] = (0.15, 0.4, 1.0),
        taus: Sequence[float] = (15.0, 100.0),
        noise_ratios: Sequence[float] = (0.02, 0.2, 2.0),
        signal_ratios: Sequence[float] = (0.1, 0.5, 2.5),
    ) -> None:
        if num_dims < 1 or window < 1:
            raise ValueError(f"TimeDecayGP: num_dims and window must be at least 1, got {num_dims} and {window}")
        self.num_dims, self.window = num_dims, window
        self.mean = _number("mean", mean)
        self.scale = None if scale is None else _grid("scale", [scale])[0]
        self.length_scales = _grid("length_scales", length_scales, low=1e-6, top=1e6)
        self.taus = _grid("taus", taus, top=math.inf)
        self.noise_ratios = _grid("noise_ratios", noise_ratios, low=MIN_NOISE_RATIO)
        self.signal_ratios = _grid("signal_ratios", signal_ratios)
        self._observations: list[list[Any]] = []  # of [x, t, y, noise, inflation], in the order of t
        self._fit: _Fit | None = None

    def __len__(self) -> int:
        return len(self._observations)

    def add(self, x: ArrayLike, t: float, y: float, noise: float | None = None) -> None:
        """Take in an observation. Beyond `window` the oldest by time goes, of equal times the first added.

        Args:
            x: Point, shape (num_dims,).
            t: Time, in the unit of `taus`; need not be in order.
            y: Observed value.
            noise: Variance of y, for example the squared standard error of a mean. None: not known.

        Raises:
            ValueError: If a value is not finite, the noise is negative or x has another shape; nothing is added then.
        """
        point = np.asarray(x, dtype=np.float64)
        if point.shape != (self.num_dims,) or not (np.abs(point) <= LARGEST).all():
            raise ValueError(f"TimeDecayGP.add: x must be {self.num_dims} finite numbers, got {x!r}")
        t, y = _number("t", t), _number("y", y)
        if noise is not None and (noise := _number("noise", noise)) < 0:
            raise ValueError(f"TimeDecayGP.add: noise is a variance and must not be negative, got {noise}")
        self._observations.insert(
            bisect_right([seen[1] for seen in self._observations], t), [point.tolist(), t, y, noise, 1.0]
        )
        del self._observations[: -self.window]
        self._fit = None

    def forget(self, before: float | None = None, inflation: float | None = None) -> None:
        """Drop evidence that a change of the world has made stale, or trust it less.

        Args:
            before: Observations with t below this are meant; None: all.
            inflation: None: drop them. Otherwise, at least 1: factor on their noise variances; calls multiply.

        Raises:
            ValueError: If `before` is not finite or `inflation` is out of its range.
        """
        limit = math.inf if before is None else _number("before", before)
        if inflation is not None and not 1 <= inflation <= LARGEST:
            raise ValueError(f"TimeDecayGP.forget: inflation must be at least 1 and finite, got {inflation}")
        if inflation is None:
            self._observations = [seen for seen in self._observations if seen[1] >= limit]
        for seen in self._observations:
            if inflation is not None and seen[1] < limit:
                seen[4] = min(seen[4] * inflation, LARGEST)
        self._fit = None

    def predict(self, x: ArrayLike, t: ArrayLike, *, include_noise: bool = False) -> tuple[Array, Array]:
        """Return mean and standard deviation of the latent function.

        Args:
            x: Points, shape (m, num_dims).
            t: Time of the prediction, a number or shape (m,).
            include_noise: Give the standard deviation of a new observation instead.

        Returns:
            Mean and standard deviation, each of shape (m,), in units of y.

        Raises:
            ValueError: If x has another shape, or x or t is not finite.
        """
        points, times = np.asarray(x, dtype=np.float64), np.asarray(t, dtype=np.float64)
        if points.shape[1:] != (self.num_dims,) or times.shape not in ((), points.shape[:1]):
            shapes = f"(m, {self.num_dims}) and t () or (m,), got {points.shape} and {times.shape}"
            raise ValueError(f"TimeDecayGP.predict: x must have shape {shapes}")
        if not (np.abs(points) <= LARGEST).all() or not (np.abs(times) <= LARGEST).all():
            raise ValueError("TimeDecayGP.predict: x and t must be finite; leave out the candidates that are not")
        fit, chosen = self._fitted(), self.hyperparams
        correlations = _matern(fit.x, points, [chosen.length_scale])[0] * _exponential(fit.t, times, [chosen.tau])[0]
        solved = np.linalg.solve(fit.factor, correlations)  # (n, m)
        mean = self.mean + solved.T @ fit.whitened
        variance = chosen.signal_variance * np.maximum(1.0 - np.square(solved).sum(0), 0.0)
        return mean, np.sqrt(variance + chosen.noise_variance if include_noise else variance)

    def log_marginal_likelihood(self) -> float:
        """Return ln p(y) under the chosen hyper-parameters, without their prior; 0 without observations."""
        return self._fitted().log_marginal_likelihood

    @property
    def hyperparams(self) -> GPHyperparams:
        """The hyper-parameters chosen for the observations of now."""
        return self._fitted().hyperparams

    def _fitted(self) -> _Fit:
        self._fit = self._fit or self._choose()
        return self._fit

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ValueError: If it is no state of one with this `num_dims` and `window`; nothing is loaded then.
        """
        check_keys(type(self).__name__, state_dict, self.state_names)
        observations = state_dict["_observations"]
        if len(observations) > self.window or any(len(x) != self.num_dims for x, *_ in observations):
            rule = f"num_dims={self.num_dims} and window={self.window}; load it into one made with the same arguments"
            raise ValueError(f"TimeDecayGP: the state does not fit {rule}")
        super().load_state_dict(state_dict)
        self._fit = None

    def _choose(self) -> _Fit:
        """Evaluate the grid; the first of equal points is taken."""
        n = len(self)
        x = np.array([seen[0] for seen in self._observations], dtype=np.float64).reshape(n, self.num_dims)
        t, y = np.array([seen[1:3] for seen in self._observations], dtype=np.float64).reshape(n, 2).T
        unit = _spread(y - self.mean) if self.scale is None else self.scale
        z = (y - self.mean) / unit
        noise, signal, usual = self._noise_grid(unit)
        in_space = _matern(x, x, self.length_scales)
        in_time = _exponential(t, t, self.taus)
        shape = (len(in_space), len(in_time), len(noise))
        quadratic, log_determinant = np.empty((2, *shape))  # z' A^-1 z, ln |A|
        memory = np.empty((*shape[1:], n + 1, n + 1))
        for place, correlations in enumerate(in_space):  # not all at once: that leaves the cache
            factors, whitened = _factorize((correlations * in_time)[:, None], noise, z, memory)
            quadratic[place] = np.square(whitened).sum(-1)
            log_determinant[place] = 2.0 * np.log(np.diagonal(factors, axis1=-2, axis2=-1)).sum(-1)
        s2 = (PRIOR_COUNT + quadratic) / (PRIOR_COUNT + n) if signal is None else signal + np.zeros(shape)
        likelihood = -0.5 * (quadratic / s2 + log_determinant + n * np.log(2.0 * math.pi * s2))
        best = np.unravel_index(int(np.argmax(likelihood + _log_prior(s2))), shape)
        factor, whitened = _factorize(in_space[best[0]] * in_time[best[1]], noise[best[2]], z, memory[0, 0])
        signal_variance = float(s2[best]) * unit * unit
        chosen = GPHyperparams(
            length_scale=self.length_scales[best[0]],
            tau=self.taus[best[1]],
            signal_variance=signal_variance,
            noise_variance=signal_variance * self.noise_ratios[best[2]] if usual is None else usual,
        )
        return _Fit(chosen, x, t, factor, whitened * unit, float(likelihood[best]) - n * math.log(unit))

    def _noise_grid(self, unit: float) -> tuple[Array, Array | None, float | None]:
        """Return the diagonals D, shape (k, n), s2 / unit^2, shape (k,), and the usual noise; no noise given: None."""
        inflation = np.array([seen[4] for seen in self._observations], dtype=np.float64)
        given = [seen[3] for seen in self._observations if seen[3] is not None]
        if not given:
            return np.array(self.noise_ratios)[:, None] * inflation, None, None
        usual = sum(given) / len(given)
        variances = np.array([usual if seen[3] is None else seen[3] for seen in self._observations]) * inflation
        signal = np.array(self.signal_ratios)
        return np.maximum(variances / unit / unit / signal[:, None], MIN_NOISE_RATIO), signal, usual


def expected_improvement(mean: ArrayLike, std: ArrayLike, best: float) -> Array:
    """Return E[max(best - f, 0)] for f ~ N(mean, std^2): how far below `best` a minimization may hope to get.

    Jones, Schonlau and Welch 1998, equation 15, for a minimum. Where `std` is 0, it is the plain difference.

    >>> expected_improvement([0.0, 1.0], [1.0, 0.0], best=0.0).round(4).tolist()
    [0.3989, 0.0]
    """
    gain, std = best - np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        density = np.exp(-0.5 * np.square(gain / std)) / math.sqrt(2.0 * math.pi)
    return np.maximum(np.where(std > 0, gain * _normal_cdf(gain, std) + std * density, gain), 0.0)


def probability_below(mean: ArrayLike, std: ArrayLike, threshold: float) -> Array:
    """Return P(f < threshold) for f ~ N(mean, std^2); where `std` is 0, it is 0 or 1.

    >>> probability_below([0.0, 0.0, -1.0], [1.0, 0.0, 0.0], threshold=0.0).tolist()
    [0.5, 0.0, 1.0]
    """
    return _normal_cdf(threshold - np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64))


def _normal_cdf(gain: Array, std: Array) -> Array:
    """Return P(N(0, std^2) < gain)."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        z = np.where(std > 0, gain / std, np.where(gain > 0, math.inf, -math.inf))
    # By erfc, which keeps its relative precision far out, where 1 + erf is 0.
    return np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in z.ravel().tolist()]).reshape(z.shape)


def _matern(x: Array, other: Array, length_scales: Sequence[float]) -> Array:
    """Return Matern 5/2 correlations, shape (length scales, n, m). Rasmussen and Williams 2006, equation 4.17."""
    squares = np.zeros((len(x), len(other)))
    for column, others in zip(x.T, other.T, strict=True):  # differences, so that equal points are at distance 0
        squares += np.square(column[:, None] - others)
    scaled: Array = math.sqrt(5.0) / np.array(length_scales)[:, None, None] * np.sqrt(squares)
    correlations: Array = scaled / 3.0  # in place from here on, as fresh memory costs more than arithmetic
    correlations += 1.0
    correlations *= scaled
    correlations += 1.0
    correlations *= np.exp(np.negative(scaled, out=scaled), out=scaled)
    return correlations


def _exponential(t: Array, other: Array, taus: Sequence[float]) -> Array:
    """Return exp(-|dt| / tau), shape (taus, n, m), or (taus, n, 1) where `other` is a number."""
    return np.asarray(np.exp(-np.abs(t[:, None] - other) / np.array(taus)[:, None, None]))


def _factorize(correlations: Array, noise: Array, z: Array, memory: Array) -> tuple[Array, Array]:
    """Return L, shape (..., n, n), and w, shape (..., n), for R, shape (..., n, n), and D, shape (..., n).

    z rides along as one more row of the matrix, so that the last row of the factor is w: numpy has no solver for
    triangular systems. `memory`, shape (..., n + 1, n + 1), is overwritten: new memory costs as much as the factors.
    """
    n = len(z)
    memory[..., :n, :n] = correlations
    memory.reshape(*memory.shape[:-2], -1)[..., : n * (n + 1) : n + 2] += noise  # the diagonal but its last place
    memory[..., n, :n] = memory[..., :n, n] = z
    memory[..., n, n] = 1.0 + 2.0 * (z @ z) / MIN_NOISE_RATIO  # any number that keeps it positive definite
    factors = _cholesky(memory)
    return factors[..., :n, :n], factors[..., n, :n]


def _cholesky(matrices: Array) -> Array:
    """Factorize a stack of matrices, with the least jitter on all diagonals that lets all of them through.

    Raises:
        RuntimeError: If not even the largest jitter does.
    """
    for jitter in (0.0, 1e-10, 1e-8, 1e-6, 1e-4):
        try:
            raised = matrices + jitter * np.eye(matrices.shape[-1]) if jitter else matrices
            return np.asarray(np.linalg.cholesky(raised), dtype=np.float64)
        except np.linalg.LinAlgError:
            continue
    rule = f"not positive definite, even with {jitter:g} on its diagonal"
    raise RuntimeError(
        f"TimeDecayGP: the covariance is {rule}. Give larger noise_ratios, or forget() the observations."
    )


def _log_prior(s2: Array) -> Array:
    """Return the log prior of every grid point, up to a constant; s2 in units of scale squared, over the whole grid."""
    of_s2 = -0.5 * PRIOR_COUNT * (np.log(s2) + 1.0 / s2)  # of ln s2; its mode is s2 = 1
    space, time, noise = (-0.5 * PRIOR_PRECISION * np.square(np.arange(k) - (k - 1) / 2) for k in s2.shape)
    return np.asarray(of_s2 + (space[:, None, None] + time[:, None] + noise))


def _spread(deviations: Array) -> float:
    """Return the scale that `deviations` suggest, generous while they are few; 1 where there is nothing but zeros."""
    mean_square = float(np.mean(np.square(deviations))) if len(deviations) else 0.0
    return math.sqrt(mean_square * (1.0 + PRIOR_COUNT / len(deviations))) if mean_square > LARGEST**-2 else 1.0


def _number(name: str, value: float) -> float:
    number = float(value)
    if not abs(number) <= LARGEST:
        raise ValueError(f"TimeDecayGP: {name} must be finite and at most {LARGEST:g} in magnitude, got {value}")
    return number


def _grid(name: str, values: Sequence[float], low: float = 1 / LARGEST, top: float = LARGEST) -> tuple[float, ...]:
    grid = tuple(float(value) for value in values)
    if not grid or list(grid) != sorted(set(grid)) or not (low <= grid[0] and grid[-1] <= top):
        raise ValueError(f"TimeDecayGP: {name} must be ascending numbers from {low:g} to {top:g}, got {values}")
    return grid
