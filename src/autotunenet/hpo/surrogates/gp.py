r"""A Gaussian process with a fitted noise, whose hyper-parameters have priors. By scikit-learn.

| symbol | meaning | prior of its logarithm: normal with |
| --- | --- | --- |
| a | variance of the latent function, in units of the variance of the losses | mean 0, standard deviation 1 |
| l_i | length scale of dimension i, in units of its range | see `LENGTH_SCALE` |
| v | variance of the noise of an observation | see `NOISE` |

The covariance of two losses is ``a k(r) + v [same observation]``, k the Matern 5/2 correlation of
``r^2 = sum_i (x_i - x'_i)^2 / l_i^2``. The hyper-parameters are those of the highest posterior density: with 4 to 10
observations the likelihood alone has no proper maximum. The rest is algorithm 2.1 of Rasmussen and Williams 2006.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotunenet.hpo.surrogates.base import Array, Posterior, Surrogate

MAX_ITERATIONS = 30
"""Of each local search; the optimum is flat, and further ones change no proposal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianProcess(Surrogate):
    """Exact regression with one length scale a dimension.

    Attributes:
        max_fitted: Observations that the hyper-parameters are fitted to, at most; which ones is drawn, the best half of
            them always being among them. Predictions use all.
        num_starts: Local searches for the hyper-parameters.
        length_scale: Median of the prior of each length scale, in a space of one dimension; it grows with the square
            root of the number of dimensions (Hvarfner, Hellsten and Nardi 2024).
        length_scale_sigma: Standard deviation of its logarithm.
        noise: Median of the prior of the variance of the noise.
        noise_sigma: Standard deviation of its logarithm.
    """

    max_fitted: int = 100
    num_starts: int = 1
    length_scale: float = 0.5
    length_scale_sigma: float = 1.0
    noise: float = 1e-3
    noise_sigma: float = 2.0

    def fit(self, x: Array, y: Array, groups: NDArray[np.intp], rng: np.random.Generator) -> GPPosterior:
        """Return the posterior, at the hyper-parameters of the highest posterior density."""
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel

        from autotunenet.hpo.surrogates.grouped_matern import GroupedMatern

        num_dims = int(groups[-1]) + 1
        center = np.log([1.0, *[self.length_scale * math.sqrt(num_dims)] * num_dims, self.noise])
        sigma = np.array([1.0, *[self.length_scale_sigma] * num_dims, self.noise_sigma])
        lengths = np.exp(center[1:-1])
        kernel = ConstantKernel(1.0) * GroupedMatern(lengths, tuple(groups.tolist())) + WhiteKernel(self.noise)
        part = self._part(y, rng)
        process = GaussianProcessRegressor(kernel, optimizer=None).fit(x[part], y[part])
        others = rng.standard_normal((self.num_starts - 1, len(center)))
        starts = [center, *(center + 0.5 * sigma * others)]
        theta = _most_probable(process, center, sigma, starts)
        return GPPosterior(GaussianProcessRegressor(kernel.clone_with_theta(theta), optimizer=None).fit(x, y))

    def _part(self, y: Array, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return which observations the hyper-parameters are fitted to."""
        if len(y) <= self.max_fitted:
            return np.arange(len(y))
        order = np.argsort(y, kind="stable")
        num_best = self.max_fitted // 2
        others = rng.choice(order[num_best:], self.max_fitted - num_best, replace=False)
        return np.sort(np.concatenate([order[:num_best], others]))


class GPPosterior(Posterior):
    """Predictions of a fitted process.

    Args:
        process: With the kernel that `GaussianProcess.fit` makes.
    """

    def __init__(self, process: Any) -> None:
        self._process = process
        self._latent = process.kernel_.k1  # without the noise
        self.noise_std = math.sqrt(process.kernel_.k2.noise_level)

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation of the latent function: eq. 2.25 and 2.26 of Rasmussen and Williams."""
        from scipy.linalg import solve_triangular

        across = self._latent(x, self._process.X_train_)
        v = solve_triangular(self._process.L_, across.T, lower=True, check_finite=False)
        variance = self._latent.diag(x) - np.einsum("ij,ij->j", v, v)
        return across @ self._process.alpha_, np.sqrt(np.maximum(variance, 0.0))


def _most_probable(process: Any, center: Array, sigma: Array, starts: list[Array]) -> Array:
    """Return the logarithms of the hyper-parameters, shape ``(d + 2,)``, at the highest posterior density found."""
    from scipy.optimize import minimize

    def cost(theta: Array) -> tuple[float, Array]:
        fit, gradient = process.log_marginal_likelihood(theta, eval_gradient=True, clone_kernel=False)
        z = (theta - center) / sigma
        return 0.5 * float(z @ z) - fit, z / sigma - gradient

    bounds = list(zip(center - 4 * sigma, center + 4 * sigma, strict=True))
    settings = {"jac": True, "bounds": bounds, "method": "L-BFGS-B", "options": {"maxiter": MAX_ITERATIONS}}
    found = [minimize(cost, start, **settings) for start in starts]
    return np.asarray(min(found, key=lambda result: float(result.fun)).x, dtype=np.float64)
