"""Which metrics the tables show, how their heads read and how a mean over seeds is written. Terminal and HTML alike."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from autotunenet_bench.metrics import METRICS, Direction
from autotunenet_bench.report.aggregate import Group, Row, Stat


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        head: Its title.
        unit: Empty for a plain number.
        metric: Key of `METRICS`; the best mean is marked in its direction.
        scale: Factor from the metric to what is shown, 100 for a percentage.
        num_decimals: None for three significant digits.
        with_sd: Whether the standard deviation is shown beside the mean.
        as_count: Show "runs with any of k of n" and not a mean: for "diverged".
    """

    head: str
    metric: str
    unit: str = ""
    scale: float = 1.0
    num_decimals: int | None = None
    with_sd: bool = True
    as_count: bool = False

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return METRICS[self.metric].direction.arrow

    @property
    def hint(self) -> str:
        """The metric's description and direction, for a tooltip."""
        metric = METRICS[self.metric]
        return (
            metric.description
            if metric.direction is Direction.NONE
            else f"{metric.description} ({metric.direction.value})"
        )

    def is_of(self, groups: Iterable[Group]) -> bool:
        """Whether any task has the metric."""
        return not METRICS[self.metric].needs or any(self.metric in row.stats for group in groups for row in group.rows)

    def text(self, row: Row) -> str:
        """The cell of `row`."""
        if self.as_count:
            return f"{row.num_diverged}/{len(row.finished)}"
        stat = row.stat(self.metric)
        if METRICS[self.metric].may_miss and stat.values:
            stat = Stat((stat.median,))  # one miss would make any mean infinite
        return format_stat(stat, scale=self.scale, with_sd=self.with_sd, num_decimals=self.num_decimals)

    def best(self, group: Group) -> frozenset[str]:
        """The controllers whose cell is marked; never a count of runs, nor a clock reading: machines decide those."""
        if self.as_count or self.unit == "s":
            return frozenset()
        return group.best(self.metric)


MAIN_COLUMNS = (
    Column(head="final val loss", metric="final_val_loss"),
    Column(head="best val loss", metric="best_val_loss"),
    Column(head="final accuracy", unit="%", metric="final_val_accuracy", scale=100.0, num_decimals=2),
    Column(head="cumulative val loss", metric="cumulative_val_loss"),
    Column(head="rolled back", metric="rollback_count", with_sd=False),
    Column(head="diverged", unit="runs", metric="divergence_events", as_count=True),
    Column(head="control", unit="s", metric="controller_seconds", with_sd=False),
)
"""What a reader asks first; narrow enough for a terminal of 100 columns."""

DETAIL_COLUMNS = (
    Column(head="training loss", metric="final_train_loss"),
    Column(head="test loss", metric="final_test_loss"),
    Column(head="test accuracy", unit="%", metric="final_test_accuracy", scale=100.0, num_decimals=2),
    Column(head="F1", metric="final_val_f1", num_decimals=3),
    Column(head="test F1", metric="final_test_f1", num_decimals=3),
    Column(head="top-5 accuracy", unit="%", metric="final_val_top5_accuracy", scale=100.0, num_decimals=2),
    Column(head="test top-5 accuracy", unit="%", metric="final_test_top5_accuracy", scale=100.0, num_decimals=2),
    Column(head="best accuracy", unit="%", metric="best_val_accuracy", scale=100.0, num_decimals=2),
    Column(head="anytime loss", unit="% of first", metric="anytime_val_loss", scale=100.0, num_decimals=1),
    Column(head="to half the loss", unit="steps, median", metric="steps_to_target"),
    Column(head="back after trigger", unit="steps, median", metric="recovery_steps"),
    Column(head="failure rate", unit="%", metric="failure", scale=100.0, with_sd=False),
    Column(head="divergence events", metric="divergence_events", with_sd=False),
    Column(head="loss spikes", metric="loss_spikes", with_sd=False),
    Column(head="changes", unit="per 100 steps", metric="adaptation_frequency", with_sd=False),
    Column(head="change size", unit="e-folds", metric="update_magnitude", with_sd=False),
    Column(head="discarded", unit="steps", metric="discarded_steps", with_sd=False),
    Column(head="restarts", metric="num_restarts", with_sd=False),
    Column(head="compute", unit="TFLOP", metric="total_flops", scale=1e-12, with_sd=False),
    Column(head="wall clock", unit="s", metric="wall_clock", with_sd=False),
)
"""The other metrics."""

NOT_MEASURED = "n/a"


def format_stat(stat: Stat, *, scale: float = 1.0, with_sd: bool = True, num_decimals: int | None = None) -> str:
    """Mean and, for two runs or more, standard deviation; both to the same decimal place.

    Args:
        stat: The values.
        scale: Factor on both.
        with_sd: Whether to show the standard deviation.
        num_decimals: Decimal places; None for three significant digits of the mean.

    >>> format_stat(Stat((0.123456, 0.133456))), format_stat(Stat((0.9712,)), scale=100.0, num_decimals=2)
    ('0.128 ± 0.007', '97.12')
    >>> format_stat(Stat(())), format_stat(Stat((float("inf"), 1.0)))
    ('n/a', 'inf')
    """
    mean, sd = stat.mean * scale, stat.sd * scale
    if math.isnan(mean):
        return NOT_MEASURED
    if not math.isfinite(mean):
        return f"{mean}"
    shows_sd = with_sd and math.isfinite(sd)
    style = _number_style(mean, sd if shows_sd else 0.0, num_decimals)
    return f"{mean:{style}} ± {sd:{style}}" if shows_sd else f"{mean:{style}}"


def _number_style(mean: float, sd: float, num_decimals: int | None) -> str:
    """Format of a mean and its standard deviation: an exponent where very large or small, whole numbers as such."""
    magnitude = max(abs(mean), sd)
    if num_decimals is not None:
        return f".{num_decimals}f"
    if magnitude >= 1e6 or 0 < magnitude < 1e-3:
        return ".1e"
    if mean == round(mean) and sd == 0:
        return ".0f"
    leading = max(math.floor(math.log10(magnitude)), -1)
    return f".{max(0, 2 - leading)}f"
