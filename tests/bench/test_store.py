"""The store: atomic, append-only, and honest about what a kill left behind."""

from __future__ import annotations

import json
import math

import pytest
import torch

from autotunenet_bench.results import ResultStore, RunFolder

START = {"event": "start", "environment": {}, "hyperparams": {"lr": 0.1}, "val": {"loss": 2.3, "accuracy": 0.1}}


class Spec:
    """The least that the store asks of a spec."""

    run_id = "toy-s0-abc"

    def model_dump_json(self, *, indent: int | None = None) -> str:
        return json.dumps({"labels": {"task": "toy", "regime": "none", "controller": "fixed"}}, indent=indent)


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    folder = ResultStore(tmp_path / "with space").folder(Spec())
    folder.create(Spec())
    return folder


def test_a_run_that_never_began_is_missing(tmp_path):
    folder = ResultStore(tmp_path).folder(Spec())
    assert folder.status() == "missing"
    assert folder.details() == {}
    assert list(folder.events()) == []
    assert not tmp_path.joinpath(Spec.run_id).exists(), "looking at a run must not create it"


def test_non_finite_numbers_come_back_and_the_file_stays_strict_json(folder):
    event = {"event": "epoch", "losses": [math.nan, math.inf, -math.inf, 0.1 + 0.2], "val": {"loss": math.nan}}
    folder.append([event])

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    for line in folder.events_path.read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    (read,) = folder.events()
    assert math.isnan(read["losses"][0])
    assert read["losses"][1:] == [math.inf, -math.inf, 0.1 + 0.2]
    assert math.isnan(read["val"]["loss"])


@pytest.mark.parametrize("torn", ['{"event": "epo', '{"event"', "{", '{"event": "start"}'])
def test_a_torn_last_row_is_left_out(folder, torn):
    folder.append([START])
    with folder.events_path.open("a") as file:
        file.write(torn)  # no newline: the row was never finished, even where it happens to parse
    assert [event["event"] for event in folder.events()] == ["start"]


def test_damage_in_the_middle_is_an_error_with_file_and_line(folder):
    folder.append([START, {"event": "end"}])
    lines = folder.events_path.read_text().splitlines(keepends=True)
    folder.events_path.write_text("".join([lines[0], '{"event": \n', lines[1]]))
    with pytest.raises(ValueError, match=r"events\.jsonl:2: this row is damaged"):
        list(folder.events())


def test_resuming_cuts_the_rows_that_came_after_the_checkpoint(folder):
    folder.append([START])
    folder.save_checkpoint({"epoch": 1, "weights": torch.arange(3)})
    folder.append([{"event": "epoch", "epoch": 2}])
    state = folder.load_checkpoint()
    assert state is not None
    assert state["epoch"] == 1
    assert torch.equal(state["weights"], torch.arange(3))
    assert [event["event"] for event in folder.events()] == ["start"]


def test_without_a_checkpoint_a_resumed_run_begins_anew(folder):
    folder.append([START])
    assert folder.load_checkpoint() is None
    assert list(folder.events()) == []


def test_a_half_written_checkpoint_is_never_read(folder):
    folder.append([START])
    folder.save_checkpoint({"epoch": 1})
    (folder.path / "checkpoint.pt.tmp").write_bytes(b"half")
    assert folder.load_checkpoint() == {"epoch": 1}


def test_status_is_replaced_and_leaves_no_temporary_file(folder):
    folder.set_status("running")
    folder.set_status("failed", error="ValueError: no")
    assert folder.status() == "failed"
    assert folder.details()["error"] == "ValueError: no"
    assert sorted(path.name for path in folder.path.iterdir()) == ["spec.json", "status.json"]


def test_the_spec_is_written_once(folder):
    before = (folder.path / "spec.json").read_bytes()
    folder.create(Spec())
    assert (folder.path / "spec.json").read_bytes() == before


def test_iterating_gives_begun_runs_only_the_unfinished_ones_included(tmp_path):
    store = ResultStore(tmp_path)
    for name, events in (
        ("a", []),
        ("b", [START]),
        ("c", [START, {"event": "end", "num_restarts": 0, "weights_sha256": "f"}]),
    ):
        run = RunFolder(tmp_path / name)
        run.create(Spec())
        run.append(events)
    assert [trace.finished for trace in store] == [False, True]


def test_clearing_removes_everything(folder):
    folder.append([START])
    folder.clear()
    assert folder.status() == "missing"
    assert not folder.path.exists()
    folder.clear()  # twice is fine
