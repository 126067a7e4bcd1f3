"""Small suites, run in this process: real trainings, without the seconds that worker processes take to start."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from autotunenet_bench import suite as suite_module
from autotunenet_bench.config import RunSpec, parse_config
from autotunenet_bench.data import DataSource
from autotunenet_bench.results import ResultStore, RunFolder
from autotunenet_bench.results.suite_file import read_suite_file
from autotunenet_bench.runners import run

CONFIG = """\
title: Small
tasks: [digits_mlp]
regimes: [stationary]
controllers: [fixed, {name: cosine, final: 0.1}]
num_epochs: 2
seeds: [0, 1]
"""


class HereExecutor:
    """Runs cells one after another in this process; `stop_after` runs it is interrupted, within the next one."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.started: list[str] = []

    def __call__(self, specs: Sequence[RunSpec], *, root: Path, source: Any, **options: Any) -> list[Any]:
        for spec in specs:
            torch.set_num_threads(spec.num_threads)
            is_last = len(self.started) == self.stop_after
            self.started.append(spec.run_id)
            run(spec, source, ResultStore(root).folder(spec), _interrupt if is_last else None)
        return []


def _interrupt(event: dict[str, Any]) -> None:
    if event["event"] == "epoch":
        raise KeyboardInterrupt


def make_suite(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str, stop_after: int | None = None, config: str = CONFIG
) -> HereExecutor:
    """Run the small suite into a folder; return what ran it."""
    executor = HereExecutor(stop_after)
    monkeypatch.setattr(suite_module, "run_cells", executor)
    parsed = parse_config(config, "small.yaml", overrides)
    if stop_after is None:
        suite_module.run_suite(parsed, folder, DataSource(), name="small")
    else:
        with pytest.raises(KeyboardInterrupt):
            suite_module.run_suite(parsed, folder, DataSource(), name="small")
    return executor


def runs_of(folder: Path) -> list[RunFolder]:
    """The runs that the folder's suite names."""
    return [RunFolder(folder / name) for name in read_suite_file(folder)["runs"]]


def without_clock(run: RunFolder) -> list[str]:
    """The rows of a run, but for what its machine and hour are in."""
    return [json.dumps({key: value for key, value in row.items() if key != "clock"}) for row in run.events()]
