"""Titles, labels, reasons and errors are anybody's words: on every page they are text, and in no table a formula."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
from test_foreign_results import ROWS, SPEC, write_run

from autotunenet import Action, Decision, Health, Observation
from autotunenet.views import to_html
from autotunenet_bench.comparing import compare_folders
from autotunenet_bench.report.csvs import to_csv
from autotunenet_bench.suite import rebuild_report

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>'",
    "]]></svg><svg onload=alert(1)>",
    "</title></style><iframe src=javascript:alert(1)>",
    "[link](javascript:alert(1)) ![x](http://evil.example/x.png)",
    "{{ 7 * 7 }} {% raw %} ${7 * 7} &lt;b&gt; &#60;i&#62;",
]
LOADING = frozenset({"script", "img", "iframe", "object", "embed", "link", "base", "form", "input", "audio", "video"})


class Page(HTMLParser):
    """What a browser would make of a page: its tags, their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = set(), [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def assert_harmless(text, words):
    page = Page(text)
    assert not page.tags & LOADING
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    links = [value for name, value in page.attributes if name in ("href", "xlink:href", "src", "action")]
    assert all(link.startswith("#") for link in links), links
    assert words in page.text  # it is shown, and as it is


def write_folder(folder, words):
    for number, controller in enumerate((f"a {words}", f"b {words}")):
        for seed in range(2):
            labels = {"task": f"task {words}", "regime": f"regime {words}", "controller": controller}
            member = {"name": words, "lr": 0.1, words: words, "label": words}
            data = {"name": words, "source": words, "num_train": 1, "num_val": 1, "sha256": words, "pretrained": words}
            spec = {**SPEC, "labels": labels, "seed": seed, "controller": member, "data": data, "sources": {}}
            rows = json.loads(json.dumps(ROWS).replace("why", "WORDS").replace("labels changed", "WORDS"))
            rows = json.loads(json.dumps(rows).replace('"WORDS"', json.dumps(words)))
            rows[0]["environment"] = {words: words}
            write_run(folder, f"run{number}{seed}", spec={**spec, "space": {words: {words: words}}}, rows=rows)
    write_run(folder, "failed", rows=[], status="failed", error=words)
    asked = {"question": words, "idea": words, "methodology": words, "subject": f"a {words}"[:60]}
    asked = {**asked, "against": [f"b {words}"[:60]], "conclusion": "do_no_harm"}
    about = {"title": words, "description": words, "experiment": asked}
    about["departure"] = {"overrides": [words], "scales": [words]}
    (folder / "suite.json").write_text(json.dumps(about))


@pytest.mark.parametrize("words", HOSTILE)
def test_pages_of_results_show_words_and_nothing_else(tmp_path, words):
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        write_folder(folder, words)
    result = rebuild_report(a)
    assert len(result.traces) == 4
    assert_harmless(result.report.html.read_text(encoding="utf-8"), words)
    _, paths = compare_folders(a, b)
    assert_harmless(paths.html.read_text(encoding="utf-8"), words)
    markdown = result.report.markdown.read_text(encoding="utf-8")
    assert "<script" not in markdown
    assert "<img" not in markdown
    assert not re.search(r"(?<!\\)\]\(", markdown)  # a link


@pytest.mark.parametrize("words", HOSTILE)
def test_the_box_of_a_notebook_shows_words_and_nothing_else(words):
    seen = Observation(step=5, metric=1.0, hyperparams={"lr": 0.1})
    values = {"lr": 0.05}
    decision = Decision(seen, Health.UNSTABLE, Action.ROLLBACK, values, values, 3, words)
    page = to_html(f"name {words}", f"phase {words}", 5, {f"autotunenet/{words}": 1.0}, [decision])
    assert_harmless(page, f"name {words}")


FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", '=HYPERLINK("x")']


@pytest.mark.parametrize("words", FORMULAS)
def test_no_cell_and_no_heading_is_a_formula(words):
    table = to_csv([{"controller": words, words: -0.5, "number": -1e-3, "nothing": None}])
    heading, row = csv.reader(io.StringIO(table, newline=""))
    shown = f"'{words}"
    assert heading == ["controller", shown, "number", "nothing"]
    assert row == [shown, "-0.5", "-0.001", ""]
