"""Offline searches over trainings: what is trained, what is shared, what a cut costs, and what is said."""

from __future__ import annotations

import csv
import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from small_searches import TEXT, run_inline
from typer.testing import CliRunner, Result

from autotunenet.hpo import TrialState
from autotunenet_bench import cli
from autotunenet_bench.config import HpoConfig, parse_config
from autotunenet_bench.data import DataSource
from autotunenet_bench.executors import CellUpdate
from autotunenet_bench.hpo import suite
from autotunenet_bench.hpo.reporting import HpoResult, read_study, rebuild_hpo_report
from autotunenet_bench.hpo.trainings import Points, train
from autotunenet_bench.report.hpo.records import Study
from autotunenet_bench.results import ResultStore
from autotunenet_bench.tables import TableError, load_table
from autotunenet_bench.tables.making import make_table

SOURCE = DataSource()


def search(folder: Path, *overrides: str, text: str = TEXT, **options: Any) -> HpoResult:
    config = parse_config(text, "a.yaml", overrides)
    assert isinstance(config, HpoConfig)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(suite, "run_cells", run_inline)
        return suite.run_hpo(config, folder, SOURCE, name="small", num_workers=1, **options)


def told(study: Study) -> list[tuple[Any, ...]]:
    """Everything about the trials that a clock has not touched."""
    return [
        (run.search, run.seed, trial.number, dict(trial.params), trial.value, trial.cost.steps, trial.predicted)
        for run in study.runs
        for trial in run.trials
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("searched")
    search(path)
    return path


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return read_study(folder)


def test_every_point_is_trained_once_and_charged_to_all_who_asked(folder: Path, study: Study) -> None:
    assert len(ResultStore(folder).folders()) == len(study.traces) == 4
    for run in study.runs:
        for trial in run.trials:
            (trace,) = [study.traces[name] for name in trial.metrics["runs"]]
            assert trial.cost.steps == trace.epochs[-1].step
            assert trial.cost.seconds == trace.wall_seconds
            assert trace.flops
            assert trial.cost.flops == trace.flops.spent(trace.epochs[-1].passes, 3)
            assert trial.value == trace.epochs[-1].val["accuracy"] == trial.metrics["val_accuracy"]
            assert trial.metrics["test_accuracy"] == trace.test["accuracy"]
            params = {name.removeprefix("task."): value for name, value in trial.params.items()}
            assert {name: trace.spec["task"][name] for name in params} == params


def test_each_search_gets_its_trials_once_a_seed_and_none_twice(study: Study) -> None:
    numbers = [(run.search, run.seed, len(run.trials)) for run in study.runs]
    expected = {"grid": 4, "random": 3, "surrogate gp": 4}
    assert numbers == [(name, seed, number) for name, number in expected.items() for seed in (0, 1)]
    for run in study.runs:
        assert len({tuple(trial.params.values()) for trial in run.trials}) == len(run.trials)
    surrogate = study.runs[-1]
    assert [trial.predicted is None for trial in surrogate.trials] == [True, True, False, False]


def test_a_second_call_trains_nothing_and_says_the_same(folder: Path, study: Study) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/events.jsonl")}
    report = (folder / "report.html").read_bytes()
    plans = []
    search(folder, on_plan=plans.append)
    assert (plans[0].num_reused, len(plans[0].pending), plans[0].num_trials) == (4, 0, 22)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/events.jsonl")} == before
    assert (folder / "report.html").read_bytes() == report
    assert told(read_study(folder)) == told(study)


def test_fewer_and_more_trials_are_cut_off_and_added_to_what_is_there(tmp_path: Path) -> None:
    only = "searches=[{name: surrogate, num_initial: 2}]"
    few = search(tmp_path, only, "num_trials=2", "seeds=[0]").study
    more = search(tmp_path, only, "num_trials=3", "seeds=[0]").study
    assert told(more)[:2] == told(few)
    assert told(search(tmp_path, only, "num_trials=2", "seeds=[0]").study) == told(few)
    assert len(told(more)) == 3


@pytest.mark.parametrize("where", [1, 6, 9])
def test_a_cut_costs_no_finished_epoch_and_changes_nothing(tmp_path: Path, study: Study, where: int) -> None:
    """The first eight epochs are those of the trainings; then come the trials of the searches."""
    num_seen = 0

    def cut(update: CellUpdate) -> None:
        nonlocal num_seen
        num_seen += update.state == "epoch"
        if num_seen == where:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, on_update=cut)
    assert told(search(tmp_path).study) == told(study)
    starts = [path.read_text().count('"event":"start"') for path in tmp_path.glob("*/events.jsonl")]
    assert starts == [1, 1, 1, 1]


