"""Runs on a Ray cluster of three nodes on this machine: the same numbers as here, also where a node or process dies."""

import json
import logging
import os
import signal
import time
from pathlib import Path

import pytest

from autotunenet_bench.config import parse_config
from autotunenet_bench.data import DataSource
from autotunenet_bench.executors import Limits, make_executor, run_cells
from autotunenet_bench.executors import ray_tasks as ray_module
from autotunenet_bench.executors.sending import StoreNotSharedError
from autotunenet_bench.results.claims import Claims
from autotunenet_bench.suite import resolve, run_suite

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.skipif(os.name != "posix", reason="kills processes by signals"),
]
ray = pytest.importorskip("ray")

CONFIG = """
tasks: [digits_mlp]
regimes: [stationary, {name: data_shift, severity: 0.4}]
controllers: [fixed, autotunenet]
num_epochs: 4
seeds: [0]
"""
SOURCE = DataSource()
FAST_HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 2_000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2_000,
    "health_check_failure_threshold": 3,
}


@pytest.fixture(scope="module")
def cluster():
    """Three nodes, a CPU each; this process is connected to it."""
    from ray.cluster_utils import Cluster

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    environment = pytest.MonkeyPatch()
    environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster()
    try:
        for index in range(3):
            more = {"_system_config": FAST_HEALTH_CHECKS} if index == 0 else {}
            cluster.add_node(num_cpus=1, object_store_memory=ray_module.OBJECT_STORE_BYTES, **more)
        ray.init(address=cluster.address, **quiet)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        environment.undo()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The numbers of the runs on the local executor."""
    folder = tmp_path_factory.mktemp("local")
    return run_suite(parse_config(CONFIG, "a.yaml"), folder, SOURCE, num_workers=1).traces


def numbers(traces):
    """All that a clock has not touched, by run id."""
    return {
        (*trace.label, trace.spec["seed"]): (
            trace.finished,
            trace.weights_sha256,
            [(epoch.losses, dict(epoch.val), dict(epoch.hyperparams)) for epoch in trace.epochs],
            [decision.to_record() for decision in trace.decisions],
        )
        for trace in traces
    }


def specs_of(*overrides):
    return resolve(parse_config(CONFIG, "a.yaml", overrides), SOURCE)


def test_an_address_without_a_cluster_is_told():  # the first, while this process is not connected to one
    for address in ("127.0.0.1:1", "auto"):
        with pytest.raises(ray_module.ClusterNotFoundError, match=f"there is no Ray cluster at {address}"):
            make_executor("ray", address=address).default_workers(1)


def test_the_numbers_are_those_of_the_local_executor(cluster, tmp_path, undisturbed):
    seen = []
    result = run_suite(
        parse_config(CONFIG, "a.yaml"), tmp_path, SOURCE, executor=make_executor("ray"), on_update=seen.append
    )
    assert numbers(result.traces) == numbers(undisturbed)
    assert result.failures == {}
    for trace in undisturbed:
        told = [(update.state, update.epoch) for update in seen if update.run_id == Path(run_id(trace)).name]
        assert told[-1] == ("done", 4)
        assert [epoch for state, epoch in told if state == "epoch"] == [1, 2, 3, 4]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def run_id(trace):
    from autotunenet_bench.config.specs import run_id_of

    return run_id_of(trace.spec)


def test_a_killed_worker_is_replaced(cluster, tmp_path, undisturbed):
    killed = []

    def on_update(update):
        claim = Claims(tmp_path).find(update.run_id)
        if update.state == "epoch" and not killed and claim is not None:  # None: its last epochs are told after its end
            killed.append(claim.owner.pid)
            os.kill(killed[0], signal.SIGKILL)

    executor = make_executor("ray")
    result = run_suite(parse_config(CONFIG, "a.yaml"), tmp_path, SOURCE, executor=executor, on_update=on_update)
    assert killed
    assert numbers(result.traces) == numbers(undisturbed)


def raising_cell(spec, root, source, on_event):
    if spec.seed == 0:
        raise ValueError("lr = -1.0, but must be > 0")
    time.sleep(60)


def test_errors_and_cells_that_take_too_long_are_told_with_their_cause(cluster, tmp_path):
    first, second = specs_of("regimes=[stationary]", "controllers=[fixed]", "seeds=[0, 1]", "num_epochs=2000")
    failures = run_cells(
        [first], root=tmp_path, source=SOURCE, num_workers=1, executor=make_executor("ray"), run_cell=raising_cell
    )
    assert [failure.message for failure in failures] == ["ValueError: lr = -1.0, but must be > 0"]
    assert "in raising_cell" in (tmp_path / first.run_id / "error.txt").read_text()
    limited = make_executor("ray", Limits(timeout_seconds=2.0))
    failures = run_cells([second], root=tmp_path, source=SOURCE, num_workers=1, executor=limited)
    assert [failure.run_id for failure in failures] == [second.run_id]
    assert "was ended after 2 s" in failures[0].message
    assert json.loads((tmp_path / second.run_id / "status.json").read_text())["state"] == "failed"


def test_a_node_that_does_not_see_the_results_is_named(cluster, tmp_path, monkeypatch):
    (spec, *_) = specs_of()
    monkeypatch.setattr(Path, "touch", lambda path: None)  # as if the folder of this name were another one there
    with pytest.raises(StoreNotSharedError, match=r"^\S+ does not see .* a folder that all machines share"):
        run_cells([spec], root=tmp_path, source=SOURCE, num_workers=1, executor=make_executor("ray"))


def test_a_node_lost_in_the_middle_changes_no_number(cluster, tmp_path, undisturbed):
    lost = []

    def on_update(update):
        claim = Claims(tmp_path).find(update.run_id)
        if update.state != "epoch" or lost or claim is None:  # None: its last epochs are told after its end
            return
        pid = claim.owner.pid
        for node in cluster.worker_nodes:
            raylet = node.all_processes["raylet"][0].process.pid
            if parent(pid) == raylet:
                lost.append(update.run_id)
                cluster.remove_node(node, allow_graceful=False)
                return

    executor = make_executor("ray")
    result = run_suite(parse_config(CONFIG, "a.yaml"), tmp_path, SOURCE, executor=executor, on_update=on_update)
    assert lost
    assert numbers(result.traces) == numbers(undisturbed)
    assert len(cluster.worker_nodes) == 1


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
