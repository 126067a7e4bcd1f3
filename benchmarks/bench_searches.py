"""Do the surrogate searches find good hyperparameters sooner than chance, and as soon as Optuna's?

    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_searches.py tables --seeds 200
    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_searches.py functions --seeds 20
    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_searches.py latency

Prints tables in Markdown; progress goes to stderr. Intervals are at 95 %. Seeds are paired: the searches of a seed see
the same noise and have as many initial points. Tables of your own, and the
shipped ones, are what `autotunenet-bench race` is for.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import optuna
from scipy import stats
from search_problems import Problem, goal_functions, goal_tables, noisy_mixed
from threadpoolctl import threadpool_limits

from autotunenet import Categorical, Int, Ordinal, SearchSpace
from autotunenet.hpo import RandomSearch, Search, SurrogateSearch, Trial, TrialState

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """What a search did: regrets of its trials, repeats of a point of a finite space, and the regret it ends with."""

    regrets: list[float]
    num_repeats: int
    final: float


Play = Callable[[Problem, int], Run]


def play(make: Callable[[SearchSpace, int], Search]) -> Play:
    """Return a player of one of our searches."""

    def run(problem: Problem, seed: int) -> Run:
        search, rng, seen = make(problem.space, seed), np.random.default_rng([seed, 77]), []
        for _ in range(problem.num_trials):
            trial = search.ask()
            if trial is None:
                break
            seen.append((dict(trial.params), problem.observe(trial.params, rng)))
            search.tell(trial.number, seen[-1][1])
        return _run(problem, seen)

    return run


def play_optuna(make: Callable[[int, int, bool], optuna.samplers.BaseSampler]) -> Play:
    """Return a player of one of Optuna's samplers, which is told the ranks of an `Ordinal`: its better reading."""

    def run(problem: Problem, seed: int) -> Run:
        sampler = make(seed, num_initial(problem.space), problem.noise == 0)
        study, rng, seen = optuna.create_study(sampler=sampler), np.random.default_rng([seed, 77]), []
        distributions = {name: distribution(dimension) for name, dimension in problem.space.items()}
        for _ in range(problem.num_trials):
            trial = study.ask(distributions)
            params = {
                name: dimension.value_at(trial.params[name]) if isinstance(dimension, Ordinal) else trial.params[name]
                for name, dimension in problem.space.items()
            }
            seen.append((params, problem.observe(params, rng)))
            study.tell(trial, seen[-1][1])
        return _run(problem, seen)

    return run


def _run(problem: Problem, seen: list[tuple[dict[str, object], float]]) -> Run:
    points = [tuple(params.values()) for params, _ in seen]
    best, _ = min(seen, key=lambda each: each[1])
    repeats = len(points) - len(set(points)) if problem.space.num_points is not None else 0
    return Run([problem.regret(params) for params, _ in seen], repeats, problem.regret(best))


def distribution(dimension: object) -> optuna.distributions.BaseDistribution:
    """Return a dimension as Optuna has it."""
    if isinstance(dimension, Categorical):
        return optuna.distributions.CategoricalDistribution(dimension.choices)
    if isinstance(dimension, Ordinal):
        return optuna.distributions.IntDistribution(0, dimension.num_values - 1)
    kind = (
        optuna.distributions.IntDistribution if isinstance(dimension, Int) else optuna.distributions.FloatDistribution
    )
    return kind(dimension.low, dimension.high, log=dimension.log)


def num_initial(space: SearchSpace) -> int:
    """Return how many points our searches begin with, for Optuna to begin with as many."""
    return SurrogateSearch(space).num_initial


def gp_sampler(seed: int, initial: int, exact: bool) -> optuna.samplers.BaseSampler:
    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=initial, deterministic_objective=exact)


def tpe_sampler(seed: int, initial: int, exact: bool) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=initial)


def separate_tpe_sampler(seed: int, initial: int, exact: bool) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=initial, multivariate=False)


PLAYERS: dict[str, Play] = {
    "random": play(lambda space, seed: RandomSearch(space, seed=seed)),
    "gp": play(lambda space, seed: SurrogateSearch(space, seed=seed)),
    "random_forest": play(lambda space, seed: SurrogateSearch(space, surrogate="random_forest", seed=seed)),
    "Optuna GP": play_optuna(gp_sampler),
    "Optuna TPE": play_optuna(tpe_sampler),
    "Optuna TPE, univariate": play_optuna(separate_tpe_sampler),
}


class Players:
    """Plays seeds, side by side in forked processes where there are several workers."""

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers

    def runs(self, name: str, problem: Problem, seeds: range) -> list[Run]:
        """Return a run for each seed."""
        one, title = functools.partial(PLAYERS[name], problem), f"{problem.name}, {name}"
        if self._num_workers == 1:
            return list(progress(map(one, seeds), title))
        _FORKED.append(one)  # a problem holds functions, which cannot be pickled
        with multiprocessing.get_context("fork").Pool(self._num_workers) as pool:
            return list(progress(pool.imap(_play_forked, seeds), title))


_FORKED: list[Callable[[int], Run]] = []


def _play_forked(seed: int) -> Run:
    return _FORKED[-1](seed)


