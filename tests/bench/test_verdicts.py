"""Score and claims of a result folder: worked by hand, told where they cannot be, and never without their limits."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_report import WellFormed, make_trace
from test_scoring import L_0, example, make, second_example

from autotunenet_bench.metrics.scoring import compute_adjusted, scorable
from autotunenet_bench.report.aggregate import aggregate
from autotunenet_bench.report.csvs import claims_csv, score_csv
from autotunenet_bench.report.html import MAX_LEFT_OUT, render
from autotunenet_bench.report.latex import escape_tex, tables_tex
from autotunenet_bench.report.verdicts import judge
from autotunenet_bench.statistics import Claim

HOSTILE = ["<script>alert(1)</script>", "a & b", "50 %", "x_1", "$y$", "\\end{x}", "[2] ^~#{}", '"q"', "_"]


def runs(losses, *, cell="A", num_seeds=6, **spec):
    """One controller a name, with the same loss on every seed, or one loss a seed."""
    return [
        make([1.5, loss if isinstance(loss, float) else loss[seed]], controller=name, cell=cell, seed=seed, **spec)
        for name, loss in losses.items()
        for seed in range(num_seeds)
    ]


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def text_of(traces, **options):
    return WellFormed(render(traces, title="T", **options)).text


# -- scores ------------------------------------------------------------------------------------------------------------


def test_the_rows_are_those_of_the_documented_example():
    verdicts = judge(second_example(), num_resamples=200)
    assert (verdicts.num_cells, verdicts.why_not, verdicts.left_out) == (2, "", ())
    for score, row in zip(verdicts.scores, example("result"), strict=True):
        assert score.controller == row["method"]
        assert score.iqm.point == pytest.approx(float(row["score"]), abs=1e-8)
        assert f"{score.failures.hits} of {score.failures.num}" == row["failed"]
    page = re.sub(r"\s+", " ", render(second_example(), title="T"))
    # Wilson's interval of 1 in 4 by hand: (0.25 + 0.4802 ± 1.96 sqrt(0.1875/4 + 0.0600)) / (1 + 0.9604).
    assert '<th scope="row">fixed</th><td>4</td><td>0.1771</td>' in page
    assert "<td>1.0000</td><td>1/4</td><td>4.6 to 69.9</td>" in page
    assert '<td class="best">0.0312</td>' in page
    assert page.index(">ours</th>") < page.index(">fixed</th>")


def test_losses_are_kept_by_cell_and_seed_and_a_lost_run_is_infinite():
    assert judge(second_example(), num_resamples=10).losses == {
        "fixed": [[0.5, 0.7], [math.inf, 1.0]],
        "ours": [[0.4, 0.5], [0.8, 1.1]],
    }


# -- claims ------------------------------------------------------------------------------------------------------------


def test_a_claim_worked_by_hand():
    # The oracle is 0.5 on every seed, so the regrets are 0 and (1.0 - 0.5) / (2.0 - 0.5) = 1/3 in six pairs of six.
    verdicts = judge(runs({"fixed": 1.0, "autotunenet": 0.5}))
    assert (verdicts.subject, verdicts.is_chosen_by_score) == ("autotunenet", False)
    (verdict,) = verdicts.verdicts
    assert verdict.claim is Claim.MEANINGFULLY_BETTER
    assert verdict.sentence == (
        "autotunenet is meaningfully better than fixed: mean difference of the regret -0.333 (95 % interval -0.333 to "
        "-0.333), lower in 100 % of 6 pairs, p = 0.0312."
    )
    assert verdicts.limits.startswith("6 seeds are fewer than 10: of 6 pairs the smallest two-sided p is 2/2^6")
    text = text_of(runs({"fixed": 1.0, "autotunenet": 0.5}))
    assert verdict.headline in text
    assert verdict.evidence in text
    assert verdicts.limits in text


def test_another_controller_that_was_tried_takes_the_claim_away():
    verdicts = judge(runs({"fixed": 1.0, "autotunenet": 0.5, "cosine": 0.7}))
    assert [(one.other, one.claim) for one in verdicts.verdicts] == [
        ("cosine", Claim.NOTHING),
        ("fixed", Claim.NOTHING),
    ]
    assert verdicts.verdicts[0].sentence == (
        "No claim about autotunenet and cosine: mean difference of the regret -0.133 (95 % interval -0.133 to -0.133), "
        "lower in 100 % of 6 pairs, p = 0.0625 after Holm's correction over 2 comparisons. That does not say that they "
        "are equal."
    )
    assert verdicts.limits.startswith("Nothing can be claimed: the smallest two-sided p of 6 pairs")


def test_a_subject_that_is_worse_is_called_so():
    (verdict,) = judge(runs({"fixed": 0.5, "autotunenet": 1.0})).verdicts
    assert verdict.headline == "autotunenet is meaningfully worse than fixed"


def test_five_pairs_claim_nothing_and_ten_seeds_need_no_warning():
    few = judge(runs({"fixed": 1.0, "autotunenet": 0.5}, num_seeds=5))
    assert few.verdicts[0].claim is Claim.NOTHING
    assert few.limits.startswith("Nothing can be claimed: 5 pairs are fewer than 6")
    assert judge(runs({"fixed": 1.0, "autotunenet": 0.5}, num_seeds=10)).limits == ""


def test_few_pairs_have_no_interval():
    (verdict,) = judge(runs({"fixed": 1.0, "autotunenet": [0.5, 0.4, 0.45, 0.5, 0.4]}, num_seeds=5)).verdicts
    assert "(too few pairs for an interval)" in verdict.evidence
    (verdict,) = judge(runs({"fixed": 1.0, "autotunenet": [0.5, 0.4, 0.45, 0.5, 0.4, 0.5]})).verdicts
    assert "(95 % interval -" in verdict.evidence


def test_the_subject_that_a_question_names_is_the_subject():
    traces = runs({"fixed": 1.0, "autotunenet": 0.5, "cosine": 0.7})
    verdicts = judge(traces, subject="cosine")
    assert (verdicts.subject, verdicts.is_chosen_by_score) == ("cosine", False)
    assert {row["subject"] for row in read(claims_csv(verdicts.verdicts))} == {"cosine"}
    assert judge(traces, subject="somebody else").subject == "autotunenet"


def test_equal_runs_are_called_equal():
    (verdict,) = judge(runs({"fixed": 0.5, "autotunenet": 0.5})).verdicts
    assert verdict.sentence == ("Nothing differs between autotunenet and fixed: the regret is the same in all 6 pairs.")


def test_the_subject_is_known_by_its_controller_and_not_by_its_label():
    losses = {"fixed": 0.4, "plain": 0.5, "values only": 0.6}
    traces = runs(losses)
    named = [
        dataclasses.replace(trace, spec={**trace.spec, "controller": {"name": name}})
        for trace in traces
        for name in ["fixed" if trace.label[2] == "fixed" else "autotunenet"]
    ]
    assert judge(named).subject == "plain"
    chosen = judge(traces)
    assert (chosen.subject, chosen.is_chosen_by_score) == ("fixed", True)
    assert "Who is picked by the result looks better than it is" in text_of(traces)
    assert "Who is picked by the result" not in text_of(named)


# -- what cannot be scored ---------------------------------------------------------------------------------------------

BOTH = {"fixed": 1.0, "autotunenet": 0.5}


@pytest.mark.parametrize(
    ("traces", "words"),
    [
        (runs(BOTH, num_seeds=1), "the oracle needs runs with other seeds; run two seeds or more"),
        (runs(BOTH, flops=None), "no FLOPs were recorded, or L_0 is not finite; run it again"),
        (runs({"fixed": 2.0, "autotunenet": 1.9}), "no reference has learnt anything; leave this cell out, and say so"),
        (runs(BOTH, is_finished=False), "the run is not finished, and no run is dropped; finish it"),
        (
            runs(BOTH)[:-1],
            "every controller needs the same seeds, once; got fixed: [0, 1, 2, 3, 4, 5]; autotunenet: [",
        ),
        (runs(BOTH) + runs(BOTH, cell="B", protocol="9.9"), "runs of protocols 1.1 and 9.9 may not be compared"),
    ],
    ids=["one seed", "no FLOPs", "nobody learnt", "unfinished", "a seed is missing", "protocols"],
)
def test_no_score_says_why(traces, words):
    verdicts = judge(traces)
    assert verdicts.scores == verdicts.verdicts == ()
    assert words in verdicts.why_not
    text = text_of(traces)
    assert "There is no score, and nothing can be claimed: " in text
    assert words in text
    assert {row["controller"] for row in read(score_csv(verdicts))} == set(BOTH)
    assert all(words in row["why_not"] for row in read(score_csv(verdicts)))
    assert "% No score: " in tables_tex(aggregate(traces), verdicts)


def test_a_cell_that_cannot_be_scored_goes_for_all_and_is_named():
    broken = runs(BOTH, cell="B")
    broken[-1] = make([1.5], controller="autotunenet", cell="B", seed=5, is_finished=False, num_epochs=2)
    traces = runs(BOTH) + broken
    verdicts = judge(traces)
    assert (verdicts.num_cells, [(cell.task, cell.regime) for cell in verdicts.left_out]) == (1, [("B", "stationary")])
    assert {score.failures.num for score in verdicts.scores} == {6}
    text = text_of(traces)
    assert "1 of 2 cells are in no score, for all controllers alike" in text
    assert "B, stationary, autotunenet, seed 5: the run is not finished" in text
    assert {row["cells_left_out"] for row in read(score_csv(verdicts))} == {"1"}


def test_where_no_cell_is_left_all_reasons_are_told():
    traces = runs(BOTH, num_seeds=1) + runs(BOTH, cell="B", is_finished=False)
    verdicts = judge(traces)
    assert verdicts.why_not.startswith("none of the 2 cells can be scored; of the first: A, stationary")
    assert [cell.task for cell in verdicts.left_out] == ["A", "B"]
    assert all(cell.reason in text_of(traces) for cell in verdicts.left_out)


def test_a_lost_run_is_no_reason_to_leave_a_cell_out():
    verdicts = judge(runs({"fixed": math.nan, "autotunenet": 0.5}))
    assert verdicts.left_out == ()
    assert {s.controller: (s.iqm.point, s.failures.hits) for s in verdicts.scores} == {
        "autotunenet": (0.0, 0),
        "fixed": (1.0, 6),
    }


def test_many_left_out_cells_are_counted(monkeypatch):
    monkeypatch.setattr("autotunenet_bench.report.sections.MAX_DRAWN_SECTIONS", 0)  # a figure takes its time
    traces = runs(BOTH)
    for index in range(MAX_LEFT_OUT + 3):
        traces += runs(BOTH, cell=f"cell {index}", num_seeds=1)
    text = text_of(traces)
    assert f"{MAX_LEFT_OUT + 3} of {MAX_LEFT_OUT + 4} cells are in no score" in text
    assert "and 3 more" in text


def test_runs_that_left_nothing_are_told_beside_the_score():
    assert "1 run has left nothing to read" in text_of(runs(BOTH), missing={"run-8": "not started"})
    assert "nothing to read" not in text_of(runs(BOTH))


def test_one_controller_has_no_section_and_no_claim():
    assert "Score and claims" not in text_of(runs({"fixed": 1.0}))
    assert judge(runs({"fixed": 1.0})).verdicts == ()
    assert judge([]).why_not == "there are no runs"


@given(
    st.lists(
        st.lists(st.tuples(st.floats(0, 3) | st.just(math.nan), st.booleans()), min_size=4, max_size=4),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_kept_can_be_scored_and_the_rest_is_told(cells):
    traces = [
        make([1.5, loss], controller=name, cell=str(index), seed=seed, is_finished=is_finished)
        for index, cell in enumerate(cells)
        for (name, seed), (loss, is_finished) in zip([("a", 0), ("a", 1), ("b", 0), ("b", 1)], cell, strict=True)
    ]
    kept, left_out = scorable(traces)
    assert len(kept) == 4 * (len(cells) - len(left_out))
    unfinished = {str(index) for index, cell in enumerate(cells) if not all(done for _, done in cell)}
    assert unfinished <= {cell.task for cell in left_out}
    assert all(cell.reason for cell in left_out)
    if kept:
        scores = compute_adjusted(kept, num_resamples=10)
        assert all(len(score.regrets) == len(cells) - len(left_out) for score in scores)


# -- files -------------------------------------------------------------------------------------------------------------


def test_csv_files_hold_the_numbers():
    verdicts = judge(runs({"fixed": 1.0, "autotunenet": 0.5}))
    assert [(row["controller"], float(row["score"])) for row in read(score_csv(verdicts))] == [
        ("autotunenet", 0.0),
        ("fixed", pytest.approx(1 / 3)),
    ]
    (row,) = read(claims_csv(verdicts.verdicts))
    assert (row["subject"], row["other"], row["claim"], row["pairs"]) == (
        *("autotunenet", "fixed", "meaningfully better"),
        "6",
    )
    assert float(row["p_holm"]) == 2 / 2**6


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_words_in_html_and_latex(name):
    traces = runs({name: 0.5, "autotunenet": 1.0}, cell=name)
    page = WellFormed(render(traces, title="T"))
    assert not page.tags & {"script"}
    assert f"autotunenet is meaningfully worse than {name}" in page.text
    tex = tables_tex(aggregate(traces), judge(traces))
    assert name not in tex.replace(escape_tex(name), "")
    for line in tex.splitlines():
        if not line.startswith("%"):
            assert_balanced(line)


def assert_balanced(line):
    """No brace is left open, and nothing that LaTeX takes for more than a letter stands by itself."""
    bare = re.sub(r"\\[\\{}$&#%_,]", "", line)
    assert bare.count("{") == bare.count("}")
    assert not set('#%_^~<>|"') & set(re.sub(r"\\[a-z]+\{\}", "", bare))


@given(st.text(max_size=20))
def test_escaped_text_is_one_line_without_commands(text):
    escaped = escape_tex(text)
    assert "\n" not in escaped
    assert_balanced(escaped)
    commands = set(re.findall(r"\\([a-zA-Z]+)", escaped))
    assert commands <= {
        *("textbackslash", "textasciicircum", "textasciitilde", "textless", "textgreater", "textbar"),
        *("textquotedbl", "textperiodcentered", "pm", "rightarrow", "downarrow", "uparrow"),
    }


def test_the_table_of_cells_marks_the_best_mean():
    traces = [make_trace("a", val_loss=1.0), make_trace("b_1", val_loss=0.5), make_trace("c", val_loss=math.inf)]
    tex = tables_tex(aggregate(traces), judge(traces))
    assert r"{}b\_1 & 1 & \textbf{0.500}" in tex
    assert r"\textbf{1.00}" not in tex
    assert tex.count(r"\begin{") == tex.count(r"\end{") == 1


def test_the_table_of_cells_names_a_cell_once_above_its_rows_or_it_would_be_wider_than_the_page():
    traces = [make_trace(name, regime=regime) for regime in ("a_1", "b") for name in ("x", "y")]
    lines = tables_tex(aggregate(traces), judge(traces)).splitlines()
    start = lines.index(r"\endhead") + 1
    assert lines[start - 3].startswith("controller & n & final val loss & ")
    found = [line.partition(" & ")[0] for line in lines[start : start + 7]]
    titles = [rf"\multicolumn{{6}}{{@{{}}l}}{{\textit{{digits MLP: {regime}}}}} \\*" for regime in (r"a\_1", "b")]
    assert found == [titles[0], "{}x", "{}y", r"\addlinespace", titles[1], "{}x", "{}y"]
    assert lines.count(r"\begingroup\footnotesize\setlength{\parindent}{0pt}\setlength{\tabcolsep}{4pt}") == 1
    assert lines[-1] == r"\endgroup"


def test_latex_marks_the_best_score_only():
    tex = tables_tex(aggregate(runs(BOTH)), judge(runs(BOTH)))
    assert r"{}autotunenet & 6 & \textbf{0.0000} & 0.0000 to 0.0000 & 0.0000 & 0/6 & 0.0 to 39.0 \\" in tex
    assert r"{}fixed & 6 & 0.3333 &" in tex
    assert r"{}fixed & $-$0.3333 & $-$0.3333 to $-$0.3333 & 100 & 0.0312 & meaningfully better \\" in tex


def test_the_initial_loss_of_these_runs():
    assert L_0 == 2.0  # what the numbers above were worked from
