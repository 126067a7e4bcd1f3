"""Runs as jobs of Submitit, on this machine: preempted, killed and gone on with."""

import json
import os
import signal

import pytest

from autotunenet_bench.config import parse_config
from autotunenet_bench.data import DataSource
from autotunenet_bench.executors import Limits, make_executor, run_cells
from autotunenet_bench.executors.base import Job
from autotunenet_bench.executors.sending import Parcel, marked
from autotunenet_bench.executors.slurm_jobs import ResumableCell
from autotunenet_bench.results import ResultStore
from autotunenet_bench.results.claims import Claims
from autotunenet_bench.suite import resolve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(os.name != "posix", reason="ends processes by signals"),
]
LOCAL_REQUEUE_RETURN_CODE = pytest.importorskip("submitit.local.local").LOCAL_REQUEUE_RETURN_CODE

CONFIG = "{task: digits_mlp, regime: stationary, controller: fixed, num_epochs: 60, seeds: [0, 1]}"
SOURCE = DataSource()


@pytest.fixture(scope="module")
def specs():
    return resolve(parse_config(CONFIG, "a.yaml"), SOURCE)


def test_a_preempted_and_a_killed_job_go_on_where_they_were(tmp_path, specs):
    preempted, killed = (spec.run_id for spec in specs)
    signals = {preempted: signal.SIGUSR2, killed: signal.SIGKILL}
    seen = []

    def on_update(update):
        seen.append(update)
        if update.state == "epoch" and update.run_id in signals:
            os.kill(Claims(tmp_path).find(update.run_id).owner.pid, signals.pop(update.run_id))

    executor = make_executor("slurm", address="local")
    assert run_cells(specs, root=tmp_path, source=SOURCE, num_workers=2, executor=executor, on_update=on_update) == []
    assert signals == {}
    assert run_cells(specs, root=tmp_path / "here", source=SOURCE, num_workers=1) == []
    for spec in specs:
        elsewhere, here = (ResultStore(root).folder(spec).trace() for root in (tmp_path, tmp_path / "here"))
        assert elsewhere.weights_sha256 == here.weights_sha256 != ""
        assert [epoch.losses for epoch in elsewhere.epochs] == [epoch.losses for epoch in here.epochs]
        states = [update.state for update in seen if update.run_id == spec.run_id and update.state != "epoch"]
        assert states == ["started", "started", "done"]
        assert [update.epoch for update in seen if update.run_id == spec.run_id and update.state == "epoch"][-1] == 60
    assert not (tmp_path / ".jobs").exists()


@pytest.mark.parametrize("then", ["nothing", "another error"])
def test_an_exit_that_was_lost_on_its_way_is_made_up_for(tmp_path, specs, then):
    job = Job(root=tmp_path, source=then, num_workers=1, num_threads=1, run_cell=stopped_cell)
    with marked(tmp_path) as marker:
        parcel = Parcel.packed(job, specs[0], marker)
        CELLS.append(ResumableCell())
        with pytest.raises(SystemExit) as ended:
            CELLS[-1](parcel)
    assert ended.value.code == LOCAL_REQUEUE_RETURN_CODE


CELLS = []


def stopped_cell(spec, root, source, on_event):
    CELLS[-1].checkpoint(None)
    if source == "another error":
        raise RuntimeError("half a file")
    on_event({"event": "epoch", "epoch": 1})
    raise AssertionError("it should have ended")


def failing_cell(spec, root, source, on_event):
    raise ValueError("lr = -1.0, but must be > 0")


def test_a_failed_cell_tells_why(tmp_path, specs):
    executor = make_executor("slurm", address="local")
    failures = run_cells(
        specs[:1], root=tmp_path, source=SOURCE, num_workers=1, executor=executor, run_cell=failing_cell
    )
    assert [failure.message for failure in failures] == ["ValueError: lr = -1.0, but must be > 0"]
    folder = tmp_path / specs[0].run_id
    assert "in failing_cell" in (folder / "error.txt").read_text()
    assert json.loads((folder / "status.json").read_text()) == {"state": "failed", "error": failures[0].message}


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match=r"gpus = 0.5, but Slurm gives whole ones"):
        make_executor("slurm", Limits(gpus=0.5))
    with pytest.raises(ValueError, match="there is no 'nowhere' for Slurm jobs"):
        make_executor("slurm", address="nowhere")
