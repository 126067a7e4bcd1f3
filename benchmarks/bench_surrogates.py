"""Speed of the online Gaussian process: observation, new hyper-parameters and prediction at 64 candidates.

    python -m pip install pytest-benchmark
    OPENBLAS_NUM_THREADS=1 python -m pytest benchmarks/bench_surrogates.py --benchmark-columns=min,median,rounds

Goals on one idle core: a median of at most 1 ms with 64 observations and of 0.3 ms with 16. scikit-learn stands beside
it twice: with the same work (the same grid, one fit each), and with its own default, one run of L-BFGS-B.
"""

import itertools

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from autotunenet.surrogates import TimeDecayGP

SIZES = [(num_dims, n) for num_dims in (1, 3) for n in (16, 64)]


def observations(num_dims, n):
    """Return points, noisy values and candidates."""
    rng = np.random.default_rng(0)
    x = rng.random((n, num_dims))
    return x, np.sin(5 * x.sum(1)) + 0.3 * rng.normal(size=n), rng.random((64, num_dims))


@pytest.fixture(autouse=True, scope="session")
def _grown_heap():
    """Free a large array once, as every training has: glibc then keeps memory, and no page is fetched anew."""
    np.ones(2_000_000)


@pytest.mark.parametrize("noise", [None, 0.09], ids=["noise unknown", "noise given"])
@pytest.mark.parametrize(("num_dims", "n"), SIZES)
def test_time_decay_gp(benchmark, num_dims, n, noise):
    """One observation into a full window, then a prediction."""
    x, y, candidates = observations(num_dims, n)
    gp = TimeDecayGP(num_dims, window=n)
    for t in range(n):
        gp.add(x[t], t, y[t], noise)
    times = itertools.count(n)

    def add_fit_predict():
        t = next(times)
        gp.add(x[t % n], t, y[t % n], noise)
        return gp.predict(candidates, t + 1)

    benchmark.group = f"{num_dims} dimensions, {n} observations"
    benchmark(add_fit_predict)


@pytest.mark.parametrize(("num_dims", "n"), SIZES)
def test_scikit_learn_on_the_same_grid(benchmark, num_dims, n):
    """Without the temporal kernel, so with a little less work."""
    x, y, candidates = observations(num_dims, n)
    gp = TimeDecayGP(num_dims)
    grid = list(itertools.product(gp.length_scales, gp.taus, gp.noise_ratios))

    def fit_predict():
        fits = [
            GaussianProcessRegressor(Matern(length, nu=2.5), alpha=ratio, optimizer=None).fit(x, y)
            for length, _, ratio in grid
        ]
        best = max(fits, key=lambda fit: fit.log_marginal_likelihood_value_)
        return best.predict(candidates, return_std=True)

    benchmark.group = f"{num_dims} dimensions, {n} observations"
    benchmark(fit_predict)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("num_dims", "n"), SIZES)
def test_scikit_learn_by_gradient(benchmark, num_dims, n):
    """As it comes."""
    x, y, candidates = observations(num_dims, n)
    kernel = ConstantKernel() * Matern(nu=2.5) + WhiteKernel()

    def fit_predict():
        return GaussianProcessRegressor(kernel).fit(x, y).predict(candidates, return_std=True)

    benchmark.group = f"{num_dims} dimensions, {n} observations"
    benchmark.pedantic(fit_predict, rounds=30)
