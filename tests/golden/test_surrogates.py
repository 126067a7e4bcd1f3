"""The online Gaussian process is scikit-learn's, and its hyper-parameters are those of a plain loop over the grid."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern

from autotunenet.surrogates import TimeDecayGP, expected_improvement, probability_below


class On(Kernel):
    """A kernel that sees some of the columns; its hyper-parameters are fixed."""

    def __init__(self, kernel, columns):
        self.kernel, self.columns = kernel, columns

    def __call__(self, X, Y=None, eval_gradient=False):  # noqa: N803
        return self.kernel(X[:, self.columns], None if Y is None else Y[:, self.columns])

    def diag(self, X):  # noqa: N803
        return np.ones(len(X))

    def is_stationary(self):
        return True


@st.composite
def windows(draw, noises=None):
    num_dims, n = draw(st.integers(1, 3)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size, offset = 10.0 ** draw(st.integers(-8, 8)), draw(st.sampled_from([0.0, 3.0]))
    x = rng.random((n, num_dims))
    if draw(st.booleans()):
        x[: n // 2] = x[0]
    y = size * (offset + np.sin(5 * x.sum(1)) + draw(st.sampled_from([0.0, 0.3])) * rng.normal(size=n))
    if noises is None:
        noises = draw(st.sampled_from(["none", "all", "some"]))
    given_noises = [
        None if noises == "none" or (noises == "some" and i % 2) else float(size**2 * v)
        for i, v in enumerate(rng.uniform(0.01, 1.0, n))
    ]
    return {
        "x": x,
        "t": np.sort(rng.integers(0, 3 * n, n)).astype(float),
        "y": y,
        "noises": given_noises,
        "mean": draw(st.sampled_from([0.0, 0.5])) * size,
        "scale": draw(st.sampled_from([None, 2.0 * size])),
        "new_x": rng.uniform(-0.2, 1.2, (5, num_dims)),
        "new_t": 3.0 * n + rng.integers(0, 20, 5),
    }


def made(data, **arguments):
    gp = TimeDecayGP(data["x"].shape[1], mean=data["mean"], scale=data["scale"], **arguments)
    for x, t, y, noise in zip(data["x"], data["t"], data["y"], data["noises"], strict=True):
        gp.add(x, t, y, noise)
    return gp


def scikit_learn(data, length_scale, tau, s2, noise_variance):
    """A fitted regressor with these hyper-parameters; the time is the last column."""
    d = data["x"].shape[1]
    space = On(Matern(length_scale, nu=2.5), list(range(d)))
    kernel = ConstantKernel(s2, "fixed") * space * On(Matern(tau, nu=0.5), [d])
    alpha = np.array([noise_variance if noise is None else noise for noise in data["noises"]])
    regressor = GaussianProcessRegressor(kernel, alpha=alpha, optimizer=None)
    return regressor.fit(np.column_stack([data["x"], data["t"]]), data["y"] - data["mean"])


@given(windows())
def test_predictions_and_likelihood_are_scikit_learns(data):
    gp = made(data)
    chosen = gp.hyperparams
    reference = scikit_learn(data, chosen.length_scale, chosen.tau, chosen.signal_variance, chosen.noise_variance)
    mean, std = reference.predict(np.column_stack([data["new_x"], data["new_t"]]), return_std=True)
    own_mean, own_std = gp.predict(data["new_x"], data["new_t"])
    np.testing.assert_allclose(own_mean, mean + data["mean"], rtol=1e-8, atol=1e-9 * np.abs(data["y"]).max())
    np.testing.assert_allclose(own_std, std, rtol=1e-8)
    assert gp.log_marginal_likelihood() == pytest.approx(reference.log_marginal_likelihood_value_, rel=1e-8, abs=1e-8)
    noisy = gp.predict(data["new_x"], data["new_t"], include_noise=True)[1]
    np.testing.assert_allclose(noisy**2, own_std**2 + chosen.noise_variance, rtol=1e-12)


def grid_search(data, length_scales, taus, ratios):
    """Yield (log likelihood + log prior, length scale, tau, s2) by the formulas of the docstring, one at a time."""
    n, deviations = len(data["y"]), data["y"] - data["mean"]
    scale = data["scale"] or math.sqrt(np.mean(deviations**2) * (1 + 4 / n))
    known = data["noises"][0] is not None
    axes = [list(enumerate(values)) for values in (length_scales, taus, ratios)]
    for (i, length_scale), (j, tau), (k, ratio) in itertools.product(*axes):
        if known:
            s2, noise_variance = ratio * scale**2, math.nan
        else:
            unit = scikit_learn(data, length_scale, tau, 1.0, ratio)
            quadratic = deviations @ unit.alpha_  # y' A^-1 y
            s2 = (4 * scale**2 + quadratic) / (4 + n)
            noise_variance = ratio * s2
        likelihood = scikit_learn(data, length_scale, tau, s2, noise_variance).log_marginal_likelihood_value_
        centred = [place - (len(axis) - 1) / 2 for place, axis in zip((i, j, k), axes, strict=True)]
        of_s2 = stats.invgamma(a=2.0, scale=2.0 * scale**2).logpdf(s2) + math.log(s2)  # of ln s2
        yield likelihood + of_s2 - 0.5 * sum(c * c for c in centred), length_scale, tau, s2


@pytest.mark.parametrize("noises", ["none", "all"])
@given(data=st.data())
def test_hyperparameters_are_those_of_a_loop_over_the_grid(noises, data):
    data = data.draw(windows(noises))
    grids = (0.1, 0.4, 2.0), (8.0, math.inf), (0.05, 0.3, 3.0)
    gp = made(data, length_scales=grids[0], taus=grids[1], noise_ratios=grids[2], signal_ratios=grids[2])
    chosen = gp.hyperparams
    points = list(grid_search(data, *grids))
    best = max(points)[0]
    own = [
        value
        for value, length_scale, tau, s2 in points
        if (length_scale, tau) == (chosen.length_scale, chosen.tau)
        and s2 == pytest.approx(chosen.signal_variance, rel=1e-7)
    ]
    assert own
    assert max(own) == pytest.approx(best, abs=1e-7)


@given(st.floats(-5, 5), st.floats(1e-3, 5), st.floats(-5, 5), st.sampled_from([1e-8, 1.0, 1e8]))
def test_acquisitions_are_scipys_and_the_integral(mean, std, best, size):
    z = (best - mean) / std
    below = probability_below([mean * size], [std * size], best * size)
    assert below == pytest.approx([stats.norm.cdf(z)], rel=1e-9, abs=1e-300)
    grid = np.linspace(-12, min(z, 12.0), 20_001)
    heights = (z - grid) * stats.norm.pdf(grid)
    integral = float(((heights[1:] + heights[:-1]) / 2 * np.diff(grid)).sum()) * std if z > -12 else 0.0
    improvement = expected_improvement([mean * size], [std * size], best * size) / size
    assert improvement == pytest.approx([integral], rel=1e-5, abs=1e-12)
