"""One offline run: trials that all begin from scratch, then a training with the best values, all from one budget."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from autotunenet import Decision, Hyperparams, Observation
from autotunenet.types import Action, Health
from autotunenet_bench.config import RunSpec
from autotunenet_bench.controllers.base import DIRECTIONS, Observable
from autotunenet_bench.controllers.offline import OfflineConfig, Search
from autotunenet_bench.data import DataSource, stream_seed
from autotunenet_bench.device import CPU, Device
from autotunenet_bench.results import RunFolder
from autotunenet_bench.runners.base import BaseTraining, run_training
from autotunenet_bench.types import Event, EventSink, TaskData

WORDS: dict[Observable, str] = {
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
    "train_loss": "mean training loss",
}

DIVERGED = 4.0
"""A trial has diverged when its loss is not finite or above this multiple of the validation loss before training.

It is the line of the metric `divergence_events`. A loss of 1e19 says no more than infinity does, and a sampler that
scales its values to their spread would see nothing else beside it.
"""


def run_offline(spec: RunSpec, source: DataSource, folder: RunFolder, on_event: EventSink | None = None) -> None:
    """Run the spec of an offline search; the arguments are those of `autotunenet_bench.runners.run`.

    Raises:
        ValueError: As `autotunenet_bench.runners.run`, and if the spec's method is no offline search.
    """
    run_training(SearchTraining, spec, source, folder, on_event)


@dataclass(frozen=True, slots=True)
class Trial:
    """What was tried, and how it did: lower is better, infinity for a trial that diverged."""

    params: dict[str, float]
    value: float


class SearchTraining(BaseTraining):
    """Trainings one after the other in one world, and the search that says where they begin.

    A training begins anew in place: the first weights come back, the optimizer forgets, and the values are written. The
    world does not begin anew: epochs, steps and the order of the data count on, and what a regime has put on the
    optimizer stays there.

    Args:
        spec: What to run; its controller is an offline search.
        data: The task's data, untouched by any regime.
        device: What it is computed on.
    """

    def __init__(self, spec: RunSpec, data: TaskData, device: Device = CPU) -> None:
        if not isinstance(spec.controller, OfflineConfig):
            raise ValueError(
                f"{spec.controller.name} is no offline search; autotunenet_bench.runners.run picks the runner"
            )
        self._config = spec.controller
        super().__init__(spec, data, device)
        self._plan = self._config.plan(spec.num_epochs)
        self._first_weights = copy.deepcopy(self._workload.model.state_dict())
        self._initial = self._run.get_hyperparams()
        self._highest_loss = math.inf  # known before the first step
        self._told: list[Trial] = []
        self._search = self._new_search()
        self._asked = self._search.ask()
        self._run.set_hyperparams(self._asked)

    @property
    def num_restarts(self) -> int:
        """How often training began anew so far: after every trial."""
        return len(self._told)

    def start_event(self) -> Event:
        """Return the row before the first step."""
        event = super().start_event()
        if math.isfinite(event["val"]["loss"]):
            self._highest_loss = DIVERGED * event["val"]["loss"]
        return event

    def _after_epoch(self, shown: float) -> Decision | None:
        if not self._plan.ends_trial(self.epoch):
            return None
        metric = shown if DIRECTIONS[self._config.observe] == "min" else -shown
        seen = Observation(self._step, metric, self._run.get_hyperparams())
        # An accuracy, its sign turned, is never above a loss.
        has_diverged = not math.isfinite(metric) or metric > self._highest_loss
        self._told.append(Trial(self._asked, math.inf if has_diverged else metric))
        self._search.tell(self._asked, self._told[-1].value)
        if len(self._told) < self._plan.num_trials:
            self._asked = self._search.ask()
            proposed = self._asked
        else:
            best = self._best()
            proposed = best.params if best else self._initial
        self._begin_anew(proposed)
        return Decision(
            observation=seen,
            health=Health.UNSTABLE if has_diverged else Health.STABLE,
            action=Action.ADAPT,
            proposed=dict(proposed),
            applied=self._run.get_hyperparams(),
            discarded_steps=self._plan.trial_epochs * self._horizon.steps_per_epoch,
            reason=self._reason(proposed),
        )

    def _begin_anew(self, params: Hyperparams) -> None:
        self._workload.model.load_state_dict(self._first_weights)
        # Not its load_state_dict, which would take back what a regime has written into the groups.
        self._workload.optimizer.state.clear()
        self._run.set_hyperparams(params)

    def _best(self) -> Trial | None:
        """Return the best trial, the earliest of equals; None where all have diverged."""
        best = min(self._told, key=lambda trial: trial.value)
        return best if math.isfinite(best.value) else None

    def _reason(self, proposed: Hyperparams) -> str:
        number, num_trials, last, best = len(self._told), self._plan.num_trials, self._told[-1], self._best()
        ended = f"trial {number} of {num_trials}, {_pairs(last.params)}, {self._ended(last)}"
        found = f"{_pairs(best.params)} with {self._metric(best.value)}" if best else "none, all have diverged"
        if number < num_trials:
            return f"{ended}; trial {number + 1} tries {_pairs(proposed)} from scratch; best so far: {found}"
        values = "the best values" if best else "the initial values"
        length = f"{self._plan.final_epochs} epoch{'s' if self._plan.final_epochs > 1 else ''}"
        return f"{ended}; best of all: {found}; the last training, from scratch for {length}, has {values}"

    def _ended(self, trial: Trial) -> str:
        return f"ended with {self._metric(trial.value)}" if math.isfinite(trial.value) else "diverged"

    def _metric(self, value: float) -> str:
        shown = value if DIRECTIONS[self._config.observe] == "min" else -value
        return f"{WORDS[self._config.observe]} {shown:.4g}"

    def _new_search(self) -> Search:
        return self._config.build_search(self._space, stream_seed(self._spec.seed, "controller"))

    def _own_state(self) -> dict[str, Any]:
        told = [asdict(trial) for trial in self._told]
        return {"search": {"told": told, "asked": dict(self._asked), "highest_loss": self._highest_loss}}

    def _load_own_state(self, state_dict: dict[str, Any]) -> None:
        """Ask a fresh search all of it again: no package's own state can be saved, and its answers can.

        Raises:
            RuntimeError: If it answers otherwise.
        """
        saved = state_dict["search"]
        self._told, self._asked = [Trial(**trial) for trial in saved["told"]], dict(saved["asked"])
        self._highest_loss = saved["highest_loss"]
        self._search = self._new_search()
        for trial in self._told:
            self._ask_again(trial.params)
            self._search.tell(trial.params, trial.value)
        if len(self._told) < self._plan.num_trials:
            self._ask_again(self._asked)

    def _ask_again(self, before: Mapping[str, float]) -> None:
        answer = self._search.ask()
        if answer != before:
            raise RuntimeError(
                f"{self._config.name} answers otherwise than in the saved run: {answer}, {before} then. Resume with "
                "the versions of the packages that the run began with, or run it from its start"
            )


def _pairs(params: Hyperparams) -> str:
    """Values as a sentence has them: ``lr 0.01, momentum 0.9``."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in params.items()
    )
