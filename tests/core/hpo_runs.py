"""Objectives that leave evidence of their own, and the processes that tune them."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import autotunenet
from autotunenet import Float, SearchSpace

SOURCE_DIR = Path(autotunenet.__file__).parents[1]
SPACE = SearchSpace({"x": Float(-1.0, 1.0), "lr": Float(1e-4, 1.0, log=True)})

TUNE = """
import functools, sys
from pathlib import Path
import hpo_runs
from autotunenet.hpo import tune

if __name__ == "__main__":
    folder, num_trials, num_workers, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    objective = functools.partial(hpo_runs.witnessed, seconds=seconds)
    tune(objective, hpo_runs.SPACE, "random", num_trials, folder=folder, num_workers=num_workers, max_attempts=10**6)
"""


def parabola(trial):
    return (trial.params["x"] - 0.3) ** 2


def witnessed(trial, seconds=0.0):
    """A parabola that writes down when it runs, and whether it had been told before."""
    folder = trial.root.parent
    again = trial.number in [row["number"] for row in rows(folder, "told")]
    witness(folder, f"{'again' if again else 'starts'} {trial.number} {os.getpid()}")
    time.sleep(seconds)
    if trial.number >= 100:  # the last trials wait, so that a test is not over before all its kills
        while not (folder / "go on").exists():
            time.sleep(0.01)
    witness(folder, f"ends {trial.number} {os.getpid()}")
    return parabola(trial)


def witness(folder, line):
    with (folder / "evidence").open("a") as file:
        file.write(line + "\n")


def evidence(folder):
    """What objectives have written: the word, the number of the trial, and the process."""
    path = folder / "evidence"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(word, int(number), int(pid)) for word, number, pid in lines]


def rows(folder, kind):
    """The whole rows of one kind in a journal."""
    path = folder / "trials.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [row for row in map(json.loads, lines) if row["row"] == kind]


def without_seconds(trials):
    """Trials as records, without what no two runs have in common."""
    records = [trial.to_dict() for trial in trials]
    for record in records:
        record["cost"].pop("seconds")
    return records


def start_tuning(folder, num_trials, num_workers, seconds):
    """Start a process that tunes, in a process group of its own."""
    folder.mkdir(exist_ok=True)
    script = folder.parent / "tune_for_test.py"
    script.write_text(TUNE)
    paths = [str(SOURCE_DIR), str(Path(__file__).parent)]
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), str(num_trials), str(num_workers), str(seconds)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.005)


def is_alive(pid):
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def a_fork_that_lives():
    """A fork of this process that does nothing until the block ends."""
    its_end, our_end = os.pipe()
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(our_end)
        os.write(tells, b"!")
        os.read(its_end, 1)  # until the parent closes its own
        os._exit(0)
    os.read(told, 1)
    try:
        yield
    finally:
        for descriptor in (our_end, its_end, told, tells):
            os.close(descriptor)
        os.waitpid(child, 0)
