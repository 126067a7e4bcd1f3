"""The faults by name: a file a family, one dict."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from faults import clocks, damage, disks, kills, memory, nodes, oha


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        words: What the table calls it.
        inflict: Called with a `faults.trial.Trial`; leaves a store in which everything is possible again. Returns the
            outcome if it had to look for itself, else None.
        tries: By executor, how many random moments are worth their time. An executor that is not named has no part in
            the fault: it comes to the same as with `local`, or cannot be made on one machine.
        overrides: Of the cells that it needs.
    """

    words: str
    inflict: Callable
    tries: Mapping[str, int]
    overrides: tuple = ()


FAULTS = {
    "worker": Fault("kill -9 of a worker", kills.kill_a_worker, {"local": 50, "ray": 10, "slurm": 3}),
    "supervisor": Fault("kill -9 of the supervisor", kills.kill_the_supervisor, {"local": 50, "ray": 5, "slurm": 3}),
    "power": Fault(
        "kill -9 of all processes at once (power loss)", kills.kill_everything, {"local": 50, "ray": 3, "slurm": 3}
    ),
    "node": Fault("a node is lost, of three", nodes.lose_a_node, {"ray": 5}),
    "full_disk": Fault("disk full, then space again", disks.fill, {"local": 10, "ray": 2}),
    "read_only": Fault("store read-only, then writable again", disks.make_read_only, {"local": 10}),
    "clock": Fault("clocks jump by hours, and a worker is killed", clocks.jump, {"local": 10, "ray": 2}),
    "sleep": Fault("asleep beyond the stale limit, taken over, awake again", clocks.sleep_too_long, {"local": 3}),
    "torn_row": Fault("torn line of JSON", damage.tear_a_row, {"local": 20, "ray": 2}),
    "checkpoint": Fault("corrupted checkpoint", damage.corrupt_a_checkpoint, {"local": 20, "ray": 2}),
    "memory": Fault("cell beyond its memory limit", memory.exceed_the_limit, {"local": 10}),
    "nan": Fault(
        "NaN everywhere, and a worker is killed",
        damage.go_through_nan,
        {"local": 10, "ray": 2, "slurm": 1},
        ('regimes=[{name: "faults.worlds:NanFromStep"}]',),
    ),
    "oha": Fault("none: the command `suite oha`, shortened", oha.run_on_ray, {"ray": 1}),
    "oha_node": Fault("the same, and a node is lost in its middle, of three", oha.lose_a_node, {"ray": 1}),
}
