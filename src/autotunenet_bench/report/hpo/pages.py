"""What the report says, and how it looks as HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autotunenet_bench.report.drawing import Style, inline_svg, styles
from autotunenet_bench.report.facts import Fact
from autotunenet_bench.report.hpo.convergence_figure import convergence_figure
from autotunenet_bench.report.hpo.costs import at_equal_cost, target_of
from autotunenet_bench.report.hpo.facts import hpo_facts
from autotunenet_bench.report.hpo.headline import RULE, headline
from autotunenet_bench.report.hpo.importance import WEAK_R2, Importance, importance
from autotunenet_bench.report.hpo.markdown import fill_markdown
from autotunenet_bench.report.hpo.model_figures import importance_figure, predictions_figure
from autotunenet_bench.report.hpo.points_figures import SHARE_SHOWN, parallel_figure, slices_figure
from autotunenet_bench.report.hpo.predictions import Predictions, predictions
from autotunenet_bench.report.hpo.records import Study
from autotunenet_bench.report.hpo.tables import chosen_table, equal_cost_table, predictions_table, searches_table
from autotunenet_bench.report.pages import page
from autotunenet_bench.report.sections import Table

MIN_DRAWN = 3
"""Points that make a figure of points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HpoPage:
    """What the report says.

    Attributes:
        title: Its heading.
        description: A paragraph below it.
        departure: How what was run departs from its config, a sentence each.
        progress: How much of what was asked for is there.
        headline: The answer in sentences; empty where no trial has a value.
        rule: How it was come to.
        tables: At equal cost, in all, and what was chosen.
        importance: Which hyperparameters matter; None of too few points.
        importance_words: What that is worth, or why there is none.
        predictions: Of surrogates; empty where no search predicted.
        predictions_table: Their numbers; None without any.
        facts: What was searched and trained.
        failures: What went wrong, by the name of a folder.
    """

    title: str
    description: str
    departure: tuple[str, ...]
    progress: str
    headline: tuple[str, ...]
    rule: str
    tables: tuple[Table, ...]
    importance: Importance | None
    importance_words: str
    predictions: tuple[Predictions, ...]
    predictions_table: Table | None
    facts: tuple[Fact, ...]
    failures: dict[str, str]


def describe(study: Study) -> HpoPage:
    """Return what the report says of a study, finished or not."""
    has_values = bool(study.searches)
    matters = importance(study) if has_values else None
    found = predictions(study) if has_values else []
    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    if has_values:
        equal, target = at_equal_cost(study), target_of(study)
        sentences = headline(study, equal, target)
        tables = (equal_cost_table(study, equal), searches_table(study, target), chosen_table(study))
    return HpoPage(
        title=study.title,
        description=study.description,
        departure=study.departure,
        progress=_progress(study),
        headline=sentences,
        rule=RULE,
        tables=tables,
        importance=matters,
        importance_words=_importance_words(matters),
        predictions=tuple(found),
        predictions_table=predictions_table(found, study.goal) if found else None,
        facts=tuple(hpo_facts(study)),
        failures=dict(study.failures),
    )


def to_html(described: HpoPage, study: Study) -> str:
    """Return the page, with its figures inline."""
    style_of = styles(list(study.searches))
    return page(
        "hpo/page.html.j2",
        page=described,
        figures=_figures(described, study, style_of),
        share_shown=f"{100 * SHARE_SHOWN:.0f} %",
        goal=study.goal,
    )


def to_markdown(described: HpoPage) -> str:
    """Return the page in GitHub's Markdown, without the figures."""
    return fill_markdown("page.md.j2", page=described)


def _figures(described: HpoPage, study: Study, style_of: dict[str, Style]) -> dict[str, str]:
    """Return the figures that there is something for, by name."""
    found: dict[str, str] = {}
    if study.searches:
        found["convergence"] = convergence_figure(study, style_of)
    if len(study.points) >= MIN_DRAWN:
        found["slices"] = slices_figure(study)
        found["parallel"] = parallel_figure(study)
    if described.importance:
        found["importance"] = importance_figure(described.importance)
    if described.predictions:
        found["predictions"] = predictions_figure(described.predictions, study.goal, style_of)
    return {name: inline_svg(svg, f"{name}-") for name, svg in found.items()}


def _progress(study: Study) -> str:
    asked, ended = (sum(counts) for counts in zip(*_counts(study), strict=True)) if study.runs else (0, 0)
    num_done = sum(len(run.done) for run in study.runs)
    failed = f", {ended - num_done} of them failed" if ended > num_done else ""
    different = f"{len(study.points)} different points"
    return f"{ended} of {asked} trials of {len(study.runs)} searches have ended{failed}; {different}."


def _counts(study: Study) -> Sequence[tuple[int, int]]:
    return [(run.num_trials, len(run.trials)) for run in study.runs]


def _importance_words(found: Importance | None) -> str:
    if found is None:
        return "There are too few different points, or too little difference between them, to say what matters."
    told = (
        f"Permutation importance of a random forest (scikit-learn) over {found.num_points} points: what shuffling a "
        f"hyperparameter adds to the squared error on points that the forest was not fitted to (five folds). It "
        f"explains {100 * found.r2:.0f} % of the variance of such points (R² = {found.r2:.2f})."
    )
    if found.r2 < WEAK_R2:
        return f"{told} That is too little for the bars to say what matters: hold them for noise."
    return told
