"""A folder of results may be anybody's: reading it runs no code of theirs, leads nowhere else, and harms no page."""

from __future__ import annotations

import copy
import json
import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from autotunenet_bench import cli, references
from autotunenet_bench.hpo.folder import HpoFileError
from autotunenet_bench.hpo.reporting import rebuild_hpo_report
from autotunenet_bench.report.aggregate import aggregate
from autotunenet_bench.report.csvs import curves_csv, decisions_csv, summary_csv
from autotunenet_bench.report.facts import facts
from autotunenet_bench.report.latex import tables_tex
from autotunenet_bench.report.own import own_classes
from autotunenet_bench.report.remarks import remarks
from autotunenet_bench.report.sections import changed, event_words
from autotunenet_bench.report.verdicts import judge
from autotunenet_bench.results import RunFolder
from autotunenet_bench.results.store import CUT_OFF
from autotunenet_bench.results.suite_file import SuiteFileError
from autotunenet_bench.suite import read_results
from nested_values import places

EVIL = "evil_of_a_test:Class"
DATA = {"name": "digits", "source": "a test", "num_train": 80, "num_val": 20, "sha256": "ab" * 32}
SPEC = {
    "protocol": "1.1",
    "task": {"name": "digits_mlp", "lr": 0.1},
    "regime": {"name": "compound", "parts": [{"name": "data_shift"}]},
    "controller": {"name": "fixed", "max_delta": 0.5},
    "seed": 0,
    "num_epochs": 2,
    "num_threads": 1,
    "space": {"lr": {"low": 1e-5, "high": 1.0, "log": True}},
    "data": DATA,
    "labels": {"task": "digits", "regime": "calm", "controller": "fixed"},
    "sources": {EVIL: "ab"},
}
START = {
    **{"event": "start", "environment": {"python": "3"}, "hyperparams": {"lr": 0.1}, "val": {"loss": 2.0}},
    "flops": {"train_epoch": 700, "num_batches": 7, "evaluation": 50},
}
DECISION = {
    **{"event": "decision", "step": 7, "metric": 0.5, "health": "unstable", "action": "rollback"},
    **{"in_force": {"lr": 0.1}, "proposed": {"lr": 0.2}, "applied": {"lr": 0.05}, "discarded_steps": 2},
    **{"reason": "why", "cause": "knob", "evidence": {"ratio": 1.0}},
}


def epoch(number):
    clock = {"train_seconds": 1.0, "eval_seconds": 0.1, "control_seconds": 0.01}
    row = {"event": "epoch", "epoch": number, "step": 5 * number, "passes": 5 * number, "losses": [1.0 / number] * 5}
    return {**row, "val": {"loss": 1.0 / number, "accuracy": 0.5}, "hyperparams": {"lr": 0.1}, "clock": clock}


TRIGGER = {"event": "trigger", "epoch": 2, "step": 6, "description": "labels changed"}
END = {"event": "end", "num_restarts": 0, "weights_sha256": "ab", "test": {"loss": 1.0}}
ROWS = [START, epoch(1), TRIGGER, DECISION, epoch(2), END]


def write_run(folder, name="run", *, spec=SPEC, rows=ROWS, status="done", **details):
    run = folder / name
    run.mkdir(parents=True)
    (run / "spec.json").write_text(json.dumps(spec))
    (run / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "status.json").write_text(json.dumps({"state": status, **details}))
    return RunFolder(run)


def with_labels(label, seed=0):
    names = {"task": f"task {label}", "regime": f"regime {label}", "controller": f"controller {label}"}
    return {**SPEC, "seed": seed, "labels": names}


