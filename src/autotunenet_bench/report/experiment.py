"""The report of an experiment: what was asked, how, what came out, and what follows by the stated rules.

Everything here is a pure function of runs and of the config's question; how it looks is decided in
`autotunenet_bench.report.experiment_pages`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from autotunenet_bench.config.experiment import Departure, Experiment
from autotunenet_bench.metrics import METRICS
from autotunenet_bench.metrics.across import problem, sensitivity_to_lr, starting_point
from autotunenet_bench.metrics.performance import TARGET_SHARE
from autotunenet_bench.metrics.stability import FAILURE_FRACTION
from autotunenet_bench.report.aggregate import Group, Row
from autotunenet_bench.report.columns import DETAIL_COLUMNS, MAIN_COLUMNS, NOT_MEASURED, Column
from autotunenet_bench.report.conclusions import CONCLUSIONS, Finding, Match, Verdict, conclude
from autotunenet_bench.report.conclusions.words import (
    caution_of,
    claim_of,
    claims_by_cell,
    limits_of,
    listed,
    number,
)
from autotunenet_bench.report.convergence import convergence_tables, target_words
from autotunenet_bench.report.departure import departure_words
from autotunenet_bench.report.facts import Fact, facts
from autotunenet_bench.report.match_tables import match_tables
from autotunenet_bench.report.overall import overall
from autotunenet_bench.report.remarks import remarks
from autotunenet_bench.report.sections import Cell, Table, plain
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.tasks import TASKS

COMMON_METHODOLOGY = (
    "Every controller gets the same model, the same first weights, the same data in the same order and the same "
    "initial values, from which a launch or a search may depart at once; runs of equal seed are compared as pairs. No "
    "controller is told what will change, or when."
)
"""True of every suite, whatever its config says besides."""

OUTCOMES = (
    f"A run has learnt if its final validation loss is at most {TARGET_SHARE:g} of that before training, and is lost "
    f"if it is at least {FAILURE_FRACTION:g} of it, or not finite; in ratios a lost run counts as the loss that it "
    "began with."
)
"""The words learnt and lost, as the rules have them."""

RESULTS = ("final_val_loss", "final_val_accuracy", "final_train_loss", "final_test_accuracy")
RESULT_COLUMNS = tuple(column for column in (*MAIN_COLUMNS, *DETAIL_COLUMNS) if column.metric in RESULTS)
"""What the tables over all cells show, one table each."""

NO_QUESTION = "The config asks no question (its key experiment), so none is answered here."


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentReport:
    """What the report of an experiment says, section by section. Texts are as they came: whoever shows them escapes.

    Attributes:
        title: Heading.
        description: What the config says of itself; may be empty.
        departure: How what was run departs from its config, a sentence each.
        question: What was asked; empty where the config has no `experiment`.
        idea: Why; may be empty.
        plan: Objective, methodology, data sets, models, hyperparameters, metrics.
        results: What was measured, over all cells.
        cells: The same in full, a table a cell.
        benchmark: The subject beside the others, ranks, and the sensitivity to the initial lr.
        interpretation: Sentences about the numbers.
        verdict: The answer; None where nothing was asked.
        conclusion: Sentences: the answer, what may be claimed, and what may not.
        caution: That nothing may be claimed, where it is so; else empty.
    """

    title: str
    description: str
    departure: tuple[str, ...]
    question: str
    idea: str
    plan: tuple[Fact, ...]
    results: tuple[Table, ...]
    cells: tuple[Table, ...]
    benchmark: tuple[Table, ...]
    interpretation: tuple[str, ...]
    verdict: Verdict | None
    conclusion: tuple[str, ...]
    caution: str

    @property
    def answer(self) -> str:
        """The first sentence of the conclusion and the caution, on one line; empty where nothing was asked."""
        return " ".join(f"{self.conclusion[0]} {self.caution}".split()) if self.verdict else ""


def describe(
    groups: Sequence[Group],
    *,
    title: str,
    description: str = "",
    experiment: Experiment | None = None,
    departure: Departure | None = None,
    num_untraced: int = 0,
) -> ExperimentReport:
    """Return the report of an experiment.

    Args:
        groups: The runs, from `autotunenet_bench.report.aggregate.aggregate`.
        title: Heading.
        description: What the config says of itself.
        experiment: The question and the rule that answers it; without it nothing is concluded.
        departure: What was put over the config of the runs.
        num_untraced: Runs that were asked for and have left nothing to read.
    """
    finding, matches = conclude(groups, experiment, num_untraced=num_untraced) if experiment else (None, [])
    return ExperimentReport(
        title=title,
        description=description,
        departure=departure_words(departure),
        question=experiment.question if experiment else "",
        idea=experiment.idea if experiment else "",
        plan=tuple(_plan(groups, experiment)),
        results=tuple(_results(groups, experiment)),
        cells=tuple(map(_cell, groups)),
        benchmark=tuple(_benchmark(groups, matches)),
        interpretation=tuple(_interpretation(groups, finding)),
        verdict=finding.verdict if finding else None,
        conclusion=tuple(_conclusion(finding, matches)),
        caution=caution_of(matches),
    )


# -- the plan ----------------------------------------------------------------------------------------------------------


def _plan(groups: Sequence[Group], experiment: Experiment | None) -> Iterator[Fact]:
    runs = [run for group in groups for row in group.rows for run in (*row.finished, *row.unfinished)]
    known = {fact.name: fact.values for fact in facts(runs)}
    methodology = (experiment.methodology, COMMON_METHODOLOGY) if experiment else (COMMON_METHODOLOGY,)
    yield Fact("Objective", _objective(experiment))
    yield Fact("Methodology", tuple(text for text in methodology if text.strip()))
    yield Fact("Data sets", (*known["Data set"], *(f"SHA-256 {value}" for value in known["Data SHA-256"])))
    yield Fact("Models", tuple(dict.fromkeys(_model_words(run) for run in runs)) or ("none",))
    yield Fact("Changes on the way", known["Regimes"])
    yield Fact("Hyperparameters of the training", known["Tasks"])
    yield Fact("Hyperparameters of the controllers", known["Controllers"])
    yield Fact("Length of a run", known["Length of a run"])
    yield Fact("Seeds per controller", known["Seeds per controller"])
    if experiment and experiment.target:
        yield Fact("Target of the convergence time", (target_words(experiment.target),))
    metrics = [METRICS[column.metric] for column in MAIN_COLUMNS]
    yield Fact("Metrics", (*(f"{metric.title}: {metric.description}" for metric in metrics), OUTCOMES))


def _objective(experiment: Experiment | None) -> tuple[str, ...]:
    if experiment is None:
        return (NO_QUESTION,)
    rule = CONCLUSIONS[experiment.conclusion]
    return (
        experiment.question,
        f"Asked of {listed(experiment.subjects)}, against {listed(experiment.against)}.",
        f"Rule {experiment.conclusion}: {rule.words}.",
    )


def _model_words(run: Trace) -> str:
    name = str((run.spec.get("task") or {}).get("name", run.label[0]))
    known = TASKS[name].__doc__ if name in TASKS else None
    return f"{name}: {known.partition(chr(10))[0]}" if known else name


# -- the tables --------------------------------------------------------------------------------------------------------


def _results(groups: Sequence[Group], experiment: Experiment | None) -> Iterator[Table]:
    yield from (_over_cells(column, groups) for column in RESULT_COLUMNS if _is_measured(column, groups))
    if experiment and experiment.target:
        yield from convergence_tables(groups, experiment.target)


def _is_measured(column: Column, groups: Sequence[Group]) -> bool:
    """Whether there is a number to show: not all data have a test part. The loss is always told, even of no run."""
    stats = [row.stats[column.metric] for group in groups for row in group.rows]
    return any(not math.isnan(value) for stat in stats for value in stat.values) or (
        bool(groups) and column.metric == RESULTS[0]
    )


def _over_cells(column: Column, groups: Sequence[Group]) -> Table:
    names = list(dict.fromkeys(row.controller for group in groups for row in group.rows))
    rows = []
    for group in groups:
        measured = {row.controller: _number(column, group, row) for row in group.rows}
        rows.append((*plain(_where(group)), *(measured.get(name, Cell(NOT_MEASURED, False)) for name in names)))
    unit = f", {column.unit}" if column.unit else ""
    return Table(
        title=f"{METRICS[column.metric].title}{unit} {column.arrow}",
        head=("task · regime", *names),
        rows=tuple(rows),
        note="Mean ± standard deviation over the finished seeds; * best mean of its row.",
    )


def _cell(group: Group) -> Table:
    return Table(
        title=_where(group),
        head=("controller", "n", *(f"{column.head} {column.unit} {column.arrow}".strip() for column in MAIN_COLUMNS)),
        rows=tuple(
            (*plain(row.controller, len(row.finished)), *(_number(column, group, row) for column in MAIN_COLUMNS))
            for row in group.rows
        ),
    )


def _where(group: Group) -> str:
    return f"{group.task} · {group.regime}"


def _number(column: Column, group: Group, row: Row) -> Cell:
    return Cell(column.text(row), row.controller in column.best(group))


def _benchmark(groups: Sequence[Group], matches: Sequence[Match]) -> Iterator[Table]:
    yield from match_tables(matches)
    rows = overall(groups)
    if rows and len(groups) > 1:
        yield Table(
            title=f"Over the {rows[0]['cells']} cells that all controllers have finished",
            head=("controller", "runs", "lost ↓", "mean rank ↓", "loss after the change ↓", "final loss ↓"),
            rows=tuple(
                plain(
                    row["controller"],
                    row["runs"],
                    row["failed"],
                    f"{row['mean_rank']:.2f}",
                    f"{row['post_trigger_val_loss']:.3f}",
                    f"{row['final_val_loss']:.3f}",
                )
                for row in rows
            ),
            note="Means over cells of the median over seeds.",
        )
    yield from _sensitivity(groups)


def _sensitivity(groups: Sequence[Group]) -> Iterator[Table]:
    """What a wrong initial lr costs each controller, for every problem that was begun from several."""
    runs = [run for group in groups for row in group.rows for run in row.finished if _is_whole(run)]
    by_problem: dict[str, list[Trace]] = {}
    for run in runs:
        by_problem.setdefault(problem(run), []).append(run)
    begun = [some for some in by_problem.values() if len(set(map(starting_point, some))) > 1]
    if not begun or not all(math.isfinite(run.initial_val["loss"]) for run in runs):
        return
    names = list(dict.fromkeys(run.label[2] for some in begun for run in some))
    yield Table(
        title="Sensitivity to the initial lr ↓",
        head=("problem", "initial lrs", *names),
        rows=tuple(
            plain(_problem_words(some[0]), len(set(map(starting_point, some))), *(_cost(some, name) for name in names))
            for some in begun
        ),
        note=(
            "Mean over the initial lrs of the final validation loss, less that from the best of them (Wortsman et al. "
            "2023). One that is lost from every lr has 0 too."
        ),
    )


def _is_whole(run: Trace) -> bool:
    """Whether a spec says what was learnt, and by whom; one of another version need not."""
    return all(isinstance(run.spec.get(key), Mapping) for key in ("task", "regime", "controller"))


def _problem_words(run: Trace) -> str:
    task = run.spec["task"]
    words = [str(task[key]) for key in ("name", "optimizer") if key in task]
    return f"{', '.join(words)} · {run.label[1]}"


def _cost(runs: Sequence[Trace], controller: str) -> str:
    try:
        cost = sensitivity_to_lr(run for run in runs if run.label[2] == controller)
    except ValueError:  # runs of one name that are set in different ways have no common number
        return NOT_MEASURED
    return NOT_MEASURED if math.isnan(cost) else number(cost)


# -- what follows ------------------------------------------------------------------------------------------------------


def _interpretation(groups: Sequence[Group], finding: Finding | None) -> Iterator[str]:
    if finding:
        yield from finding.reasons
    else:
        for group in groups:
            best = group.best("final_val_loss")
            names = [row.controller for row in group.rows if row.controller in best]
            if names:
                where = f"{group.task} under {group.regime}"
                yield f"{where}: the lowest mean final validation loss is that of {listed(names)}."
    yield from _remarks(groups)


def _remarks(groups: Sequence[Group]) -> Iterator[str]:
    """Yield what must be said beside the numbers; what is so in many cells is said once."""
    cells: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        for row in group.rows:
            for remark in remarks(row):
                cells[remark].append(group)
    for remark, where in cells.items():
        group = where[0]
        place = f"{group.task} under {group.regime}" if len(where) == 1 else f"In {len(where)} of {len(groups)} cells"
        yield f"{place}: {remark}."


def _conclusion(finding: Finding | None, matches: Sequence[Match]) -> Iterator[str]:
    if finding is None:
        yield NO_QUESTION
    elif finding.verdict is Verdict.OPEN:
        yield f"No answer can be given: {finding.answer}."
    else:
        yield f"In these runs: {finding.verdict.value}; {finding.answer}."
        yield from map(claim_of, matches)
        yield from claims_by_cell(matches)
        yield from limits_of(matches)
