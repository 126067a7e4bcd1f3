"""The numbers of the searches as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from autotunenet.hpo import Trial
from autotunenet_bench.report.csvs import to_csv
from autotunenet_bench.report.hpo.records import SearchRun, Study


def trials_csv(study: Study) -> str:
    """One row a trial of every search and seed, in order: point, value, metrics, cost, prediction, runs."""
    return to_csv(_record(run, trial) for run in study.runs for trial in run.trials)


def _record(run: SearchRun, trial: Trial) -> dict[str, Any]:
    mean, std = trial.predicted or (None, None)
    metrics = {key: value for key, value in trial.metrics.items() if key != "runs"}
    return {
        "search": run.search,
        "seed": run.seed,
        "trial": trial.number,
        "state": trial.state.value,
        **trial.params,
        "value": trial.value,
        "predicted_mean": mean,
        "predicted_std": std,
        "budget": trial.budget,
        **metrics,
        "steps": trial.cost.steps,
        "seconds": trial.cost.seconds,
        "flops": trial.cost.flops,
        "runs": " ".join(_runs(trial)),
        "error": trial.error,
    }


def _runs(trial: Trial) -> Iterator[str]:
    yield from map(str, trial.metrics.get("runs", ()))
