"""The report: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2

from autotunenet.types import Decision
from autotunenet_bench.metrics import METRICS
from autotunenet_bench.report.aggregate import Group, Row, aggregate
from autotunenet_bench.report.columns import DETAIL_COLUMNS, MAIN_COLUMNS, Column
from autotunenet_bench.report.curves import MAX_DRAWN
from autotunenet_bench.report.figures import curves_figure, styles
from autotunenet_bench.report.remarks import num_seeds, remarks, seeds_remark
from autotunenet_bench.results.trace import Trace

MAX_EVENTS = 20
"""Rollbacks that are told in full, per controller; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of "what was run"; more than one value where the runs differ."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a table."""

    text: str
    is_best: bool


@dataclass(frozen=True, slots=True)
class Section:
    """What the template says about one task and regime.

    Attributes:
        anchor: Id of the section.
        group: The runs.
        triggers: What the regime did, each sentence once.
        figure: SVG to stand inline, or None.
        events: The rollbacks by controller.
        remarks: What a reader must know before believing the numbers.
    """

    anchor: str
    group: Group
    triggers: tuple[str, ...]
    figure: str | None
    events: tuple[Events, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Events:
    """The rollbacks of one controller: the first `MAX_EVENTS`, and how many more there were."""

    controller: str
    shown: tuple[tuple[int, Decision], ...]
    num_more: int


def render(
    traces: Iterable[Trace], *, title: str, description: str = "", failures: Mapping[str, str] | None = None
) -> str:
    """Render the report.

    Args:
        traces: Runs, finished or not.
        title: Its heading.
        description: A paragraph below it.
        failures: Runs that left no trace, or failed: what is known about each, by its name.

    Returns:
        The document. Equal runs and equal versions of the packages give equal bytes; tasks, regimes and controllers
        stand in the order of their first appearance.
    """
    groups = aggregate(traces)
    runs = [run for group in groups for row in group.rows for run in (*row.finished, *row.unfinished)]
    style_of = styles(sorted({row.controller for group in groups for row in group.rows}))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("autotunenet_bench.report").joinpath("template.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        title=title,
        description=description,
        facts=_facts(runs),
        num_runs=len(runs),
        num_finished=sum(run.finished for run in runs),
        seeds_remark=seeds_remark(groups),
        sections=[_section(index, group, style_of) for index, group in enumerate(groups, start=1)],
        column_sets=(("Outcome", MAIN_COLUMNS), ("Stability, adaptation and cost", DETAIL_COLUMNS)),
        cell=_cell,
        unfinished=[run for run in runs if not run.finished],
        failures=dict(sorted((failures or {}).items())),
        metrics=list(METRICS.values()),
        changed=_changed,
        max_drawn=f"{MAX_DRAWN:g}",
    )


def inline_svg(svg: str, prefix: str) -> str:
    """Make an SVG document fit to stand inside HTML beside others.

    The prolog, the metadata and the namespaces go (a parser of HTML knows them), ids get a prefix because two figures
    share names like ``axes_1``, and width and height go so that the page decides about the size.

    >>> inline_svg('<?xml version="1.0"?><svg width="9pt"><g id="a"/><use xlink:href="#a"/></svg>', "f1-")
    '<svg><g id="f1-a"/><use xlink:href="#f1-a"/></svg>'
    """
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(?:xmlns(?::\w+)?|width|height|version)="[^"]*"', "", head)
    svg = f"{head}>{rest}"
    svg = re.sub(r'(\sid=")', rf"\g<1>{prefix}", svg)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", svg)


def _section(index: int, group: Group, style_of: dict[str, dict[str, Any]]) -> Section:
    runs = [run for row in group.rows for run in (*row.finished, *row.unfinished)]
    triggers = [f"Epoch {t.epoch}, step {t.step}: {t.description}" for t in (run.trigger for run in runs) if t]
    figure = curves_figure(group, style_of)
    return Section(
        anchor=f"group-{index}",
        group=group,
        triggers=tuple(dict.fromkeys(triggers)),
        figure=inline_svg(figure, f"f{index}-") if figure else None,
        events=tuple(events for events in map(_events, group.rows) if events.shown),
        remarks=tuple(remark for row in group.rows for remark in remarks(row)),
    )


def _events(row: Row) -> Events:
    rollbacks = [(run.spec["seed"], d) for run in (*row.finished, *row.unfinished) for d in run.rollbacks]
    return Events(row.controller, tuple(rollbacks[:MAX_EVENTS]), max(0, len(rollbacks) - MAX_EVENTS))


def _cell(column: Column, group: Group, row: Row) -> Cell:
    return Cell(column.text(row), row.controller in column.best(group))


def _changed(decision: Decision) -> str:
    """The hyperparameters that a decision moved, as ``lr 0.1 → 0.05``."""
    before, after = decision.observation.hyperparams, decision.applied
    moved = [name for name in after if name in before and before[name] != after[name]]
    return ", ".join(f"{name} {before[name]:.3g} → {after[name]:.3g}" for name in moved)


def _facts(runs: Sequence[Trace]) -> list[Fact]:
    specs = [run.spec for run in runs]
    data = [spec.get("data") or {} for spec in specs]
    return [
        _fact("Data set", [_data_words(one) for one in data]),
        _fact("Data SHA-256", [one.get("sha256") for one in data]),
        _fact("Tasks", [run.label[0] for run in runs]),
        _fact("Regimes", [run.label[1] for run in runs]),
        _fact("Length of a run", [_length(run) for run in runs if run.finished] or ["no run finished"]),
        _fact("Seeds per controller", [num_seeds(runs)]),
        _fact("Threads per run", [spec.get("num_threads") for spec in specs]),
        _fact("Protocol", [spec.get("protocol") for spec in specs]),
        _fact("Run with", [_versions(run.environment) for run in runs]),
    ]


def _fact(name: str, values: Sequence[object]) -> Fact:
    known = dict.fromkeys(str(value) for value in values if value not in (None, ""))
    return Fact(name, tuple(known) or ("not recorded",))


def _data_words(data: Mapping[str, Any]) -> str:
    if not data:
        return ""
    sizes = f"{data.get('num_train', '?')} training and {data.get('num_val', '?')} validation examples"
    return f"{data.get('name', '?')} from {data.get('source', '?')}: {sizes}"


def _length(run: Trace) -> str:
    return f"{len(run.epochs)} epochs, {run.epochs[-1].step if run.epochs else 0} optimizer steps"


def _versions(environment: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in environment.items())
