"""The command that makes the fault matrix strikes, counts, and would see a loss; docs/reliability.md has the matrix."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


@pytest.fixture
def matrix(monkeypatch):
    """The script's globals, and what it imports of its own."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield runpy.run_path(str(BENCHMARKS / "fault_matrix.py"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "faults"]:
        del sys.modules[name]


@pytest.mark.slow
def test_faults_of_two_kinds_cost_nothing(matrix, tmp_path, capsys):
    options = ["--faults", "worker", "torn_row", "--moments", "1", "--keep", str(tmp_path)]
    assert matrix["main"](options) == 0
    printed = capsys.readouterr()
    rows = [line.strip("| ").split(" | ") for line in printed.out.splitlines() if "`local`" in line]
    assert [row[1:] for row in rows] == 2 * [["`local`", "1", "0", "0", "yes"]]
    assert printed.err.count("0 lost, 0 duplicated, table equal") == 2

    # What was found is kept: nothing is tried again.
    assert matrix["main"]([*options, "--markdown", str(tmp_path / "matrix.md")]) == 0
    again = capsys.readouterr()
    assert (again.out, again.err) == (printed.out, "")
    assert (tmp_path / "matrix.md").read_text() == again.out


@pytest.mark.slow
def test_a_loss_is_seen(matrix, tmp_path, monkeypatch, capsys):
    from faults.trial import MissedError

    def cut_a_finished_cell(trial):
        trial.interrupt()
        trial.note_finished()
        if not trial.done():
            raise MissedError("none was finished")
        events = trial.done()[0].events_path
        events.write_bytes(events.read_bytes()[:-1])

    fault = replace(matrix["FAULTS"]["torn_row"], inflict=cut_a_finished_cell)
    monkeypatch.setitem(matrix["FAULTS"], "torn_row", fault)
    assert matrix["main"](["--faults", "torn_row", "--moments", "1", "--keep", str(tmp_path)]) == 1
    assert "1 lost, 1 duplicated, table equal" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("a 1 start, a 1 epoch 1, a 1 end, a 1 finished, a 2 finished", ""),
        ("a 1 start, a 2 start, a 2 epoch 1, b 1 start, a 2 epoch 2", ""),  # killed before its first checkpoint
        ("a 1 start, a 1 epoch 1, a 2 epoch 1", "epoch 1 twice"),
        ("a 1 end, a 1 finished, a 2 start", "start after its end"),
        ("a 1 epoch 1, a 2 epoch 2, a 1 epoch 2", "epoch 2 twice"),  # two at once
        ("a 1 epoch 1, a 2 epoch 3, a 2 finished, a 1 epoch 2", ""),  # its checkpoint is older than that of epoch 3
    ],
)
def test_work_that_was_done_twice_is_seen(matrix, tmp_path, lines, fault):
    from faults.diary import duplicates

    (tmp_path / "diary.txt").write_text(lines.replace(", ", "\n"))
    assert duplicates(tmp_path / "results") == ({"a": fault} if fault else {})
    if fault == "epoch 1 twice":
        assert duplicates(tmp_path / "results", begun_anew={"a"}) == {}
