"""A finished (or interrupted) run as metrics and reports read it: built from its events, and from nothing else."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from autotunenet.types import Action, Decision
from autotunenet_bench.results.checks import check_row

if TYPE_CHECKING:  # with torch, which takes seconds to import
    from autotunenet_bench.types import Event


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch of training and the validation after it.

    Attributes:
        epoch: Counted from 1.
        step: Optimizer steps done by the end of this epoch, discarded ones included.
        losses: Training loss of every step of this epoch, in order; may hold NaN and infinities.
        val: Validation metrics after this epoch: ``{"loss": ..., "accuracy": ...}``, accuracy in [0, 1].
        hyperparams: In force at the end of this epoch, before the controller heard of `val`.
        train_seconds: Forward, backward, optimizer step.
        eval_seconds: The validation pass.
        control_seconds: Inside the tuner.
        passes: Training passes done by the end of this epoch: a step each, discarded ones included, and whatever else
            was run through the model in training mode. Runs of before it was counted had none but their steps.
    """

    epoch: int
    step: int
    losses: Sequence[float]
    val: Mapping[str, float]
    hyperparams: Mapping[str, float]
    train_seconds: float
    eval_seconds: float
    control_seconds: float
    passes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flops:
    """Floating point operations of the plain model on the run's batches: products and sums of its matrix products.

    Attributes:
        train_epoch: Forward and backward over all batches of an epoch.
        num_batches: Batches of an epoch, at least 1.
        evaluation: One validation.
    """

    train_epoch: int
    num_batches: int
    evaluation: int

    def spent(self, passes: int, num_evaluations: int) -> float:
        """Operations of so many training passes, each a mean batch of the epoch, and so many validations.

        >>> Flops(train_epoch=700, num_batches=7, evaluation=50).spent(passes=10, num_evaluations=2)
        1100.0
        """
        return self.train_epoch * passes / self.num_batches + self.evaluation * num_evaluations


@dataclass(frozen=True, slots=True)
class Trigger:
    """When the regime struck: the first epoch and step under it, and a sentence about what it did."""

    epoch: int
    step: int
    description: str


