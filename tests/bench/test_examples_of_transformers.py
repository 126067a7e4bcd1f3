"""The examples with transformers run: one whole, the other on small data and a small model."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

import pytest
from transformers import logging

pytestmark = pytest.mark.xdist_group("transformers")

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(monkeypatch, capsys):
    """Call an example's main with arguments; return the lines that it printed."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name))["main"]()
        return capsys.readouterr().out.splitlines()

    verbosity = logging.get_verbosity()
    yield run
    logging.set_verbosity(verbosity)
    logging.enable_progress_bar()


def test_digits(run):
    lines = run("transformers_digits.py")
    assert any("Taken back" in line for line in lines)
    assert float(lines[-1].split()[-1].rstrip("%")) > 85


@pytest.fixture
def _small(small_data, tiny_bert, tmp_path, monkeypatch):
    shutil.copytree(tiny_bert, tmp_path / "all-MiniLM-L6-v2")
    monkeypatch.setenv("AUTOTUNENET_MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("AUTOTUNENET_DATA_DIR", str(small_data))


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("loop", ["plain", "trainer"])
def test_fine_tuning(loop, run):
    lines = run("finetune_sst2.py", "--loop", loop, "--num-train", "16", "--batch-size", "4", "--epochs", "24")
    assert any("step 4: probe: The loss starts at" in line for line in lines)
    assert lines[-1].startswith(f"{loop} loop, lr 0.01, tuner autotunenet, seed 0: ")
    (last,) = run("finetune_sst2.py", "--num-train", "16", "--epochs", "1", "--tuner", "none")
    assert last.endswith("sentences are classified rightly")
