"""Two whole programs on one store: they share the runs, do none twice, and one survives the other."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import autotunenet_bench
from autotunenet_bench.results import ResultStore
from autotunenet_bench.results.claims import Claims
from autotunenet_bench.results.store import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="kills processes by signals")]
SOURCE_DIR = Path(autotunenet_bench.__file__).parent.parent
NUM_EPOCHS = 60

CONFIG = f"""
tasks: [digits_mlp]
regimes: [stationary]
controllers: [fixed, cosine]
num_epochs: {NUM_EPOCHS}
seeds: [0, 1, 2]
"""


def start(folder):
    """The command, with one worker, in a process group of its own."""
    (folder / "mine.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "autotunenet_bench", "suite", "mine.yaml", "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE_DIR)}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **output)


def wait_for(condition, processes, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        assert all(process.poll() is None for process in processes), "a program ended too early"
        time.sleep(0.02)


def owners(claims):
    return {found.owner.pid for found in claims.active().values() if found.owner}


def test_two_suites_share_the_runs_and_one_survives_the_other(tmp_path):
    both, store = tmp_path / "both", ResultStore(tmp_path / "both/results/mine")
    both.mkdir()
    victim, survivor = programs = [start(both), start(both)]
    claims = Claims(store.root)
    try:
        wait_for(lambda: len(owners(claims)) >= 2, programs)  # both are at work, on different runs
        wait_for(lambda: any(path.parent.joinpath("checkpoint.pt").exists() for path in _statuses(store)), programs)
        os.killpg(victim.pid, signal.SIGKILL)
        output, _ = survivor.communicate(timeout=200)
    finally:
        for program in programs:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
            program.communicate()
    assert survivor.returncode == 0, output
    assert "6/6" in output
    folders = store.folders()
    assert len(folders) == 6
    for folder in folders:
        trace = folder.trace()  # refuses the rows of two writers
        assert trace.finished
        assert len(trace.epochs) == NUM_EPOCHS
        assert folder.is_done()
        assert not (folder.path / "checkpoint.pt").exists()
    assert not claims.folder.exists()

    # A third one, alone and undisturbed, has the same numbers.
    alone = tmp_path / "alone"
    alone.mkdir()
    program = start(alone)
    output, _ = program.communicate(timeout=200)
    assert program.returncode == 0, output
    for folder in folders:
        undisturbed = RunFolder(alone / "results/mine" / folder.path.name)
        assert _without_clock(folder) == _without_clock(undisturbed)


def _statuses(store):
    return store.root.glob("*/status.json")


def _without_clock(folder):
    rows = [json.loads(line) for line in folder.events_path.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "clock"} for row in rows]
