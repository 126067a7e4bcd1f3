"""ONE DECISION FOR ALL: what the processes of one training decide on is the same numbers in each of them.

Every decision is a function of the seed and of what the tuner is told. Where several processes train one model, each
sees a loss of its own. They exchange what they see and judge its mean, so that all of them decide the same, and each
goes back to its own copy, or its own shards, of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from autotunenet.late_losses import Loss, value_of
from autotunenet.state import PlainState
from autotunenet.types import RatedRun, SharedRun, TrainingRun

_WIDTH = 9
"""Numbers in every exchange, whatever it is about: processes that have come apart are to be told so, not to hang."""


class Topic(IntEnum):
    """What an exchange is about."""

    STEP = 1
    FOLLOW = 2  # a step of the others, in a process that has no batches left
    PROPOSAL = 3
    METRIC = 4
    WEIGHTS = 5
    REPLAY = 6
    SNAPSHOT = 7


_DOINGS = {
    Topic.STEP: "calls tuner.step",
    Topic.FOLLOW: "follows a step of the others",
    Topic.PROPOSAL: "asks its controller",
    Topic.METRIC: "saves the tuner's state in shards",
    Topic.WEIGHTS: "looks whether its weights are finite",
    Topic.REPLAY: "replays a batch",
    Topic.SNAPSHOT: "looks whether there is time for a snapshot",
}


class Agreed(NamedTuple):
    """What all processes take a step with.

    Attributes:
        loss: Mean over the processes that take the step themselves; not finite where one of theirs is not. Where one
            process trains alone it may be on its way.
        batch: This process's own; None where one of them has given none.
        metric: Mean of what `observe` was told since the last step, in one process or more; None: nothing.
        took_step: Whether one of the processes that take the step themselves has seen its optimizer step; None: no, but
            it may have.
    """

    loss: Loss
    batch: Any
    metric: float | None
    took_step: bool | None


class _Seen(NamedTuple):
    """What one process tells the others at a step."""

    topic: float
    loss: float
    has_batch: float
    has_metric: float
    metric: float
    step: float
    lr: float
    total: float  # sum of all values in force
    took_step: float  # NaN: that cannot be told

    def is_beside(self, other: _Seen) -> bool:
        """Whether two processes are at the same place in the same training."""
        # To rounding: logarithms and powers differ in their last bit from one kind of CPU to another.
        alike = (math.isclose(a, b, rel_tol=1e-9) for a, b in ((self.lr, other.lr), (self.total, other.total)))
        return self.step == other.step and all(alike)


class Agreement(PlainState):
    """The exchange at every step. Where one process trains alone everything passes through.

    Args:
        run: The training.
    """

    state_names = ("metric",)

    def __init__(self, run: TrainingRun) -> None:
        self._run, self._shared, self._rated = run, _shared(run), run if isinstance(run, RatedRun) else None
        self.metric: float | None = None
        """What `observe` was told in this process, until the next step brings it to all."""

    @property
    def is_needed(self) -> bool:
        """Whether there are other processes."""
        return self._shared is not None

    @property
    def is_due(self) -> bool:
        """Whether a step has to wait for `on_step`: for other processes, or for a metric that no step has brought yet.

        The metric may be that of a run that was saved among others.
        """
        return self._shared is not None or self.metric is not None

    def on_step(self, loss: Loss | None, batch: Any, step: int, took_step: bool | None = True) -> Agreed:
        """Exchange what is known of a step. Every process has to call it.

        Args:
            loss: Of this process; None where it follows the others.
            batch: Of this process, or None.
            step: Steps before this one.
            took_step: Whether this process has seen its optimizer step; None: that cannot be told.

        Raises:
            RuntimeError: If the processes have come apart: in their steps, or in the values in force; if there are none
                to follow.
        """
        metric, self.metric = self.metric, None
        if self._shared is None:
            if loss is None:
                raise RuntimeError("this process trains alone and has nobody to follow; call tuner.step with the loss")
            return Agreed(loss, batch, metric, took_step)
        values, rated = self._run.get_hyperparams(), self._rated
        topic = Topic.STEP if loss is not None else Topic.FOLLOW
        numbers = (
            math.nan if loss is None else value_of(loss),
            batch is not None,
            metric is not None,
            math.nan if metric is None else metric,
            step,
            rated.effective_lr if rated and "lr" in values else next(iter(values.values())),
            sum(values.values()),
            math.nan if took_step is None else took_step,
        )
        everyone = [_Seen(*row) for row in exchange(self._run, topic, *numbers)]
        self._check(self._shared, everyone)
        metrics = [seen.metric for seen in everyone if seen.has_metric]
        active = [seen for seen in everyone if seen.topic == Topic.STEP]
        steps = [None if math.isnan(seen.took_step) else bool(seen.took_step) for seen in active]
        return Agreed(
            loss=_mean([seen.loss for seen in active]),
            batch=batch if all(seen.has_batch for seen in everyone) else None,
            metric=_mean(metrics) if metrics else None,
            took_step=True if True in steps else None if None in steps else False,
        )

    @staticmethod
    def _check(shared: SharedRun, everyone: Sequence[_Seen]) -> None:
        # Not of those that follow: their LR schedulers make no steps.
        places = {rank: seen for rank, seen in zip(shared.ranks, everyone, strict=True) if seen.topic == Topic.STEP}
        if not places:
            raise RuntimeError("every rank only follows this step; one at least has to take it, with tuner.step")
        first = next(iter(places.values()))
        if not all(seen.is_beside(first) for seen in places.values()):
            told = ", ".join(f"rank {rank} is at step {p.step:.0f} with lr {p.lr:.9g}" for rank, p in places.items())
            raise RuntimeError(
                f"the processes of this training have come apart: {told}. Give the tuner the same arguments, the same "
                "saved state and the same number of steps on every rank, and step an LR scheduler on all of them; or "
                "process_group=None, for a tuner of its own on each"
            )


def exchange(run: TrainingRun, topic: Topic, *numbers: float) -> list[tuple[float, ...]]:
    """Return what each process says about a topic: one row of nine numbers each, in order of rank, the topic first.

    Args:
        run: The training. Of one that a process trains alone there is one row.
        topic: What it is about.
        *numbers: At most eight.

    Raises:
        RuntimeError: If other processes speak of something else.
    """
    row = [float(number) for number in (topic, *numbers)]
    row += [0.0] * (_WIDTH - len(row))
    shared = _shared(run)
    if shared is None:
        return [tuple(row)]
    rows = [tuple(other) for other in shared.exchange(row)]
    topics = {Topic(int(other[0])) for other in rows}
    if len(topics) > 1 and topics != {Topic.STEP, Topic.FOLLOW}:
        told = zip(shared.ranks, rows, strict=True)
        raise RuntimeError(
            "the processes of this training have come apart: "
            + ", ".join(f"rank {rank} {_DOINGS[Topic(int(other[0]))]}" for rank, other in told)
            + ". Give the tuner the same arguments and make the same calls of it on every rank"
        )
    return rows


def first_proposal(run: TrainingRun, proposed: dict[str, float]) -> dict[str, float]:
    """Return what the first process proposes.

    The others have asked their controllers for the same, on the same numbers; but matrices are multiplied and
    logarithms taken a little differently from one kind of CPU to another.
    """
    if _shared(run) is None:
        return proposed
    agreed: dict[str, float] = {}
    names, size = sorted(proposed), _WIDTH - 1
    for i in range(0, len(names), size):
        part = names[i : i + size]
        first = exchange(run, Topic.PROPOSAL, *(proposed[name] for name in part))[0]
        agreed.update(zip(part, first[1:], strict=False))
    return agreed


def mean_over_ranks(run: TrainingRun, loss: float) -> float:
    """Return the mean loss of the batches that all processes replay now."""
    return _mean([row[1] for row in exchange(run, Topic.REPLAY, loss)])


def mean_metric(run: TrainingRun, metric: float | None) -> float | None:
    """Return the mean metric of the processes that have one; None where none has."""
    rows = exchange(run, Topic.METRIC, metric is not None, math.nan if metric is None else metric)
    metrics = [value for _, has_metric, value, *_ in rows if has_metric]
    return _mean(metrics) if metrics else None


def holds_on_all_ranks(run: TrainingRun, topic: Topic, holds: bool) -> bool:
    """Return whether what is asked holds in every process. All of them have to ask."""
    return all(row[1] for row in exchange(run, topic, holds))


def _shared(run: TrainingRun) -> SharedRun | None:
    return run if isinstance(run, SharedRun) and len(run.ranks) > 1 else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
