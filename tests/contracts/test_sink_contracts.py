"""Every sink keeps the contract of its family, in the tool it is for: what was written is read back with that tool."""

from __future__ import annotations

import pytest

from autotunenet.sinks import SINKS, JsonlSink, MlflowSink, TensorBoardSink, WandbSink, read_run
from autotunenet.testing import check_sink
from sink_tools import end_wandb_run, make_mlflow_store, make_wandb_run, read_mlflow, read_scalars, wandb_history

pytestmark = pytest.mark.xdist_group("sinks")  # each tool takes seconds to import


def jsonl(folder, monkeypatch):
    path = folder / "run.jsonl"
    return lambda: JsonlSink(path), lambda: read_run(path).values


def tensorboard(folder, monkeypatch):
    def read():
        return {tag: values[-1][1] for tag, values in read_scalars(folder).items() if values}

    return lambda: TensorBoardSink(folder), read


def wandb(folder, monkeypatch):
    run = make_wandb_run(folder, monkeypatch)

    def read():
        end_wandb_run(run)
        return {name: value for row in wandb_history(folder) for name, value in row.items()}

    return lambda: WandbSink(run), read


def mlflow(folder, monkeypatch):
    client = make_mlflow_store(folder, monkeypatch)
    run_id = client.create_run(client.create_experiment("tests")).info.run_id

    def read():
        return {name: values[-1][1] for name, values in read_mlflow(client, run_id).items()}

    return lambda: MlflowSink(run_id), read


WORLDS = {"jsonl": jsonl, "tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow}


def test_every_sink_has_a_world_here():
    assert WORLDS.keys() == SINKS.keys()


@pytest.mark.parametrize("name", SINKS)
def test_sinks(name, tmp_path, monkeypatch):
    make, read = WORLDS[name](tmp_path, monkeypatch)
    assert type(make()) is SINKS[name]
    check_sink(make, read=read)


# The check itself: what breaks a rule must be found, and named.


class Last:
    def __init__(self, store):
        self.store = store

    def log(self, values, step):
        self.store.update(values)

    def event(self, decision):
        pass

    def close(self):
        pass


class Greedy(Last):
    def event(self, decision):
        decision.evidence["mine"] = 1.0


class Impatient(Last):
    def __init__(self, store):
        super().__init__(store)
        self.store["open"] = 1.0

    def close(self):
        del self.store["open"]


class Deaf(Last):
    def log(self, values, step):
        self.store.update({name: value for name, value in values.items() if name != "autotunenet/loss"})


class Chatty(Last):
    def event(self, decision):
        print(decision.reason)  # noqa: T201


class Half:
    def log(self, values, step): ...


@pytest.mark.parametrize(
    ("kind", "rule"),
    [(Greedy, "must not change"), (Deaf, "autotunenet/loss was logged"), (Chatty, "must not print")],
)
def test_a_sink_that_breaks_a_rule_is_found(kind, rule):
    store = {}
    with pytest.raises(AssertionError, match=rule):
        check_sink(lambda: kind(store), read=lambda: store)


def test_a_sink_that_cannot_be_closed_twice_is_found():
    with pytest.raises(KeyError):
        check_sink(lambda: Impatient({}))


def test_half_a_sink_is_found():
    with pytest.raises(AssertionError, match="lacks one"):
        check_sink(Half)
