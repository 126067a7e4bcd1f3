"""Searches over budgets on a real training: fewer epochs for what random search finds with whole trainings."""

import statistics
import sys
from pathlib import Path

import pytest

from autotunenet.hpo import RandomSearch


@pytest.mark.slow
def test_asynchronous_halving_needs_fewer_epochs_than_random_search(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).resolve().parents[2] / "benchmarks"), *sys.path])
    from bench_halving import MAX_EPOCHS, SEARCHES, SPACE, epochs_to, run

    shares = []
    for seed in range(3):
        num_epochs = 8 * MAX_EPOCHS
        target = run(RandomSearch(SPACE, seed=seed), seed, num_epochs)[-1][1]
        shares.append(epochs_to(run(SEARCHES["ASHA"](seed + 100), seed, num_epochs // 2), target) / num_epochs)
    assert statistics.median(shares) <= 0.5
