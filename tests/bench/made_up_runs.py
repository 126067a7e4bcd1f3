"""Made-up runs for the tests of conclusions: one epoch each, so that every number can be worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autotunenet_bench.config.experiment import Experiment
from autotunenet_bench.report.aggregate import Group, aggregate
from autotunenet_bench.results.trace import Trace

INITIAL = 2.0
"""Validation loss before training: a run is lost from 1.8 on, and has learnt at 1.0."""


def run(
    controller: str,
    loss: float,
    seed: int = 0,
    *,
    task: str = "images",
    regime: str = "calm",
    finished: bool = True,
    initial: float = INITIAL,
    passes: int = 100,
    train_loss: float = 1.0,
    lr: float | None = None,
    weights: str | None = None,
) -> Trace:
    """A run that ends at a loss, with weights of its own where none are given."""
    spec: dict[str, Any] = {
        "task": {"name": task, "lr": lr},
        "regime": {"name": regime},
        "controller": {"name": controller},
        "seed": seed,
        "num_epochs": 1,
        "labels": {"task": task, "regime": regime, "controller": controller},
    }
    clock = {"train_seconds": 1.0, "eval_seconds": 0.1, "control_seconds": 0.01}
    values = {"hyperparams": {"lr": 0.1}}
    events: list[dict[str, Any]] = [
        {"event": "start", "environment": {}, "val": {"loss": initial, "accuracy": 0.1}, **values},
        {
            **{"event": "epoch", "epoch": 1, "step": 100, "passes": passes, "losses": [train_loss], "clock": clock},
            **{"val": {"loss": loss, "accuracy": 0.9}, **values},
        },
    ]
    if finished:
        sha256 = weights or f"{controller} {task} {regime} {seed}"
        events.append({"event": "end", "num_restarts": 0, "weights_sha256": sha256})
    return Trace.from_events(spec, events)


def cells(losses: Mapping[str, Mapping[str, Sequence[float]]], **more: Any) -> list[Group]:
    """Groups from losses by regime, by controller, one a seed."""
    return aggregate(
        run(controller, loss, seed, regime=regime, **more)
        for regime, by_controller in losses.items()
        for controller, row in by_controller.items()
        for seed, loss in enumerate(row)
    )


def asked(conclusion: str, *against: str, subject: str = "ours", **more: Any) -> Experiment:
    """A question about a subject."""
    values = {"question": "Is it so?", "subject": subject, "against": against, "conclusion": conclusion, **more}
    return Experiment.model_validate(values)
