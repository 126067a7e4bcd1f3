"""An event file holds what was decided, whatever happens to the training or to the file."""

from __future__ import annotations

import json
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_reporting import train

from autotunenet import AutoTuneNet, Decision
from autotunenet.sinks import JsonlSink, find_events, read_run
from autotunenet.sinks.rows import from_line, to_decision, to_line
from autotunenet.sinks.run_log import EventFile
from autotunenet.testing import same
from autotunenet.types import Action, Cause, Health, Observation


def records(decisions):
    return [decision.to_record() for decision in decisions]


def strict(line):
    """Read a line as strict JSON."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(line, parse_constant=refuse)


def decision_at(step, reason="Nothing was asked for.", metric=0.5):
    seen = Observation(step, metric, {"lr": 0.1})
    return Decision(seen, Health.STABLE, Action.HOLD, {"lr": 0.1}, {"lr": 0.1}, 0, reason)


def tell(sink, *steps, lr=0.1):
    for step in steps:
        sink.log({"autotunenet/lr": lr, "autotunenet/health": 0.0}, step)
        sink.event(decision_at(step))


# -- the rows --------------------------------------------------------------------------------------------------------


def test_a_real_training_is_read_as_it_was(tmp_path):
    _, _, tuner = train([JsonlSink(tmp_path / "run.jsonl")])
    tuner.observe(float("nan"))
    log = read_run(tmp_path / "run.jsonl")
    assert same(records(log.decisions), records(tuner.history))
    assert math.inf in [decision.observation.metric for decision in log.decisions]
    metrics = tuner.metrics()
    assert {name: log.values[name] for name in metrics} == metrics
    assert [point.step for point in log.validation] == [300]
    assert math.isnan(log.validation[0].value)
    assert log.lrs[-1] == (log.decisions[-1].observation.step, metrics["autotunenet/lr"])
    assert log.losses == [(d.observation.step, pytest.approx(d.observation.metric, nan_ok=True)) for d in tuner.history]
    assert (log.step, log.is_ended) == (300, False)
    tuner.close()
    assert read_run(tmp_path / "run.jsonl").is_ended


def test_every_line_is_strict_json_and_on_the_disk_at_once(tmp_path):
    sink = JsonlSink(tmp_path / "run.jsonl")
    sink.log({"autotunenet/loss": math.nan, "autotunenet/lr": np.float32(math.inf), "count": np.int64(3)}, 1)
    sink.event(decision_at(1, metric=-math.inf))
    begin, metrics, decision = map(strict, sink.path.read_bytes().splitlines())
    assert (begin["event"], begin["step"], begin["report"]) == ("begin", 0, 0)
    assert metrics["values"] == {"autotunenet/loss": "nan", "autotunenet/lr": "inf", "count": 3}
    assert decision["metric"] == "-inf"
    assert begin["time"] <= metrics["time"] <= decision["time"]


numbers = st.floats(allow_nan=True, allow_infinity=True)
values = st.dictionaries(st.text(max_size=8), numbers, max_size=3)


any_decision = st.builds(
    Decision,
    st.builds(Observation, st.integers(1, 10**9), numbers, values),
    st.sampled_from(Health),
    st.sampled_from(Action),
    values,
    values,
    st.integers(0, 100),
    st.text(),
    st.sampled_from([None, *Cause]),
    values,
)


@given(any_decision)
def test_any_decision_comes_back(decision):
    line = to_line({"event": "decision", **decision.to_record()})
    assert line.count(b"\n") == 1
    assert same(to_decision(from_line(line)).to_record(), decision.to_record())


@pytest.mark.parametrize("value", [object(), 1j, {1, 2}])
def test_what_a_row_cannot_hold_is_refused(value):
    with pytest.raises(TypeError, match="is none of them"):
        to_line({"event": "metrics", "values": {"a": value}})


# -- resuming --------------------------------------------------------------------------------------------------------


class Training:
    """A small regression that can be saved and resumed; an epoch of 50 steps ends with a validation."""

    def __init__(self, path):
        torch.manual_seed(0)
        self.model = torch.nn.Linear(4, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=50.0)
        self.tuner = AutoTuneNet(self.model, self.optimizer, 200, sinks=[JsonlSink(path)])

    def epoch(self, noise=0.0):
        for _ in range(50):
            loss = (self.model(torch.eye(4)) - 1).square().mean() + noise
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.tuner.step(loss)

    def state(self):
        parts = (self.model, self.optimizer, self.tuner)
        return pickle.dumps([part.state_dict() for part in parts])

    def load(self, saved):
        for part, state in zip((self.model, self.optimizer, self.tuner), pickle.loads(saved), strict=True):
            part.load_state_dict(state)


def test_a_resumed_training_goes_on_in_its_file_and_the_branch_given_up_is_dropped(tmp_path):
    whole = Training(tmp_path / "whole.jsonl")
    for epoch in range(4):
        whole.epoch()
        whole.tuner.observe(epoch)
    first = Training(tmp_path / "run.jsonl")
    first.epoch()
    first.tuner.observe(0)
    first.epoch()
    saved = first.state()  # after the steps of the epoch and before its validation
    first.tuner.observe(100)
    first.epoch(noise=5.0)
    with (tmp_path / "run.jsonl").open("ab") as file:
        file.write(b'{"event":"decision","st')  # killed here

    second = Training(tmp_path / "run.jsonl")
    second.load(saved)
    for epoch in (1, 2, 3):
        second.tuner.observe(epoch)
        if epoch < 3:
            second.epoch()
    log, expected = read_run(tmp_path / "run.jsonl"), read_run(tmp_path / "whole.jsonl")
    assert records(log.decisions) == records(expected.decisions) == records(whole.tuner.history)
    assert log.validation == expected.validation == [(50, 0), (100, 1), (150, 2), (200, 3)]
    assert log.lrs == expected.lrs
    assert (log.resumed, expected.resumed) == ([100], [])
    assert all(map(strict, (tmp_path / "run.jsonl").read_bytes().splitlines()))


def test_a_training_that_starts_over_replaces_the_one_before(tmp_path):
    tell(JsonlSink(tmp_path / "run.jsonl"), 10, 20, 30)
    tell(JsonlSink(tmp_path / "run.jsonl"), 5)
    log = read_run(tmp_path / "run.jsonl")
    assert [decision.observation.step for decision in log.decisions] == [5]
    assert (log.step, log.resumed) == (5, [])


def test_resuming_twice_keeps_what_both_kept(tmp_path):
    sink = JsonlSink(tmp_path / "run.jsonl")
    tell(sink, 10, 20, 30)
    sink.resumed(20, 2)
    tell(sink, 30, 40, lr=0.2)
    sink.close()
    sink.resumed(10, 1)
    sink.resumed(30, 3)
    tell(sink, 40, lr=0.3)
    log = read_run(tmp_path / "run.jsonl")
    assert log.lrs == [(1, 0.1), (10, 0.1), (20, 0.1), (30, 0.2), (40, 0.3)]
    assert (log.resumed, log.is_ended) == ([20, 30], False)


# -- the file --------------------------------------------------------------------------------------------------------


def test_a_folder_gets_and_gives_its_event_file(tmp_path):
    sink = JsonlSink(tmp_path)
    assert sink.path == tmp_path / "events.jsonl" == find_events(tmp_path)
    tell(JsonlSink(tmp_path / "new" / "run.jsonl"), 10)
    assert read_run(tmp_path / "new").step == 10


def test_a_folder_of_several_runs_names_them(tmp_path):
    for name in ("first.jsonl", "second.jsonl"):
        tell(JsonlSink(tmp_path / name), 10)
    with pytest.raises(ValueError, match=r"2 event files: first\.jsonl, second\.jsonl; name one"):
        read_run(tmp_path)


@pytest.mark.parametrize("text", ["import torch\n", '{"event":"start"}\n', "no end of a line", "[1]\n"])
def test_a_file_of_somebody_elses_is_left_alone(tmp_path, text):
    path = tmp_path / "train.py"
    path.write_text(text)
    with pytest.raises(ValueError, match="no JsonlSink has written it"):
        JsonlSink(path)
    assert path.read_text() == text


@pytest.mark.parametrize("text", ["", '{"ev', '{"event":"begin","step":0,"rep'])
def test_a_file_that_was_cut_in_its_first_line_is_used(tmp_path, text):
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    tell(JsonlSink(path), 10)
    assert read_run(path).step == 10
    assert len(path.read_bytes().splitlines()) == 3


def test_what_cannot_be_written_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        JsonlSink(tmp_path / "file" / "run.jsonl")


def test_a_sink_that_tells_nothing_writes_nothing(tmp_path):
    sink = JsonlSink(tmp_path / "run.jsonl")
    sink.resumed(10, 3)
    sink.close()
    assert sink.path.read_bytes() == b""


def test_a_sink_can_be_pickled(tmp_path):
    sink = JsonlSink(tmp_path / "run.jsonl")
    tell(sink, 10)
    tell(pickle.loads(pickle.dumps(sink)), 20)
    assert read_run(sink.path).step == 20


# -- reading ---------------------------------------------------------------------------------------------------------


def test_a_line_without_an_end_waits_for_the_rest(tmp_path):
    tell(JsonlSink(tmp_path / "whole.jsonl"), 10, 20)
    data = (tmp_path / "whole.jsonl").read_bytes()
    path = tmp_path / "run.jsonl"
    file = EventFile(path)
    assert not file.read()  # it is not there yet
    for end in range(0, len(data) + 1, 7):
        path.write_bytes(data[:end])
        assert file.read() == (data[:end].count(b"\n") > data[: max(end - 7, 0)].count(b"\n"))
        assert not file.damage
    path.write_bytes(data)
    file.read()
    assert records(file.log.decisions) == records(read_run(tmp_path / "whole.jsonl").decisions)


@pytest.mark.parametrize("how", ["cut", "replaced", "removed"])
def test_a_file_that_was_changed_is_read_anew(tmp_path, how):
    sink = JsonlSink(tmp_path / "run.jsonl")
    tell(sink, 10, 20, 30)
    file = EventFile(sink.path)
    file.read()
    if how == "cut":
        os.truncate(sink.path, sum(map(len, sink.path.read_bytes().splitlines(keepends=True)[:3])))
    else:
        sink.path.unlink()
    if how == "replaced":
        tell(JsonlSink(sink.path), 7, 8, 9, 10, 11)
    assert file.read()
    steps = [decision.observation.step for decision in file.log.decisions]
    assert steps == {"cut": [10], "replaced": [7, 8, 9, 10, 11], "removed": []}[how]
    assert not file.read()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{oops}", "line 2: Expecting property name"),
        (b"[1, 2]", "line 2: it is no JSON object with an 'event'"),
        (b'{"event":"decision","step":3}', "line 2: a 'decision' row needs 'applied'"),
        (b'{"event":"metrics","step":3,"values":{"lr":[1]}}', r"line 2: a 'metrics' .* malformed: \[1\] is no number"),
        (b'{"event":"metrics","step":3,"values":7}', "line 2: a 'metrics' row is malformed"),
        (b'{"event":"epoch","step":3,"val":{}}', "line 2: a 'epoch' row needs 'loss'"),
        (b"\xff\xfe", "line 2: "),
    ],
)
def test_a_damaged_line_is_named_and_the_others_are_read(tmp_path, line, fault):
    sink = JsonlSink(tmp_path / "run.jsonl")
    tell(sink, 10)
    lines = sink.path.read_bytes().splitlines(keepends=True)
    sink.path.write_bytes(b"".join([lines[0], line + b"\n", *lines[1:]]))
    with pytest.raises(ValueError, match=fault):
        read_run(sink.path)
    file = EventFile(sink.path)
    file.read()
    assert file.log.step == 10


def test_rows_of_kinds_to_come_are_left_alone(tmp_path):
    sink = JsonlSink(tmp_path / "run.jsonl")
    tell(sink, 10)
    with sink.path.open("ab") as file:
        file.write(b'{"event":"weather","sky":"blue"}\n')
    assert read_run(sink.path).step == 10


def test_a_run_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no event file .*run\.jsonl; JsonlSink"):
        read_run(tmp_path / "run.jsonl")
    with pytest.raises(FileNotFoundError, match=r"events\.jsonl"):
        read_run(tmp_path)


def test_a_run_of_the_benchmark_can_be_read(tmp_path):
    from autotunenet_bench.config import expand, load_config
    from autotunenet_bench.data import DataSource
    from autotunenet_bench.results import ResultStore
    from autotunenet_bench.runners import run

    config = Path(__file__).parents[2] / "configs" / "digits_quick.yaml"
    cell = next(iter(expand(load_config(config).config)))
    _, info = cell.task.load(DataSource())
    spec = cell.resolve(info)
    folder = ResultStore(tmp_path).folder(spec)
    run(spec, DataSource(), folder)

    log, trace = read_run(folder.path), folder.trace()
    assert same(records(log.decisions), records(trace.decisions))
    assert [point.value for point in log.losses] == trace.losses
    assert [point.step for point in log.losses] == list(range(1, trace.epochs[-1].step + 1))
    assert log.validation == [(epoch.step, epoch.val["loss"]) for epoch in trace.epochs]
    assert log.lrs[-1].value == trace.decisions[-1].applied["lr"]
    assert log.changes == [(trace.trigger.step, trace.trigger.description)]
    assert log.is_ended
