"""One training, and everything that goes wrong in copies of it, each at a step of its own."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from autotunenet import Action, Decision, Health, Tuner, make_tuner
from autotunenet.adapters.pytorch import TorchRun
from autotunenet_bench.attribution.events import FAULTS, Fault, fault_named, fault_seed
from autotunenet_bench.attribution.tasks import SUITE_TASKS
from autotunenet_bench.data import stream_seed
from autotunenet_bench.tasks import Task
from autotunenet_bench.types import Batch, Batches, TaskData

WINDOW = 60
"""Steps after an event within which the tuner's last word counts."""

HARM_STEPS = 40
"""Steps after an event over which harm is measured."""

NO_HARM_FACTOR = 1.1
NO_HARM_SHARE = 0.02

_LEAD = 20
"""Steps before an event whose losses are stored with the case."""

Row = dict[str, Any]


@dataclass(frozen=True)
class TrajectorySpec:
    """What to train, and what goes wrong in copies of it.

    Attributes:
        task: Name in `SUITE_TASKS`.
        optimizer: "sgd" (with momentum 0.9), "adam" or "adamw".
        seed: Of weights, order and events.
        num_steps: Optimizer steps, which the tuner is told.
        faults: Names of the events.
        launch: Whether the tuner finds its own lr first. Else it keeps the task's, a good one.
        replay: Whether the tuner may train on stored batches again.
    """

    task: str
    optimizer: str
    seed: int
    num_steps: int = 600
    faults: tuple[str, ...] = tuple(fault.name for fault in FAULTS)
    launch: bool = False
    replay: bool = False

    @property
    def run_id(self) -> str:
        """A file name that no other spec of one suite has."""
        flags = "".join(f"-{name}" for name in ("launch", "replay") if getattr(self, name))
        return f"{self.task}-{self.optimizer}{flags}-s{self.seed}"

    @property
    def num_epochs(self) -> int:
        """Events, which the progress display counts as epochs."""
        return len(self.faults)

    @property
    def labels(self) -> dict[str, str]:
        """Names for the progress display."""
        return {"task": f"{self.task} / {self.optimizer}"}

    def build_task(self) -> Task:
        """Return the task.

        Raises:
            KeyError: If there is none of that name.
        """
        return SUITE_TASKS[self.task].model_validate({"name": self.task, "optimizer": self.optimizer})

    def event_steps(self) -> dict[str, int]:
        """Return the first step under each event: somewhere in the middle of the run, each from a stream of its own.

        >>> steps = TrajectorySpec("digits_mlp", "sgd", 0).event_steps().values()
        >>> 150 < min(steps) and max(steps) < 450 and len(set(steps)) > 10
        True
        """
        low, high = self.num_steps // 4, self.num_steps * 7 // 10
        seeds = {
            name: stream_seed(self.seed, f"attribution/{self.task}/{self.optimizer}/{name}") for name in self.faults
        }
        return {name: int(np.random.default_rng(seed).integers(low + 1, high)) for name, seed in seeds.items()}


@dataclass
class Session:
    """A training with a tuner inside it, a step at a time, that can be copied at any of them.

    Args:
        spec: What to train.
        data: The task's, untouched.
    """

    spec: TrajectorySpec
    data: TaskData
    step: int = field(default=0, init=False)  # optimizer steps done
    losses: list[float] = field(default_factory=list, init=False)  # true ones, of every step

    def __post_init__(self) -> None:
        self.task = self.spec.build_task()
        self.workload = self.task.build(self.task.defaults, self.spec.seed, self.data)
        self._run = TorchRun(self.workload.model, self.workload.optimizer, names=self.task.space)
        self.tuner = _make_tuner(self)
        self._fault = Fault("nothing")
        self._source: Batches | None = None  # the data and the epoch that the batches at hand come from
        self._epoch_number = 0
        self._epoch: list[Batch] = []
        self.workload.model.train()

    def copy(self) -> Session:
        """Return the same state in objects of its own, by way of state dicts, as a resumed training would get it."""
        other = Session(self.spec, self.data)
        # Deep copies, because torch's state dicts hold the live tensors; a model copies out of them by itself.
        other.workload.model.load_state_dict(self.workload.model.state_dict())
        other.workload.optimizer.load_state_dict(copy.deepcopy(self.workload.optimizer.state_dict()))
        other.tuner.load_state_dict(copy.deepcopy(self.tuner.state_dict()))
        other.step, other.losses = self.step, list(self.losses)
        return other

    def strike(self, fault: Fault) -> None:
        """Let an event happen before the next step."""
        seed = fault_seed(self.spec.seed, fault.name)
        fault.strike(self.workload.model, self.workload.data, self.workload.optimizer, seed)
        self._fault = fault

    def advance(self) -> Decision | None:
        """Take a step under the tuner's eyes."""
        batch, loss = self.train()
        shown = self._fault.shown_loss(loss, self.step, fault_seed(self.spec.seed, self._fault.name))
        if self.spec.replay:
            return self.tuner.step(shown, batch=batch)  # type: ignore[call-arg,unused-ignore]
        return self.tuner.step(shown)

    def train(self) -> tuple[Batch, float]:
        """Take a step that nobody watches; return its batch and its loss."""
        batch = self._batch(self.workload.data.train)
        loss = self.train_on(batch)
        self.step += 1
        self.losses.append(loss)
        return batch, loss

    def train_on(self, batch: Batch) -> float:
        """Go one optimizer step down from the loss on a batch; return that loss."""
        loss = self.task.loss(self.workload.model, batch)
        self.workload.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.workload.optimizer.step()
        return loss.item()

    def _batch(self, batches: Batches) -> Batch:
        """Return the batch of the next step, from data that may have changed in the middle of an epoch."""
        epoch, position = divmod(self.step, len(batches))
        if self._source is not batches or self._epoch_number != epoch + 1:
            self._source, self._epoch_number = batches, epoch + 1
            self._epoch = list(batches.epoch(epoch + 1))
        return self._epoch[position]


