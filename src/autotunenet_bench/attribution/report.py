"""The suite's files: every case, the scores, and a page for a person."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from autotunenet.files import write_atomically
from autotunenet_bench.attribution.scoring import VERDICTS, confusion, grouped, median_delay, outcome, score
from autotunenet_bench.attribution.trajectory import Row

CASES_FILE, SUMMARY_FILE, TABLE_FILE = "cases.jsonl", "summary.md", "summary.csv"


def write_files(rows: Sequence[Row], folder: Path, about: str) -> str:
    """Write ``cases.jsonl``, ``summary.csv`` and ``summary.md``; return the text of the last.

    Args:
        rows: Of all trajectories, as from `run_trajectory`.
        folder: Where the files go.
        about: A sentence on how the rows were made.

    Raises:
        OSError: If a file cannot be written.
    """
    cases = [row for row in rows if row["kind"] == "case"]
    stable = [row for row in rows if row["kind"] == "stable"]
    stored = [{**row, "outcome": outcome(row)} if row["kind"] == "case" else row for row in rows]
    write_atomically(folder / CASES_FILE, "".join(json.dumps(row, allow_nan=False) + "\n" for row in stored))
    groups = [{"by": by, "group": group, **scores} for by, group, scores in grouped(cases, stable)]
    write_atomically(folder / TABLE_FILE, _csv(groups))
    page = summary(cases, stable, about)
    write_atomically(folder / SUMMARY_FILE, page)
    return page


def summary(cases: Sequence[Row], stable: Sequence[Row], about: str) -> str:
    """Return the page in Markdown."""
    total = score(cases, stable)
    lines = [
        "# Labelled causes",
        "",
        about,
        "",
        f"- wrongful rollbacks: {_rate(total, 'wrongful')}",
        f"- missed harm: {_rate(total, 'missed')}, {total['num_missed_unhealed']} of them not healed by other means",
        f"- harmless knobs: {total['num_harmless']}, of which {total['num_harmless_rolled_back']} were rolled back",
        f"- false alarms: {total['false_alarms']} in {total['stable_steps']:,} stable steps, "
        f"{_number(total['false_alarms_per_1000'])} per 1,000",
        "",
        "## Verdicts",
        "",
        *_table(
            ["cause", *VERDICTS, "median delay"],
            [
                [cause, *counts.values(), median_delay([row for row in cases if row["cause"] == cause])]
                for cause, counts in confusion(cases).items()
                if any(counts.values())
            ],
        ),
    ]
    for by in ("fault", "optimizer", "task"):
        found = [(name, scores) for group, name, scores in grouped(cases, stable) if group == by]
        lines += ["", f"## By {by}", "", *_table(_HEADINGS, [_line(name, scores) for name, scores in found])]
    wrong = [row for row in cases if outcome(row) in ("wrongful", "missed")]
    lines += ["", "## Wrong cases", "", *(_describe(row) for row in wrong)]
    return "\n".join(lines).rstrip() + "\n"


_HEADINGS = ["", "cases", "wrongful", "missed", "harmless", "false alarms / 1,000", "median delay"]


def _line(name: str, scores: dict[str, Any]) -> list[Any]:
    parts = [f"{scores[f'num_{kind}']}/{scores[f'of_{kind}']}" for kind in ("wrongful", "missed")]
    return [
        name,
        scores["num_cases"],
        *parts,
        scores["num_harmless"],
        scores["false_alarms_per_1000"],
        scores["median_delay"],
    ]


def _describe(row: Row) -> str:
    actions = ", ".join(f"{action} at +{delay}" for delay, action in row["actions"]) or "no alarm"
    where = f"{row['task']}, {row['optimizer']}, seed {row['seed']}, step {row['step']}"
    healed = "" if row["healed"] is None else f"; {'healed' if row['healed'] else 'not healed'}"
    return f"- {outcome(row)}: {row['fault']} ({where}): verdict {row['verdict'] or 'none'}; {actions}{healed}"


def _rate(scores: dict[str, Any], name: str) -> str:
    hits, num, share = scores[f"num_{name}"], scores[f"of_{name}"], scores[f"{name}_rate"]
    if share is None:
        return "no cases"
    return (
        f"{hits} of {num}, {100 * share:.1f} % [{100 * scores[f'{name}_low']:.1f}, {100 * scores[f'{name}_high']:.1f}]"
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *([_number(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _number(cell: Any) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return "never" if math.isinf(cell) else f"{cell:.3g}"
    return str(cell)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["by"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
