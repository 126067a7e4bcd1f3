r"""Tables for LaTeX, with booktabs: the score, the comparisons and one row a cell and controller."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autotunenet_bench.report.aggregate import Group
from autotunenet_bench.report.columns import MAIN_COLUMNS
from autotunenet_bench.report.verdicts import Verdicts

SHOWN = tuple(column for column in MAIN_COLUMNS if column.with_sd and not column.as_count)
"""Columns of the table of cells."""

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # behind a line's end it would open an argument
    "]": "{]}",
    "-": "{-}",  # two of them would become one dash
    "*": "{*}",
    "±": r"$\pm$",
    "·": r"\textperiodcentered{}",
    "→": r"$\rightarrow$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
}


def escape_tex(text: str) -> str:
    r"""Return a text that LaTeX prints as it stands; line breaks and other control characters become blanks.

    >>> escape_tex("50 % of a_b & $x$")
    '50 \\% of a\\_b \\& \\$x\\$'
    """
    return "".join(_ESCAPED.get(sign, sign if sign.isprintable() else " ") for sign in text)


def tables_tex(groups: Sequence[Group], verdicts: Verdicts) -> str:
    r"""Return the tables as a file for ``\input``; its head says which packages it needs.

    Args:
        groups: What `autotunenet_bench.report.aggregate.aggregate` makes of the runs.
        verdicts: What `autotunenet_bench.report.verdicts.judge` makes of them. Without a score its table is a comment
            that says why.
    """
    head = [
        r"% Needs \usepackage{booktabs,longtable,textcomp} and, for the quotes, \usepackage[T1]{fontenc}.",
        r"% Small, so that they fit on A4 and letter paper with margins of 25 mm.",
    ]
    tables = [_score_table(verdicts), _claims_table(verdicts), _cells_table(groups)]
    # In a group, the paragraph ended inside it, so that the size is that of the tables alone.
    lines = [line for table in tables for line in ("", r"\bigskip", *table)]
    return "\n".join(
        [
            *head,
            "",
            r"\begingroup\footnotesize\setlength{\parindent}{0pt}\setlength{\tabcolsep}{4pt}",
            *lines,
            "",
            r"\endgroup",
            "",
        ]
    )


def _score_table(verdicts: Verdicts) -> list[str]:
    if not verdicts.scores:
        return [f"% No score: {escape_tex(verdicts.why_not)}"]
    best = verdicts.scores[0].iqm.point
    is_tie = best == verdicts.scores[-1].iqm.point
    rows = [
        [
            escape_tex(score.controller),
            str(score.failures.num),
            _bold(f"{score.iqm.point:.4f}", score.iqm.point == best and not is_tie),
            f"{score.iqm.low:.4f} to {score.iqm.high:.4f}",
            f"{score.worst_decile:.4f}",
            f"{score.failures.hits}/{score.failures.num}",
            " to ".join(f"{100 * bound:.1f}" for bound in score.failures.interval),
        ]
        for score in verdicts.scores
    ]
    num_out = len(verdicts.left_out)
    words = f"% Score version {verdicts.scores[0].version}, {verdicts.num_cells} cells, {num_out} left out for all."
    heads = ["controller", "runs", "score", r"95\,\% interval", "worst decile", "failed", r"95\,\% interval [\%]"]
    return [words, *_tabular("lrrrrrr", heads, _lines(rows))]


def _claims_table(verdicts: Verdicts) -> list[str]:
    if not verdicts.verdicts:
        return ["% No comparison."]
    rows = [
        [
            escape_tex(one.other),
            _signed(one.comparison.difference.point),
            f"{_signed(one.comparison.difference.low)} to {_signed(one.comparison.difference.high)}",
            f"{100 * one.comparison.improvement:.0f}",
            f"{one.comparison.p_holm:.3g}",
            escape_tex(one.claim.value),
        ]
        for one in verdicts.verdicts
    ]
    words = [f"% {escape_tex(verdicts.subject)} against each other controller; below 0 it is better."]
    if verdicts.limits:
        words.append(f"% {escape_tex(verdicts.limits)}")
    heads = ["against", "difference", r"95\,\% interval", r"lower in [\%]", "p (Holm)", "claim"]
    return [*words, *_tabular("lrrrrl", heads, _lines(rows))]


def _cells_table(groups: Sequence[Group]) -> list[str]:
    units = [f" [{escape_tex(column.unit)}]" if column.unit else "" for column in SHOWN]
    heads = ["controller", "n"]
    heads += [escape_tex(column.head) + unit for column, unit in zip(SHOWN, units, strict=True)]
    lines: list[str] = []
    for group in groups:
        # A line of its own for what all rows of a cell share: with two more columns no page would be wide enough.
        title = rf"{escape_tex(group.task)}: {escape_tex(group.regime)}"
        space = [r"\addlinespace"] if lines else []
        lines += [*space, rf"\multicolumn{{{len(heads)}}}{{@{{}}l}}{{\textit{{{title}}}}} \\*"]
        lines += _lines(
            [
                escape_tex(row.controller),
                str(len(row.finished)),
                *(_bold(escape_tex(column.text(row)), row.controller in column.best(group)) for column in SHOWN),
            ]
            for row in group.rows
        )
    words = (
        "% Mean and standard deviation over the finished seeds; bold is the best mean of a task and regime, no claim."
    )
    return [words, *_tabular("lr" + "r" * len(SHOWN), heads, lines, environment="longtable")]


def _lines(rows: Iterable[Sequence[str]]) -> list[str]:
    # A brace first, so that no cell can be taken for an argument of the line before it.
    return [" & ".join(["{}" + row[0], *row[1:]]) + r" \\" for row in rows]


def _tabular(columns: str, heads: Sequence[str], lines: Sequence[str], *, environment: str = "tabular") -> list[str]:
    head = [r"\toprule", " & ".join(heads) + r" \\", r"\midrule"]
    if environment == "longtable":
        head.append(r"\endhead")
    return [rf"\begin{{{environment}}}{{{columns}}}", *head, *lines, r"\bottomrule", rf"\end{{{environment}}}"]


def _signed(number: float) -> str:
    return f"{number:+.4f}".replace("-", "$-$")  # a hyphen is no minus


def _bold(text: str, is_best: bool) -> str:
    return rf"\textbf{{{text}}}" if is_best else text
