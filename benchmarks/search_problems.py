"""Problems with known answers for searches: tables of configurations, and functions with a known minimum.

`GOALS` are what `bench_searches.py` reports by default. Defaults have been chosen on `TUNING` alone, which shares no
function, table or data set with them.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from autotunenet import Categorical, Float, Int, Ordinal, SearchSpace

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """What a search minimizes.

    `value` is what is to be low; `regret` its distance to the minimum. What a trial sees has Gaussian noise on it, of
    standard deviation `noise`.
    """

    name: str
    space: SearchSpace
    value: Callable[[Params], float]
    minimum: float
    num_trials: int
    noise: float = 0.0

    def observe(self, params: Params, rng: np.random.Generator) -> float:
        return self.value(params) + self.noise * float(rng.standard_normal())

    def regret(self, params: Params) -> float:
        return self.value(params) - self.minimum


def tabular(name: str, space: SearchSpace, values: list[float], num_trials: int = 10) -> Problem:
    """Return the problem of finding the lowest entry of a table; its entries are in the order of the space."""
    assert len(values) == space.num_points
    return Problem(name, space, lambda params: values[space.index_of(params)], min(values), num_trials)


# Tables: made up, and really computed

TABLE = SearchSpace(
    {
        "lr": Ordinal((2e-5, 3e-5, 5e-5)),
        "batch_size": Ordinal((16, 32)),
        "warmup": Ordinal((0.0, 0.1)),
        "pooling": Categorical(("first", "mean")),
    }
)


def made_up(name: str, space: SearchSpace, seed: int) -> Problem:
    """Return a table of main effects, one interaction, and noise of a fifth of the spread, as validation errors."""
    rng = np.random.default_rng(seed)
    ranks = np.array(list(itertools.product(*(range(d.num_values) for d in space.values()))))
    total = np.zeros(len(ranks))
    for column, dimension in zip(ranks.T, space.values(), strict=True):
        share = column / (dimension.num_values - 1)
        total += rng.exponential() * np.abs(share - rng.random())
    first, second = rng.choice(ranks.shape[1], 2, replace=False)
    total += rng.standard_normal((8, 8))[ranks[:, first], ranks[:, second]] * 0.4 * total.std()
    total += rng.standard_normal(len(total)) * 0.2 * total.std()
    return tabular(name, space, (0.1 + 0.02 * (total - total.min()) / total.std()).tolist())


def _split(data: Any, seed: int = 0) -> tuple[np.ndarray, ...]:
    return train_test_split(*data(return_X_y=True), test_size=0.4, random_state=seed, stratify=data().target)


def _loss(model: Any, parts: tuple[np.ndarray, ...]) -> float:
    x, x_valid, y, y_valid = parts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = make_pipeline(StandardScaler(), model).fit(x, y)
    return float(log_loss(y_valid, fitted.predict_proba(x_valid)))


def computed(name: str, space: SearchSpace, loss: Callable[[Params], float]) -> Problem:
    return tabular(name, space, [loss(space.point_at(index)) for index in range(space.num_points or 0)])


MLP = SearchSpace(
    {
        "lr": Ordinal((1e-3, 3e-3, 1e-2)),
        "batch_size": Ordinal((16, 64)),
        "width": Ordinal((32, 128)),
        "activation": Categorical(("relu", "tanh")),
    }
)


def mlp_table(name: str, data: Any, num_epochs: int = 8) -> Problem:
    """Return the validation loss of a small network, trained briefly."""
    parts = _split(data)

    def loss(params: Params) -> float:
        shape = {"hidden_layer_sizes": (params["width"],), "activation": params["activation"]}
        steps = {"learning_rate_init": params["lr"], "batch_size": params["batch_size"], "max_iter": num_epochs}
        return _loss(MLPClassifier(**shape, **steps, random_state=0), parts)

    return computed(name, MLP, loss)


def logistic_table(name: str, data: Any) -> Problem:
    """Return the validation loss of logistic regression."""
    parts = _split(data)
    space = SearchSpace(
        {
            "c": Ordinal((1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)),
            "max_iter": Ordinal((5, 50)),
            "class_weight": Categorical(("none", "balanced")),
        }
    )

    def loss(params: Params) -> float:
        weight = None if params["class_weight"] == "none" else "balanced"
        return _loss(LogisticRegression(C=params["c"], max_iter=params["max_iter"], class_weight=weight), parts)

    return computed(name, space, loss)


def svm_table(name: str, data: Any) -> Problem:
    """Return the validation error of a support vector machine; errors are few, so equal entries are many."""
    x, x_valid, y, y_valid = _split(data)
    space = SearchSpace(
        {
            "c": Ordinal((0.1, 1.0, 10.0, 100.0)),
            "gamma": Ordinal((1e-3, 1e-2, 1e-1)),
            "kernel": Categorical(("rbf", "sigmoid")),
        }
    )

    def error(params: Params) -> float:
        model = make_pipeline(StandardScaler(), SVC(C=params["c"], gamma=params["gamma"], kernel=params["kernel"]))
        return 1.0 - float(model.fit(x, y).score(x_valid, y_valid))

    return computed(name, space, error)


# Functions


def over_box(
    name: str, f: Callable[[np.ndarray], float], bounds: list[tuple[float, float]], minimum: float, num_trials: int = 50
) -> Problem:
    space = SearchSpace({f"x{i}": Float(low, high) for i, (low, high) in enumerate(bounds)})
    return Problem(name, space, lambda params: float(f(np.array(list(params.values())))), minimum, num_trials)


def branin(x: np.ndarray) -> float:
    a, b, c, t = 1.0, 5.1 / (4 * math.pi**2), 5 / math.pi, 1 / (8 * math.pi)
    return a * (x[1] - b * x[0] ** 2 + c * x[0] - 6) ** 2 + 10 * (1 - t) * math.cos(x[0]) + 10


_HARTMANN_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_HARTMANN6_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_HARTMANN6_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
_HARTMANN3_A = np.array([[3.0, 10, 30], [0.1, 10, 35], [3.0, 10, 30], [0.1, 10, 35]])
_HARTMANN3_P = 1e-4 * np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]])


def hartmann6(x: np.ndarray) -> float:
    return -float(_HARTMANN_ALPHA @ np.exp(-(_HARTMANN6_A * (x - _HARTMANN6_P) ** 2).sum(1)))


def hartmann3(x: np.ndarray) -> float:
    return -float(_HARTMANN_ALPHA @ np.exp(-(_HARTMANN3_A * (x - _HARTMANN3_P) ** 2).sum(1)))


def levy(x: np.ndarray) -> float:
    w = 1 + (x - 1) / 4
    inner = ((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(math.pi * w[:-1] + 1) ** 2)).sum()
    return float(np.sin(math.pi * w[0]) ** 2 + inner + (w[-1] - 1) ** 2 * (1 + np.sin(2 * math.pi * w[-1]) ** 2))


def rosenbrock(x: np.ndarray) -> float:
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def ackley(x: np.ndarray) -> float:
    spread = -20 * math.exp(-0.2 * math.sqrt((x**2).mean()))
    return float(spread - math.exp(np.cos(2 * math.pi * x).mean()) + 20 + math.e)


def styblinski_tang(x: np.ndarray) -> float:
    return float(0.5 * (x**4 - 16 * x**2 + 5 * x).sum())


def noisy_training() -> Problem:
    """Return a noisy loss over lr, weight decay, depth, dropout and activation, as trainings have it."""
    space = SearchSpace(
        {
            "lr": Float(1e-5, 1.0, log=True),
            "weight_decay": Float(1e-6, 1e-1, log=True),
            "depth": Int(1, 8),
            "dropout": Float(0.0, 0.8),
            "activation": Categorical(("relu", "gelu", "tanh")),
        }
    )
    shift = {"relu": (0.0, 0.0), "gelu": (-0.05, -0.3), "tanh": (0.12, 0.4)}

    def loss(params: Params) -> float:
        penalty, moved = shift[params["activation"]]
        best_lr = -2.3 - 0.12 * params["depth"] + moved  # deeper networks want smaller steps
        lr = math.log10(params["lr"]) - best_lr
        bowl = 0.25 * min(lr**2, 2.0) + 0.15 * max(lr, 0.0) ** 2
        decay = 0.02 * (math.log10(params["weight_decay"]) + 3.5) ** 2
        depth = 0.03 * (params["depth"] - 5) ** 2 * 0.5
        drop = 0.9 * (params["dropout"] - 0.05 * params["depth"]) ** 2
        return 0.3 + penalty + bowl + decay + depth + drop

    lowest = loss({"lr": 10**-3.2, "weight_decay": 10**-3.5, "depth": 5, "dropout": 0.25, "activation": "gelu"})
    return Problem("noisy training", space, loss, lowest, 50, noise=0.05)


def noisy_mixed() -> Problem:
    """Return another one, in four dimensions, whose choices matter more."""
    space = SearchSpace(
        {
            "rate": Float(1e-4, 10.0, log=True),
            "size": Int(4, 256, log=True),
            "share": Float(0.0, 1.0),
            "kind": Categorical(("a", "b", "c", "d")),
        }
    )
    best = {"a": -1.0, "b": 0.0, "c": -2.5, "d": -0.5}
    level = {"a": 0.4, "b": 0.1, "c": 0.0, "d": 0.7}

    def loss(params: Params) -> float:
        rate = math.log10(params["rate"]) - best[params["kind"]]
        size = (math.log2(params["size"]) - 5.0) / 3
        return level[params["kind"]] + math.log1p(rate**2) + 0.4 * abs(size) ** 1.5 + 0.5 * abs(params["share"] - 0.7)

    return Problem("noisy mixed", space, loss, 0.0, 50, noise=0.1)


WIDE = SearchSpace({"a": Ordinal((1, 2, 4, 8)), "b": Ordinal((0.0, 0.5, 1.0)), "c": Categorical(("x", "y"))})
FLAT = SearchSpace({"a": Ordinal((1, 2, 4, 8, 16, 32)), "b": Categorical(("w", "x", "y", "z"))})


def goal_tables() -> list[Problem]:
    return [
        *(made_up(f"made up {seed}", TABLE, seed) for seed in (1, 2, 3)),
        mlp_table("digits MLP", datasets.load_digits),
    ]


def goal_functions() -> list[Problem]:
    return [
        over_box("Branin", branin, [(-5, 10), (0, 15)], 0.39788736),
        over_box("Hartmann-6", hartmann6, [(0, 1)] * 6, -3.32236801),
        noisy_training(),
    ]


def tuning_tables() -> list[Problem]:
    spaces = (TABLE, WIDE, FLAT)
    return [
        *(made_up(f"tuning {seed}", spaces[seed % 3], seed) for seed in range(100, 112)),
        mlp_table("breast cancer MLP", datasets.load_breast_cancer),
        svm_table("breast cancer SVM", datasets.load_breast_cancer),
        logistic_table("wine logistic", datasets.load_wine),
    ]


def tuning_functions() -> list[Problem]:
    return [
        over_box("Levy-4", levy, [(-10, 10)] * 4, 0.0),
        over_box("Rosenbrock-2", rosenbrock, [(-5, 10)] * 2, 0.0),
        over_box("Hartmann-3", hartmann3, [(0, 1)] * 3, -3.86278215),
        over_box("Ackley-3", ackley, [(-15, 30)] * 3, 0.0),
        over_box("Styblinski-Tang-3", styblinski_tang, [(-5, 5)] * 3, -39.16616570 * 3),
        noisy_mixed(),
    ]
