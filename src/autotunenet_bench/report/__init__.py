"""What came out of a set of runs: a table for the terminal, an HTML page, CSV files and tables for LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from autotunenet.files import write_atomically
from autotunenet_bench.config.experiment import Departure, Experiment
from autotunenet_bench.report.aggregate import Group, aggregate
from autotunenet_bench.report.convergence import convergence_csv
from autotunenet_bench.report.csvs import claims_csv, curves_csv, decisions_csv, overall_csv, score_csv, summary_csv
from autotunenet_bench.report.experiment import describe
from autotunenet_bench.report.experiment_pages import to_html, to_markdown
from autotunenet_bench.report.html import render, without_trace
from autotunenet_bench.report.latex import tables_tex
from autotunenet_bench.report.tables import summary_table
from autotunenet_bench.report.verdicts import Verdicts, judge
from autotunenet_bench.results.trace import Trace

__all__ = ["ReportPaths", "Verdicts", "judge", "summary_table", "write_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPaths:
    """The files of a report, and what a terminal says of it.

    Attributes:
        convergence_csv: Only where an experiment states a target.
        answer: What answers the question, on one line; empty where none was asked.
        departure: How what was run departs from its config, a sentence each.
        groups: The runs, brought together, for `summary_table`.
    """

    html: Path
    markdown: Path
    summary_csv: Path
    curves_csv: Path
    decisions_csv: Path
    overall_csv: Path
    score_csv: Path
    claims_csv: Path
    tables_tex: Path
    convergence_csv: Path | None = None
    answer: str = ""
    departure: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()


def write_report(
    traces: Iterable[Trace],
    folder: Path,
    title: str,
    description: str = "",
    *,
    failures: Mapping[str, str] | None = None,
    missing: Mapping[str, str] | None = None,
    experiment: Experiment | None = None,
    departure: Departure | None = None,
) -> ReportPaths:
    """Write the report of `traces` into `folder`, which is made if it is not there.

    Every file is replaced at once: a reader sees the old one or the new one. The bytes depend on the runs and on the
    versions of the packages, not on the time; of the order of the runs, only on that of their first appearance.

    Args:
        traces: Runs, finished or not; an empty report says that it is.
        folder: Where ``report.html`` and the files beside it go: ``report.md``, ``summary.csv``, ``curves.csv``,
            ``decisions.csv``, ``overall.csv``, ``score.csv``, ``claims.csv`` and ``tables.tex``; and
            ``convergence.csv`` where the experiment states a target.
        title: Heading of the page.
        description: A paragraph below it.
        failures: What is known about runs that failed, by their run ids, so that the page can say it.
        missing: The same about runs that were asked for and are not there: not started, interrupted.
        experiment: The question that the runs are to answer; without it nothing is concluded from them.
        departure: What was put over the config of the runs, which is said on top.

    Returns:
        The paths of the files, and the answer.
    """
    runs = list(traces)
    groups, verdicts = aggregate(runs), judge(runs, subject=experiment.subject if experiment else None)
    paths = ReportPaths(
        html=folder / "report.html",
        markdown=folder / "report.md",
        summary_csv=folder / "summary.csv",
        curves_csv=folder / "curves.csv",
        decisions_csv=folder / "decisions.csv",
        overall_csv=folder / "overall.csv",
        score_csv=folder / "score.csv",
        claims_csv=folder / "claims.csv",
        tables_tex=folder / "tables.tex",
    )
    write_atomically(paths.summary_csv, summary_csv(runs, groups))
    write_atomically(paths.curves_csv, curves_csv(runs))
    write_atomically(paths.decisions_csv, decisions_csv(runs))
    write_atomically(paths.overall_csv, overall_csv(groups))
    write_atomically(paths.score_csv, score_csv(verdicts))
    write_atomically(paths.claims_csv, claims_csv(verdicts.verdicts))
    write_atomically(paths.tables_tex, tables_tex(groups, verdicts))
    if experiment and experiment.target:
        paths = replace(paths, convergence_csv=folder / "convergence.csv")
        write_atomically(folder / "convergence.csv", convergence_csv(groups, experiment.target))
    about = describe(
        groups,
        title=title,
        description=description,
        experiment=experiment,
        departure=departure,
        num_untraced=len(without_trace(runs, failures or {}, missing or {})),
    )
    write_atomically(paths.markdown, to_markdown(about))
    page = render(
        runs,
        title=title,
        description=description,
        failures=failures,
        missing=missing,
        groups=groups,
        verdicts=verdicts,
        experiment=to_html(about) if experiment else "",
        departure=about.departure,
    )
    # Last, so that whoever waits for the page finds the files beside it.
    write_atomically(paths.html, page)
    return replace(paths, answer=about.answer, departure=about.departure, groups=tuple(groups))
