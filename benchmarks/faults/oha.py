"""The command itself on the suite `oha`, shortened: on a Ray cluster of three nodes as on this machine.

All of its regimes and methods, its tasks on the digits with both optimizers, one seed, four epochs: 560 cells. No diary
is kept here, since these are the command's own cells.
"""

import os
import subprocess
import sys
import time

from faults.tables import table_of
from faults.trial import MissedError, Outcome, changed_in, finished_in

from autotunenet_bench.results import ResultStore
from autotunenet_bench.results.claims import Claims

SETTINGS = (
    "tasks=[{name: digits_mlp, optimizer: adam, num_test: 360}, {name: digits_mlp, optimizer: sgd, num_test: 360}]",
    "num_epochs=4",
    "seeds=[0]",
)


def run_on_ray(trial):
    """Nothing breaks."""
    return _compare(trial, lambda program, root: {})


def lose_a_node(trial):
    """A node is killed when about half of the cells are done."""

    def lose(program, root):
        share = trial.rng.uniform(0.4, 0.6)
        num_cells = len(_undisturbed(trial)["events"])
        while len(finished := finished_in(root)) < share * num_cells:
            if program.poll() is not None:
                raise MissedError("the command has ended before")
            time.sleep(0.5)
        while program.poll() is None:
            for claim in Claims(root).active().values():
                if claim.owner and trial.lab.cluster.lose_node_of(claim.owner.pid):
                    return finished
            time.sleep(0.01)
        raise MissedError("the command has ended before")

    return _compare(trial, lose)


def _compare(trial, disturb):
    expected = _undisturbed(trial)
    root = trial.folder / "oha"
    with _started(trial.folder, "--executor", "ray", "--address", trial.lab.cluster.address) as program:
        finished = disturb(program, root)
    if program.returncode:
        raise AssertionError((trial.folder / "program.txt").read_text())
    done = {folder.path.name for folder in ResultStore(root).folders() if folder.is_done()}
    lost = changed_in(root, finished) | (expected["events"].keys() - done)
    is_equal = table_of(root) == expected
    faults = [f"{name}: lost or changed" for name in sorted(lost)] + ([] if is_equal else ["the table is another"])
    return Outcome(len(lost), None, is_equal, tuple(faults))


def _undisturbed(trial):
    """The table of the same command with the local executor, which is run once for all tries."""
    folder = trial.lab.folder / "undisturbed-oha"
    if not (folder / "oha" / "overall.csv").exists():
        folder.mkdir(exist_ok=True)
        with _started(folder, "--executor", "local") as program:
            pass
        if program.returncode:
            raise AssertionError((folder / "program.txt").read_text())
    return table_of(folder / "oha")


def _started(folder, *options):
    """The command, begun; it is waited for at the end of a `with`."""
    settings = [f"--set={one}" for one in SETTINGS]
    command = [sys.executable, "-m", "autotunenet_bench", "suite", "oha", *settings, "--out", str(folder), *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with (folder / "program.txt").open("ab") as output:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
