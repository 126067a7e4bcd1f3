"""Surrogates: the Gaussian process against one worked out by hand, the forest against its trees."""

import warnings

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from autotunenet import Categorical, Float, Int, Ordinal, SearchSpace
from autotunenet.hpo import SURROGATES, GaussianProcess, RandomForest
from autotunenet.hpo.encoding import Encoding
from autotunenet.hpo.surrogates.grouped_matern import GroupedMatern

GROUPS = np.array([0, 1, 1, 1])


def observations(n=12, seed=0):
    """A wave over one range and a choice among three."""
    rng = np.random.default_rng(seed)
    choice = rng.integers(3, size=n)
    x = np.hstack([rng.random((n, 1)), np.eye(3)[choice] * np.sqrt(0.5)])
    y = np.sin(6 * x[:, 0]) + choice + 0.01 * rng.standard_normal(n)
    return x, (y - y.mean()) / y.std()


def by_hand(x, y, at, *, amplitude, lengths, noise):
    """Eq. 2.25 and 2.26 of Rasmussen and Williams 2006, with an inverse instead of a factor."""

    def covariance(a, b):
        r = np.sqrt((((a[:, None] - b) / lengths[GROUPS]) ** 2).sum(axis=2))
        return amplitude * (1 + np.sqrt(5) * r + 5 * r**2 / 3) * np.exp(-np.sqrt(5) * r)

    inverse = np.linalg.inv(covariance(x, x) + noise * np.eye(len(x)))
    across = covariance(at, x)
    return across @ inverse @ y, np.sqrt(np.diag(covariance(at, at) - across @ inverse @ across.T))


def test_the_gaussian_process_predicts_as_worked_out_by_hand():
    x, y = observations()
    posterior = GaussianProcess().fit(x, y, GROUPS, np.random.default_rng(0))
    kernel = posterior._process.kernel_
    lengths = np.atleast_1d(kernel.k1.k2.length_scale)
    at = observations(7, seed=1)[0]
    mean, std = by_hand(x, y, at, amplitude=kernel.k1.k1.constant_value, lengths=lengths, noise=posterior.noise_std**2)
    assert posterior.predict(at)[0] == pytest.approx(mean, rel=1e-6, abs=1e-7)
    assert posterior.predict(at)[1] == pytest.approx(std, rel=1e-4, abs=1e-6)


def test_the_kernel_has_the_gradient_of_its_length_scales():
    x = observations(5)[0]
    theta = np.log([0.4, 1.7])

    def entry(t, i, j):
        return GroupedMatern(np.exp(t), tuple(GROUPS.tolist()))(x)[i, j]

    _, gradient = GroupedMatern(np.exp(theta), tuple(GROUPS.tolist()))(x, eval_gradient=True)
    assert gradient.shape == (5, 5, 2)
    for i, j in ((0, 1), (2, 4)):
        assert gradient[i, j] == pytest.approx(approx_fprime(theta, entry, 1e-7, i, j), abs=1e-5)


def test_the_noise_is_found():
    rng = np.random.default_rng(0)
    x = rng.random((60, 1))
    clean = np.sin(6 * x[:, 0])
    for noise in (0.0, 0.5):
        y = clean + noise * rng.standard_normal(60)
        found = GaussianProcess().fit(x, y, np.array([0]), rng).noise_std
        assert abs(found - noise) < 0.12


def test_few_observations_leave_a_doubt():
    """The likelihood alone would take three values on a line for a line."""
    x, y = np.array([[0.0], [0.1], [0.2]]), np.array([-1.0, 0.0, 1.0])
    posterior = GaussianProcess().fit(x, y, np.array([0]), np.random.default_rng(0))
    std = posterior.predict(np.array([[0.1], [1.0]]))[1]
    assert std[0] < 0.2
    assert std[1] > 0.4


def test_hyper_parameters_of_many_observations_are_fitted_to_the_best_half_and_others():
    y = np.random.default_rng(0).permutation(300).astype(float)
    part = GaussianProcess(max_fitted=40)._part(y, np.random.default_rng(1))
    assert len(part) == len(set(part)) == 40
    assert set(range(20)) <= set(y[part])
    assert y[part].max() > 100


def test_the_forest_spreads_as_its_trees_do():
    x, y = observations()
    posterior = RandomForest(num_trees=7).fit(x, y, GROUPS, np.random.default_rng(0))
    at = observations(9, seed=1)[0]
    values = np.array([tree.predict(at) for tree in posterior._trees])
    assert posterior.predict(at)[0] == pytest.approx(values.mean(axis=0))
    assert posterior.predict(at)[1] == pytest.approx(values.std(axis=0))


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("n", [1, 2, 12])
def test_surrogates_are_quiet_deterministic_and_learn(name, n):
    x, y = observations(n) if n > 1 else (observations(2)[0][:1], np.zeros(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fits = [SURROGATES[name]().fit(x, y, GROUPS, np.random.default_rng(5)).predict(x) for _ in range(2)]
    assert np.array_equal(fits[0], fits[1])
    mean, std = fits[0]
    assert mean.shape == std.shape == (n,)
    assert (std >= 0).all()
    if n == 12:
        assert np.corrcoef(mean, y)[0, 1] > 0.9


def test_points_that_are_the_same_to_the_objective_are_the_same_to_the_surrogate():
    space = SearchSpace(
        {
            "x": Float(0, 1),
            "n": Int(1, 100, log=True),
            "k": Int(0, 3),
            "o": Ordinal((1, 10, 11)),
            "c": Categorical("abc"),
        }
    )
    encoding, rng = Encoding(space), np.random.default_rng(0)
    u = rng.random((200, 5))
    rounded = np.stack([space.to_unit(space.from_unit(row)) for row in u])
    features = encoding.features(u)
    assert features == pytest.approx(encoding.features(rounded), abs=1e-12)
    assert encoding.groups.tolist() == [0, 1, 2, 3, 4, 4, 4]
    ends = encoding.features(np.array([[0.0] * 5, [1.0] * 5]))[:, :4]
    assert ends.tolist() == [[0.0] * 4, [1.0] * 4]
    choices = features[:, 4:]
    assert set(np.linalg.norm(choices[:, None] - choices, axis=2).round(9).ravel()) == {0.0, 1.0}