def can_replay() -> bool:
    """Whether the installed tuner can train on stored batches again."""
    return "replay" in inspect.signature(Tuner).parameters


def _make_tuner(session: Session) -> Tuner:
    spec = session.spec
    options: dict[str, Any] = {"replay": session.train_on} if spec.replay else {}
    return make_tuner(session._run, session.task.space, spec.num_steps, launch=spec.launch, **options)


def run_trajectory(spec: TrajectorySpec, data: TaskData, on_case: Callable[[], None] = lambda: None) -> Iterator[Row]:
    """Train; at every event's step let it happen in a copy. Yield a row a case, then one about the stable steps.

    Args:
        spec: What to train.
        data: The task's, untouched.
        on_case: Called after every case.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(spec.seed, "training"))
        main, decisions = Session(spec, data), []
        for name, first in sorted(spec.event_steps().items(), key=lambda item: (item[1], item[0])):
            while main.step < first - 1:
                decisions.append(main.advance())
            yield run_case(main, fault_named(name))
            on_case()
        while main.step < spec.num_steps:
            decisions.append(main.advance())
        steps = [decision.observation.step for decision in alarms(decisions)]
        about = {"task": spec.task, "optimizer": spec.optimizer, "seed": spec.seed}
        yield {"kind": "stable", **about, "num_steps": main.step, "alarm_steps": steps, "last_loss": main.losses[-1]}


def run_case(main: Session, fault: Fault) -> Row:
    """Let an event happen in a copy of a training before its next step, and write down what the tuner decides."""
    live, event_step = main.copy(), main.step + 1
    live.strike(fault)
    decisions = [live.advance() for _ in range(WINDOW)]
    known = [decision for decision in decisions if decision]
    spec, first_alarm = main.spec, next(iter(alarms(decisions)), None)
    row = {
        "kind": "case",
        **{"task": spec.task, "optimizer": spec.optimizer, "seed": spec.seed},
        **{"cause": fault.cause, "fault": fault.name, "step": event_step},
        "delay": first_alarm.observation.step - event_step if first_alarm else None,
        "verdict": next((d.cause.value for d in known if d.cause), None),
        "actions": [[d.observation.step - event_step, d.action.value] for d in known if d.health is Health.UNSTABLE],
        "reasons": [d.reason for d in known if d.health is Health.UNSTABLE],
        "rolled_back": any(d.action is Action.ROLLBACK for d in known),
        "losses_before": [_storable(loss) for loss in main.losses[-_LEAD:]],
        "losses": [_storable(loss) for loss in live.losses[main.step :]],
    }
    return {**row, **_harm(main, fault, live.losses[main.step :])}


def _harm(main: Session, fault: Fault, tended: list[float]) -> Row:
    """Say what the knob does where nobody interferes, and what the tuner has left of that, against the knobless twin.

    Args:
        main: The training before the event.
        fault: The event.
        tended: Losses since the event under the tuner's eyes.
    """
    if not fault.has_knob:
        return {"harmful": None, "healed": None}
    first = abs(main.losses[0])
    alone, twin = (_untended(main, one) for one in (fault, fault.without_knob()))
    return {
        "harmful": is_harm(_mean(alone[:HARM_STEPS]), _mean(twin[:HARM_STEPS]), first),
        "healed": not is_harm(_mean(tended[HARM_STEPS:]), _mean(twin[HARM_STEPS:]), first),
        "untended_loss": _storable(_mean(alone[:HARM_STEPS])),
        "twin_loss": _storable(_mean(twin[:HARM_STEPS])),
    }


def is_harm(alone: float, twin: float, first: float) -> bool:
    """Whether the mean loss after an event is clearly above that of the twin.

    >>> is_harm(0.3, 0.2, 2.3), is_harm(0.25, 0.2, 2.3), is_harm(math.inf, 0.2, 2.3)
    (True, False, True)
    """
    return not alone <= NO_HARM_FACTOR * twin + NO_HARM_SHARE * first


def alarms(decisions: list[Decision | None]) -> Iterator[Decision]:
    """Yield the decisions that answered a new alarm, and not those that end a trial."""
    on_trial = False
    for decision in decisions:
        if decision and decision.health is Health.UNSTABLE:
            if not on_trial:
                yield decision
            on_trial = decision.action is Action.PROBE


def _untended(main: Session, fault: Fault) -> list[float]:
    alone = main.copy()
    alone.strike(fault)
    return [alone.train()[1] for _ in range(WINDOW)]


def _mean(losses: list[float]) -> float:
    return sum(losses) / len(losses) if all(map(math.isfinite, losses)) else math.inf


def _storable(loss: float) -> float | None:
    return float(f"{loss:.5g}") if math.isfinite(loss) else None
