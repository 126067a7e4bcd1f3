"""The report of an experiment: every section, rebuilt with equal bytes, and nothing from outside is markup."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import asked, cells, run
from markdown_it import MarkdownIt

from autotunenet_bench.report import write_report
from autotunenet_bench.report.aggregate import aggregate
from autotunenet_bench.report.conclusions import Verdict
from autotunenet_bench.report.experiment import NO_QUESTION, describe
from autotunenet_bench.report.experiment_pages import escape_markdown, to_html, to_markdown

MARKDOWN = MarkdownIt("commonmark").enable("table").enable("strikethrough")
SECTIONS = ["Idea", "Plan", "Results", "Benchmark results", "Interpretation", "Conclusion"]
HOSTILE = "<script>alert(1)</script> | `x` *y* _z_ [a](http://b) ![c](d) # e &lt; \\ ~~f~~ $g$\n# h\n\n---"
WIN = {"calm": {"ours": [0.2] * 10, "fixed": [0.4] * 10}, "storm": {"ours": [0.3] * 10, "fixed": [0.6] * 10}}


def report_of(groups, experiment=None, **more):
    return describe(groups, title="A title", experiment=experiment, **more)


# -- what it says ------------------------------------------------------------------------------------------------------


def test_both_forms_have_every_section_in_order():
    report = report_of(cells(WIN), asked("do_no_harm", "fixed", idea="Because.", methodology="By trying."))
    page, text = str(to_html(report)), to_markdown(report)
    assert re.findall(r"<h3>(.*?)</h3>", page) == SECTIONS
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [*SECTIONS, "Every task and regime"]
    for words in ("Is it so?", "Because.", "By trying.", "In these runs: yes;", "meaningfully better may be claimed"):
        assert words in page
        assert words in text


def test_the_plan_says_what_was_asked_by_which_rule_on_what_and_how_it_is_measured():
    report = report_of(cells(WIN), asked("survives", "fixed"))
    plan = {fact.name: " ".join(fact.values) for fact in report.plan}
    assert plan["Objective"].startswith(
        "Is it so? Asked of ours, against fixed. Rule survives: yes if every run ends at"
    )
    assert list(plan)[:4] == ["Objective", "Methodology", "Data sets", "Models"]
    assert "final val loss: Validation loss after the last epoch." in plan["Metrics"]
    assert plan["Seeds per controller"] == "10"


def test_the_tables_hold_the_numbers():
    report = report_of(cells(WIN), asked("do_no_harm", "fixed"))
    losses = [[cell.text for cell in row] for row in report.results[0].rows]
    assert losses == [
        ["images · calm", "0.200 ± 0.000", "0.400 ± 0.000"],
        ["images · storm", "0.300 ± 0.000", "0.600 ± 0.000"],
    ]
    assert [cell.is_best for cell in report.results[0].rows[0]] == [False, True, False]
    (row,) = report.benchmark[0].rows
    assert [cell.text for cell in row[:3]] == ["fixed", "20", "0.5"]
    assert [cell.text for cell in row[-3:]] == ["meaningfully better", "0 of 20", "0"]


def test_the_sensitivity_is_the_mean_cost_of_the_other_initial_lrs():
    losses = {0.1: 0.5, 1.0: 0.2, 10.0: 1.4}  # above the best: 0.3, 0 and 1.2; their mean is 0.5
    runs = [run("ours", loss, task=f"images, lr {lr:g}", lr=lr) for lr, loss in losses.items()]
    for one in runs:
        one.spec["task"]["name"] = "images"
    tables = {table.title: table for table in report_of(aggregate(runs)).benchmark}
    (row,) = tables["Sensitivity to the initial lr ↓"].rows
    assert [cell.text for cell in row] == ["images · calm", "3", "0.5"]


def test_a_lost_comparison_is_told_at_the_top():
    losses = {"calm": {"ours": [0.5] * 10, "fixed": [0.4] * 10}}
    report = report_of(cells(losses), asked("do_no_harm", "fixed"))
    assert report.conclusion[0] == "In these runs: no; ours did harm: 1.25 times the loss of fixed."
    assert to_markdown(report).index(report.conclusion[0]) < to_markdown(report).index("## Plan")


def test_what_is_missing_stands_in_place_of_a_conclusion():
    runs = [run("ours", 0.2), run("fixed", 0.4, finished=False)]
    report = report_of(aggregate(runs), asked("best_of", "fixed"), num_untraced=1)
    assert report.verdict is Verdict.OPEN
    assert report.conclusion == ("No answer can be given: the runs are not complete.",)
    assert "fixed: 1 of 1 run has not finished." in report.interpretation
    assert "1 run of the suite has left nothing to read." in report.interpretation


def test_without_a_question_nothing_is_concluded():
    report = report_of(cells(WIN))
    assert (report.verdict, report.conclusion) == (None, (NO_QUESTION,))
    assert report.interpretation[0] == "images under calm: the lowest mean final validation loss is that of ours."
    assert not any(heading in to_markdown(report) for heading in ("**Answer.**", "## Idea"))
    assert "Idea" not in to_html(report)


@pytest.mark.parametrize("experiment", [None, asked("best_of", "fixed")])
def test_a_report_about_nothing_can_be_written(experiment):
    report = report_of([], experiment)
    assert "There is no run yet." in to_markdown(report)
    assert "There is no run yet." in to_html(report)


# -- nothing from outside is markup ------------------------------------------------------------------------------------


TEXTS = st.text(st.characters(exclude_categories=("C", "Zl", "Zp", "Zs"), include_characters=" \n"), min_size=1)


@given(TEXTS | st.text(alphabet="ab1 _*`[]()<>|\\~#+-=.!&;:/\n", min_size=1))
def test_markdown_shows_a_text_as_it_is(text):
    shown = MARKDOWN.render(escape_markdown(text)).strip()
    plain = " ".join(text.split())
    assert shown == (f"<p>{html.escape(plain, quote=True).replace('&#x27;', chr(39))}</p>" if plain else "")


@given(TEXTS | st.text(alphabet="a|\\`*_\n", min_size=1))
def test_a_text_stays_in_its_cell(text):
    shown = MARKDOWN.render(f"| h | i |\n| --- | --- |\n| {escape_markdown(text)} | end |\n")
    found = re.findall(r"<td>(.*?)</td>", shown, re.DOTALL)
    assert [html.unescape(cell) for cell in found] == [" ".join(text.split()), "end"]


def test_hostile_names_and_texts_are_only_shown():
    names = {"ours": f"ours {HOSTILE[:40]}", "fixed": "a|b <i>"}
    losses = {"<b>regime</b> | `r`": {names["ours"]: [0.2] * 3, names["fixed"]: [0.4] * 3}}
    texts = {"question": HOSTILE, "idea": HOSTILE, "methodology": HOSTILE}
    experiment = asked("do_no_harm", names["fixed"], subject=names["ours"], **texts)
    report = describe(cells(losses), title=HOSTILE, description=HOSTILE, experiment=experiment)
    for shown in (str(to_html(report)), MARKDOWN.render(to_markdown(report))):
        tags = {tag.lower() for tag in re.findall(r"<(\w+)", shown)}
        assert not tags & {"script", "b", "i", "em", "img", "a", "s", "hr"}
        assert "&lt;script&gt;" in shown
    rows = [line for line in to_markdown(report).splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in rows[:3]}
    assert widths == {4}


# -- the files ---------------------------------------------------------------------------------------------------------


def test_equal_runs_give_equal_bytes_in_any_order_of_the_seeds(tmp_path: Path):
    runs = [run(name, loss + seed / 100, seed) for name, loss in (("fixed", 0.4), ("ours", 0.2)) for seed in range(3)]
    experiment = asked("best_of", "fixed")
    first = write_report(runs, tmp_path / "a", "T", experiment=experiment)
    second = write_report(sorted(runs, key=lambda r: -r.spec["seed"]), tmp_path / "b", "T", experiment=experiment)
    assert first.markdown.read_bytes() == second.markdown.read_bytes()
    assert first.html.read_bytes() == second.html.read_bytes()


def test_the_page_has_the_question_first_where_there_is_one(tmp_path: Path):
    runs = [run(name, 0.4) for name in ("fixed", "ours")]
    asks = write_report(runs, tmp_path / "a", "T", experiment=asked("best_of", "fixed")).html.read_text()
    plain = write_report(runs, tmp_path / "b", "T").html.read_text()
    assert asks.index("Is it so?") < asks.index("What was run")
    assert 'id="experiment"' not in plain


def test_the_answer_is_one_line_and_there_is_none_without_a_question(tmp_path: Path):
    runs = [run(name, 0.4) for name in ("a\nb", "ours")]
    paths = write_report(runs, tmp_path, "T", experiment=asked("best_of", "a\nb"))
    assert paths.answer.startswith("In these runs: ")
    assert "\n" not in paths.answer
    assert write_report(runs[:1], tmp_path, "T", experiment=asked("best_of", "a\nb")).answer.startswith("No answer can")
    assert write_report(runs, tmp_path, "T").answer == ""
