"""The report of offline searches: one HTML page, a Markdown page, and the trials as CSV."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autotunenet.files import write_atomically
from autotunenet_bench.report.hpo.csvs import trials_csv
from autotunenet_bench.report.hpo.pages import HpoPage, describe, to_html, to_markdown
from autotunenet_bench.report.hpo.records import Goal, SearchRun, Study

__all__ = ["Goal", "HpoReportPaths", "SearchRun", "Study", "write_hpo_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HpoReportPaths:
    """The files of a report.

    Attributes:
        page: What they say.
    """

    html: Path
    markdown: Path
    trials_csv: Path
    page: HpoPage

    @property
    def beside(self) -> tuple[Path, ...]:
        """All but the page."""
        return (self.markdown, self.trials_csv)


def write_hpo_report(study: Study, folder: Path) -> HpoReportPaths:
    """Write ``report.html``, ``report.md`` and ``trials.csv`` into `folder`. Equal studies give equal bytes.

    Raises:
        OSError: If a file cannot be written.
    """
    page = describe(study)
    paths = HpoReportPaths(
        html=folder / "report.html", markdown=folder / "report.md", trials_csv=folder / "trials.csv", page=page
    )
    write_atomically(paths.trials_csv, trials_csv(study))
    write_atomically(paths.markdown, to_markdown(page))
    # Last, so that whoever waits for the page finds the files beside it.
    write_atomically(paths.html, to_html(page, study))
    return paths
