"""What surrogates had predicted of a point before it was trained, against what came out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from autotunenet_bench.report.hpo.records import SearchRun, Study, value_of
from autotunenet_bench.statistics import ranks

LEVELS = (0.5, 0.8, 0.95)
"""Intervals whose share of actual values is told."""

MIN_FOR_RANKS = 4
"""Fewer pairs have no rank correlation worth telling."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions of one search, over its seeds; n of them.

    Attributes:
        search: Its name.
        mean: Predicted, shape (n,).
        std: Predicted, of a single observation as the surrogate has it, shape (n,).
        actual: What came out, shape (n,).
    """

    search: str
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    actual: NDArray[np.float64]

    @property
    def rmse(self) -> float:
        """Root mean squared error, in the unit of the objective."""
        return float(np.sqrt(np.mean((self.mean - self.actual) ** 2)))

    @property
    def spearman(self) -> float | None:
        """Rank correlation; None of fewer than `MIN_FOR_RANKS`, or where all ranks are equal."""
        if len(self.mean) < MIN_FOR_RANKS or np.ptp(self.mean) == 0 or np.ptp(self.actual) == 0:
            return None
        return float(np.corrcoef(ranks(self.mean), ranks(self.actual))[0, 1])

    def num_inside(self, level: float) -> int:
        """Return how many actual values lie in the central interval of a level, of a normal distribution."""
        z = NormalDist().inv_cdf((1 + level) / 2)
        return int(np.sum(np.abs(self.actual - self.mean) <= z * self.std))


def predictions(study: Study) -> list[Predictions]:
    """Return those of every search that predicted, in the config's order."""
    found = [(name, _of(runs)) for name, runs in study.searches.items()]
    return [
        Predictions(name, *(np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)))
        for name, rows in found
        if rows
    ]


def _of(runs: Sequence[SearchRun]) -> list[tuple[float, float, float]]:
    rows = [(*trial.predicted, value_of(trial)) for run in runs for trial in run.done if trial.predicted]
    return [row for row in rows if all(map(math.isfinite, row))]
