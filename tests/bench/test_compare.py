"""Two result folders beside each other: pairs, claims, what differs, and the command through real processes."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from test_report import WellFormed
from test_scoring import FLOPS, make
from typer.testing import CliRunner

from autotunenet_bench import cli
from autotunenet_bench.comparing import PAGE, compare_folders, read_side
from autotunenet_bench.config import parse_config
from autotunenet_bench.data import DataSource
from autotunenet_bench.report.comparison import LOST, ComparisonError, Outcome, Side, compare_sides
from autotunenet_bench.report.comparison_page import ComparisonTable, pairs_csv, render_comparison
from autotunenet_bench.statistics import Claim
from autotunenet_bench.suite import run_suite

CONFIG = """\
tasks: [digits_mlp]
regimes: [stationary, {name: data_shift, kind: label_noise, severity: 0.4}]
controllers: [fixed, cosine]
num_epochs: 2
seeds: [0, 1, 2]
"""


def side(losses, *, name="A", num_seeds=6, failures=(), **spec):
    """One run a controller and seed; a loss of None is a run that is not finished. L_0 is 2."""
    runs = {}
    for controller, loss in losses.items():
        for seed in range(num_seeds):
            trace = make([1.5, 1.0 if loss is None else loss], controller=controller, seed=seed, **spec)
            if loss is None:
                trace = dataclasses.replace(trace, finished=False)
            failure = "it broke" if (controller, seed) in failures else ""
            runs[(*trace.label, seed)] = Outcome(spec=trace.spec, trace=None if failure else trace, failure=failure)
    return Side(name=name, runs=runs, unread={})


def text_of(found):
    return WellFormed(render_comparison(found)).text


def terminal(found, width=110):
    console = Console(width=width, file=io.StringIO(), no_color=True)
    console.print(ComparisonTable(found))
    return console.file.getvalue()


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_differences_worked_by_hand():
    # Shares of 2.0: 0.5 -> 0.25 and 1.0 -> 0.5; six pairs each, B - A is 0.25 throughout, p is 2/2^6 and twice that.
    found = compare_sides(side({"a": 0.5, "b": 0.8}), side({"a": 1.0, "b": 0.8001}))
    (a, verdict), (b, _) = found.controllers
    assert (a.controller, a.mean_a, a.mean_b, a.difference) == ("a", 0.25, 0.5, 0.25)
    assert (verdict.comparison.p_value, verdict.comparison.p_holm) == (2 / 2**6, 4 / 2**6)
    assert verdict.claim is Claim.NOTHING
    assert b.difference == pytest.approx(0.00005)
    assert [cell.controller for cell in found.regressions] == ["a", "b"]
    assert found.limits.startswith("Nothing can be claimed: the smallest two-sided p of 6 pairs")


def test_a_controller_that_did_the_same_takes_no_claim_from_the_others():
    a, b = side({"a": 0.5}), side({"a": 1.0})
    same = side({"same": 0.7})
    equal = {
        key: dataclasses.replace(run, trace=dataclasses.replace(run.trace, weights_sha256="ab"))
        for key, run in same.runs.items()
    }
    changed = [
        Side(name=one.name, unread={}, runs={**with_weights(one, digest), **equal})
        for one, digest in ((a, "1"), (b, "2"))
    ]
    found = compare_sides(*changed)
    assert found.worse == ["a"]
    assert found.controllers[0][1].headline == "a of B is meaningfully worse than that of A"
    assert found.controllers[1][1].headline == "Nothing differs between same of B and that of A"
    assert [change.num_identical for change, _ in found.controllers] == [0, 6]
    assert found.limits.startswith("6 seeds are fewer than 10")
    assert compare_sides(*reversed(changed)).worse == []


def with_weights(one, digest):
    return {
        key: dataclasses.replace(run, trace=dataclasses.replace(run.trace, weights_sha256=digest))
        for key, run in one.runs.items()
    }


def test_a_failed_run_counts_as_lost_and_an_unfinished_one_makes_no_pair():
    a = side({"a": 0.5, "b": 0.5})
    b = side({"a": 0.5, "b": None}, failures={("a", 3)})
    found = compare_sides(a, b)
    ((change, _),) = found.controllers
    assert [pair.b for pair in change.pairs] == [0.25, 0.25, 0.25, LOST, 0.25, 0.25]
    assert "A, stationary, a, seed 3: failed in B and counts as lost there (it broke)" in found.remarks
    assert "A, stationary, b, seed 0: not finished in B, so it makes no pair" in found.remarks
    assert all(remark in text_of(found) for remark in found.remarks)


def test_a_diverged_run_counts_as_lost():
    found = compare_sides(side({"a": 0.5}), side({"a": math.nan}))
    assert {pair.b for pair in found.controllers[0][0].pairs} == {LOST}


def test_the_loss_at_the_budget_is_compared_where_all_know_it():
    assert compare_sides(side({"a": 0.5}), side({"a": 0.5})).metric.name == "compute_adjusted_val_loss"
    assert compare_sides(side({"a": 0.5}), side({"a": 0.5}, flops=None)).metric.name == "final_val_loss"


def test_runs_of_one_side_only_are_listed():
    found = compare_sides(side({"a": 0.5, "b": 0.5}, num_seeds=2), side({"a": 0.5, "c": 0.5}, num_seeds=3))
    assert [(key[2], key[3]) for key in found.only_a] == [("b", 0), ("b", 1)]
    assert [(key[2], key[3]) for key in found.only_b] == [("a", 2), ("c", 0), ("c", 1), ("c", 2)]
    text = text_of(found)
    assert "Only in A" in text
    assert "A, stationary, c, seed 2" in text


def test_what_differs_is_told_and_what_confounds_stands_first():
    a = side({"a": 0.5}, controller_config=1, environment=1)
    b = side({"a": 0.5}, data={"sha256": "cd"})
    b = Side(
        name="B",
        unread={},
        runs={
            key: dataclasses.replace(run, spec={**run.spec, "controller": {"name": "a", "label": "x", "beta": 2}})
            for key, run in b.runs.items()
        },
    )
    found = compare_sides(a, b)
    told = {(one.field, one.a, one.b, one.num_pairs) for one in found.differences}
    assert {("controller.beta", "-", "2", 6), ("data.sha256", "-", "cd", 6)} <= told
    assert "controller.label" not in {one.field for one in found.differences}
    assert found.confounders == ["controller_config", "environment", "data.sha256"]
    words = "Some pairs differ in more than the controller (controller_config, environment, data.sha256)"
    assert words in text_of(found)
    assert words in " ".join(terminal(found).split())
    same = compare_sides(side({"a": 0.5}), side({"a": 0.6}))
    assert (same.differences, same.confounders) == ((), [])
    assert "so a difference above comes from the code" in text_of(same)


def computed_with(one, environment):
    runs = {
        key: dataclasses.replace(run, trace=dataclasses.replace(run.trace, environment=environment))
        for key, run in one.runs.items()
    }
    return dataclasses.replace(one, runs=runs)


def test_other_versions_and_machines_are_warned_of_first():
    old = {"torch": "2.4", "numpy": "2.1", "cpu": "A <b>"}
    a, b = side({"a": 0.5}), side({"a": 0.5})
    found = compare_sides(computed_with(a, old), computed_with(b, {**old, "torch": "2.5", "cpu": "B", "gpu": "H"}))
    told = [(one.field, one.a, one.b, one.num_pairs) for one in found.environments]
    assert told == [("version of torch", "2.4", "2.5", 6), ("processor", "A <b>", "B", 6)]  # of the GPU A says nothing
    assert found.confounders == []
    words = "Some pairs were not computed alike: version of torch 2.4 in A, 2.5 in B; processor A <b> in A, B in B."
    assert words in text_of(found)
    assert words in " ".join(terminal(found).split())
    same = compare_sides(computed_with(a, old), computed_with(b, old))
    assert same.environments == []
    assert "not computed alike" not in text_of(same) + terminal(same)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (side({"a": 0.5}), side({"b": 0.5}), "have no finished run in common"),
        (side({"a": 0.5}), side({"a": None}), "have no finished run in common"),
        (side({"a": 0.5}), side({"a": 0.5}, protocol="2.0"), "A was measured by protocol 1.1 and B by protocol 2.0"),
        (side({"a": 0.5}), side({"a": 0.5}, protocol="new"), "a version must read Major.Minor"),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, words):
    with pytest.raises(ComparisonError, match=words):
        compare_sides(a, b)


def test_an_initial_loss_that_is_no_number_is_refused():
    a = side({"a": 0.5})
    key = next(iter(a.runs))
    a.runs[key] = dataclasses.replace(
        a.runs[key], trace=dataclasses.replace(a.runs[key].trace, initial_val={"loss": math.nan})
    )
    with pytest.raises(ComparisonError, match="its loss before the first step is nan"):
        compare_sides(a, side({"a": 0.5}))


def test_a_patch_of_the_protocol_may_be_compared_and_confounds_nothing():
    assert compare_sides(side({"a": 0.5}), side({"a": 0.5}, protocol="1.1.3")).confounders == []


# -- pages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a & b", "[bold]x[/bold]", "$x$ %", "_"])
def test_hostile_names_are_words(name):
    a, b = side({name: 0.5}, name=f"{name}/a"), side({name: 0.6}, name=f"{name}/b")
    found = compare_sides(a, b)
    page = WellFormed(render_comparison(found))
    assert not page.tags & {"script", "link", "img"}
    assert f"{name} of B is meaningfully worse than that of A" in page.text
    assert name in terminal(found)
    (row, *_) = csv.DictReader(io.StringIO(pairs_csv(found)))
    assert (row["controller"], float(row["difference"])) == (name, pytest.approx(0.05))


def test_equal_comparisons_give_equal_bytes_and_load_nothing():
    found = [compare_sides(side({"a": 0.5, "b": 0.4}), side({"a": 0.6, "b": 0.3})) for _ in range(2)]
    first, second = map(render_comparison, found)
    assert first == second
    assert "http" not in first
    assert pairs_csv(found[0]) == pairs_csv(found[1])


@pytest.mark.parametrize("width", [60, 80, 110])
def test_the_terminal_is_never_too_narrow_for_a_name(width):
    text = terminal(compare_sides(side({"autotunenet": 0.5}), side({"autotunenet": 0.6})), width)
    assert "autotunenet" in text
    assert max(map(len, map(str.rstrip, text.splitlines()))) <= width


# -- folders and the command -------------------------------------------------------------------------------------------


def write_folder(folder, one, *, states=None):
    """A folder as a suite leaves it."""
    names = []
    for number, ((*_, controller, seed), run) in enumerate(one.runs.items()):
        name = f"run-{number}"
        names.append(name)
        (folder / name).mkdir(parents=True)
        (folder / name / "spec.json").write_text(json.dumps(run.spec))
        state = (states or {}).get((controller, seed), "done")
        status = {"state": state, **({"error": "RuntimeError: out of luck"} if state == "failed" else {})}
        (folder / name / "status.json").write_text(json.dumps(status))
        if state != "failed":  # one that was interrupted has no last row
            start = {"event": "start", "environment": {}, "hyperparams": {"lr": 0.1}, "val": {"loss": 2.0}}
            end = {"event": "end", "num_restarts": 0, "weights_sha256": str(run.trace.epochs[-1].val)}
            rows = [{**start, "flops": FLOPS}, *map(epoch_row, run.trace.epochs), *([end] if state == "done" else [])]
            (folder / name / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "suite.json").write_text(json.dumps({"title": "T", "description": "", "runs": names}))
    return folder


def epoch_row(epoch):
    clock = dict.fromkeys(("train_seconds", "eval_seconds", "control_seconds"), 0.0)
    fields = {name: getattr(epoch, name) for name in ("epoch", "step", "passes", "losses", "val", "hyperparams")}
    return {"event": "epoch", **fields, "losses": list(epoch.losses), "clock": clock}


def invoke(*arguments):
    return CliRunner().invoke(cli.app, ["compare", *map(str, arguments)])


@pytest.fixture
def folders(tmp_path):
    return write_folder(tmp_path / "a", side({"a": 0.5})), write_folder(tmp_path / "b", side({"a": 0.6}))


def test_the_command_says_what_is_worse_and_ends_by_the_flag(folders):
    a, b = folders
    result = invoke(a, b)
    assert result.exit_code == 0, result.output
    assert "meaningfully worse" in result.output
    assert f"Report: {b / PAGE}" in result.output
    assert (b / "compare.csv").read_text().startswith("task,regime,controller,seed,a,b,difference")
    strict = invoke(a, b, "--fail-on-regression")
    assert strict.exit_code == 1
    assert "Worse in B: a" in strict.output
    assert invoke(b, a, "--fail-on-regression").exit_code == 0


@pytest.mark.parametrize(
    ("b", "states", "words"),
    [
        (side({"a": 0.5}), {}, "b (6 of 6 runs)"),  # absent
        (side({"a": 0.5, "b": 0.5}, num_seeds=4), {}, "a (2 of 6 runs), b (2 of 6 runs)"),
        (side({"a": 0.5, "b": 0.5}), {("b", 1): "failed"}, "b (1 of 6 runs)"),
        (side({"a": 0.5, "b": 0.5}), {("a", 3): "interrupted"}, "a (1 of 6 runs)"),
    ],
)
def test_what_is_finished_in_a_alone_is_a_regression(tmp_path, b, states, words):
    a = write_folder(tmp_path / "a", side({"a": 0.5, "b": 0.5}))
    b = write_folder(tmp_path / "b", b, states=states)
    strict = invoke(a, b, "--fail-on-regression")
    assert strict.exit_code == 1, strict.output
    assert strict.output.endswith(f"Not finished in B: {words}\n")
    assert "Worse" not in strict.output
    assert invoke(a, b).exit_code == 0
    assert invoke(b, a, "--fail-on-regression").exit_code == 0  # B finished more: no regression


def test_out_names_the_page(folders, tmp_path):
    page = tmp_path / "new" / "page.html"
    result = invoke(*folders, "--out", page)
    assert result.exit_code == 0, result.output
    assert page.is_file()
    assert page.with_suffix(".csv").is_file()
    assert not (folders[1] / PAGE).exists()


def test_wrong_folders_are_refused_in_a_sentence(folders, tmp_path):
    a, b = folders
    for arguments, words in (
        ((a, tmp_path / "nope"), "nope: there are no runs in this folder"),
        ((a / "suite.json", b), "there are no runs in this folder"),
        ((a, b, "--out", a / "suite.json" / "x.html"), "name another file with --out"),
        ((a, b, "--out", tmp_path / "x.csv"), "give it the ending .html"),
        ((a,), "Missing argument 'B'"),
        ((a, a, "--fail-on-regression"), "a: A and B are the same folder"),
        ((a, a.parent / "b" / ".." / "a"), "A and B are the same folder"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 2, result.output
        assert words in " ".join(result.output.split())
        assert "Traceback" not in result.output
    (b / "suite.json").write_text("{")
    assert invoke(a, b).exit_code == 2


def test_runs_that_cannot_be_told_apart_are_refused(folders):
    a, b = folders
    (b / "suite.json").unlink()
    spec = json.loads((b / "run-0" / "spec.json").read_text())
    (b / "run-9").mkdir()
    (b / "run-9" / "spec.json").write_text(json.dumps({**spec, "num_epochs": 9}))
    (b / "run-9" / "events.jsonl").write_bytes((b / "run-0" / "events.jsonl").read_bytes())
    result = invoke(a, b)
    assert result.exit_code == 2
    assert "run-0 and run-9 are both A, stationary, a, seed 0" in " ".join(result.output.split())


def test_failed_and_missing_runs_of_a_folder(tmp_path):
    a = write_folder(tmp_path / "a", side({"a": 0.5}))
    b = write_folder(tmp_path / "b", side({"a": 0.5}), states={("a", 0): "failed"})
    about = json.loads((b / "suite.json").read_text())
    (b / "suite.json").write_text(json.dumps({**about, "runs": [*about["runs"], "run-77"]}))
    (b / "run-5" / "events.jsonl").write_text("{}\n")  # damaged: that is no fault of the method
    one = read_side(b)
    assert one.unread.keys() == {"run-77", "run-5"}
    found, _ = compare_folders(a, b)
    pairs = found.controllers[0][0].pairs
    assert [pair.b for pair in pairs] == [LOST, 0.25, 0.25, 0.25, 0.25]
    assert any("counts as lost there (RuntimeError: out of luck)" in remark for remark in found.remarks)
    assert "run-77: nothing to read in B (not started)" in found.remarks


def test_help_has_examples():
    result = CliRunner().invoke(cli.app, ["compare", "--help"])
    assert result.exit_code == 0
    assert "autotunenet-bench compare results/demo new_results/demo" in result.output


@pytest.mark.slow
def test_two_versions_of_a_controller_through_real_processes(tmp_path):
    config = parse_config(CONFIG, "tiny.yaml")
    changed = parse_config(CONFIG, "tiny.yaml", ["controllers.1.final=0.9", "controllers.1.label=cosine"])
    for name, each in (("old", config), ("new", changed)):
        run_suite(each, tmp_path / name / "tiny", DataSource(), num_workers=1)
    command = [sys.executable, "-m", "autotunenet_bench", "compare", "old/tiny", "new/tiny", "--fail-on-regression"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout + done.stderr
    assert "controller.final: 0.0 in A, 0.9 in B (6 pairs)" in printed
    # With more lr left at the end, two epochs learn more, in six pairs of six; the other way round that is worse.
    assert "meaningfully better" in printed
    back = invoke(tmp_path / "new" / "tiny", tmp_path / "old" / "tiny", "--fail-on-regression")
    assert (back.exit_code, "Worse in B: cosine" in back.output) == (1, True)
    rows = list(csv.DictReader((tmp_path / "new" / "tiny" / "compare.csv").open()))
    assert len(rows) == 12
    assert {row["controller"]: row["identical"] for row in rows} == {"fixed": "True", "cosine": "False"}
    page = WellFormed(Path(tmp_path / "new" / "tiny" / "compare.html").read_text(encoding="utf-8"))
    assert "Nothing differs between fixed of B and that of A" in page.text
    assert "score.csv" in {path.name for path in (tmp_path / "old" / "tiny").iterdir()}
