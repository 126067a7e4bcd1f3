"""Short real runs on the digits, through the entry that workers use, and what must hold in each of them."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from autotunenet.types import Action, Hyperparams
from autotunenet_bench.config import RunConfig, RunSpec
from autotunenet_bench.controllers.base import ControllerConfig, MethodConfig
from autotunenet_bench.controllers.fixed import FixedConfig
from autotunenet_bench.controllers.offline import OfflineConfig
from autotunenet_bench.data import DataSource, as_tensor_batches
from autotunenet_bench.data.digits import load_digits
from autotunenet_bench.executors.cell import run_bench_cell
from autotunenet_bench.regimes.base import RegimeConfig
from autotunenet_bench.results import ResultStore, Trace
from autotunenet_bench.suite import resolve
from autotunenet_bench.tasks import DigitsMlp, Task
from autotunenet_bench.testing.rules import generators_left_alone, require
from autotunenet_bench.types import DataInfo, Event, Horizon, TaskData

BATCH_SIZE = 96
"""Makes 15 steps an epoch: what lr_range_test needs of two epochs is just there."""

NUM_EPOCHS = 2

ROUNDING = 1e-6


class DigitsImages(DigitsMlp):
    """The task digits_mlp with inputs of shape (n, 1, 8, 8), for regimes that need images."""

    name: Literal["digits_images"] = "digits_images"  # type: ignore[assignment]

    def load(self, source: DataSource) -> tuple[TaskData, DataInfo]:
        """Return the digits inside scikit-learn as images."""
        data, info = load_digits(self.batch_size, data_fraction=self.data_fraction)
        train, val = (as_tensor_batches(part, self.name) for part in (data.train, data.val))
        train, val = (replace(part, inputs=part.inputs.view(-1, 1, 8, 8)) for part in (train, val))
        return TaskData(train, val), info

    def build_model(self) -> nn.Module:
        """Return the network; inputs ``(n, 1, 8, 8)``, logits ``(n, 10)``."""
        return nn.Sequential(nn.Flatten(), super().build_model())


@dataclass(frozen=True, slots=True)
class Ran:
    """A run: its spec, its events without what a clock has touched, and its trace."""

    spec: RunSpec
    events: list[Event]
    trace: Trace


class _CutError(Exception):
    """Ends a run at the end of an epoch, as a kill would."""


def make_spec(controller: MethodConfig, regime: RegimeConfig, num_epochs: int = NUM_EPOCHS) -> RunSpec:
    """Return the spec of a run on the digits; of more epochs than `num_epochs` where an offline search needs them.

    Raises:
        ConfigError: If the controller or the regime does not fit, or needs a package that is not installed.
    """
    if isinstance(controller, OfflineConfig):
        num_epochs = max(num_epochs, math.ceil(controller.num_trials / controller.search_share))
    config = RunConfig(
        task=_task_for(regime),
        regime=regime,
        controller=controller,
        num_epochs=num_epochs,
        seeds=(0,),
        num_threads=torch.get_num_threads(),
    )
    (spec,) = resolve(config, DataSource())
    return spec


def run(spec: RunSpec, cut_after: int | None = None) -> Ran:
    """Run a spec in this process; with `cut_after`, cut it off at the end of that epoch and then go on with it."""

    def cut(event: Event) -> None:
        if event["event"] == "epoch" and event["epoch"] == cut_after:
            raise _CutError

    with tempfile.TemporaryDirectory() as root, generators_left_alone():
        if cut_after is not None:
            with contextlib.suppress(_CutError):
                run_bench_cell(spec, Path(root), DataSource(), cut)
        run_bench_cell(spec, Path(root), DataSource(), lambda event: None)
        folder = ResultStore(Path(root)).folder(spec)
        rows = list(folder.events())
        return Ran(spec, [{key: row[key] for key in row if key != "clock"} for row in rows], folder.trace())


def check_run(spec: RunSpec) -> None:
    """Run a spec twice and check both: it comes to its end, its values are sound, and the second run is the first.

    Raises:
        AssertionError: If something does not hold.
    """
    ran = run(spec)
    _check_values(ran)
    require(repr(run(spec).events) == repr(ran.events), "the same spec gave other events the second time")


def check_resume(spec: RunSpec) -> None:
    """Check that a run that is cut off after its first epoch and goes on ends with the same events.

    Raises:
        AssertionError: If it does not.
    """
    straight, resumed = run(spec).events, run(spec, cut_after=1).events
    odd = next((row["event"] for row, other in zip(straight, resumed, strict=False) if repr(row) != repr(other)), None)
    require(repr(straight) == repr(resumed), f"cut off and resumed, its events differ, first in a row {odd!r}")


def _check_values(ran: Ran) -> None:
    trace, controller, space = ran.trace, ran.spec.controller, ran.spec.search_space()
    require(trace.finished, "it has no end")
    require(len(trace.epochs) == ran.spec.num_epochs, f"{len(trace.epochs)} epochs of {ran.spec.num_epochs}")
    require(len(trace.weights_sha256) == 64, "it has no digest of its weights")
    for values in _values(trace):
        sound = values.keys() <= space.keys() and all(math.isfinite(v) and v >= 0 for v in values.values())
        require(sound, f"values {dict(values)} were in force; finite ones from 0 on of {', '.join(space)} may be")
    if not isinstance(controller, ControllerConfig):
        return  # a training that begins anew passes no guard
    for decision in trace.decisions:
        if decision.action is not Action.ADAPT:  # a way back and a probe pass no guard
            continue
        for name, value in decision.applied.items():
            before = decision.observation.hyperparams[name]
            where = f"at step {decision.observation.step} {name} went from {before:g} to {value:g}"
            if controller.within_space:
                require(space[name].contains(value), f"{where}, out of its space {space[name]}")
            if controller.max_delta is not None:
                most = (1 + controller.max_delta) * (1 + ROUNDING)
                require(before / most <= value <= before * most, f"{where}, max_delta is {controller.max_delta:g}")


def _values(trace: Trace) -> Iterator[Hyperparams]:
    yield trace.initial_hyperparams
    for epoch in trace.epochs:
        yield epoch.hyperparams
    for decision in trace.decisions:
        yield decision.applied


def suits(controller: MethodConfig, regime: RegimeConfig) -> bool:
    """Return whether a regime can act on the optimizer that a controller brings: some have no momentum to change."""
    try:
        _strike(_task_for(regime), regime, controller)
    except ValueError:
        return False
    return True


def _task_for(regime: RegimeConfig) -> Task:
    """Return the digits as rows of numbers, or as images where the regime needs these."""
    task = DigitsMlp(batch_size=BATCH_SIZE)
    try:
        _strike(task, regime, FixedConfig())
    except TypeError:  # what regimes raise for data of another sort
        return DigitsImages(batch_size=BATCH_SIZE)
    return task


def _strike(task: Task, regime: RegimeConfig, controller: MethodConfig) -> None:
    """Let a regime act on a task, without a step of training."""
    data, _ = task.load(DataSource())
    workload = task.build(task.defaults, 0, data)
    horizon = Horizon(num_epochs=NUM_EPOCHS, steps_per_epoch=len(data.train))
    optimizer = workload.optimizer
    if isinstance(controller, ControllerConfig):
        optimizer = controller.build_stepping(workload.model, optimizer, horizon).optimizer
    live = regime.start(horizon, seed=0)
    for epoch in range(1, NUM_EPOCHS + 1):
        live.apply(epoch, workload.model, workload.data, optimizer)
