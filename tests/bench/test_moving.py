"""Results on the move: what `gc` removes and keeps, tables for DuckDB, and folders that are merged."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import duckdb
import pytest
from small_suites import HereExecutor, make_suite, runs_of, without_clock
from typer.testing import CliRunner, Result

from autotunenet.files import locked
from autotunenet_bench import cli
from autotunenet_bench import suite as suite_module
from autotunenet_bench.metrics import summarize
from autotunenet_bench.results import EpochRecord, RunFolder
from autotunenet_bench.results.claims import Claims
from autotunenet_bench.results.exporting import ExportError, begun_runs, export_runs
from autotunenet_bench.results.merging import MergeError, merge_folders
from autotunenet_bench.results.tidying import Kind, find_waste, remove_waste
from autotunenet_bench.results.verifying import verify_folder


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def machines(tmp_path_factory) -> Path:
    """Folder `one` with the seeds 0 and 1, `two` with 1 and 2, of which the last is not finished; `all` with all."""
    root = tmp_path_factory.mktemp("machines")
    with pytest.MonkeyPatch.context() as patch:
        make_suite(root / "one", patch, "seeds=[0, 1]")
        make_suite(root / "two", patch, "seeds=[1, 2]", stop_after=3)
        make_suite(root / "all", patch, "seeds=[0, 1, 2]")
    return root


@pytest.fixture
def root(machines, tmp_path) -> Path:
    return Path(shutil.copytree(machines, tmp_path / "copy"))


def edit_loss(run: RunFolder) -> None:
    """Another number, and checksums that fit it, as if another machine had computed it."""
    rows = [json.loads(line) for line in run.events_path.read_text().splitlines()]
    rows[1]["losses"][3] += 0.25
    rows[0]["environment"]["cpu"] = "Z80"
    run.events_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.finish(2)
    path = run.path.parent / "suite.json"
    about = {key: value for key, value in json.loads(path.read_text()).items() if key != "checksums"}
    path.write_text(json.dumps(about))


# -- gc ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def littered(root) -> Path:
    """Of the four runs of `two`, the suite is to name only the first two; with what kills leave behind."""
    folder = root / "two"
    about = json.loads((folder / "suite.json").read_text())
    about["checksums"], about["runs"] = {}, about["runs"][:2]
    (folder / "suite.json").write_text(json.dumps(about))
    first = runs_of(folder)[0]
    (first.path / "checkpoint.pt").write_bytes(b"old")
    (first.path / "checkpoint.pt.tmp").write_bytes(b"half")
    (first.path / ".status.json.k3x_9").write_text("{")
    (folder / ".report.html.abcd").write_text("<")
    (first.path / "notes.txt").write_text("mine")
    return folder


def test_waste_is_listed_and_nothing_is_removed_unasked(littered):
    before = sorted(littered.rglob("*"))
    result = invoke("gc", littered)
    assert result.exit_code == 0
    assert "5 things to remove" in result.output
    assert "nothing was removed, --yes does it" in result.output
    assert "kept without --finished" in result.output
    assert sorted(littered.rglob("*")) == before


def test_what_is_removed_is_waste_only_and_finished_runs_stay(littered):
    finished = [one.path for one in find_waste(littered) if one.kind is Kind.FINISHED]
    assert len(finished) == 1
    assert invoke("gc", littered, "--yes").exit_code == 0
    assert [one.path for one in find_waste(littered)] == finished
    assert finished[0].is_dir()
    first = runs_of(littered)[0].path
    assert sorted(path.name for path in first.iterdir()) == ["events.jsonl", "notes.txt", "spec.json", "status.json"]
    assert verify_folder(littered).is_sound
    remove_waste(littered, finished=True)
    assert find_waste(littered) == []
    assert not finished[0].exists()
    assert len(verify_folder(littered).findings) == 2


def test_a_folder_at_work_is_not_tidied_nor_merged(littered, root):
    with locked(littered):
        result = invoke("gc", littered, "--yes")
    assert (result.exit_code, "another process is working" in result.output) == (2, True)
    before = sorted(littered.rglob("*"))
    with Claims(littered).hold(runs_of(littered)[0].path.name):
        for arguments in (("gc", littered, "--yes"), ("merge", root / "one", littered, "--out", root / "new")):
            result = invoke(*arguments)
            assert (result.exit_code, "works on" in result.output) == (2, True), result.output
    assert sorted(littered.rglob("*")) == before
    assert not (root / "new").exists()


def test_without_a_suite_file_no_run_is_unnamed_and_links_are_left_alone(littered, tmp_path):
    (littered / "suite.json").unlink()
    assert {one.kind for one in find_waste(littered)} == {Kind.TEMPORARY, Kind.CHECKPOINT}
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "spec.json").write_text("{}")
    (littered / "suite.json").write_text('{"runs": []}')
    (littered / "link").symlink_to(tmp_path / "elsewhere")
    remove_waste(littered, finished=True)
    assert (tmp_path / "elsewhere" / "spec.json").exists()


# -- export ------------------------------------------------------------------------------------------------------------


def numbers_of(epoch: EpochRecord) -> tuple[float, ...]:
    return epoch.val["loss"], epoch.hyperparams["lr"], len(epoch.losses), epoch.train_seconds


def test_a_parquet_file_answers_questions_in_duckdb(root):
    folder, table = root / "all", root / "all.parquet"
    result = invoke("export", folder, "--out", table)
    assert result.exit_code == 0, result.output
    runs = {run.path.name: run.trace() for run in runs_of(folder)}
    with duckdb.connect() as database:
        num_rows = sum(1 + len(list(run.events())) for run in runs_of(folder))
        assert database.sql(f"select count(*) from '{table}'").fetchall() == [(num_rows,)]
        final = database.sql(f"select run_id, metric_final_val_loss from '{table}' where event = 'run'").fetchall()
        assert dict(final) == {name: summarize(trace)["final_val_loss"] for name, trace in runs.items()}
        epochs = database.sql(
            f"select controller, seed, epoch, step, val_loss, hyperparams_lr, len(losses), clock_train_seconds "
            f"from '{table}' where event = 'epoch' order by run_id, row"
        ).fetchall()
        assert epochs == [
            (*(trace.label[2], trace.spec["seed"], e.epoch, e.step), *numbers_of(e))
            for _, trace in sorted(runs.items())
            for e in trace.epochs
        ]
        kinds = database.sql(f"describe select seed, epoch, val_loss, environment_torch, finished, spec from '{table}'")
        assert [row[1] for row in kinds.fetchall()] == ["BIGINT", "BIGINT", "DOUBLE", "VARCHAR", "BOOLEAN", "VARCHAR"]
    assert [path.name for path in root.iterdir() if path.name.startswith(".all")] == []


def test_runs_with_other_columns_and_numbers_that_are_none_come_together(tmp_path):
    names = []
    for number, (metric, extra) in enumerate([(1, {}), (math.nan, {"f1": 0.5}), (-math.inf, {"f1": 1})]):
        run = RunFolder(tmp_path / f"run-{number}")
        run.path.mkdir()
        labels = {"task": "toy", "regime": "none", "controller": "fixed"}
        (run.path / "spec.json").write_text(json.dumps({"labels": labels, "seed": number}))
        start = {"event": "start", "environment": {"torch": "2"}, "hyperparams": {"lr": 1}, "val": {"loss": 2.0}}
        run.append([start | {"val": {"loss": 2.0, **extra}}, {"event": "note", "metric": metric, "what": [1]}])
        names.append(run)
    table = tmp_path / "t.parquet"
    assert export_runs(names, table) == 9
    with duckdb.connect() as database:
        f1 = database.sql(f"select val_f1 from '{table}' where event = 'start' order by seed").fetchall()
        assert f1 == [(None,), (0.5,), (1.0,)]
        noted = database.sql(f"select metric from '{table}' where event = 'note' order by seed").fetchall()
        assert noted[::2] == [(1.0,), (-math.inf,)]
        assert math.isnan(noted[1][0])


def test_csv_by_the_ending(root):
    table = root / "all.csv"
    runs_of(root / "all")[0].append([{"event": "note", "reason": '=HYPERLINK("x")', "metric": -0.5}])
    (runs_of(root / "all")[0].path / "status.json").unlink()
    with pytest.raises(ValueError, match="stands behind the 'end' row"):
        export_runs(begun_runs(root / "all"), table)
    cut = runs_of(root / "all")[0].events_path
    rows = cut.read_text().splitlines(keepends=True)
    cut.write_text("".join([*rows[:-2], rows[-1], rows[-2]]))
    export_runs(begun_runs(root / "all"), table)
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert [(row["reason"], row["metric"]) for row in rows if row["event"] == "note"] == [('\'=HYPERLINK("x")', "-0.5")]
    assert "losses" not in rows[0]
    assert sum(row["event"] == "run" for row in rows) == 6
    assert {row["controller"] for row in rows} == {"fixed", "cosine"}


def test_what_cannot_be_exported_is_refused_and_the_old_table_stays(root, tmp_path):
    table = tmp_path / "t.parquet"
    table.write_text("old")
    with pytest.raises(ExportError, match=r"must be \.parquet or \.csv"):
        export_runs([], tmp_path / "t.xlsx")
    with pytest.raises(ExportError, match="there are no runs with rows"):
        export_runs(begun_runs(tmp_path), table)
    path = runs_of(root / "all")[1].events_path
    path.write_text(path.read_text().replace("0.", "0x", 1))
    result = invoke("export", root / "all", "--out", table)
    assert (result.exit_code, str(path) in result.output) == (2, True)
    assert table.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


# -- merge -------------------------------------------------------------------------------------------------------------


def test_merged_folders_report_like_one_that_was_never_shared_out(root, monkeypatch):
    result = invoke("merge", root / "one", root / "two", "--out", root / "new")
    assert result.exit_code == 0, result.output
    assert "6 runs, 2 of them in more than one folder" in result.output
    assert invoke("verify", root / "new").exit_code == 0
    monkeypatch.setattr(suite_module, "run_cells", executor := HereExecutor())
    resumed = invoke("resume", root / "new")
    assert resumed.exit_code == 0, resumed.output
    assert len(executor.started) == 1, "only what was not finished"
    assert {run.path.name for run in runs_of(root / "new")} == {run.path.name for run in runs_of(root / "all")}
    for run in runs_of(root / "all"):
        assert without_clock(RunFolder(root / "new" / run.path.name)) == without_clock(run)
    for name in ("decisions.csv", "score.csv", "claims.csv", "overall.csv"):
        assert (root / "new" / name).read_bytes() == (root / "all" / name).read_bytes()


def test_other_numbers_of_one_spec_are_refused_with_names_unless_it_is_said_whose_to_take(root):
    mine, theirs = (RunFolder(root / name / runs_of(root / "two")[0].path.name) for name in ("one", "two"))
    edit_loss(theirs)
    result = invoke("merge", root / "one", root / "two", "--out", root / "new")
    assert result.exit_code == 2
    told = " ".join(result.output.split())
    assert f"{mine.path.name}: {root / 'one'} and {root / 'two'} differ from row 2 of events.jsonl on; cpu" in told
    assert "and Z80" in told
    assert "say whose to take with --prefer" in told
    assert not (root / "new").exists()
    for preferred, wanted in ((root / "one", mine), (root / "two", theirs)):
        out = root / f"new-{preferred.name}"
        merged = merge_folders([root / "one", root / "two"], out, prefer=preferred)
        assert merged.preferred == (mine.path.name,)
        assert (out / mine.path.name / "events.jsonl").read_bytes() == wanted.events_path.read_bytes()


def test_another_machine_with_the_same_numbers_is_no_difference(root):
    run = RunFolder(root / "two" / runs_of(root / "two")[0].path.name)
    rows = [json.loads(line) for line in run.events_path.read_text().splitlines()]
    rows[0]["environment"]["cpu"] = "Z80"
    run.events_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.finish(2)
    about = json.loads((root / "two" / "suite.json").read_text())
    (root / "two" / "suite.json").write_text(json.dumps({**about, "checksums": {}}))
    assert merge_folders([root / "one", root / "two"], root / "new").preferred == ()


def test_folders_of_two_configs_are_merged_and_cannot_be_resumed(root, monkeypatch):
    make_suite(root / "longer", monkeypatch, "num_epochs=1", "seeds=[0]")
    merged = merge_folders([root / "all", root / "longer"], root / "new")
    assert merged.num_runs == 8
    assert any("more than one config" in remark for remark in merged.remarks)
    result = invoke("resume", root / "new")
    assert (result.exit_code, "it was merged from folders of more than one config" in result.output) == (2, True)


def test_what_cannot_be_merged_is_refused_and_leaves_nothing(root, tmp_path):
    one, two = root / "one", root / "two"

    def refused(words, sources, out, **more):
        with pytest.raises(MergeError, match=words):
            merge_folders(sources, out, **more)

    refused("at least two folders", [one], root / "new")
    refused("at least two folders, each once", [one, one], root / "new")
    refused("this is there already", [one, two], root / "all")
    refused("the new folder would lie in", [one, two], one / "new")
    refused("is none of those to merge", [one, two], root / "new", prefer=root / "all")
    refused("there are no runs in this folder", [one, tmp_path / "nope"], root / "new")
    run = runs_of(two)[0]
    (tmp_path / "secret.txt").write_text("secret")
    (run.path / "output.txt").symlink_to(tmp_path / "secret.txt")
    refused("output.txt: this is a link", [one, two], root / "new")
    (run.path / "output.txt").unlink()
    run.events_path.write_text(run.events_path.read_text() + "\n")
    refused("it was written to after the end of the run", [one, two], root / "new")
    assert sorted(path.name for path in root.iterdir()) == ["all", "one", "two"]
