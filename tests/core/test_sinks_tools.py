"""What a training tells TensorBoard, W&B and MLflow, read back with the tools themselves."""

from __future__ import annotations

import json
import logging
import math
import sys

import pytest
from test_reporting import train

from autotunenet import Action
from autotunenet.sinks import MlflowSink, TensorBoardSink, WandbSink, read_run
from autotunenet.sinks.telling import is_news
from autotunenet.testing import same
from sink_tools import (
    end_wandb_run,
    make_mlflow_store,
    make_wandb_run,
    quiet_wandb,
    read_mlflow,
    read_scalars,
    read_texts,
    wandb_history,
    wandb_records,
    wandb_summary,
)

pytestmark = pytest.mark.xdist_group("sinks")


def metrics_of(history):
    """The loss of each decision, by step; the tuner reports no NaN."""
    seen = [decision.observation for decision in history]
    return [(each.step, each.metric) for each in seen if not math.isnan(each.metric)]


def rollback_of(history):
    return next(decision for decision in history if decision.action is Action.ROLLBACK)


# -- TensorBoard -----------------------------------------------------------------------------------------------------


def test_tensorboard_has_the_numbers_and_the_reasons(tmp_path):
    _, _, tuner = train([TensorBoardSink(tmp_path / "runs")])
    tuner.observe(0.25)
    tuner.close()
    scalars, texts = read_scalars(tmp_path / "runs"), read_texts(tmp_path / "runs")
    steps, losses = zip(*scalars["autotunenet/loss"], strict=True)
    expected_steps, expected = zip(*metrics_of(tuner.history), strict=True)
    assert steps == expected_steps
    assert losses == pytest.approx(expected, rel=1e-6)
    assert math.inf in losses
    assert scalars["autotunenet/validation"] == [(300, 0.25)]
    (step, text), *_ = texts["autotunenet/decisions/rollback"]
    rollback = rollback_of(tuner.history)
    assert step == rollback.observation.step
    assert rollback.reason[:20] in text
    assert "autotunenet/decisions/hold" not in texts  # nobody reads of quiet intervals


def test_tensorboard_shows_one_branch_after_a_resume(tmp_path):
    sink = TensorBoardSink(tmp_path)
    for step in range(1, 7):
        sink.log({"autotunenet/lr": 0.25}, step)
    sink.resumed(step=3, num_reports=3)
    for step in range(4, 6):
        sink.log({"autotunenet/lr": 0.5}, step)
    sink.close()
    assert read_scalars(tmp_path)["autotunenet/lr"] == [(1, 0.25), (2, 0.25), (3, 0.25), (4, 0.5), (5, 0.5)]


