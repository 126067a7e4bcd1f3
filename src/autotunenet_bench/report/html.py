"""The report: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autotunenet_bench.config.specs import run_id_of
from autotunenet_bench.metrics import METRICS
from autotunenet_bench.report.aggregate import Group, aggregate
from autotunenet_bench.report.columns import DETAIL_COLUMNS, MAIN_COLUMNS
from autotunenet_bench.report.curves import MAX_DRAWN
from autotunenet_bench.report.drawing import inline_svg, styles
from autotunenet_bench.report.facts import facts
from autotunenet_bench.report.lr_figure import MAX_DECADES, MAX_SEEDS
from autotunenet_bench.report.overall import overviews
from autotunenet_bench.report.pages import page
from autotunenet_bench.report.profile_figure import MAX_BANDS, profile_figure
from autotunenet_bench.report.remarks import seeds_remark
from autotunenet_bench.report.sections import cell, changed, event_words, num_drawn, sections
from autotunenet_bench.report.sensitivity import LrMap, lr_maps, sensitivity_figure
from autotunenet_bench.report.verdicts import Verdicts, judge
from autotunenet_bench.results.trace import Trace

MAX_MAPS = 12
"""Heat maps of the initial lr on a page."""

MAX_LEFT_OUT = 8
"""Cells without a score that are told in full; the rest is counted."""


@dataclass(frozen=True, slots=True)
class DrawnMap:
    """A heat map of the initial lr: its title, its SVG and what must be said beside it."""

    title: str
    figure: str
    remarks: tuple[str, ...]


def render(
    traces: Iterable[Trace],
    *,
    title: str,
    description: str = "",
    failures: Mapping[str, str] | None = None,
    missing: Mapping[str, str] | None = None,
    groups: Sequence[Group] | None = None,
    verdicts: Verdicts | None = None,
    experiment: str = "",
    departure: Sequence[str] = (),
) -> str:
    """Render the report.

    Args:
        traces: Runs, finished or not.
        title: Its heading.
        description: A paragraph below it.
        failures: Runs that failed, with or without a trace: what is known about each, by its run id.
        missing: Runs that were asked for and are not there, "not started" or "interrupted": the same. Those that have a
            trace are known by their spec, and neither counted nor listed twice.
        groups: What `aggregate` makes of `traces`, where it has been done already.
        verdicts: What `judge` makes of them, likewise.
        experiment: What `autotunenet_bench.report.experiment_pages.to_html` makes of the question, put first.
        departure: How what was run departs from its config, a sentence each.

    Returns:
        The document. Equal runs and equal versions of the packages give equal bytes; tasks, regimes and controllers
        stand in the order of their first appearance.
    """
    groups = aggregate(traces) if groups is None else groups
    runs = [run for group in groups for row in group.rows for run in (*row.finished, *row.unfinished)]
    verdicts = judge(runs) if verdicts is None else verdicts
    failures, missing = failures or {}, missing or {}
    untraced = without_trace(runs, failures, missing)
    unfinished = [(run, _run_id(run)) for run in runs if not run.finished]
    told = {*failures, *(run_id for _, run_id in unfinished)}
    style_of = styles(sorted(verdicts.controllers))
    profile = profile_figure(verdicts, style_of)
    maps = lr_maps(runs)
    return page(
        "template.html.j2",
        title=title,
        description=description,
        facts=facts(runs),
        num_runs=len(runs) + len(untraced),
        num_traces=len(runs),
        num_untraced=len(untraced),
        num_finished=sum(run.finished for run in runs),
        seeds_remark=seeds_remark(groups),
        verdicts=verdicts,
        max_left_out=MAX_LEFT_OUT,
        profile=inline_svg(profile, "profile-") if profile else None,
        max_bands=MAX_BANDS,
        maps=_drawn(maps[:MAX_MAPS]),
        num_more_maps=len(maps[MAX_MAPS:]),
        overviews=overviews(groups),
        sections=sections(groups, style_of),
        max_drawn_sections=num_drawn(groups),
        column_sets=(
            ("Outcome", MAIN_COLUMNS),
            ("Stability, adaptation and cost", [column for column in DETAIL_COLUMNS if column.is_of(groups)]),
        ),
        cell=cell,
        unfinished=[(run, missing.get(run_id)) for run, run_id in unfinished],
        failures=dict(sorted(failures.items())),
        missing={name: words for name, words in sorted(missing.items()) if name not in told},
        metrics=[metric for metric in METRICS.values() if not metric.needs or any(map(metric.is_of, runs))],
        changed=changed,
        event_words=event_words,
        max_drawn=f"{MAX_DRAWN:g}",
        max_decades=MAX_DECADES,
        max_seeds=MAX_SEEDS,
        experiment=experiment,
        departure=departure,
    )


def _drawn(maps: Sequence[LrMap]) -> list[DrawnMap]:
    drawn = [(one, sensitivity_figure(one)) for one in maps]
    return [
        DrawnMap(one.title, inline_svg(svg, f"lr{number}-"), one.remarks)
        for number, (one, svg) in enumerate(drawn, start=1)
        if svg
    ]


def without_trace(runs: Iterable[Trace], *told: Iterable[str]) -> set[str]:
    """Return the run ids of which something is told, and which are those of none of `runs`."""
    return {name for names in told for name in names} - {_run_id(run) for run in runs}


def _run_id(run: Trace) -> str:
    """The name of the run's folder; empty for what is no spec of a run."""
    try:
        return run_id_of(run.spec)
    except (KeyError, TypeError):
        return ""
