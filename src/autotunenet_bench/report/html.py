"""The report: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from pydantic import ValidationError

from autotunenet.types import Decision
from autotunenet_bench.config.specs import RunSpec
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.metrics import METRICS
from autotunenet_bench.report.aggregate import Group, Row, aggregate
from autotunenet_bench.report.columns import DETAIL_COLUMNS, MAIN_COLUMNS, Column
from autotunenet_bench.report.curves import MAX_DRAWN
from autotunenet_bench.report.figures import EVENT_MARKS, curves_figure, event_of, styles
from autotunenet_bench.report.overall import overviews
from autotunenet_bench.report.remarks import num_seeds, remarks, seeds_remark
from autotunenet_bench.results.trace import Trace

MAX_EVENTS = 20
"""Rollbacks, accepted levels and restarts that are told in full, per controller; the rest is counted."""


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
        events: The rollbacks, accepted levels and restarts by controller.
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
    """The marked decisions of one controller: the first `MAX_EVENTS`, and how many more there were."""

    controller: str
    shown: tuple[tuple[int, Decision], ...]
    num_more: int


def render(
    traces: Iterable[Trace],
    *,
    title: str,
    description: str = "",
    failures: Mapping[str, str] | None = None,
    missing: Mapping[str, str] | None = None,
) -> str:
    """Render the report.

    Args:
        traces: Runs, finished or not.
        title: Its heading.
        description: A paragraph below it.
        failures: Runs that failed, with or without a trace: what is known about each, by its run id.
        missing: Runs that were asked for and are not there, "not started" or "interrupted": the same. Those that have a
            trace are known by their spec, and neither counted nor listed twice.

    Returns:
        The document. Equal runs and equal versions of the packages give equal bytes; tasks, regimes and controllers
        stand in the order of their first appearance.
    """
    groups = aggregate(traces)
    runs = [run for group in groups for row in group.rows for run in (*row.finished, *row.unfinished)]
    failures, missing = failures or {}, missing or {}
    untraced = {*failures, *missing} - {_run_id(run) for run in runs}
    unfinished = [(run, _run_id(run)) for run in runs if not run.finished]
    told = {*failures, *(run_id for _, run_id in unfinished)}
    style_of = styles(sorted({row.controller for group in groups for row in group.rows}))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("autotunenet_bench.report").joinpath("template.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        title=title,
        description=description,
        facts=_facts(runs),
        num_runs=len(runs) + len(untraced),
        num_traces=len(runs),
        num_finished=sum(run.finished for run in runs),
        seeds_remark=seeds_remark(groups),
        overviews=overviews(groups),
        sections=[_section(index, group, style_of) for index, group in enumerate(groups, start=1)],
        column_sets=(("Outcome", MAIN_COLUMNS), ("Stability, adaptation and cost", DETAIL_COLUMNS)),
        cell=_cell,
        unfinished=[(run, missing.get(run_id)) for run, run_id in unfinished],
        failures=dict(sorted(failures.items())),
        missing={name: words for name, words in sorted(missing.items()) if name not in told},
        metrics=list(METRICS.values()),
        changed=_changed,
        event_words=_event_words,
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


def _run_id(run: Trace) -> str:
    """The name of the run's folder; empty for a spec that this version of the benchmark does not know."""
    try:
        return RunSpec.model_validate(run.spec).run_id
    except ValidationError:
        return ""


def _events(row: Row) -> Events:
    runs = (*row.finished, *row.unfinished)
    events = [(run.spec["seed"], d) for run in runs for d in run.decisions if event_of(d)]
    return Events(row.controller, tuple(events[:MAX_EVENTS]), max(0, len(events) - MAX_EVENTS))


def _event_words(decision: Decision) -> str:
    event = event_of(decision)
    return EVENT_MARKS[event][1] if event else ""


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
        _fact("Tasks", [_member_words(run, "task") for run in runs]),
        _fact("Values at the first step", [f"{run.label[0]}: {_first_values(run)}" for run in runs]),
        _fact("Regimes", [_member_words(run, "regime") for run in runs]),
        _fact("Controllers", [_controller_words(run) for run in runs]),
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


def _member_words(run: Trace, kind: str) -> str:
    """The display name of the run's task or regime and every field that is set."""
    config = run.spec.get(kind) or {}
    fields = {key: value for key, value in _fields(config).items() if value is not None}
    return _named(run.spec["labels"][kind], config.get("name"), _pairs(fields))


def _controller_words(run: Trace) -> str:
    """The display name of the run's controller and the fields that are not at its defaults; all where it is unknown."""
    config = run.spec.get("controller") or {}
    name = config.get("name")
    fields = _fields(config)
    if fields and name in CONTROLLERS:
        usual = _default_fields(name)
        # A field of another version, without a default here, is no default either.
        fields = {key: value for key, value in fields.items() if key not in usual or value != usual[key]}
        return _named(run.label[2], name, _pairs(fields) or "defaults")
    return _named(run.label[2], name, _pairs(fields) or "settings not recorded")


@cache
def _default_fields(controller: str) -> dict[str, Any]:
    return CONTROLLERS[controller].model_validate({}).model_dump(mode="json")


def _fields(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("name", "label")}


def _named(label: str, name: str | None, fields: str) -> str:
    """``label: name, fields``, without the name where it is the label."""
    words = [word for word in (name if name != label else None, fields) if word]
    return f"{label}: {', '.join(words)}" if words else label


def _first_values(run: Trace) -> str:
    # A launch begins with a value that hardly moves the weights, computed and not written by a person.
    return _pairs({name: float(f"{value:.4g}") for name, value in run.initial_hyperparams.items()})


def _pairs(values: Mapping[str, Any]) -> str:
    """Values as a config has them.

    >>> _pairs({"lr": 0.1, "rollback": "none", "max_delta": None, "within_space": False})
    'lr 0.1, rollback none, max_delta null, within_space false'
    """
    return ", ".join(f"{key} {value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items())


def _length(run: Trace) -> str:
    return f"{len(run.epochs)} epochs, {run.epochs[-1].step if run.epochs else 0} optimizer steps"


def _versions(environment: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in environment.items())
