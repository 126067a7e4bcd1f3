"""The earlier autotunenet: the real one, in an environment made for it, and what is done when it goes wrong."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import sysconfig
import textwrap
import time
from pathlib import Path

import pytest
import torch

from autotunenet import Float, SearchSpace, testing
from autotunenet.testing import online
from autotunenet_bench.config import ConfigError, RunConfig, expand
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.controllers.autotunenet_1_0_2 import VARIABLE
from autotunenet_bench.controllers.legacy_process import WORKER, LegacyProcess
from autotunenet_bench.data import DataSource
from autotunenet_bench.regimes import Stationary
from autotunenet_bench.runners.online import Training
from autotunenet_bench.suite import resolve
from autotunenet_bench.tasks import DigitsMlp
from autotunenet_bench.types import Horizon

pytestmark = pytest.mark.xdist_group("autotunenet_1_0_2")  # one worker, so that its environment is made once

HORIZON = Horizon(num_epochs=4, steps_per_epoch=10)
SPACE = SearchSpace({"lr": Float(1e-6, 10.0, log=True)})
BARE = {"warmup_epochs": 0, "own_max_delta": None}
METRICS = [2.0, 1.5, 1.6, 3.0, 4.0, math.nan, 1.4, 1.3, math.inf, 1.2, 1.1, 1.0, 5.0, 0.9]


@pytest.fixture(scope="session")
def legacy(tmp_path_factory):
    """The interpreter of an environment with autotunenet 1.0.2: the user's, or one made here."""
    if given := os.environ.get(VARIABLE):
        return given
    folder = tmp_path_factory.mktemp("legacy")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # Its torch is only imported, so the one that is here will do: nobody has to wait for gigabytes.
    steps = [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "-q", "--no-deps", "autotunenet==1.0.2"],
        [str(python), "-m", "pip", "install", "-q", "optuna", "pyyaml"],
    ]
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, timeout=240, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"no environment with autotunenet 1.0.2: {' '.join(step)} takes too long")
        if done.returncode != 0:
            pytest.skip(f"no environment with autotunenet 1.0.2: {' '.join(step)} failed: {done.stderr[-300:]}")
    found = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    (Path(found.stdout.strip()) / "torch_of_the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return str(python)


def make(python, seed=0, space=SPACE, **fields):
    return CONTROLLERS["autotunenet_1_0_2"](python=python, **fields).build(HORIZON, space, seed=seed)


def play(controller, metrics, lr=0.01):
    answers = []
    for step, metric in enumerate(metrics, start=1):
        controller.observe(metric, step)
        lr = controller.propose({"lr": lr})["lr"]
        answers.append(lr)
    return answers


def started(python, **fields):
    controller = make(python, **fields)
    assert controller.start({"lr": 0.01}) == {"lr": 0.01}
    return controller


# -- with the real package -------------------------------------------------------------------------------------------

REFERENCE = """
import sys
from types import SimpleNamespace
from autotunenet.adapters.pytorch.adapter import PyTorchHyperParameterAdapter
from autotunenet.bayesian_optimizer import BayesianOptimizer
from autotunenet.parameters import ParameterSpace

nan, inf = float("nan"), float("inf")
group = {"lr": 0.01}
tuner = BayesianOptimizer(ParameterSpace({"lr": (1e-4, 1e-1)}), seed=7)
adapter = PyTorchHyperParameterAdapter(SimpleNamespace(param_groups=[group]), tuner, **OPTIONS)
for metric in METRICS:
    adapter.on_epoch_end(metric=-metric)
    print("answer", repr(group["lr"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "options"),
    [
        (BARE, {}),
        ({}, {"warmup_epochs": 2, "max_delta": 0.5}),
        ({**BARE, "tune_n_steps": 2}, {"tune_n_steps": 2}),
    ],
    ids=["bare", "default", "every second"],
)
def test_it_answers_as_the_package_does_in_a_script_of_its_own(fields, options, legacy, tmp_path):
    code = f"OPTIONS = {options!r}\n" + REFERENCE.replace("METRICS", repr(METRICS))
    done = subprocess.run(
        [legacy, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True, timeout=120
    )
    expected = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("answer")]
    controller = started(legacy, seed=7, **fields)
    assert play(controller, METRICS) == expected
    assert len(set(expected)) > 3
    assert all(1e-4 <= lr <= 1e-1 for lr in expected)
    controller.close()


@pytest.mark.slow
def test_a_seed_is_a_stream(legacy):
    first, second, other = (play(started(legacy, seed=seed, **BARE), METRICS[:4]) for seed in (3, 3, 2**32 + 4))
    assert first == second
    assert first != other


@pytest.mark.slow
def test_what_the_package_prints_is_no_answer(legacy):
    """It prints a line an epoch, which a pipe passes on once there are some kilobytes."""
    assert len(play(started(legacy, **BARE), [1.0 + 0.01 * (i % 7) for i in range(250)])) == 250


@pytest.mark.slow
def test_it_keeps_the_contract_of_controllers(legacy, monkeypatch):
    monkeypatch.setattr(online, "_METRICS", (1.0, math.nan))  # three processes a cut: fewer cuts than elsewhere
    testing.check_controller(lambda: make(legacy, warmup_epochs=1, space=DigitsMlp().space))


def make_training(legacy):
    config = RunConfig(
        task=DigitsMlp(),
        regime=Stationary(),
        controller=CONTROLLERS["autotunenet_1_0_2"](python=legacy, **BARE),
        num_epochs=5,
        seeds=(0,),
    )
    data, info = config.task.load(DataSource())
    (cell,) = expand(config)
    with torch.random.fork_rng(devices=[]):
        return Training(cell.resolve(info), data)


def row_of(training):
    return [{key: value for key, value in event.items() if key != "clock"} for event in training.run_epoch()]


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit_from_a_saved_state(legacy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training, rows = make_training(legacy), []
    for epoch in range(5):
        torch.save(training.state_dict(), tmp_path / f"{epoch}.pt")
        rows.append(row_of(training))
    lrs = [row[0]["hyperparams"]["lr"] for row in rows]
    assert len(set(lrs)) > 2
    for epoch in (0, 1, 4):  # nothing told yet, a little, and nearly all; a process each
        resumed = make_training(legacy)
        resumed.load_state_dict(torch.load(tmp_path / f"{epoch}.pt", weights_only=True))
        assert [row_of(resumed) for _ in range(5 - epoch)] == rows[epoch:]
    assert resumed.end_event() == training.end_event()
    assert not (tmp_path / "logs").exists()  # the package makes one wherever it is imported


@pytest.mark.slow
def test_a_package_that_answers_otherwise_is_no_resume(legacy):
    controller = started(legacy, **BARE)
    play(controller, METRICS[:3])
    state = controller.state_dict()
    state["told"][1][2]["lr"] *= 1.5
    other = started(legacy, **BARE)
    other.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"answers otherwise than in the saved run: .* after epoch 2"):
        play(other, [1.0])


@pytest.mark.slow
def test_an_error_of_the_package_is_shown_and_the_process_is_ended(legacy):
    process = LegacyProcess(legacy, timeout=60)
    with pytest.raises(RuntimeError, match="the first request is start, got epoch"):
        process.ask({"do": "epoch", "params": {}, "metric": 0.0})
    assert not process.is_running


# -- without it ------------------------------------------------------------------------------------------------------


def test_a_missing_environment_is_said_before_anything_runs(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    config = RunConfig(
        task=DigitsMlp(),
        regime=Stationary(),
        controller=CONTROLLERS["autotunenet_1_0_2"](),
        num_epochs=2,
        seeds=(0,),
    )
    with pytest.raises(ConfigError, match=r"python -m venv legacy\s+legacy/bin/pip install autotunenet==1\.0\.2"):
        resolve(config, DataSource())


def test_an_interpreter_that_is_not_there_is_said(monkeypatch, tmp_path):
    missing = str(tmp_path / "no" / "python")
    with pytest.raises(ValueError, match=r"the key python names .*, which cannot be run; make one with"):
        make(missing)
    monkeypatch.setenv(VARIABLE, missing)
    with pytest.raises(ValueError, match=rf"{VARIABLE} names .*, which cannot be run"):
        make(None)


def test_another_version_is_refused():
    """The interpreter of the tests has this package, or none that is isolated from the source tree."""
    with pytest.raises(ValueError, match=r"should have autotunenet 1\.0\.2 and has (none|\d)"):
        make(sys.executable)


def test_boxes_that_are_empty_are_refused():
    with pytest.raises(ValueError, match="low must lie below high, got 2 and 1"):
        CONTROLLERS["autotunenet_1_0_2"](low=2.0, high=1.0)


def test_the_worker_knows_the_standard_library_only():
    imported = [
        line.split()[1].split(".")[0]
        for line in WORKER.read_text(encoding="utf-8").splitlines()
        if line.startswith(("import ", "from "))
    ]
    assert set(imported) <= {"__future__", *sys.stdlib_module_names}


def script(tmp_path, code):
    path = tmp_path / "worker.py"
    path.write_text(textwrap.dedent(code))
    return path


def test_a_process_that_says_nothing_is_ended_after_its_time(tmp_path):
    worker = script(tmp_path, "import sys, time; print('thinking', file=sys.stderr, flush=True); time.sleep(600)")
    process = LegacyProcess(sys.executable, timeout=1.0, worker=worker)
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=r"no answer for 1 seconds; raise the key timeout[\s\S]*thinking"):
        process.ask({"do": "start"})
    assert time.monotonic() - began < 30
    assert not process.is_running


def test_a_process_that_dies_shows_its_errors(tmp_path):
    process = LegacyProcess(sys.executable, timeout=30, worker=script(tmp_path, "raise SystemExit('no optuna here')"))
    with pytest.raises(RuntimeError, match=r"has ended\s+its error output: no optuna here"):
        process.ask({"do": "start"})
    with pytest.raises(RuntimeError, match="has ended"):
        process.ask({"do": "start"})


def test_an_answer_that_is_none_is_said(tmp_path):
    process = LegacyProcess(sys.executable, timeout=30, worker=script(tmp_path, "input(); print('hello')"))
    with pytest.raises(RuntimeError, match="has answered what is no JSON: 'hello"):
        process.ask({"do": "start"})
    assert not process.is_running


def test_a_process_ends_with_its_owner(tmp_path):
    process = LegacyProcess(sys.executable, timeout=30, worker=script(tmp_path, "import time; time.sleep(600)"))
    child, folder = process._child, process._errors.parent
    assert process.is_running
    assert folder.exists()
    del process
    assert child.poll() is not None
    assert not folder.exists()
    process = LegacyProcess(sys.executable, timeout=30, worker=script(tmp_path, "import time; time.sleep(600)"))
    process.close()
    process.close()
    assert not process.is_running