def test_a_report_can_be_made_of_what_a_cut_has_left(tmp_path: Path) -> None:
    def cut(update: CellUpdate) -> None:
        if update.state == "done":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, on_update=cut)
    result = rebuild_hpo_report(tmp_path)
    assert result.num_unfinished == 6
    assert "No trial has a result yet" in result.report.html.read_text()
    assert "0 of 22 trials of 6 searches have ended" in result.report.markdown.read_text()


def test_the_mean_over_training_seeds_is_the_value_and_the_sum_the_cost(tmp_path: Path, study: Study) -> None:
    double = search(tmp_path, "searches=[grid]", "seeds=[0]", "training_seeds=[0, 1]", "num_epochs=1").study
    for trial in double.runs[0].trials:
        traces = [double.traces[name] for name in trial.metrics["runs"]]
        assert sorted(trace.spec["seed"] for trace in traces) == [0, 1]
        assert trial.value == pytest.approx(sum(trace.epochs[-1].val["accuracy"] for trace in traces) / 2)
        assert trial.cost.steps == sum(trace.epochs[-1].step for trace in traces)


def test_a_training_that_diverges_is_a_failed_trial_and_is_charged(tmp_path: Path) -> None:
    wild = "space={task.lr: {values: [0.1, 9000.0]}, task.momentum: {values: [0.9, 0.99]}}"
    result = search(tmp_path, wild, "searches=[grid]", "seeds=[0]", "num_epochs=4")
    states = {trial.params["task.lr"]: trial.state for trial in result.study.runs[0].trials}
    assert states == {0.1: TrialState.DONE, 9000.0: TrialState.FAILED}
    failed = next(trial for trial in result.study.runs[0].trials if trial.state is TrialState.FAILED)
    assert not math.isfinite(failed.metrics["val_loss"])
    assert failed.cost.steps > 0
    assert "2 of them failed" in result.report.markdown.read_text()


def test_two_who_train_the_same_at_once_train_it_once(tmp_path: Path) -> None:
    config = parse_config(TEXT, "a.yaml")
    assert isinstance(config, HpoConfig)
    (spec,) = Points(config, SOURCE).specs(config.first_point())
    found, begun = [], threading.Event()

    def second() -> None:
        begun.wait()
        found.append(train(spec, ResultStore(tmp_path), SOURCE))

    thread = threading.Thread(target=second)
    thread.start()
    first = train(spec, ResultStore(tmp_path), SOURCE, on_event=lambda event: begun.set())
    thread.join()
    assert found[0] == first
    assert (tmp_path / spec.run_id / "events.jsonl").read_text().count('"event":"start"') == 1


def test_fresh_throws_away_what_was_searched_and_nothing_else(tmp_path: Path) -> None:
    small = ("searches=[{name: random, num_trials: 1}]", "seeds=[0]", "num_epochs=1")
    search(tmp_path, *small)
    (tmp_path / "mine").mkdir()
    before = {path: path.stat().st_ino for path in tmp_path.glob("*/events.jsonl")}
    search(tmp_path, *small, fresh=True)
    assert {path: path.stat().st_ino for path in tmp_path.glob("*/events.jsonl")}.keys() == before.keys()
    assert (tmp_path / "mine").is_dir()
    assert len(list((tmp_path / "searches").iterdir())) == 1


# -- the report --------------------------------------------------------------------------------------------------------


def test_the_report_has_every_part_and_the_numbers_of_the_trials(folder: Path, study: Study) -> None:
    page = (folder / "report.html").read_text()
    for words in ("At equal cost,", "The best of all 4 points has a validation accuracy of", "What matters"):
        assert words in page
    for name in ("convergence", "slices", "parallel", "predictions"):
        assert f'id="{name}-' in page
    assert "2 seeds a search are too few" in page
    assert "Energy was not measured" in page
    assert all(trace.spec["data"]["sha256"] in page for trace in study.traces.values())
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert len(rows) == 22
    assert [float(row["value"]) for row in rows] == [trial.value for run in study.runs for trial in run.trials]
    assert {row["runs"] for row in rows} == set(study.traces)


def test_the_config_that_was_run_can_be_run_again_from_the_folder(folder: Path) -> None:
    about = json.loads((folder / "hpo.json").read_text())
    again = parse_config(json.dumps(about["config"]), "hpo.json")
    first = parse_config(TEXT, "a.yaml")
    assert isinstance(again, HpoConfig)
    assert isinstance(first, HpoConfig)
    assert again.as_written() == first.as_written()


