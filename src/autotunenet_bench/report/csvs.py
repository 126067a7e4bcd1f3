"""The numbers as CSV, for a spreadsheet or a notebook. Floats are written so that they read back unchanged.

A text that a spreadsheet would compute as a formula gets an apostrophe in front; see `inert`.

Those of runs share the columns of `_identified`; `run` counts the runs and joins the files.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from autotunenet.types import Action, Decision
from autotunenet_bench.metrics import summarize
from autotunenet_bench.report.aggregate import Group, in_order, summaries
from autotunenet_bench.report.overall import overviews
from autotunenet_bench.report.verdicts import Verdict, Verdicts
from autotunenet_bench.results.trace import EpochRecord, Trace

Record = dict[str, Any]


def summary_csv(traces: Iterable[Trace], groups: Iterable[Group] = ()) -> str:
    """One row a run, finished or not: every metric, the trigger and, as ``spec.*``, every field of the spec.

    Args:
        traces: Runs.
        groups: What `aggregate` made of them, where it has been done already: it saves computing the metrics again.
    """
    known = summaries(groups)
    return to_csv(
        {
            **identity,
            "finished": trace.finished,
            **(known.get(id(trace)) or summarize(trace)),
            "initial_val_loss": trace.initial_val.get("loss", math.nan),
            "trigger_epoch": trace.trigger.epoch if trace.trigger else None,
            "trigger_step": trace.trigger.step if trace.trigger else None,
            "weights_sha256": trace.weights_sha256,
            **flatten("spec", trace.spec),
        }
        for identity, trace in _identified(traces)
    )


def curves_csv(traces: Iterable[Trace]) -> str:
    """One row a run and epoch. Values stand as measured: NaN and infinities are not replaced."""
    return to_csv(
        {**identity, **_epoch_record(epoch)} for identity, trace in _identified(traces) for epoch in trace.epochs
    )


def decisions_csv(traces: Iterable[Trace]) -> Iterator[str]:
    """One row for every decision that did something, all but HOLD; yields lines, since there may be very many."""
    return csv_lines(
        _decision_record(identity, decision)
        for identity, trace in _identified(traces)
        for decision in trace.decisions
        if decision.action is not Action.HOLD
    )


def overall_csv(groups: Sequence[Group]) -> str:
    """One row a controller, over everything and over each regime and task, as `overviews` has them."""
    return to_csv(
        {"over": overview.over, "of": overview.of, **row} for overview in overviews(groups) for row in overview.rows
    )


def score_csv(verdicts: Verdicts) -> str:
    """One row a controller, the best first; without a score, the reason in its place."""
    cells = {"cells": verdicts.num_cells, "cells_left_out": len(verdicts.left_out)}
    if not verdicts.scores:
        return to_csv({"controller": name, **cells, "why_not": verdicts.why_not} for name in verdicts.controllers)
    return to_csv(
        {
            "controller": score.controller,
            "runs": score.failures.num,
            "score": score.iqm.point,
            "score_low": score.iqm.low,
            "score_high": score.iqm.high,
            "worst_decile": score.worst_decile,
            "failed": score.failures.hits,
            "failed_rate_low": score.failures.interval[0],
            "failed_rate_high": score.failures.interval[1],
            **cells,
            "scoring_version": score.version,
        }
        for score in verdicts.scores
    )


def claims_csv(verdicts: Iterable[Verdict]) -> str:
    """One row a comparison."""
    return to_csv(
        {
            "subject": verdict.subject,
            "other": verdict.other,
            "claim": verdict.claim.value,
            "quantity": "regret at the budget",
            "pairs": verdict.comparison.num_pairs,
            "cells": verdict.comparison.num_cells,
            "seeds": verdict.comparison.num_seeds,
            "difference": verdict.comparison.difference.point,
            "difference_low": verdict.comparison.difference.low,
            "difference_high": verdict.comparison.difference.high,
            "p_value": verdict.comparison.p_value,
            "p_holm": verdict.comparison.p_holm,
            "comparisons": verdict.comparison.num_comparisons,
            "improvement": verdict.comparison.improvement,
            "sentence": verdict.sentence,
        }
        for verdict in verdicts
    )


def _identified(traces: Iterable[Trace]) -> Iterator[tuple[Record, Trace]]:
    for run, trace in enumerate(in_order(traces), start=1):
        task, regime, controller = trace.label
        seed = trace.spec["seed"]
        yield {"run": run, "task": task, "regime": regime, "controller": controller, "seed": seed}, trace


def _decision_record(identity: Record, decision: Decision) -> Record:
    """Return what `flatten` makes of `Decision.to_record`, in half of the time: there may be half a million of them."""
    seen, cause = decision.observation, decision.cause
    return {
        **identity,
        "step": seen.step,
        "metric": seen.metric,
        **{f"in_force.{name}": value for name, value in seen.hyperparams.items()},
        "health": decision.health.value,
        "action": decision.action.value,
        **{f"proposed.{name}": value for name, value in decision.proposed.items()},
        **{f"applied.{name}": value for name, value in decision.applied.items()},
        "discarded_steps": decision.discarded_steps,
        "reason": decision.reason,
        "cause": cause.value if cause else None,
        **{f"evidence.{name}": value for name, value in decision.evidence.items()},
    }


def _epoch_record(epoch: EpochRecord) -> Record:
    finite = [loss for loss in epoch.losses if math.isfinite(loss)]
    return {
        "epoch": epoch.epoch,
        "step": epoch.step,
        # Over the finite losses, beside the number of the others: one NaN would hide what the rest of the epoch did.
        "train_loss": sum(finite) / len(finite) if finite else math.nan,
        "num_non_finite_losses": len(epoch.losses) - len(finite),
        **{f"val_{name}": value for name, value in epoch.val.items()},
        **epoch.hyperparams,
        "train_seconds": epoch.train_seconds,
        "eval_seconds": epoch.eval_seconds,
        "control_seconds": epoch.control_seconds,
    }


_PLAIN = frozenset((bool, float, int, str, type(None)))


def flatten(prefix: str, values: Mapping[str, Any]) -> Record:
    """Return nested mappings as dotted columns, lists as JSON."""
    return _flatten_into({}, f"{prefix}." if prefix else "", values)


def _flatten_into(flat: Record, prefix: str, values: Mapping[str, Any]) -> Record:
    for key, value in values.items():
        if type(value) in _PLAIN:  # nearly all are, and asking what is a Mapping takes long
            flat[f"{prefix}{key}"] = value
        elif type(value) is dict or isinstance(value, Mapping):
            _flatten_into(flat, f"{prefix}{key}.", value)
        else:
            flat[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list | tuple) else value
    return flat


def to_csv(records: Iterable[Record]) -> str:
    """Return records under the union of their columns, in order of appearance; what a record lacks stays empty."""
    return "".join(csv_lines(records))


def csv_lines(records: Iterable[Record]) -> Iterator[str]:
    """Yield what `to_csv` returns row by row, for tables that are too large to be held in memory twice."""
    columns: dict[str, None] = {}
    lines = _Lines()
    writer = csv.writer(lines, lineterminator=_END)
    widths = []
    order: tuple[str, ...] = ()  # of the columns; most records are alike, and what was found for one holds for the next
    known: set[tuple[str, ...]] = set()
    # Row by row, since half a million records would take ten times the memory of their lines.
    for record in records:
        if (names := tuple(record)) not in known:
            known.add(names)
            columns.update(dict.fromkeys(names))
            order = tuple(columns)
        cells = record.values() if names == order else [record.get(name, "") for name in order]
        writer.writerow(
            [f"'{cell}" if type(cell) is str and cell.startswith(_FORMULA) else cell for cell in cells]  # `inert`
        )
        widths.append(len(columns))
    writer.writerow(map(inert, columns or ["run"]))
    head = lines.pop()
    yield f"{head}\n"
    for line, width in zip(lines, widths, strict=True):
        yield f"{line}{',' * (len(columns) - width)}\n"


_END = "\r\n"
"""Of a row while it is written: what holds one of the two is put in quotes."""


class _Lines(list[str]):
    """What a CSV writer writes into, a row an item; a row may hold line ends."""

    def write(self, row: str) -> None:
        self.append(row.removesuffix(_END))


def inert(value: Any) -> Any:
    """Return a cell so that no spreadsheet takes a text for a formula, which could fetch addresses or start programs.

    Labels and reasons are anybody's words. Numbers stay as they are, negative ones too.

    >>> inert("=1+1"), inert("fixed"), inert(-0.5)
    ("'=1+1", 'fixed', -0.5)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


_FORMULA = ("=", "+", "-", "@", "\t", "\n", "\r")