def tables(problems: list[Problem], names: list[str], seeds: range, players: Players) -> None:
    """Print how often the best row of each table is found."""
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    repeats: dict[str, list[int]] = {name: [] for name in names}
    for problem in problems:
        for name in names:
            runs = players.runs(name, problem, seeds)
            found[name].append([float(min(run.regrets) <= 0.0) for run in runs])
            repeats[name] += [run.num_repeats for run in runs]
    titles = [f"{problem.name} ({problem.num_trials} of {problem.space.num_points})" for problem in problems]
    row("best found, share of seeds", *titles, "all", "times random", "repeats a run")
    row(*["---"] * (len(problems) + 4))
    floor = np.mean(found[names[0]])
    for name in names:
        cells = [share(hits) for hits in found[name]]
        whole = share([hit for hits in found[name] for hit in hits])
        row(name, *cells, whole, f"{np.mean(found[name]) / floor:.2f}", f"{statistics.mean(repeats[name]):.2f}")
    print()
    differences(names, {name: np.mean(found[name], axis=0) for name in names}, "share found, over the tables")


def functions(problems: list[Problem], names: list[str], seeds: range, players: Players) -> None:
    """Print the regret of the trial that was seen best."""
    for problem in problems:
        finals = {name: np.array([run.final for run in players.runs(name, problem, seeds)]) for name in names}
        row(f"{problem.name}, {problem.num_trials} trials", "median regret", "mean log10 regret")
        row("---", "---", "---")
        logs = {name: np.log10(np.maximum(values, 1e-9)) for name, values in finals.items()}
        for name in names:
            half = half_width(logs[name])
            row(name, f"{np.median(finals[name]):.3g}", f"{logs[name].mean():.2f} ± {half:.2f}")
        print()
        differences(names, logs, f"log10 regret, {problem.name}")


def latency(num_trials: int) -> None:
    """Print how long a suggestion takes."""
    problem, times = noisy_mixed(), {}
    for name in ("gp", "random_forest"):
        search, rng = SurrogateSearch(problem.space, surrogate=name), np.random.default_rng(0)
        params = [problem.space.sample(rng) for _ in range(num_trials)]
        told = [
            Trial(number=i, params=point, state=TrialState.DONE, value=problem.observe(point, rng))
            for i, point in enumerate(params)
        ]
        times[name] = []
        with threadpool_limits(1):  # CPU time is summed over the threads of BLAS, those that wait included
            for _ in progress(range(21), name):
                search.load_trials(told)
                begin = time.process_time()  # of this process, whatever else the machine does
                search.ask()
                times[name].append(1e3 * (time.process_time() - begin))
    row(f"a suggestion after {num_trials} trials, ms of one core", "median", "longest of 21")
    row("---", "---", "---")
    for name, values in times.items():
        row(name, f"{statistics.median(values):.0f}", f"{max(values):.0f}")


def differences(players: list[str], values: dict[str, np.ndarray], what: str) -> None:
    """Print paired differences of ours to Optuna's."""
    others = [name for name in players if name.startswith("Optuna")]
    if not others or not {"gp", "random_forest"} & set(players):
        return
    row(f"difference in {what}", *others)
    row(*["---"] * (len(others) + 1))
    for name in players:
        if name not in others and name != "random":
            pairs = [values[name] - values[other] for other in others]
            row(name, *(f"{pair.mean():+.3f} ± {half_width(pair):.3f}" for pair in pairs))
    print()


def share(hits: list[float]) -> str:
    """Return a share with its interval, Wilson's."""
    low, high = stats.binomtest(int(sum(hits)), len(hits)).proportion_ci(method="wilson")
    return f"{statistics.mean(hits):.3f} ({low:.2f}-{high:.2f})"


def half_width(values: np.ndarray) -> float:
    """Return half the width of the interval of a mean, Student's."""
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def progress(items: Iterable[T], title: str) -> Iterator[T]:
    """Yield what it is given, and show how far it is."""
    begin = time.monotonic()
    for index, item in enumerate(items, start=1):
        yield item
        print(f"\r{title}: {index} in {time.monotonic() - begin:.0f} s ", end="", file=sys.stderr, flush=True)
    print(f"\r{title}: done in {time.monotonic() - begin:.0f} s ", file=sys.stderr, flush=True)


def row(*words: str) -> None:
    """Print a line of a table."""
    print(f"| {' | '.join(words)} |", flush=True)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("tables", "functions", "latency"))
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first-seed", type=int, default=0, help="they count up from here")
    parser.add_argument("--trials", type=int, help="of each run; default: 10 of a table, 50 of a function, 200 told")
    parser.add_argument(
        "--players", nargs="+", choices=PLAYERS, default=list(PLAYERS), help="which; the first is the floor"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes; more than one where a process can be forked")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    if args.what == "latency":
        latency(args.trials or 200)
        return
    problems = goal_functions() if args.what == "functions" else goal_tables()
    if args.trials:
        problems = [Problem(**{**vars(problem), "num_trials": args.trials}) for problem in problems]
    report = functions if args.what == "functions" else tables
    report(problems, args.players, range(args.first_seed, args.first_seed + args.seeds), Players(args.workers))


if __name__ == "__main__":
    main()
