"""What long suites have measured is kept, and its tables can be made again."""

import csv
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from autotunenet_bench.config import SuiteConfig
from autotunenet_bench.data import DataSource
from autotunenet_bench.suite import run_suite

ROOT = Path(__file__).resolve().parents[2]
KEPT = sorted((ROOT / "docs" / "measured").glob("*.csv"))


SCRIPT = ROOT / "benchmarks" / "measured.py"


@pytest.fixture
def measured(monkeypatch, capsys):
    """The script in this process: the code that it ends with, and what it printed."""
    script = runpy.run_path(str(SCRIPT))

    def call(*args):
        monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, args)])
        capsys.readouterr()
        try:
            script["main"]()
            code = 0
        except SystemExit as ended:
            code = ended.code
        return SimpleNamespace(code=code, **capsys.readouterr()._asdict())

    return call


@pytest.mark.slow
def test_finished_runs_are_kept_once_and_tabulated(measured, tmp_path):
    tasks = ({"name": "digits_mlp", "lr": 0.001}, {"name": "digits_mlp", "lr": 10.0})
    config = SuiteConfig(
        tasks=tasks, regimes=("stationary",), controllers=("fixed", "cosine"), num_epochs=1, seeds=(0, 1)
    )
    run_suite(config, tmp_path / "results", DataSource(), num_workers=1)
    file = tmp_path / "kept" / "runs.csv"
    for new in (8, 0):
        done = measured("keep", tmp_path / "results", file, "--commit", "abc")
        assert (done.code, f"8 finished runs, {new} of them new; 8 rows" in done.err) == (0, True)
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["lr"], row["commit"], row["initial_val_loss"] > "2") for row in rows} == {
        ("0.001", "abc", True),
        ("10", "abc", True),
    }
    done = measured("table", file, "--by", "start")
    assert done.out.startswith("2 cells, seeds [0, 1], 4 runs a method, commits abc\n")
    assert "| failed, of 4 | 2 | 2 |" in done.out
    done = measured("table", file, "--controllers", "cosine")
    assert "\n|  | cosine |\n" in done.out
    done = measured("table", file, "--controllers", "cosine", "cosmic")
    assert str(done.code).endswith("there are no runs of cosmic; there are cosine, fixed")
    assert measured("table", file, "--where", "mnist").code not in (0, None)


def test_what_launches_have_found_is_tabulated(measured, tmp_path):
    tasks = ({"name": "digits_mlp", "lr": 1e-5}, {"name": "digits_mlp", "lr": 100.0})
    config = SuiteConfig(
        tasks=tasks, regimes=("stationary",), controllers=("fixed", "autotunenet"), num_epochs=6, seeds=(0, 1)
    )
    run_suite(config, tmp_path / "results", DataSource(), num_workers=1)
    low, high = measured("launches", tmp_path / "results").out.splitlines()[2:]
    for line, start in ((low, "| digits_mlp, adam 1e-05 |"), (high, "| digits_mlp, adam 100 |")):
        assert line.startswith(start)
        lr, end, discarded = (float(cell) for cell in line.strip("| ").split(" | ")[-3:])
        assert 1e-4 < lr < 0.1
        assert 40 < end <= 120
        assert 0 <= discarded <= 40


@pytest.mark.parametrize("file", KEPT, ids=[file.stem for file in KEPT])
def test_what_is_kept_can_be_tabulated(file):
    done = subprocess.run(
        [sys.executable, SCRIPT, "table", file], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "**all**" in done.stdout