def is_restart(decision: Decision) -> bool:
    """Whether training began anew: new values, and all the work under the old ones is thrown away.

    An online method goes on from where it is when it adapts, and goes back by a rollback.
    """
    return decision.action is Action.ADAPT and decision.discarded_steps > 0


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything measured in one run.

    Attributes:
        spec: The resolved run spec (``spec.json``): task, regime, controller, seed, data and so on, as plain values.
        environment: What the run was begun with, by name: versions, the processor, and the GPU where it had one.
        initial_val: Validation metrics before the first step.
        initial_hyperparams: In force at the first step.
        epochs: In order; fewer than ``spec["num_epochs"]`` while `finished` is false.
        decisions: Everything the tuner decided, in order.
        trigger: None when the regime never struck.
        num_restarts: Times training began anew; 0 for every online method, and while `finished` is false.
        weights_sha256: Of the final weights; empty while `finished` is false.
        wall_seconds: Training, validation and control, summed over the epochs; interruptions do not count.
        finished: Whether the run came to its end.
        flops: None for a run of before they were recorded.
        test: Metrics of the finished model on the test part; empty where the data have none, and while `finished` is
            false.
        peak_memory_bytes: Most memory that the process of the run ever held, as the system has it; None where it does
            not say, and while `finished` is false.
    """

    spec: Mapping[str, Any]
    environment: Mapping[str, str]
    initial_val: Mapping[str, float]
    initial_hyperparams: Mapping[str, float]
    epochs: Sequence[EpochRecord]
    decisions: Sequence[Decision]
    trigger: Trigger | None
    num_restarts: int
    weights_sha256: str
    wall_seconds: float
    finished: bool
    flops: Flops | None = None
    peak_memory_bytes: int | None = None
    test: Mapping[str, float] = field(default_factory=dict)

    @property
    def losses(self) -> list[float]:
        """Training loss of every step of the run, in order."""
        return [loss for epoch in self.epochs for loss in epoch.losses]

    @property
    def rollbacks(self) -> list[Decision]:
        """The decisions that threw work away to return to a known good state."""
        return [decision for decision in self.decisions if decision.action is Action.ROLLBACK]

    @property
    def restarts(self) -> list[Decision]:
        """The decisions with which training began anew."""
        return [decision for decision in self.decisions if is_restart(decision)]

    @property
    def label(self) -> tuple[str, str, str]:
        """Display names (task, regime, controller) under which runs that differ only by seed are grouped."""
        return self.spec["labels"]["task"], self.spec["labels"]["regime"], self.spec["labels"]["controller"]

    @classmethod
    def from_events(cls, spec: Mapping[str, Any], events: Iterable[Event]) -> Trace:
        """Build a trace from the rows of ``events.jsonl``.

        Args:
            spec: The run's resolved spec.
            events: Rows in order. The first must be the "start" row.

        Raises:
            ValueError: If the rows do not begin with a "start" row, if the epochs are not 1, 2, 3 and so on, if a row
                lacks a key or has a value of a wrong type, if steps go backwards, if there are two "trigger" rows, or
                if anything follows the "end" row. The message has the number of the row, which is that of its line.
        """
        epochs: list[EpochRecord] = []
        decisions: list[Decision] = []
        trigger: Trigger | None = None
        flops: Flops | None = None
        start: Event | None = None
        end: Event | None = None
        for number, event in enumerate(events, start=1):
            kind = event.get("event") if isinstance(event, Mapping) else None
            if not isinstance(kind, str):
                raise ValueError(f"row {number} of the events is no object with a text 'event'; {_MEND}")
            if (kind == "start") != (number == 1):
                raise ValueError("the events of a run must begin with a 'start' row; " + _which(number, kind))
            if end is not None:
                raise ValueError(f"row {number} of the events stands behind the 'end' row; {_MEND}")
            try:
                check_row(kind, event)
                if kind == "start":
                    _require(event, "environment", "hyperparams", "val")
                    _require(event["val"], "loss")
                    start, flops = event, _flops(event)
                elif kind == "decision":
                    decisions.append(_decision(event, decisions))
                elif kind == "trigger":
                    trigger = _trigger(event, trigger)
                elif kind == "epoch":
                    epochs.append(_epoch_record(event, epochs[-1] if epochs else None))
                elif kind == "end":
                    _require(event, "num_restarts", "weights_sha256")
                    end = event
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                fault = f"it has no key {error}" if isinstance(error, KeyError) else str(error)
                raise ValueError(f"row {number} of the events ({kind!r}) is malformed: {fault}; {_MEND}") from error
        if start is None:
            raise ValueError("the events of a run must begin with a 'start' row; this run has none")
        return cls(
            spec=spec,
            environment=_environment(start),
            initial_val=start["val"],
            initial_hyperparams=start["hyperparams"],
            epochs=epochs,
            decisions=decisions,
            trigger=trigger,
            num_restarts=end["num_restarts"] if end else 0,
            weights_sha256=end["weights_sha256"] if end else "",
            wall_seconds=sum(e.train_seconds + e.eval_seconds + e.control_seconds for e in epochs),
            finished=end is not None,
            flops=flops,
            peak_memory_bytes=end.get("clock", {}).get("peak_memory_bytes") if end else None,
            test=end.get("test", {}) if end else {},
        )


_MEND = "remove the run's folder to run it again"


def _environment(start: Event) -> dict[str, Any]:
    """Return what the run was begun with; of a run on a GPU also its name and the version of CUDA."""
    device = start.get("device")
    graphics = {"gpu": device.get("name"), "cuda": device.get("cuda")} if isinstance(device, Mapping) else {}
    return {**start["environment"], **{name: value for name, value in graphics.items() if value is not None}}


def _decision(event: Event, before: Sequence[Decision]) -> Decision:
    """Return a decision. Values that are equal to the last ones are the same object: a run may hold thousands."""
    last = before[-1].applied if before else {}
    for name in ("in_force", "proposed", "applied"):
        if event[name] == last:
            event[name] = last
        last = event[name]
    return Decision.from_record(event)


def _which(number: int, kind: Any) -> str:
    return f"here row {number} is {kind!r}; {_MEND}"


def _require(event: Mapping[str, Any], *names: str) -> None:
    for name in names:
        event[name]  # a KeyError names what is not there


def _trigger(event: Event, earlier: Trigger | None) -> Trigger:
    if earlier is not None:
        raise ValueError("there is a 'trigger' row above it already, and a regime strikes once")
    return Trigger(event["epoch"], event["step"], event["description"])


def _epoch_record(event: Event, before: EpochRecord | None) -> EpochRecord:
    due, steps = (before.epoch + 1, before.step) if before else (1, 0)
    if event["epoch"] != due:
        raise ValueError(f"it is of epoch {event['epoch']} where epoch {due} was due, as if two processes had written")
    if event["step"] < steps:
        raise ValueError(f"it ends at step {event['step']}, before the epoch above it, which ends at {steps}")
    _require(event["val"], "loss")
    plain = [field.name for field in fields(EpochRecord) if field.name not in (*_CLOCK, "passes")]
    clock = {name: event["clock"][name] for name in _CLOCK}
    passes = event["passes"] if "passes" in event else event["step"]
    values = {name: event[name] for name in plain}
    values["losses"] = array("d", values["losses"])  # a fourth of the memory of a list, with equal numbers in it
    return EpochRecord(**values, **clock, passes=passes)


_CLOCK = ("train_seconds", "eval_seconds", "control_seconds")


def _flops(event: Event) -> Flops | None:
    recorded = event.get("flops")
    if recorded is None:
        return None
    flops = Flops(**{field.name: recorded[field.name] for field in fields(Flops)})
    if flops.num_batches < 1 or flops.train_epoch < 0 or flops.evaluation < 0:
        raise ValueError(f"its 'flops' must be numbers from 0 on, of at least one batch, got {recorded}")
    return flops
