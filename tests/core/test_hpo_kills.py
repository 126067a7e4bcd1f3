"""Searches whose processes are killed for real: at random moments, and between any two lines of the journal."""

import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hpo_runs import (
    SOURCE_DIR,
    SPACE,
    evidence,
    is_alive,
    parabola,
    rows,
    start_tuning,
    wait_until,
    without_seconds,
    witnessed,
)

from autotunenet.hpo import TrialState, tune

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, kills by signals")]


@pytest.fixture
def start():
    """Start processes that tune; none outlives the test."""
    processes = []

    def start(*settings, **more):
        processes.append(start_tuning(*settings, **more))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def check_nothing_lost_nothing_twice(folder, num_trials):
    told = [row["number"] for row in rows(folder, "told")]
    assert sorted(told) == list(range(num_trials))
    assert not [entry for entry in evidence(folder) if entry[0] == "again"], "a trial ran after it was told"
    assert {number for word, number, _ in evidence(folder) if word == "ends"} == set(range(num_trials))
    assert list((folder / "workers").iterdir()) == []


def undisturbed(num_trials):
    return without_seconds(tune(parabola, SPACE, "random", num_trials).trials)


def test_workers_that_are_killed_are_replaced_and_their_trials_run_again(tmp_path):
    moments = random.Random(0)
    killed = []

    def kill_workers():
        while len(killed) < 12:
            time.sleep(moments.uniform(0.0, 0.15))
            running = sorted({pid for _, _, pid in evidence(tmp_path)} - set(killed))
            if running:
                killed.append(moments.choice(running))
                os.kill(killed[-1], signal.SIGKILL)
        (tmp_path / "go on").touch()

    killer = threading.Thread(target=kill_workers)
    killer.start()
    objective = functools.partial(witnessed, seconds=0.02)
    result = tune(objective, SPACE, "random", 110, folder=tmp_path, num_workers=3, max_attempts=10**6)
    killer.join()
    assert len(result.trials) == 110
    assert {trial.state for trial in result.trials} == {TrialState.DONE}
    assert [trial["params"] for trial in undisturbed(110)] == [trial.params for trial in result.trials]
    check_nothing_lost_nothing_twice(tmp_path, 110)
    assert any(row["attempt"] > 1 for row in rows(tmp_path, "asked"))


@pytest.mark.parametrize(("num_workers", "num_kills"), [(1, 7), (3, 5)])
def test_a_search_whose_every_process_is_killed_goes_on_where_it_was(tmp_path, start, num_workers, num_kills):
    folder, num_trials, moments = tmp_path / "search", 60 * num_workers, random.Random(num_workers)
    for _ in range(num_kills):
        before = len(evidence(folder))
        process = start(folder, num_trials, num_workers, seconds=0.02)
        wait_until(lambda before=before: len(evidence(folder)) > before)
        time.sleep(moments.uniform(0.0, 0.15))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert len(rows(folder, "told")) < num_trials
    (folder / "go on").touch()
    result = tune(witnessed, SPACE, "random", num_trials, folder=folder)
    check_nothing_lost_nothing_twice(folder, num_trials)
    if num_workers == 1:
        assert without_seconds(result.trials) == undisturbed(num_trials)


def test_workers_end_with_the_process_that_started_them(tmp_path, start):
    folder = tmp_path / "search"
    process = start(folder, 1000, 2, seconds=0.05)
    wait_until(lambda: len({pid for _, _, pid in evidence(folder)}) == 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(is_alive(pid) for _, _, pid in evidence(folder)), seconds=10)
    process.communicate()


def test_ctrl_c_stops_all_workers_and_gives_their_trials_back(tmp_path, start):
    folder = tmp_path / "search"
    process = start(folder, 1000, 2, seconds=0.3)
    wait_until(lambda: len({pid for _, _, pid in evidence(folder)}) == 2)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert output.rstrip().endswith("KeyboardInterrupt"), output
    assert output.count("Traceback") == 1, output  # the workers say nothing
    assert not any(is_alive(pid) for _, _, pid in evidence(folder))
    pending = {row["number"] for row in rows(folder, "asked")} - {row["number"] for row in rows(folder, "told")}
    assert {row["number"] for row in rows(folder, "released")} == pending != set()


def test_two_searches_in_one_folder_share_the_trials(tmp_path, start):
    folder = tmp_path / "search"
    both = [start(folder, 104, 1, seconds=0.0) for _ in range(2)]
    wait_until(lambda: len({pid for _, _, pid in evidence(folder)}) == 2)
    (folder / "go on").touch()
    for process in both:
        assert process.communicate(timeout=60)[0] == ""
        assert process.returncode == 0
    check_nothing_lost_nothing_twice(folder, 104)
    assert [row["params"] for row in rows(folder, "asked")] == [trial["params"] for trial in undisturbed(104)]


# Every child is killed before another line of the modules that keep the journal. Whatever it leaves behind, the search
# then comes to the same end. Forks of a process without threads: a thousand new interpreters would take an hour.
KILL_AT_LINES = """
import os, shutil, signal, sys, tempfile
from pathlib import Path
import hpo_runs
from autotunenet.hpo import RandomSearch, tune

MODULES = ("journal.py", "row_file.py", "files.py")
NUM_TRIALS = 3
place = Path(sys.argv[1])

def tune_in(folder):
    return tune(hpo_runs.witnessed, hpo_runs.SPACE, "random", NUM_TRIALS, folder=folder, max_attempts=2)

def tune_until_line(folder, last):
    lines = 0
    def trace(frame, event, argument):
        nonlocal lines
        if not frame.f_code.co_filename.endswith(MODULES):
            return None
        lines += event == "line"
        if lines == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    tune_in(folder)
    os._exit(0)

expected = hpo_runs.without_seconds(tune(hpo_runs.parabola, hpo_runs.SPACE, "random", NUM_TRIALS).trials)
line, step, was_killed = 1, int(sys.argv[2]), True
while was_killed:
    folder = place / str(line)
    folder.mkdir()
    child = os.fork()
    if child == 0:
        tune_until_line(folder, line)
    was_killed = os.waitpid(child, 0)[1] == signal.SIGKILL
    result = tune_in(folder)
    assert hpo_runs.without_seconds(result.trials) == expected, (line, result.trials)
    told = [row["number"] for row in hpo_runs.rows(folder, "told")]
    assert sorted(told) == list(range(NUM_TRIALS)), (line, told)
    assert not [entry for entry in hpo_runs.evidence(folder) if entry[0] == "again"], line
    shutil.rmtree(folder)
    line += step
sys.stdout.write(str(line))
"""


def test_a_kill_between_any_two_lines_of_the_journal_loses_nothing(fast_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE_DIR), str(Path(__file__).parent)])}
    done = subprocess.run(
        [sys.executable, "-c", KILL_AT_LINES, str(fast_path), "11"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 500  # lines that were passed: the trace has seen the modules
