"""How many epochs do searches over budgets need for what random search finds with whole trainings?

    python benchmarks/bench_halving.py --seeds 9

A linear classifier of handwritten digits, trained by SGD (scikit-learn): lr and weight decay are searched, the budget
is epochs. Prints a table in Markdown; progress goes to stderr. A promoted trial goes on from its parent's model, so it
costs the epochs that it has more.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

from autotunenet import Float, SearchSpace
from autotunenet.hpo import Hyperband, OptunaSearch, RandomSearch, Search, SuccessiveHalving, SurrogateSearch, Trial

MAX_EPOCHS = 27
NUM_TRAIN = 600
CLASSES = range(10)

SPACE = SearchSpace({"eta0": Float(1e-6, 10.0, log=True), "alpha": Float(1e-7, 1.0, log=True)})

SEARCHES: dict[str, Callable[[int], Search]] = {
    "ASHA": lambda seed: SuccessiveHalving(RandomSearch(SPACE, seed=seed), min_budget=1, max_budget=MAX_EPOCHS),
    "successive halving, synchronous": lambda seed: SuccessiveHalving(
        RandomSearch(SPACE, seed=seed), min_budget=1, max_budget=MAX_EPOCHS, asynchronous=False
    ),
    "Hyperband": lambda seed: Hyperband(RandomSearch(SPACE, seed=seed), min_budget=1, max_budget=MAX_EPOCHS),
    "ASHA around Optuna's TPE": lambda seed: SuccessiveHalving(
        OptunaSearch(SPACE, seed=seed), min_budget=1, max_budget=MAX_EPOCHS
    ),
    "ASHA around the Gaussian process": lambda seed: SuccessiveHalving(
        SurrogateSearch(SPACE, seed=seed), min_budget=1, max_budget=MAX_EPOCHS
    ),
}


class Digits:
    """Validation loss of a classifier after some epochs; counts the epochs that were trained.

    Args:
        seed: Of the order of the examples.
    """

    def __init__(self, seed: int) -> None:
        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(labels))
        self._images, self._labels = images[order] / 16, labels[order]
        self._seed = seed
        self._models: dict[int | None, tuple[SGDClassifier, int]] = {}
        self.num_epochs = 0

    def __call__(self, trial: Trial) -> float | None:
        fresh = SGDClassifier(loss="log_loss", learning_rate="constant", random_state=self._seed, **trial.params)
        model, num_done = self._models.pop(trial.parent, (fresh, 0))
        with np.errstate(all="ignore"):  # too large an lr
            for _ in range(num_done, int(trial.budget)):
                model.partial_fit(self._images[:NUM_TRAIN], self._labels[:NUM_TRAIN], classes=CLASSES)
            shares = model.predict_proba(self._images[-NUM_TRAIN:])
        self.num_epochs += int(trial.budget) - num_done
        self._models[trial.number] = model, int(trial.budget)
        return log_loss(self._labels[-NUM_TRAIN:], shares, labels=CLASSES) if np.isfinite(shares).all() else None


def run(search: Search, seed: int, max_epochs: int) -> list[tuple[int, float]]:
    """Return the epochs so far and the best loss of a whole training, after every trial from the first of these on."""
    objective, curve = Digits(seed), []
    while objective.num_epochs < max_epochs:
        trial = search.ask()
        search.tell(trial.number, objective(trial if trial.budget else replace(trial, budget=MAX_EPOCHS)))
        if search.best is not None and search.best.budget in (None, MAX_EPOCHS):
            curve.append((objective.num_epochs, search.best.value))
    return curve


def epochs_to(curve: list[tuple[int, float]], loss: float) -> float:
    """Return after how many epochs a loss was reached; infinity if never."""
    return next((num_epochs for num_epochs, best in curve if best <= loss), float("inf"))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=9, help="how many; 0, 1, 2 and so on")
    parser.add_argument("--trainings", type=int, default=16, help="whole trainings that all epochs are worth")
    args = parser.parse_args()
    max_epochs = args.trainings * MAX_EPOCHS
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in ("random search", *SEARCHES)}
    for seed in range(args.seeds):
        curve = run(RandomSearch(SPACE, seed=seed), seed, max_epochs)
        target = curve[-1][1]
        rows["random search"].append((epochs_to(curve, target), target))
        for name, make in SEARCHES.items():
            curve = run(make(seed + 100), seed, max_epochs)
            rows[name].append((epochs_to(curve, target), curve[-1][1]))
        sys.stderr.write(f"seed {seed}: { ({name: row[-1] for name, row in rows.items()}) }\n")
    print("| search | epochs to random search's last loss | of seeds | last loss |\n| --- | --- | --- | --- |")
    for name, row in rows.items():
        reached = sum(num_epochs < float("inf") for num_epochs, _ in row)
        medians = [statistics.median(column) for column in zip(*row, strict=True)]
        print(f"| {name} | {medians[0]:g} | {reached} of {len(row)} | {medians[1]:.3f} |")


if __name__ == "__main__":
    main()
