"""The rules that answer a suite's question from its measured numbers. Thresholds and reasons: `docs/benchmarks.md`.

A rule is a pure function of what the subject and each other method did on the same runs. None knows a name of a method
or of a suite, so none can know how the answer should read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autotunenet_bench.config.experiment import ConclusionName, Experiment
from autotunenet_bench.report.aggregate import Group
from autotunenet_bench.report.conclusions import best_of, do_no_harm, each_task, equal_budget, survives
from autotunenet_bench.report.conclusions.base import Finding, Rule, Verdict, obstacles, together
from autotunenet_bench.report.conclusions.matches import Match, match_all

__all__ = ["CONCLUSIONS", "Finding", "Match", "Verdict", "conclude"]

CONCLUSIONS: Mapping[ConclusionName, Rule] = {
    "do_no_harm": Rule(judge=do_no_harm.do_no_harm, words=do_no_harm.WORDS),
    "best_of": Rule(judge=best_of.best_of, words=best_of.WORDS),
    "survives": Rule(judge=survives.survives, words=survives.WORDS),
    "equal_budget": Rule(judge=equal_budget.equal_budget, words=equal_budget.WORDS),
    "each_task": Rule(judge=each_task.each_task, words=each_task.WORDS, by_cell=True),
}
"""Every rule by its name in a config."""


def conclude(groups: Sequence[Group], experiment: Experiment, *, num_untraced: int = 0) -> tuple[Finding, list[Match]]:
    """Return what the runs answer, and the comparisons behind it.

    Args:
        groups: The runs, of all controllers.
        experiment: The question and its rule.
        num_untraced: Runs of the suite that have left nothing to read.

    Returns:
        The finding, and one match of each subject for each of `experiment.against`. Where something is missing nothing
        is concluded: the verdict is `Verdict.OPEN`, the reasons say what is missing, and there are no matches.
    """
    missing = obstacles(groups, (*experiment.subjects, *experiment.against), num_untraced)
    if missing:
        return Finding(verdict=Verdict.OPEN, answer="the runs are not complete", reasons=tuple(missing)), []
    rule = CONCLUSIONS[experiment.conclusion]
    matches = match_all(groups, experiment.subjects, experiment.against, by_cell=rule.by_cell)
    of_subjects = [[match for match in matches if match.subject == subject] for subject in experiment.subjects]
    return together([rule.judge(of_one) for of_one in of_subjects]), matches