# -- tables ------------------------------------------------------------------------------------------------------------


def test_a_table_has_the_outcome_of_every_point_and_where_it_comes_from(
    folder: Path, study: Study, tmp_path: Path
) -> None:
    make_table(folder, tmp_path / "mine.csv")
    table = load_table(str(tmp_path / "mine.csv"))
    for trial in study.runs[0].trials:
        outcome = table.look_up(trial.params)
        assert (outcome.value, outcome.cost) == (trial.value, trial.cost)
        assert outcome.metrics["test_accuracy"] == trial.metrics["test_accuracy"]
    origin = table.provenance
    assert (origin.objective, origin.direction, origin.training_seeds) == ("val_accuracy", "maximize", (0,))
    assert origin.versions["torch"] == torch.__version__
    assert origin.command == "autotunenet-bench hpo --config small"
    assert origin.data == next(iter(study.traces.values())).spec["data"]
    assert table.cost.steps == sum(trace.epochs[-1].step for trace in study.traces.values())


def test_a_table_that_was_changed_or_has_no_origin_is_refused(folder: Path, tmp_path: Path) -> None:
    files = make_table(folder, tmp_path / "mine.csv")
    files.csv.write_text(files.csv.read_text().replace("0.01,16", "0.01,17", 1))
    with pytest.raises(TableError, match=r"not the file that mine\.json tells of"):
        load_table(str(files.csv))
    files.json.unlink()
    with pytest.raises(TableError, match="has its provenance beside it"):
        load_table(str(files.csv))


def test_no_table_is_made_of_a_search_that_left_points_out(tmp_path: Path) -> None:
    search(tmp_path, "searches=[{name: random, num_trials: 1}]", "seeds=[0]", "num_epochs=1")
    with pytest.raises(TableError, match="3 of 4 points have not been trained"):
        make_table(tmp_path, tmp_path / "mine.csv")


# -- the command -------------------------------------------------------------------------------------------------------


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def test_without_a_config_the_shipped_ones_are_listed() -> None:
    result = invoke("hpo")
    assert result.exit_code == 0
    assert "hpo_digits" in result.output
    assert "mnist" not in result.output


def test_a_config_of_another_kind_is_sent_to_its_command() -> None:
    result = invoke("hpo", "--config", "digits_quick")
    assert result.exit_code == 2
    assert "digits_quick is a config of one run: " in result.output
    result = invoke("run", "--config", "hpo_digits")
    assert result.exit_code == 2
    assert "hpo_digits is an offline search: " in result.output
    assert "hpo --config hpo_digits" in result.output


def test_the_report_command_knows_the_folder_and_says_what_failed(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "mine.html"
    result = invoke("report", str(folder), "--out", str(page))
    assert result.exit_code == 0, result.output
    assert "At equal cost" in result.output
    assert page.read_bytes() == (folder / "report.html").read_bytes()


def test_a_damaged_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "hpo.json").write_text("{}")
    result = invoke("report", str(tmp_path))
    assert result.exit_code == 2
    assert "hpo.json: this file is damaged" in result.output
    assert "run the config again" in result.output
    assert invoke("hpo-table", str(tmp_path), "--out", str(tmp_path / "a.csv")).exit_code == 2


def test_the_command_runs_to_the_report_and_again_reuses_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "run_cells", run_inline)
    config = tmp_path / "mine.yaml"
    config.write_text(TEXT)
    overrides = ("--set", "seeds=[0]", "--set", "num_epochs=1")
    arguments = ("hpo", "-c", str(config), "--out", str(tmp_path / "out"), *overrides)
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert "3 searches, 11 trials in all; 4 trainings known from the start; 2 workers" in result.output
    assert (tmp_path / "out" / "mine" / "report.html").exists()
    assert "Changed by --set: seeds=[0]; num_epochs=1." in (tmp_path / "out" / "mine" / "report.html").read_text()
    assert "4 of them finished and reused; --fresh trains them again" in invoke(*arguments).output


def test_ctrl_c_keeps_everything_and_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> list[Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "run_cells", interrupted)
    config = tmp_path / "mine.yaml"
    config.write_text(TEXT)
    result = invoke("hpo", "-c", str(config), "--out", str(tmp_path / "out"))
    assert result.exit_code == cli.EXIT_INTERRUPTED
    assert "Finished runs are kept, the others go on where they stopped. To continue:" in result.output