# -- nobody's code -----------------------------------------------------------------------------------------------------


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module in the current folder, on the path, that leaves a file behind when it is imported."""
    module = tmp_path / f"{EVIL.partition(':')[0]}.py"
    module.write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nclass Class: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(references, "_more_folders", [])
    monkeypatch.syspath_prepend(str(tmp_path))
    yield module
    assert module.stem not in sys.modules
    assert not module.with_name("ran").exists()


def call(*arguments):
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def names_evil(seed=0):
    member = {"name": EVIL, "factor": 3}
    regime = {"name": "compound", "parts": [{"name": EVIL}]}
    return {**SPEC, "seed": seed, "task": member, "regime": regime, "controller": member}


def test_the_module_of_the_test_would_run(tmp_path, monkeypatch):
    (tmp_path / "runs_of_a_test.py").write_text("class Class: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert references.import_class("runs_of_a_test:Class").__name__ == "Class"
    del sys.modules["runs_of_a_test"]


def test_no_command_that_reads_results_imports_what_they_name(evil, tmp_path):
    for side in ("a", "b"):
        folder = tmp_path / "results" / side
        for seed in range(2):
            write_run(folder, f"run{seed}", spec=names_evil(seed))
        (folder / "suite.json").write_text(json.dumps({"title": EVIL, "runs": ["run0", "run1"]}))
    a, b = tmp_path / "results" / "a", tmp_path / "results" / "b"
    assert call("report", a).exit_code == 0
    assert f"{EVIL}, file SHA-256 ab" in (a / "report.html").read_text()
    assert call("compare", a, b).exit_code == 0
    assert "run0" in call("list", "runs", "--out", tmp_path / "results").output


def test_an_offline_search_that_names_a_class_is_not_reported(evil, tmp_path):
    config = {"task": EVIL, "num_epochs": 1, "space": {"num_epochs": {"values": [1, 2]}}, "searches": ["random_search"]}
    about = {"name": "x", "title": "x", "description": "", "config": config, "searches": []}
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "hpo.json").write_text(json.dumps(about))
    with pytest.raises(HpoFileError, match="is not imported for what a results folder says"):
        rebuild_hpo_report(tmp_path / "found")
    done = call("report", tmp_path / "found")
    assert done.exit_code == 2
    assert "run its config again" in done.output


def test_the_member_of_a_set_is_not_imported_either(evil, tmp_path):
    config = {"task": "digits_mlp", "controller": EVIL, "num_epochs": 1, "space": {"task.lr": {"low": 0.1, "high": 1}}}
    about = {"name": "x", "title": "x", "description": "", "config": {**config, "searches": ["random"]}, "searches": []}
    (tmp_path / "found" / "one").mkdir(parents=True)
    (tmp_path / "found" / "one" / "hpo.json").write_text(json.dumps(about))
    (tmp_path / "found" / "hpo_set.json").write_text('{"title": "t", "description": "", "members": ["one"]}')
    assert call("report", tmp_path / "found").exit_code == 2


@pytest.mark.parametrize(
    "name", [":", "a:", ":b", "os./../../etc/passwd:X", "a b:c", "\0:x", "..:x", "x" * 5000 + ":y", "é:x", "a:b:c"]
)
def test_odd_names_of_classes_are_words(tmp_path, name):
    run = write_run(tmp_path, spec={**SPEC, "task": {"name": name}, "sources": {}}).trace()
    assert own_classes([run]) == [
        f"{name}, its file was not recorded; its module is not found here, so these runs can be shown and not repeated"
    ]


# -- no way out of the folder ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["..", ".", "", "../other", "/etc", "a/b", "a\\b", "C:x", "a\0b", 3, None, ["run"]])
def test_a_run_id_that_leads_elsewhere_is_refused(tmp_path, name):
    write_run(tmp_path / "results")
    write_run(tmp_path, "other")
    (tmp_path / "results" / "suite.json").write_text(json.dumps({"title": "t", "runs": [name]}))
    with pytest.raises(SuiteFileError, match="this file is damaged"):
        read_results(tmp_path / "results")


@pytest.mark.parametrize("name", ["..", "../other", "javascript:alert(1)//"])
def test_a_member_of_a_set_that_leads_elsewhere_is_refused(tmp_path, name):
    (tmp_path / "hpo_set.json").write_text(json.dumps({"title": "t", "description": "", "members": [name]}))
    assert "is no name of a folder" in call("report", tmp_path).output


# -- damaged values ----------------------------------------------------------------------------------------------------

JUNK = st.one_of(
    st.sampled_from([None, True, "x", "<b>", "nan", "", -1, 10**30, 1e308, -0.0, [], {}, [None], {"a": 1}, [[[]]]]),
    st.floats(),
    st.text(max_size=5),
)


def put(values, path, junk):
    values = copy.deepcopy(values)
    holder = values
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = junk
    return values


def show(found):
    """Make all of a report but its figures, which take far longer than the rest."""
    traces = list(found.traces.values())
    groups = aggregate(traces)
    assert len(facts(traces)) > 0
    assert "longtable" in tables_tex(groups, judge(traces))
    for group in groups:
        for row in group.rows:
            remarks(row)
            for decision in (decision for trace in row.finished for decision in trace.decisions):
                assert changed(decision)
                assert event_words(decision)
    for table in (summary_csv, curves_csv, decisions_csv):
        assert len("".join(table(traces)).splitlines()) >= len(traces)


@given(st.sampled_from(list(places(SPEC))), JUNK)
@settings(max_examples=100)
def test_a_spec_with_odd_values_is_refused_or_shown(tmp_path_factory, place, junk):
    folder = tmp_path_factory.mktemp("results")
    write_run(folder, spec=put(SPEC, place, junk))
    found = read_results(folder)
    assert found.traces.keys() | found.failures.keys() == {"run"}
    assert all("spec.json: this is no spec of a run" in words for words in found.failures.values())
    show(found)


@given(st.sampled_from(list(places(ROWS))), JUNK)
@settings(max_examples=150)
def test_rows_with_odd_values_are_refused_or_shown(tmp_path_factory, place, junk):
    folder = tmp_path_factory.mktemp("results")
    run = write_run(folder, rows=put(ROWS, place, junk))
    found = read_results(folder)
    assert found.traces.keys() | found.failures.keys() == {"run"}
    for words in {*found.failures.values()} - {CUT_OFF}:
        assert words.startswith(str(run.events_path))
        assert re.search(r"row \d+ of the events|events\.jsonl:\d+|must begin with", words), words
    show(found)
