"""What the page says about one task and regime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from autotunenet.types import Decision
from autotunenet_bench.report.aggregate import Group, Row
from autotunenet_bench.report.columns import Column
from autotunenet_bench.report.drawing import Style, inline_svg
from autotunenet_bench.report.figures import EVENT_MARKS, curves_figure, event_of
from autotunenet_bench.report.group_figures import budget_figure, budget_words, recovery_figure
from autotunenet_bench.report.lr_figure import lr_figure
from autotunenet_bench.report.remarks import remarks

MAX_EVENTS = 20
"""Rollbacks, accepted levels and restarts that are told in full, per controller; the rest is counted."""

MAX_DRAWN_SECTIONS = 12
"""Sections that have figures and events. Of a suite with more cells the others have their tables, folded away: a page
of a hundred figures takes minutes to make and is read by nobody, and all numbers are in the CSV files."""

MAX_DRAWN_RUNS = 2_000
"""Runs of all cells with figures together: with hundreds of seeds fewer cells are drawn, but the first always."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a table."""

    text: str
    is_best: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of texts.

    Attributes:
        title: What it shows.
        head: One text a column.
        rows: As many cells each.
        note: How to read it; may be empty.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Events:
    """The marked decisions of one controller: the first `MAX_EVENTS`, and how many more there were."""

    controller: str
    shown: tuple[tuple[int, Decision], ...]
    num_more: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What the template says about one task and regime.

    Attributes:
        anchor: Id of the section.
        group: The runs.
        triggers: What the regime did, each sentence once.
        is_drawn: Whether the figures and events are here; else the section is folded away.
        curves: SVG to stand inline, or None.
        lr: SVG of the validation loss over the lr, or None.
        recovery: SVG of the curves since the trigger, or None.
        budget: SVG of the curves over the operations spent, or None.
        budget_words: Why there is no such figure; may be empty.
        events: The rollbacks, accepted levels and restarts by controller.
        remarks: What a reader must know before believing the numbers.
    """

    anchor: str
    group: Group
    triggers: tuple[str, ...]
    is_drawn: bool
    curves: str | None
    lr: str | None
    recovery: str | None
    budget: str | None
    budget_words: str
    events: tuple[Events, ...]
    remarks: tuple[str, ...]


def sections(groups: Sequence[Group], style_of: dict[str, Style]) -> list[Section]:
    """Return one section a group; the first `num_drawn` with figures."""
    drawn = num_drawn(groups)
    return [_section(number, group, style_of, number <= drawn) for number, group in enumerate(groups, start=1)]


def num_drawn(groups: Sequence[Group]) -> int:
    """Return how many of the first groups have figures: `MAX_DRAWN_SECTIONS` and `MAX_DRAWN_RUNS` at most."""
    sizes = [sum(len(row.finished) for row in group.rows) for group in groups[:MAX_DRAWN_SECTIONS]]
    return sum(total <= MAX_DRAWN_RUNS or number == 0 for number, total in enumerate(accumulate(sizes)))


def cell(column: Column, group: Group, row: Row) -> Cell:
    """Return one number of a table of `group`."""
    return Cell(column.text(row), row.controller in column.best(group))


def plain(*values: object) -> tuple[Cell, ...]:
    """Return cells of a table without a mark."""
    return tuple(Cell(str(value), False) for value in values)


def changed(decision: Decision) -> str:
    """Return the hyperparameters that a decision moved, as ``lr 0.1 → 0.05``."""
    before, after = decision.observation.hyperparams, decision.applied
    moved = [name for name in after if name in before and before[name] != after[name]]
    return ", ".join(f"{name} {before[name]:.3g} → {after[name]:.3g}" for name in moved)


def event_words(decision: Decision) -> str:
    """Return what a marked decision is called; empty for another."""
    event = event_of(decision)
    return EVENT_MARKS[event][1] if event else ""


def _section(number: int, group: Group, style_of: dict[str, Style], is_drawn: bool) -> Section:
    runs = [run for row in group.rows for run in (*row.finished, *row.unfinished)]
    triggers = [f"Epoch {t.epoch}, step {t.step}: {t.description}" for t in (run.trigger for run in runs) if t]
    draw = (curves_figure, lr_figure, recovery_figure, budget_figure)
    figures = [function(group, style_of) if is_drawn else None for function in draw]
    curves, lr, recovery, budget = (
        inline_svg(svg, f"f{number}{kind}-") if svg else None for kind, svg in zip("clrb", figures, strict=True)
    )
    return Section(
        anchor=f"group-{number}",
        group=group,
        triggers=tuple(dict.fromkeys(triggers)),
        is_drawn=is_drawn,
        curves=curves,
        lr=lr,
        recovery=recovery,
        budget=budget,
        budget_words=budget_words(group),
        events=tuple(events for events in map(_events, group.rows) if events.shown) if is_drawn else (),
        remarks=tuple(remark for row in group.rows for remark in remarks(row)),
    )


def _events(row: Row) -> Events:
    runs = (*row.finished, *row.unfinished)
    events = [(run.spec["seed"], d) for run in runs for d in run.decisions if event_of(d)]
    return Events(row.controller, tuple(events[:MAX_EVENTS]), max(0, len(events) - MAX_EVENTS))
