"""What a rule is, what it finds, and what has to be there before one is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from autotunenet_bench.metrics.across import charged
from autotunenet_bench.report.aggregate import Group
from autotunenet_bench.report.conclusions.matches import Match


class Verdict(Enum):
    """The answer to a question, of the runs that were made and of no others."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"
    OPEN = "cannot be said"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule makes of the runs.

    Attributes:
        verdict: The answer.
        answer: The same as a clause, without a capital and a full stop.
        reasons: Sentences with the numbers that decided it.
    """

    verdict: Verdict
    answer: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule of conclusion.

    Attributes:
        judge: From the matches of the subject, at least one, to what they say.
        words: When its verdict is which, for a reader; with the thresholds.
        by_cell: Whether it is about each cell by itself, so that claims are too.
    """

    judge: Callable[[Sequence[Match]], Finding]
    words: str
    by_cell: bool = False


def together(findings: Sequence[Finding]) -> Finding:
    """Return what several subjects come to: yes or no where it is so for all of them, else partly.

    Of several subjects one is better by luck sooner than a single one, so that one alone is no yes. Where one cannot be
    judged nothing is said.

    Args:
        findings: One a subject, at least one.
    """
    if len(findings) == 1:
        return findings[0]
    verdicts = {finding.verdict for finding in findings}
    verdict = Verdict.OPEN if Verdict.OPEN in verdicts else verdicts.pop() if len(verdicts) == 1 else Verdict.PARTLY
    return Finding(
        verdict=verdict,
        answer="; ".join(f"{finding.answer} ({finding.verdict.value})" for finding in findings),
        reasons=tuple(dict.fromkeys(reason for finding in findings for reason in finding.reasons)),
    )


def obstacles(groups: Sequence[Group], names: Sequence[str], num_untraced: int) -> list[str]:
    """Return why nothing can be concluded yet, a sentence each; empty where every run is there.

    No run is dropped: a rule sees all runs of all methods that it is about, or none.

    Args:
        groups: The runs, of all controllers.
        names: Of the controllers that the rule is about: the subjects, and what they are compared with.
        num_untraced: Runs of the suite that have left nothing to read.
    """
    found = [f"{_runs(num_untraced)} of the suite {_have(num_untraced)} left nothing to read."] if num_untraced else []
    if not groups:
        return [*found, "There is no run."]
    for name in names:
        rows = [row for group in groups for row in group.rows if row.controller == name]
        unfinished = sum(len(row.unfinished) for row in rows)
        if unfinished:
            of = sum(row.num_runs for row in rows)
            found.append(f"{name}: {unfinished} of {_runs(of)} {_have(unfinished)} not finished.")
        if any(row.differing for row in rows):
            found.append(f"{name}: runs of this name differ in more than their seed.")
    for group in groups:
        found += _obstacles_of_cell(group, names)
    return found


def _obstacles_of_cell(group: Group, names: Sequence[str]) -> Iterator[str]:
    where = f"{group.task} under {group.regime}"
    rows = {row.controller: row for row in group.rows}
    seeds = {
        name: [run.spec["seed"] for run in (*rows[name].finished, *rows[name].unfinished)] if name in rows else []
        for name in names
    }
    wanted = {seed for row in group.rows for run in (*row.finished, *row.unfinished) for seed in [run.spec["seed"]]}
    for name, own in seeds.items():
        if len(set(own)) < len(own):
            yield f"{where}: {name} has a seed twice."
        elif absent := sorted(wanted - set(own)):
            words = f"seed {absent[0]}" if len(absent) == 1 else f"seeds {', '.join(map(str, absent))}"
            yield f"{where}: {name} has no run of {words}."
    runs = [run for name in names if name in rows for run in rows[name].finished]
    if not all(math.isfinite(run.initial_val["loss"]) and charged(run) > 0 for run in runs):
        yield f"{where}: a loss is not above 0, or was not finite before training, so that no ratio can be taken."


def _runs(num: int) -> str:
    return f"{num} run" if num == 1 else f"{num} runs"


def _have(num: int) -> str:
    return "has" if num == 1 else "have"
