"""The store: atomic, append-only, and honest about what a kill left behind."""

from __future__ import annotations

import json
import math
import os

import pytest
import torch

from autotunenet_bench.results import ResultStore, RunFolder, Trace

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


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_a_full_disk_is_told_by_its_name_and_costs_no_checkpoint(folder):
    import resource

    folder.append([{"event": "start"}])
    folder.save_checkpoint({"epoch": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*checkpoint\.pt'"):
            folder.save_checkpoint({"epoch": 2, "weights": torch.zeros(20_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert folder.load_checkpoint() == {"epoch": 1}
    assert not (folder.path / "checkpoint.pt.tmp").exists()


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


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "sleeping"}', '{"state": []}', "\udcff"])
def test_a_broken_status_is_a_missing_one(folder, text):
    folder.append([START])
    folder.save_checkpoint({"epoch": 1})
    (folder.path / "status.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert folder.status() == "missing"
    assert not folder.is_done()
    assert folder.load_checkpoint() == {"epoch": 1}  # and the run goes on


def test_done_is_what_status_and_events_both_say(folder):
    end = {"event": "end", "num_restarts": 0, "weights_sha256": "f"}
    folder.set_status("done")
    assert not folder.is_done()
    folder.append([START])
    assert not folder.is_done()
    folder.append([end])
    assert folder.is_done()
    folder.set_status("running")
    assert not folder.is_done()


@pytest.mark.parametrize("content", [b"", b"half", b"PK\x03\x04" + bytes(100)])
def test_a_broken_checkpoint_is_named(folder, content):
    (folder.path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"checkpoint\.pt: this checkpoint is broken .*; remove it to begin this run anew"
    ):
        folder.load_checkpoint()


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_checkpoint_that_was_cut_is_named(folder, share):
    folder.append([{"event": "start"}])
    folder.save_checkpoint({"epoch": 1, "weights": torch.zeros(5_000)})
    path = folder.path / "checkpoint.pt"
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(
        ValueError, match=r"checkpoint\.pt: this checkpoint is broken .*; remove it to begin this run anew"
    ):
        folder.load_checkpoint()


def test_a_checkpoint_of_something_else_is_broken(folder):
    torch.save([1, 2], folder.path / "checkpoint.pt")
    with pytest.raises(ValueError, match="this checkpoint is broken"):
        folder.load_checkpoint()


def test_events_that_are_shorter_than_the_checkpoint_knows_are_not_filled_with_zeros(folder):
    folder.append([START])
    folder.save_checkpoint({"epoch": 1})
    folder.events_path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"had \d+ bytes when it was written and has 0 now; remove the checkpoint"):
        folder.load_checkpoint()


def test_another_spec_in_the_folder_is_refused(folder):
    path = folder.path / "spec.json"
    path.write_text(json.dumps({"labels": {}, "seed": 3}))
    with pytest.raises(
        ValueError, match=r"spec\.json: this is not the spec of the run .* differs in labels, seed; remove"
    ):
        folder.create(Spec())
    path.write_text("")
    with pytest.raises(ValueError, match=r"spec\.json: this file is damaged"):
        folder.create(Spec())


CLOCK = {"train_seconds": 0.1, "eval_seconds": 0.1, "control_seconds": 0.1}


def epoch(number):
    val = {"loss": 1.0, "accuracy": 0.5}
    row = {"event": "epoch", "epoch": number, "step": number, "losses": [1.0], "val": val, "hyperparams": {"lr": 0.1}}
    return {**row, "clock": CLOCK}


def without(row, name):
    return {key: value for key, value in row.items() if key != name}


END = {"event": "end", "num_restarts": 0, "weights_sha256": "f"}
MALFORMED = {
    "two processes": ([START, epoch(1), epoch(1)], "row 3 .*: it is of epoch 1 where epoch 2 was due"),
    "a gap": ([START, epoch(2)], "row 2 .*: it is of epoch 2 where epoch 1 was due"),
    "two starts": ([START, START], "must begin with a 'start' row; here row 2 is 'start'"),
    "late start": ([epoch(1), START], "must begin with a 'start' row; here row 1 is 'epoch'"),
    "nothing": ([], "must begin with a 'start' row; this run has none"),
    "after the end": ([START, END, epoch(1)], "row 3 of the events stands behind the 'end' row"),
    "no val": ([START, without(epoch(1), "val")], "row 2 .* has no key 'val'"),
    "no loss": ([START, {**epoch(1), "val": {}}], "row 2 .* has no key 'loss'"),
    "no clock": ([START, {**epoch(1), "clock": {}}], "row 2 .* has no key 'train_seconds'"),
    "no list": ([START, {**epoch(1), "losses": 1.0}], "row 2 .*: its 'losses' must be an array"),
    "no environment": ([without(START, "environment")], "row 1 .* has no key 'environment'"),
    "no weights": ([START, without(END, "weights_sha256")], "row 2 .* has no key 'weights_sha256'"),
    "no step": ([START, {"event": "trigger", "epoch": 1, "description": ""}], "row 2 .* has no key 'step'"),
    "no decision": ([START, {"event": "decision"}], "row 2 of the events .'decision'. is malformed"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_rows_are_a_sentence(name):
    rows, words = MALFORMED[name]
    with pytest.raises(ValueError, match=words):
        Trace.from_events({}, rows)
