"""All tasks and regimes of a suite in one line a controller: what it loses in the mean, and how often it fails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from autotunenet_bench.report.aggregate import Group
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.statistics import at_worst, mean_ranks

METRICS_IN_ALL = ("post_trigger_val_loss", "final_val_loss")
"""Losses that are averaged over cells."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The controllers over a part of the cells.

    Attributes:
        over: What the cells have in common: "everything", "regime" or "task".
        of: Which one; empty for everything.
        rows: What `overall` returns for them.
    """

    over: str
    of: str
    rows: list[dict[str, Any]]


def overviews(groups: Sequence[Group]) -> list[Overview]:
    """Return the controllers over everything, and then by regime and by task where there are several.

    Parts in which no cell is finished by all controllers are left out.

    Args:
        groups: What `autotunenet_bench.report.aggregate.aggregate` makes of runs.
    """
    parts = [("everything", "", list(groups))]
    for over in ("regime", "task"):
        names = list(dict.fromkeys(getattr(group, over) for group in groups))
        if len(names) > 1:
            parts += [(over, name, [group for group in groups if getattr(group, over) == name]) for name in names]
    every = [Overview(over, of, overall(part)) for over, of, part in parts]
    return [overview for overview in every if overview.rows]


def overall(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return one row a controller, the best first, over the cells in which all have finished the same seeds.

    A cell is a task under a regime. Its value is the median over seeds; a loss counts for no more than the one that the
    run began with, for beyond that all runs are equally lost and a mean would tell of nothing but the worst. The mean
    over cells is compared only where the tasks' losses are of one kind.

    Returns:
        Rows with ``controller``, ``cells``, ``runs`` (finished ones), ``failed`` (those that end near the loss they
        began with, as the metric ``failure`` has it), a mean for each of `METRICS_IN_ALL`, and ``mean_rank`` by the
        first of them, from 1; controllers that are level share the mean of their ranks.
    """
    names = list(dict.fromkeys(row.controller for group in groups for row in group.rows))
    common = [group for group in groups if _is_complete(group, names)]
    if not common:
        return []
    costs = {metric: [_costs(group, metric) for group in common] for metric in METRICS_IN_ALL}
    places = mean_ranks([[cell[name] for name in names] for cell in costs[METRICS_IN_ALL[0]]])
    rows = []
    for name, place in zip(names, places.tolist(), strict=True):
        mine = [row for group in common for row in group.rows if row.controller == name]
        rows.append(
            {
                "controller": name,
                "cells": len(common),
                "runs": sum(len(row.finished) for row in mine),
                "failed": int(sum(sum(row.stats["failure"].values) for row in mine)),
                **{metric: _mean([cell[name] for cell in costs[metric]]) for metric in METRICS_IN_ALL},
                "mean_rank": place,
            }
        )
    return sorted(rows, key=lambda row: row[METRICS_IN_ALL[0]])


def _is_complete(group: Group, names: Sequence[str]) -> bool:
    """Whether every controller has finished the same seeds; else whoever drops the hard ones would win."""
    seeds = {row.controller: [run.spec["seed"] for run in row.finished] for row in group.rows}
    same = seeds.keys() == set(names) and len({frozenset(each) for each in seeds.values()}) == 1
    return same and all(row.finished and not row.unfinished for row in group.rows)


def _costs(group: Group, metric: str) -> dict[str, float]:
    return {
        row.controller: median(_costs_of(row.stats[metric].values, row.finished)) for row in group.rows if row.finished
    }


def _costs_of(values: Sequence[float], traces: Sequence[Trace]) -> list[float]:
    """Return a loss for each run, infinite where it is not known what the run began with; all at once, for speed."""
    initial = np.array([trace.initial_val.get("loss", math.inf) for trace in traces], dtype=float)
    is_known = np.isfinite(initial)
    costs: list[float] = np.where(is_known, at_worst(values, np.where(is_known, initial, 0.0)), math.inf).tolist()
    return costs


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
