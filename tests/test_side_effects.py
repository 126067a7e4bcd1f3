"""Importing changes nothing, and no test is left out."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

IMPORT_ALL = """
import logging, os, random, sys, warnings
import numpy, torch
{others}

def state():
    return (
        sys.excepthook, sys.getrecursionlimit(), torch.get_num_threads(), torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(), torch.get_rng_state().tolist(), random.getstate(),
        numpy.random.get_state()[1].tolist(), logging.getLogger().handlers[:], logging.getLogger().level,
        dict(os.environ), os.getcwd(),
    )

before = state()
import {module}
import pkgutil
package = sys.modules["{module}"]
for found in pkgutil.walk_packages(package.__path__, "{module}."):
    if not found.name.endswith("__main__"):
        __import__(found.name)
assert state() == before, "importing changed the state of the process"
assert os.listdir() == [], os.listdir()
"""


@pytest.mark.parametrize(
    ("module", "others"),
    # rich and scikit-learn draw random numbers while they are imported, frameworks add handlers and variables of the
    # environment; that is not ours to change.
    [
        (
            "autotunenet",
            "import sklearn.gaussian_process, rich.live, keras, lightning.pytorch, pytorch_lightning, transformers",
        ),
        ("autotunenet_bench", "import sklearn.gaussian_process, rich.console, rich.progress, rich.table, typer"),
    ],
)
def test_importing_every_module_has_no_side_effect(module, others, tmp_path):
    """No folders, no hooks, no threads, no seeds, no handlers, and nothing printed."""
    command = [sys.executable, "-B", "-c", IMPORT_ALL.format(module=module, others=others)]
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_test_is_collected():
    """pytest looks into files named ``test_*.py`` for functions and classes named so; a test elsewhere never runs."""
    for path in sorted(TESTS.rglob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        tests = [n.name for n in nodes if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
        assert not tests or path.name.startswith("test_"), f"{path}: pytest never runs {tests}"
        assert len(tests) == len(set(tests)), f"{path}: of two tests with one name, the first never runs"
