"""Part (c): what a proposal costs. Online, the Gaussian process of the Bayesian controller against scikit-learn's; and
over trainings, `SurrogateSearch` against Optuna.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import process_time, thread_time
from typing import Any

import numpy as np
import optuna
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from autotunenet import Float, SearchSpace
from autotunenet.controllers import Bayesian, Cruise
from autotunenet.hpo import SurrogateSearch, Trial, TrialState
from autotunenet.surrogates import TimeDecayGP
from benchmarks.performance.tables import Goal, Table, times
from benchmarks.performance.timing import Settings, Spread, ratios, say, take_turns

SIZES = [(num_dims, n) for num_dims in (1, 3) for n in (16, 64)]

OURS = "AutoTuneNet"


def measure(settings: Settings) -> list[Table]:
    """Return one table for the online loop and one for searches over trainings."""
    np.ones(2_000_000)  # freed at once, as in every training: glibc then keeps memory, and no page is fetched anew
    return [_online(settings), _over_trainings(settings)]


# -- online ------------------------------------------------------------------------------------------------------------


def _online(settings: Settings) -> Table:
    rows = []
    for num_dims, n in SIZES:
        say(f"proposals: {num_dims} dimensions, {n} observations")
        variants = {
            OURS: _time_decay(num_dims, n),
            "same grid": _same_grid(num_dims, n),
            "as it comes": _as_it_comes(num_dims, n),
        }
        seconds = take_turns(variants, settings.pick(20, 2))
        rows.append(
            (
                f"{num_dims} dimensions, {n} observations",
                f"{1e3 * Spread.of(seconds[OURS]).median:.2f}",
                *(times(ratios(seconds[name], seconds[OURS]), 0) for name in variants if name != OURS),
            )
        )
    proposal = Spread.of(_controller(settings.pick(300, 5)))
    goal = Goal("a proposal of the Bayesian controller on a full window, ms", 1e3 * proposal.median, 1.0)
    head = (
        "one observation, hyper-parameters anew, 64 predictions",
        "AutoTuneNet, ms",
        "scikit-learn on the same grid, times that",
        "scikit-learn as it comes, times that",
    )
    return Table("A proposal inside a training", head, tuple(rows), (goal,))


def _observations(num_dims: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points, noisy values and candidates."""
    rng = np.random.default_rng(0)
    x = rng.random((n, num_dims))
    return x, np.sin(5 * x.sum(1)) + 0.3 * rng.normal(size=n), rng.random((64, num_dims))


def _timed(call: Callable[[], object], clock: Callable[[], float] = thread_time) -> Callable[[], float]:
    def timed() -> float:
        began = clock()
        call()
        return clock() - began

    return timed


def _time_decay(num_dims: int, n: int) -> Callable[[], float]:
    x, y, candidates = _observations(num_dims, n)
    gp = TimeDecayGP(num_dims, window=n)
    for t in range(n):
        gp.add(x[t], t, y[t])
    steps = itertools.count(n)

    def add_fit_predict() -> None:
        t = next(steps)
        gp.add(x[t % n], t, y[t % n])
        gp.predict(candidates, t + 1)

    return _timed(add_fit_predict)


def _same_grid(num_dims: int, n: int) -> Callable[[], float]:
    """The grid of the time-decay process, one fit each; without its temporal kernel, so with a little less work."""
    x, y, candidates = _observations(num_dims, n)
    gp = TimeDecayGP(num_dims)
    grid = list(itertools.product(gp.length_scales, gp.taus, gp.noise_ratios))

    def fit_predict() -> None:
        fits = [
            GaussianProcessRegressor(Matern(length, nu=2.5), alpha=ratio, optimizer=None).fit(x, y)
            for length, _, ratio in grid
        ]
        max(fits, key=lambda fit: fit.log_marginal_likelihood_value_).predict(candidates, return_std=True)

    return _timed(fit_predict)


def _as_it_comes(num_dims: int, n: int) -> Callable[[], float]:
    x, y, candidates = _observations(num_dims, n)
    kernel = ConstantKernel() * Matern(nu=2.5) + WhiteKernel()

    def fit_predict() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of hyper-parameters at their bounds
            GaussianProcessRegressor(kernel).fit(x, y).predict(candidates, return_std=True)

    return _timed(fit_predict)


def _controller(num_proposals: int) -> list[float]:
    """Return the seconds of proposals on a full window, the observation before each included."""
    controller = Bayesian(prior=Cruise(total_steps=10**9), noise_limit=1e9)
    controller.start({"lr": 0.1})
    losses, steps = np.random.default_rng(0), itertools.count(10, 10)

    def propose() -> None:
        step = next(steps)
        controller.observe(2 / (1 + step / 2000) ** 0.5 * float(np.exp(0.1 * losses.standard_normal())), step)
        controller.propose({"lr": 0.1})

    for _ in range(200):
        propose()
    return [_timed(propose)() for _ in range(num_proposals)]


# -- over trainings ----------------------------------------------------------------------------------------------------


def _over_trainings(settings: Settings) -> Table:
    rows = []
    for num_trials in settings.pick((50, 200), (12,)):
        say(f"proposals: after {num_trials} trials")
        points, values = _trials(num_trials)
        variants: dict[str, Callable[[], float]] = {
            "AutoTuneNet, gp": _surrogate("gp", points, values),
            "AutoTuneNet, random_forest": _surrogate("random_forest", points, values),
            "Optuna, GPSampler": _optuna(lambda: optuna.samplers.GPSampler(seed=0), points, values),
            "Optuna, TPESampler": _optuna(lambda: optuna.samplers.TPESampler(seed=0), points, values),
        }
        with _quiet_optuna():
            seconds = take_turns(variants, settings.pick(7, 1))
        base = seconds["AutoTuneNet, gp"]
        rows += [
            (f"{num_trials}", name, f"{1e3 * Spread.of(each).median:.1f}", times(ratios(each, base)))
            for name, each in seconds.items()
        ]
    head = ("trials told", "search", "ms of CPU", "of AutoTuneNet, gp")
    note = "none of these is a goal: a training takes longer by far; TPE is cheap because it models less"
    return Table("A proposal between trainings, three dimensions", head, tuple(rows), notes=(note,))


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


NAMES = ("lr", "momentum", "weight_decay")


def _trials(num_trials: int) -> tuple[list[dict[str, float]], list[float]]:
    rng = np.random.default_rng(0)
    points = [dict(zip(NAMES, map(float, rng.random(3)), strict=True)) for _ in range(num_trials)]
    return points, [sum((value - 0.3) ** 2 for value in point.values()) + 0.05 * rng.normal() for point in points]


def _surrogate(surrogate: Any, points: Sequence[dict[str, float]], values: Sequence[float]) -> Callable[[], float]:
    search = SurrogateSearch(SearchSpace({name: Float(0.0, 1.0) for name in NAMES}), surrogate=surrogate)
    told = [
        Trial(number=i, params=point, state=TrialState.DONE, value=value)
        for i, (point, value) in enumerate(zip(points, values, strict=True))
    ]

    def ask() -> float:
        search.load_trials(told)
        return _timed(search.ask, process_time)()

    return ask


def _optuna(
    make: Callable[[], optuna.samplers.BaseSampler], points: Sequence[dict[str, float]], values: Sequence[float]
) -> Callable[[], float]:
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in NAMES
    }

    def ask() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(sampler=make())
        for point, value in zip(points, values, strict=True):
            study.add_trial(optuna.trial.create_trial(params=point, distributions=distributions, value=value))
        return _timed(lambda: study.ask(distributions), process_time)()

    return ask
