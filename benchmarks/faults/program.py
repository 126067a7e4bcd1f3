"""The program that is disturbed: a suite whose cells keep a diary."""

import argparse
import os
import sys
from pathlib import Path

from faults.trial import NUM_WORKERS, RecordingExecutor, config

from autotunenet.processes import Starter
from autotunenet_bench.data import DataSource
from autotunenet_bench.executors import make_executor
from autotunenet_bench.executors.local import BENCH_MODULES
from autotunenet_bench.suite import run_suite


def warm_up():
    """Have the fork server of this process import what cells need, which it does not for other cells than the usual."""
    starter = Starter({}, preload=["autotunenet_bench.executors.worker", *BENCH_MODULES], needs_main=False)
    starter.start(int, ()).join()


def begin(output, argv):
    """What a process does that is to be this program."""
    with open(output, "ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    main(argv)


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--executor", required=True)
    parser.add_argument("--address")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args(argv)
    if arguments.executor == "local":
        warm_up()
    options = {"address": "local"} if arguments.executor == "slurm" else {"address": arguments.address}
    executor = make_executor(arguments.executor, **(options if arguments.executor != "local" else {}))
    result = run_suite(
        config(arguments.set),
        arguments.folder,
        DataSource(),
        num_workers=NUM_WORKERS[arguments.executor],
        executor=RecordingExecutor(executor),
    )
    executor.close()
    sys.exit(len(result.failures))
