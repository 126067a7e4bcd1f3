"""When a run came to a stated validation loss: in steps, in seconds and in operations.

No key of `autotunenet_bench.metrics.METRICS`: those are of a run by itself, and a target may be one that other runs
have set. Lower is better. A finished run that never gets there has infinity and stays in every table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from autotunenet_bench.metrics.base import val_losses
from autotunenet_bench.results.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeTo:
    """What a run had spent by the end of the first epoch with a validation loss at or below a target.

    With e that epoch, L_e <= target; all three are infinity where a finished run has none, and NaN where a run that is
    not finished has none yet.

    Attributes:
        steps: n_e, optimizer steps, discarded ones included.
        seconds: Training, validation and control of the epochs 1 to e, by the clock of the machine.
        flops: Training passes of the epochs 1 to e and their e + 1 validations; NaN where they were not recorded.
    """

    steps: float
    seconds: float
    flops: float


def time_to(trace: Trace, target: float) -> TimeTo:
    """Return when a run came to a validation loss, to the epoch, for that is how often it is measured.

    A loss that is not finite is at no target.

    Args:
        trace: Finished or not.
        target: Validation loss; NaN is never reached.
    """
    for index, epoch in enumerate(trace.epochs):
        loss = epoch.val["loss"]
        if math.isfinite(loss) and loss <= target:
            spent = trace.epochs[: index + 1]
            return TimeTo(
                steps=float(epoch.step),
                seconds=math.fsum(one.train_seconds + one.eval_seconds + one.control_seconds for one in spent),
                flops=trace.flops.spent(epoch.passes, 1 + len(spent)) if trace.flops else math.nan,
            )
    missed = math.inf if trace.finished else math.nan
    return TimeTo(steps=missed, seconds=missed, flops=missed)


def reached_by_all(traces: Iterable[Trace]) -> float:
    """Return the validation loss that every finished run came to at its best: max over runs of min over e of L_e.

    As a target it is one that all of these runs reach, so the question is who is there sooner. NaN of no run.

    Raises:
        ValueError: If a run has no epoch.
    """
    return max((min(val_losses(trace)) for trace in traces if trace.finished), default=math.nan)