def test_a_writer_of_the_users_stays_open(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(tmp_path)
    _, _, tuner = train([TensorBoardSink(writer)], num_steps=60)
    tuner.close()
    writer.add_scalar("mine", 1.0, 60)
    writer.close()
    scalars = read_scalars(tmp_path)
    assert scalars["mine"] == [(60, 1.0)]
    assert len(scalars["autotunenet/lr"]) == len(tuner.history)


def test_no_file_is_made_before_there_is_something_to_write(tmp_path):
    TensorBoardSink(tmp_path / "runs").close()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("wrong", [3, None, TensorBoardSink])
def test_what_is_no_writer_is_refused(wrong):
    with pytest.raises(TypeError, match="folder or a SummaryWriter"):
        TensorBoardSink(wrong)


# -- W&B -------------------------------------------------------------------------------------------------------------


def test_wandb_keeps_the_users_rows_and_steps(tmp_path, monkeypatch):
    run = make_wandb_run(tmp_path, monkeypatch)
    sink = WandbSink()
    _, _, tuner = train([sink], num_steps=300)
    for epoch in range(3):  # an explicit step that is far below the number of decisions
        run.log({"mine": float(epoch)}, step=epoch)
        sink.log({"autotunenet/lr": math.inf if epoch == 1 else 0.5}, step=300 + epoch)
        sink.log({"autotunenet/lr": math.nan if epoch == 2 else 0.25}, step=300 + epoch)
    tuner.close()
    assert not run._is_finished
    end_wandb_run(run)

    rows = wandb_history(tmp_path)
    assert [row["mine"] for row in rows] == [0.0, 1.0, 2.0]
    assert [row["autotunenet/step"] for row in rows] == [300, 301, 302]
    assert rows[0]["autotunenet/lr"] == rows[1]["autotunenet/lr"] == 0.25
    assert math.isnan(rows[2]["autotunenet/lr"])
    rollbacks = sum(decision.action is Action.ROLLBACK for decision in tuner.history)
    assert rows[0]["autotunenet/rollbacks"] == rollbacks > 0
    axes = {
        each.metric.glob_name: each.metric.step_metric for each in wandb_records(tmp_path) if each.HasField("metric")
    }
    assert axes["autotunenet/*"] == "autotunenet/step"


def test_wandb_has_every_decision_as_a_row_where_it_may_make_rows(tmp_path, monkeypatch):
    run = make_wandb_run(tmp_path, monkeypatch)
    _, _, tuner = train([WandbSink(run, commit=True)])
    tuner.close()
    end_wandb_run(run)

    rows = [row for row in wandb_history(tmp_path) if "autotunenet/loss" in row]
    assert [(row["autotunenet/step"], row["autotunenet/loss"]) for row in rows] == metrics_of(tuner.history)
    assert math.inf in [row["autotunenet/loss"] for row in rows]
    news = [decision for decision in tuner.history if is_news(decision)]
    assert news[-1].reason in wandb_summary(tmp_path)["autotunenet/decision"]
    tables = [json.loads(path.read_text()) for path in tmp_path.glob("wandb/*/files/media/table/autotunenet/*.json")]
    table = max(tables, key=lambda table: len(table["data"]))
    assert [row[table["columns"].index("reason")] for row in table["data"]] == [decision.reason for decision in news]


def test_wandb_is_started_only_when_asked(tmp_path, monkeypatch, caplog):
    import wandb

    with caplog.at_level(logging.ERROR, logger="autotunenet.reporting"):
        train([WandbSink()], num_steps=20)
    assert "no active W&B run" in caplog.text
    assert wandb.run is None

    init = {"dir": str(tmp_path), "settings": quiet_wandb(tmp_path, monkeypatch)}
    _, _, tuner = train([WandbSink(init=init)], num_steps=60)
    assert wandb.run is not None
    tuner.close()
    assert wandb.run is None
    wandb.teardown()
    assert len([row for row in wandb_history(tmp_path) if "autotunenet/lr" in row]) == len(tuner.history)


def test_a_wandb_run_that_has_finished_first_is_no_error(tmp_path, monkeypatch, caplog):
    run = make_wandb_run(tmp_path, monkeypatch)
    _, _, tuner = train([WandbSink(run)], num_steps=60)
    end_wandb_run(run)
    with caplog.at_level(logging.WARNING):
        tuner.close()
    assert [each.levelname for each in caplog.records if each.name.startswith("autotunenet")] == ["WARNING"]
    assert "ends at the last alarm" in caplog.text


def test_wandb_refuses_what_is_no_run():
    with pytest.raises(TypeError, match=r"wandb\.init returns"):
        WandbSink("my run")
    with pytest.raises(ValueError, match="not both"):
        WandbSink(WandbSink, init={})


# -- MLflow ----------------------------------------------------------------------------------------------------------


def test_mlflow_has_the_numbers_a_tag_and_the_decisions_in_the_active_run(tmp_path, monkeypatch):
    import mlflow

    client = make_mlflow_store(tmp_path / "store", monkeypatch)
    mlflow.set_experiment("tests")
    with mlflow.start_run() as run:
        _, _, tuner = train([MlflowSink()])
        tuner.observe(0.25)
        tuner.close()
        assert mlflow.active_run().info.run_id == run.info.run_id
        assert client.get_run(run.info.run_id).info.status == "RUNNING"

    run_id, metrics = run.info.run_id, read_mlflow(client, run.info.run_id)
    finite = [(step, value) for step, value in metrics_of(tuner.history) if math.isfinite(value)]
    assert [each for each in metrics["autotunenet/loss"] if not math.isnan(each[1])] == finite
    assert len(metrics["autotunenet/loss"]) == len(metrics_of(tuner.history)) > len(finite)  # infinity is NaN there
    assert metrics["autotunenet/validation"][-1] == (300, 0.25)
    news = [decision for decision in tuner.history if is_news(decision)]
    assert news[-1].reason in client.get_run(run_id).data.tags["autotunenet/decision"]
    path = client.download_artifacts(run_id, "autotunenet/decisions.jsonl", str(tmp_path))
    assert same([each.to_record() for each in read_run(path).decisions], [each.to_record() for each in news])


def test_mlflow_starts_no_run_of_its_own_unasked(tmp_path, monkeypatch, caplog):
    import mlflow

    client = make_mlflow_store(tmp_path, monkeypatch)
    mlflow.set_experiment("tests")
    experiment = client.get_experiment_by_name("tests").experiment_id
    with caplog.at_level(logging.ERROR, logger="autotunenet.reporting"):
        train([MlflowSink()], num_steps=20)
    assert "no active MLflow run" in caplog.text
    assert client.search_runs([experiment]) == []
    assert mlflow.active_run() is None

    _, _, tuner = train([MlflowSink(experiment="tests")], num_steps=60)
    tuner.close()
    assert mlflow.active_run() is None
    (run,) = client.search_runs([experiment])
    assert run.info.status == "FINISHED"
    assert len(read_mlflow(client, run.info.run_id)["autotunenet/lr"]) == len(tuner.history)


# -- all -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "make", "extra"),
    [
        ("torch.utils.tensorboard", lambda: TensorBoardSink("runs"), "tensorboard"),
        ("wandb", WandbSink, "wandb"),
        ("mlflow", MlflowSink, "mlflow"),
    ],
)
def test_a_tool_that_is_not_there_names_its_extra(module, make, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)  # Python's own way of saying that there is none
    with pytest.raises(ImportError, match=rf"pip install 'autotunenet\[{extra}\]'"):
        make()
