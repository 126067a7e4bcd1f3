"""What the executors cost: how well two workers share two cores, and how long a cell waits besides its own work.

Goals: two workers do at least 90 % of twice what one does, on cells of some seconds; at most 50 ms a cell of overhead.

    python benchmarks/bench_executor.py
    python benchmarks/bench_executor.py --executors local ray --cells 12 --epochs 60
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from autotunenet_bench.config import parse_config
from autotunenet_bench.data import DataSource
from autotunenet_bench.executors import EXECUTORS, make_executor, run_cells
from autotunenet_bench.results.claims import Claims
from autotunenet_bench.suite import resolve

CONFIG = "{{task: digits_mlp, regime: stationary, controller: fixed, num_epochs: {epochs}, seeds: {seeds}}}"


@dataclass(frozen=True)
class EmptySpec:
    run_id: str
    num_epochs: int = 1


def empty_cell(spec, root, source, on_event):
    """Nothing but what every run does: claim, and release."""
    with Claims(root).hold(spec.run_id):
        on_event({"event": "epoch", "epoch": 1})


def seconds_after_warm_up(name, specs, num_warm, num_workers, **options):
    """Seconds from the end of the first `num_warm` cells, which carry the start of processes, to that of the last."""
    ends = []

    def on_update(update):
        if update.state == "done":
            ends.append(time.perf_counter())

    executor = make_executor(name, **({"address": "local"} if name == "slurm" else {}))
    with tempfile.TemporaryDirectory() as root:
        failures = run_cells(
            specs,
            root=Path(root),
            source=DataSource(),
            num_workers=num_workers,
            on_update=on_update,
            executor=executor,
            **options,
        )
    executor.close()
    assert not failures, failures[:3]
    return ends[-1] - ends[num_warm - 1]


def efficiency(name, num_cells, epochs):
    """Throughput of two workers over twice that of one, and seconds of a cell alone."""
    seconds = {}
    for num_workers in (1, 2):
        num_warm = 2 * num_workers
        seeds = list(range(num_cells + num_warm))
        specs = resolve(parse_config(CONFIG.format(epochs=epochs, seeds=seeds), "cells"), DataSource())
        seconds[num_workers] = seconds_after_warm_up(name, specs, num_warm, num_workers)
    return seconds[1] / (2 * seconds[2]), seconds[1] / num_cells


def overhead(name, num_cells):
    """Seconds that a cell without any work takes."""
    specs = [EmptySpec(f"cell{number}") for number in range(num_cells + 1)]
    return seconds_after_warm_up(name, specs, 1, 1, run_cell=empty_cell) / num_cells


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executors", nargs="+", choices=EXECUTORS, default=["local"])
    parser.add_argument("--cells", type=int, default=10, help="an even number of cells, for the efficiency")
    parser.add_argument("--epochs", type=int, default=150, help="of each of them")
    parser.add_argument("--empty-cells", type=int, default=200, help="for the overhead")
    arguments = parser.parse_args()
    for name in arguments.executors:
        # Before the empty cells: the first workers of a process settle what later ones have imported.
        share, seconds = efficiency(name, arguments.cells, arguments.epochs)
        print(f"{name}: 2 workers do {share:.0%} of twice what 1 does, on cells of {seconds:.1f} s", flush=True)
        print(f"{name}: {1000 * overhead(name, arguments.empty_cells):.1f} ms of overhead a cell", flush=True)


if __name__ == "__main__":
    from bench_executor import main as run  # Ray's workers have another __main__, and would not find the cell there

    run()
