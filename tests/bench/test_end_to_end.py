"""The commands as a user runs them: real processes, real data, real signals."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autotunenet_bench import cli
from autotunenet_bench.results import ResultStore, RunFolder

# One worker has all of this file: what `undisturbed` is made of is made once.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("end_to_end")]

ROOT = Path(__file__).resolve().parents[2]
SHIM = [sys.executable, str(ROOT / "run_benchmark.py")]
MODULE = [sys.executable, "-m", "autotunenet_bench"]
QUICK = ["--config", "configs/digits_quick.yaml", "--set", "seeds=[0, 1, 2]", "--set", "num_epochs=12"]


def call(command, cwd, check=0, **env):
    """Run a command to its end and return what it printed, on both streams."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=200, check=False, env={**os.environ, **env}
    )
    assert done.returncode == check, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def call_here(arguments, cwd, check=0):
    """Run a command of ours in this process, whose workers are real ones all the same; return what it printed."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(cwd)
        done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == check, done.output
    return done.output


def events_without_clock(root):
    """The bytes of every event file below a folder, by run, less what a clock has touched."""
    found = {}
    for folder in ResultStore(root).folders():
        rows = [json.loads(line) for line in folder.events_path.read_text().splitlines()]
        found[folder.path.name] = [json.dumps({k: v for k, v in row.items() if k != "clock"}) for row in rows]
    assert found, f"no runs in {root}"
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The quick config, run to its end without a disturbance."""
    cwd = tmp_path_factory.mktemp("undisturbed run")  # a path with a space
    printed = call([*SHIM, *QUICK], cwd)
    return cwd / "results" / "digits_quick", printed


def test_the_shim_runs_prints_a_table_and_writes_the_report(undisturbed):
    folder, printed = undisturbed
    assert "Report:" in printed
    assert "heuristic" in printed or "random_walk" in printed or "fixed" in printed
    html = (folder / "report.html").read_text()
    assert "<svg" in html
    assert "http" not in html.replace("http://www.w3.org", "")
    for name in ("summary.csv", "curves.csv", "decisions.csv"):
        assert len((folder / name).read_text().splitlines()) > 1
    assert {run.status() for run in ResultStore(folder).folders()} == {"done"}


def test_a_second_run_elsewhere_gives_equal_bytes(undisturbed, tmp_path):
    call_here(["run", *QUICK, "--out", "elsewhere", "--workers", "1"], tmp_path)
    assert events_without_clock(tmp_path / "elsewhere" / "digits_quick") == events_without_clock(undisturbed[0])


def test_the_same_command_again_reuses_what_is_finished(undisturbed):
    folder, _ = undisturbed
    before = {run.path.name: run.events_path.stat().st_mtime_ns for run in ResultStore(folder).folders()}
    printed = call_here(["run", *QUICK], folder.parents[1])
    assert "3 finished runs reused; --fresh runs them again" in printed
    assert before == {run.path.name: run.events_path.stat().st_mtime_ns for run in ResultStore(folder).folders()}


def start(cwd, *extra):
    command = [*MODULE, "run", *QUICK, "--workers", "1", *extra]
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(condition, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came so far"
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def num_done(root):
    return sum(run.status() == "done" for run in ResultStore(root).folders())


def no_process_left(group):
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_ctrl_c_keeps_finished_runs_and_prints_the_command_that_continues(undisturbed, tmp_path):
    results = tmp_path / "results" / "digits_quick"
    process = start(tmp_path)
    wait_for(lambda: results.exists() and num_done(results) >= 1, process)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    assert no_process_left(process.pid)

    finished = [run for run in ResultStore(results).folders() if run.status() == "done"]
    assert finished
    assert all(run.trace().finished for run in finished)
    command = next(line for line in err.splitlines() if line.startswith("  ")).strip()
    assert "finished run" in call(shlex.split(command), tmp_path)
    assert events_without_clock(results) == events_without_clock(undisturbed[0])


@pytest.mark.parametrize("attempt", range(3))
def test_kill_9_of_everything_at_a_random_moment_loses_nothing(undisturbed, tmp_path, attempt):
    results = tmp_path / "results" / "digits_quick"
    process = start(tmp_path)
    wait_for(lambda: any(results.glob("*/events.jsonl")), process)
    time.sleep(random.Random(attempt).uniform(0.0, 1.0))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done_before = {
        run.path.name: run.events_path.stat().st_mtime_ns
        for run in ResultStore(results).folders()
        if run.status() == "done"
    }
    call_here(["run", *QUICK], tmp_path)
    assert events_without_clock(results) == events_without_clock(undisturbed[0])
    for name, written in done_before.items():
        assert RunFolder(results / name).events_path.stat().st_mtime_ns == written, "a finished run was run again"


MISTAKES = {
    "misspelt key": ("controler: fixed\n", ["controler", "controller"]),
    "out of range": ("controller: {name: heuristic, max_delta: 50}\n", ["controller.max_delta", "50"]),
    "unknown controller": ("controller: heuristc\n", ["heuristc", "heuristic"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_a_config_end_with_2_and_say_what_to_do(mistake, tmp_path):
    line, words = MISTAKES[mistake]
    text = "task: digits_mlp\nregime: stationary\nnum_epochs: 1\nseeds: [0]\n"
    (tmp_path / "my.yaml").write_text(text + line)
    printed = call_here(["run", "--config", "my.yaml"], tmp_path, check=2)
    assert "my.yaml:5" in printed
    assert all(word in printed for word in words)
    assert not (tmp_path / "results").exists()


def test_a_missing_config_ends_with_2(tmp_path):
    printed = call_here(["run", "--config", "configs/mnist_data_shif.yaml"], tmp_path, check=2)
    assert "mnist_data_shift" in printed


def test_missing_data_end_with_2(tmp_path):
    arguments = ["run", "--config", "mnist_data_shift", "--data-dir", str(tmp_path)]
    assert str(tmp_path) in call_here(arguments, tmp_path, check=2)


def test_an_installed_wheel_works_in_an_empty_folder(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    call(build, tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    site, empty = tmp_path / "site", tmp_path / "an empty folder"
    empty.mkdir()
    call([sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(site), str(wheel)], tmp_path)
    shutil.copy(ROOT / "run_benchmark.py", empty)
    small = ["--set", "num_epochs=1", "--set", "seeds=[0]", "--set", "task=digits_mlp", "--set", "regime=stationary"]
    printed = call(
        [sys.executable, "run_benchmark.py", "--config", "configs/mnist_data_shift.yaml", *small],
        empty,
        PYTHONPATH=str(site),
    )
    assert "shipped" in printed
    assert (empty / "results" / "mnist_data_shift" / "report.html").exists()
    assert (site / "autotunenet_bench" / "configs" / "config.schema.json").exists()
    where = "import autotunenet_bench; print(autotunenet_bench.__file__)"
    assert str(site) in call([sys.executable, "-c", where], empty, PYTHONPATH=str(site))


def test_the_main_job_gives_equal_bytes_on_real_images(tmp_path):
    small = ["--config", "configs/mnist_data_shift.yaml", "--set", "num_epochs=2", "--set", "seeds=[0]"]
    call([*SHIM, *small, "--out", "first"], tmp_path)
    call_here(["run", *small, "--out", "second"], tmp_path)
    assert events_without_clock(tmp_path / "first/mnist_data_shift") == events_without_clock(
        tmp_path / "second/mnist_data_shift"
    )
