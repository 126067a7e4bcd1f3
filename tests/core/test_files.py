"""Locks that end with the process that holds them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hpo_runs import a_fork_that_lives

import autotunenet
from autotunenet.files import FolderInUseError, LifeLine, locked

HOLD = """
import sys
from pathlib import Path
from autotunenet.files import LifeLine
line = LifeLine(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_life_line_is_held_until_it_is_cut(tmp_path):
    path = tmp_path / "me"
    assert not LifeLine.is_held(path)
    line = LifeLine(path)
    assert LifeLine.is_held(path)
    with pytest.raises(FolderInUseError, match="me is held by another process"):
        LifeLine(path)
    assert LifeLine.is_held(path)
    line.cut()
    assert not LifeLine.is_held(path)
    assert not path.exists()


def test_a_life_line_ends_with_its_process(tmp_path):
    path = tmp_path / "other"
    environment = {**os.environ, "PYTHONPATH": str(Path(autotunenet.__file__).parents[1])}
    command = [sys.executable, "-c", HOLD, str(path)]
    holder = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    assert LifeLine.is_held(path)
    holder.kill()  # nothing of it tidies up
    holder.communicate()
    assert path.exists()
    assert not LifeLine.is_held(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
def test_forks_hold_nothing(tmp_path):
    line = LifeLine(tmp_path / "me")
    with locked(tmp_path), a_fork_that_lives():
        with pytest.raises(FolderInUseError), locked(tmp_path):
            pass
        assert LifeLine.is_held(tmp_path / "me")
    with a_fork_that_lives():
        line.cut()
        (tmp_path / "me").touch()
        assert not LifeLine.is_held(tmp_path / "me")
    with locked(tmp_path):
        lived = a_fork_that_lives()
        lived.__enter__()
    with locked(tmp_path):  # though the fork still lives
        pass
    lived.__exit__(None, None, None)
