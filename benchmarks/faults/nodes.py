"""A Ray cluster of three nodes on this machine, and the loss of one of them."""

import logging
import os

from faults.processes import parent_of
from faults.trial import MissedError

from autotunenet_bench.executors.ray_tasks import OBJECT_STORE_BYTES

NUM_NODES = 3
FAST_HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 2_000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2_000,
    "health_check_failure_threshold": 3,
}
"""Ray takes a node for lost after half a minute by default."""


class Nodes:
    """The cluster; this process is connected to it once it has begun."""

    def __init__(self):
        self._cluster = None

    @property
    def address(self):
        self.begin()
        return self._cluster.address

    def options(self, executor):
        """What tells a program to use it."""
        return ["--address", self.address] if executor == "ray" else []

    def begin(self):
        """Begin it, or put a lost node into its place again."""
        import ray
        from ray.cluster_utils import Cluster

        if self._cluster is None:
            os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
            self._cluster = Cluster()
        while len(self._cluster.list_all_nodes()) < NUM_NODES:
            is_head = not self._cluster.list_all_nodes()
            more = {"_system_config": FAST_HEALTH_CHECKS} if is_head else {}
            self._cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES, **more)
        if not ray.is_initialized():
            ray.init(address=self._cluster.address, log_to_driver=False, logging_level=logging.ERROR)

    def lose_node_of(self, pid):
        """Kill the node that a process runs on; return False if that is the head, without which there is no cluster."""
        for node in self._cluster.worker_nodes:
            if parent_of(pid) == node.all_processes["raylet"][0].process.pid:
                self._cluster.remove_node(node, allow_graceful=False)
                return True
        return False

    def end(self):
        if self._cluster is not None:
            import ray

            ray.shutdown()
            self._cluster.shutdown()
            self._cluster = None


def lose_a_node(trial):
    """A node is gone in the middle, with whatever runs on it."""

    def lose():
        trial.await_moment()
        for _ in range(1000):
            claim = trial.await_claim()
            trial.note_finished()
            if trial.lab.cluster.lose_node_of(claim.owner.pid):
                return
        raise MissedError("only the head was at work")

    trial.lab.cluster.begin()
    with trial.disturbed(lose):
        trial.run()
