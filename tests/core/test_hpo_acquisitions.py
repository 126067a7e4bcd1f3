"""Acquisition functions against integrals, and where their values are too small for a number."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from autotunenet.hpo import ACQUISITIONS

CASES = [(0.0, 1.0, 0.0), (0.3, 0.2, 0.1), (-1.0, 0.5, 0.4), (2.0, 1.5, -0.5), (0.1, 3.0, 0.1)]


def value(name, mean, std, best):
    return float(ACQUISITIONS[name](np.array([mean]), np.array([std]), best)[0])


@pytest.mark.parametrize("case", CASES)
def test_improvements_are_what_they_are_the_expectation_of(case):
    mean, std, best = case
    density = norm(mean, std).pdf
    expected = quad(lambda loss: (best - loss) * density(loss), mean - 12 * std, best)[0]
    probability = quad(density, mean - 12 * std, best)[0]
    assert value("ei", *case) == pytest.approx(expected, rel=1e-8)
    assert value("log_ei", *case) == pytest.approx(np.log(expected), rel=1e-8)
    assert value("pi", *case) == pytest.approx(np.log(probability), rel=1e-8)


@pytest.mark.parametrize("z", [-0.9, -1.0, -1.1, -5.0, -30.0, -1e3, -9.99e3, -1.01e4, -1e6])
def test_log_ei_is_exact_far_below_what_a_number_can_hold(z):
    # E[max(z + t, 0)] = phi(z) * integral of u exp(-u^2 / 2 - |z| u) du: its logarithm in parts that stay in range.
    scaled = quad(lambda u: u * np.exp(-0.5 * (u / z) ** 2 - u), 0, 60)[0] if z < -1 else None
    expected = np.log(z * norm.cdf(z) + norm.pdf(z)) if scaled is None else norm.logpdf(z) + np.log(scaled / z**2)
    assert value("log_ei", -z, 1.0, 0.0) == pytest.approx(expected, rel=1e-9, abs=2e-7)
    assert value("log_ei", -z * 0.01, 0.01, 0.0) == pytest.approx(expected + np.log(0.01), rel=1e-9, abs=2e-7)


def test_log_ei_rises_with_z_without_a_step():
    z = -np.sort(
        np.concatenate([np.geomspace(1e-3, 1e8, 4001), [1.0 - 1e-9, 1.0, 1.0 + 1e-9, 1e4 - 1e-3, 1e4 + 1e-3]])
    )[::-1]
    values = ACQUISITIONS["log_ei"](-z, np.ones_like(z), 0.0)
    assert (np.diff(values) > 0).all()


def test_bounds_and_means():
    assert value("lcb", 1.0, 0.5, 7.0) == 0.0
    assert value("mean", 1.0, 0.5, 7.0) == -1.0


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_lower_predictions_are_worth_more_and_certainty_is_no_error(name):
    mean, std = np.array([1.0, 0.5, 0.0, -0.5]), np.full(4, 0.3)
    assert (np.diff(ACQUISITIONS[name](mean, std, 0.0)) > 0).all()
    with np.errstate(all="raise", under="ignore"):
        certain = ACQUISITIONS[name](np.array([1.0, -1.0]), np.zeros(2), 0.0)
    assert np.isfinite(certain).all()
    assert certain[1] > certain[0]
