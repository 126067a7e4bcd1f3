"""The pool against real processes, killed for real."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import autotunenet_bench
from autotunenet.files import locked
from autotunenet.processes import Starter, describe_exit
from autotunenet_bench.executors import CellFailure, Limits, run_cells
from autotunenet_bench.executors import local as local_module
from autotunenet_bench.executors.cell import do_cell
from autotunenet_bench.executors.local import BENCH_MODULES, LocalExecutor
from autotunenet_bench.executors.memory import can_measure
from autotunenet_bench.results import RunFolder
from autotunenet_bench.results.claims import Claims

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="kills processes by signals")]
SOURCE_DIR = Path(autotunenet_bench.__file__).parent.parent


@pytest.fixture(autouse=True, scope="module")
def _fork_server_with_torch():
    """The first pool of a process settles what its fork server imports: toys are not to settle it without torch.

    Every worker would import it anew, here with this file, and for later tests with each run.
    """
    process = Starter({}, preload=BENCH_MODULES, needs_main=False).start(int, ())
    process.join()


@dataclass(frozen=True)
class ToySpec:
    run_id: str
    does: str = "work"
    num_epochs: int = 2


@dataclass
class Updates:
    seen: list = field(default_factory=list)

    def __call__(self, update):
        self.seen.append(update)

    def of(self, run_id):
        return [(update.state, update.epoch) for update in self.seen if update.run_id == run_id]


def toy_cell(spec, root, source, on_event):
    """Do what the spec says. `tries` counts, across processes, how often the cell began."""
    if spec.does == "claim":
        with Claims(root).hold(spec.run_id):
            return toy_cell(replace(spec, does="work"), root, source, on_event)
    tries = root / spec.run_id / "tries"
    tries.parent.mkdir(parents=True, exist_ok=True)
    with tries.open("a") as file:
        file.write("x")
    first_try = tries.stat().st_size == 1
    on_event({"event": "start"})
    for epoch in range(1, spec.num_epochs + 1):
        on_event({"event": "epoch", "epoch": epoch, "val": {"loss": 0.5 / epoch}})
        if spec.does == "killed" or (spec.does == "killed once" and first_try):
            os.kill(os.getpid(), signal.SIGKILL)
        if spec.does == "raise":
            raise ValueError("lr = -1.0, but must be > 0\nand more lines")
        if spec.does == "exit":
            sys.exit(0)
        if spec.does == "crash":
            import faulthandler

            faulthandler._sigsegv()
    if spec.does == "sleep":
        time.sleep(60)
    if spec.does == "hoard" or (spec.does == "hoard once" and first_try):
        held = b"x" * 700_000_000  # written to, or it would take no memory
        time.sleep(60 if held else 0)
    if spec.does == "print":
        sys.stdout.write("a line of the run\n")
        os.system("echo a line of its child")
    if spec.does == "identify":
        (root / spec.run_id / "pid").write_text(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}")
    if spec.does == "list files":
        links = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
        (root / spec.run_id / "files").write_text("\n".join(links))
    return None


def run_toys(root, *specs, num_workers=2, **options):
    updates = Updates()
    failures = run_cells(
        specs, root=root, source=None, num_workers=num_workers, on_update=updates, run_cell=toy_cell, **options
    )
    return updates, failures


def status(root, run_id):
    return json.loads((root / run_id / "status.json").read_text())


def test_every_cell_runs_and_tells_its_epochs(tmp_path):
    root = tmp_path / "a folder with spaces"
    updates, failures = run_toys(root, *(ToySpec(name) for name in "abc"))
    assert failures == []
    for name in "abc":
        assert updates.of(name) == [("started", 0), ("epoch", 1), ("epoch", 2), ("done", 2)]
        assert [path.name for path in (root / name).iterdir()] == ["tries"]  # no empty output.txt
    assert updates.seen[-1].num_epochs == 2
    assert {update.message for update in updates.seen if update.state == "epoch"} == {"val loss 0.5", "val loss 0.25"}


def test_a_cell_that_takes_too_long_fails_and_the_others_go_on(tmp_path):
    executor = LocalExecutor(Limits(timeout_seconds=1.5))
    updates, failures = run_toys(tmp_path, ToySpec("slow", "sleep"), ToySpec("b"), num_workers=1, executor=executor)
    assert [failure.run_id for failure in failures] == ["slow"]
    assert "was ended after 1.5 s, which is all that a run may take; its checkpoint stays" in failures[0].message
    assert status(tmp_path, "slow")["error"] == failures[0].message
    assert (tmp_path / "slow" / "tries").read_text() == "x"  # it would take as long again
    assert updates.of("b")[-1] == ("done", 2)


@pytest.mark.skipif(not can_measure(), reason="reads /proc")
def test_a_cell_that_takes_too_much_memory_is_tried_again_in_a_fresh_process(tmp_path):
    executor = LocalExecutor(Limits(memory_bytes=600_000_000))
    updates, failures = run_toys(
        tmp_path, ToySpec("once", "hoard once"), ToySpec("bad", "hoard"), num_workers=1, executor=executor
    )
    assert updates.of("once")[-1] == ("done", 2)
    assert [failure.run_id for failure in failures] == ["bad"]
    assert "was ended because it held" in failures[0].message
    assert len(status(tmp_path, "bad")["tries"]) == 2
    assert (tmp_path / "bad" / "error.txt").read_text().startswith("Try 1: the process was ended because it held")


def test_limits_that_cannot_be_kept_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="hands out no GPUs"):
        LocalExecutor(Limits(gpus=1))
    monkeypatch.setattr(local_module, "can_measure", lambda: False)
    with pytest.raises(ValueError, match="memory cannot be limited here"):
        LocalExecutor(Limits(memory_bytes=10**9))
    for wrong in ({"gpus": -1}, {"timeout_seconds": 0}, {"memory_bytes": float("nan")}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} = "):
            Limits(**wrong)


def test_a_cell_of_another_process_is_waited_for_and_run_when_that_has_gone(tmp_path):
    seen = []
    held = Claims(tmp_path).take("claimed")

    def on_update(update):
        seen.append((update.run_id, update.state))
        if update.state == "held":
            held.release()

    specs = [ToySpec("claimed", "claim"), ToySpec("free")]
    assert run_cells(specs, root=tmp_path, source=None, num_workers=1, on_update=on_update, run_cell=toy_cell) == []
    states = [state for run_id, state in seen if run_id == "claimed"]
    assert states == ["started", "held", "started", "epoch", "epoch", "done"]
    assert seen.index(("claimed", "held")) < seen.index(("free", "done"))  # which is not kept waiting
    assert (tmp_path / "claimed" / "tries").read_text() == "x"


def test_what_another_process_has_made_of_a_cell_is_taken_from_it(tmp_path):
    claims, messages = {name: Claims(tmp_path).take(name) for name in ("good", "bad")}, []

    def on_update(update):
        messages.append((update.run_id, update.state, update.message))
        if update.state == "held":  # and now the other one comes to its end
            folder = RunFolder(tmp_path / update.run_id)
            folder.path.mkdir(exist_ok=True)
            folder.append([{"event": "start"}, {"event": "end"}])
            folder.set_status("done" if update.run_id == "good" else "failed", error="ValueError: out of luck")
            claims[update.run_id].release()

    specs = [ToySpec(name, "claim") for name in claims]
    failures = run_cells(specs, root=tmp_path, source=None, num_workers=1, on_update=on_update, run_cell=toy_cell)
    assert failures == [CellFailure("bad", "ValueError: out of luck")]
    assert ("good", "done", "by another process") in messages
    assert not (tmp_path / "good" / "tries").exists()


def test_nothing_to_do_starts_nothing(tmp_path):
    assert run_cells([], root=tmp_path, source=None, num_workers=1) == []


@pytest.mark.parametrize("name", ["num_workers", "num_threads"])
def test_numbers_below_one_are_refused(tmp_path, name):
    options = {"num_workers": 1, name: 0}
    with pytest.raises(ValueError, match=f"{name} = 0, but must be at least 1"):
        run_cells([ToySpec("a")], root=tmp_path, source=None, run_cell=toy_cell, **options)


def test_a_worker_does_many_cells_with_the_threads_it_was_given(tmp_path):
    run_toys(tmp_path, *(ToySpec(name, "identify") for name in "abcd"), num_workers=1, num_threads=3)
    seen = {(tmp_path / name / "pid").read_text() for name in "abcd"}
    assert len(seen) == 1
    assert seen.pop().split()[1] == "3"


@pytest.mark.parametrize(
    ("does", "reason"), [("raise", "ValueError: lr = -1.0, but must be > 0"), ("exit", "SystemExit: 0")]
)
def test_an_exception_fails_its_cell_only(tmp_path, does, reason):
    updates, failures = run_toys(tmp_path, ToySpec("a"), ToySpec("bad", does), ToySpec("c"), ToySpec("d"))
    assert failures == [CellFailure("bad", reason)]
    assert updates.of("bad") == [("started", 0), ("epoch", 1), ("failed", 1)]
    assert [update.message for update in updates.seen if update.state == "failed"] == [reason]
    assert status(tmp_path, "bad") == {"state": "failed", "error": reason}
    assert "in toy_cell" in (tmp_path / "bad" / "error.txt").read_text()
    assert all(updates.of(name)[-1] == ("done", 2) for name in "acd")


def test_a_killed_cell_is_tried_again_and_the_others_lose_nothing(tmp_path):
    updates, failures = run_toys(tmp_path, ToySpec("a"), ToySpec("unlucky", "killed once"), ToySpec("c"))
    assert failures == []
    assert updates.of("unlucky") == [
        ("started", 0),
        ("epoch", 1),
        ("started", 1),
        ("epoch", 1),
        ("epoch", 2),
        ("done", 2),
    ]
    again = [update.message for update in updates.seen if update.state == "started"]
    assert sum(message.startswith("again: the process was killed by SIGKILL") for message in again) == 1
    assert all((tmp_path / name / "tries").read_text() == "x" for name in "ac")


def test_a_cell_that_is_killed_twice_has_failed(tmp_path):
    updates, failures = run_toys(tmp_path, ToySpec("bad", "killed"), ToySpec("b"), num_workers=1)
    assert [failure.run_id for failure in failures] == ["bad"]
    assert "was killed by SIGKILL" in failures[0].message
    assert (tmp_path / "bad" / "tries").read_text() == "xx"
    assert status(tmp_path, "bad")["error"] == failures[0].message
    assert updates.of("b")[-1] == ("done", 2)


def test_a_crash_in_compiled_code_leaves_its_traceback(tmp_path):
    _, failures = run_toys(tmp_path, ToySpec("bad", "crash"), num_workers=1)
    assert "was killed by SIGSEGV" in failures[0].message
    assert "in toy_cell" in (tmp_path / "bad" / "error.txt").read_text()


def test_a_later_success_removes_the_old_error(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "error.txt").write_text("old")
    run_toys(tmp_path, ToySpec("a"))
    assert not (tmp_path / "a" / "error.txt").exists()


def test_output_of_a_run_goes_to_its_folder(tmp_path, capfd):
    run_toys(tmp_path, ToySpec("a", "print"))
    assert sorted((tmp_path / "a" / "output.txt").read_text().splitlines()) == [
        "a line of its child",
        "a line of the run",
    ]
    assert capfd.readouterr().out == ""


def test_an_error_in_the_callers_own_code_stops_the_workers(tmp_path):
    def on_update(update):
        raise RuntimeError("display broke")

    with pytest.raises(RuntimeError, match="display broke"):
        run_cells(
            [ToySpec("a", num_epochs=100_000)],  # too long to come to its end before it is stopped
            root=tmp_path,
            source=None,
            num_workers=1,
            on_update=on_update,
            run_cell=toy_cell,
        )
    assert status(tmp_path, "a")["state"] == "interrupted"


def test_it_works_in_a_thread_and_leaves_the_signal_handler_alone(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    results = []
    thread = threading.Thread(target=lambda: results.append(run_toys(tmp_path, ToySpec("a"))[1]))
    thread.start()
    thread.join()
    assert results == [[]]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_spec_that_cannot_be_pickled_is_told_at_once(tmp_path):
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        run_cells([ToySpec("a")], root=tmp_path, source=lambda: None, num_workers=1, run_cell=toy_cell)


def test_workers_that_cannot_start_are_not_started_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(local_module, "worker_main", os._exit)  # called with five arguments: it raises
    monkeypatch.setattr(local_module, "MAX_FAILED_STARTS", 2)
    with pytest.raises(RuntimeError, match="2 in a row failed before their first run, the last ended with exit code 1"):
        run_toys(tmp_path, ToySpec("a"), num_workers=1)


def test_it_works_where_there_is_no_fork_server(tmp_path, monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    updates, failures = run_toys(tmp_path, ToySpec("a", "killed once"), num_workers=1)
    assert failures == []
    assert updates.of("a")[-1] == ("done", 2)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads the open files of a process")
@pytest.mark.parametrize("methods", [["forkserver", "spawn"], ["spawn"]])
def test_workers_do_not_hold_the_lock_of_the_folder(tmp_path, monkeypatch, methods):
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: methods)
    with locked(tmp_path):
        assert run_toys(tmp_path, ToySpec("a", "list files"), num_workers=1)[1] == []
    files = (tmp_path / "a" / "files").read_text().splitlines()
    assert files
    assert not [name for name in files if name.endswith(".lock")]


def test_a_status_of_an_earlier_try_is_not_believed_without_the_last_row(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "status.json").write_text('{"state": "done"}')
    updates, failures = run_toys(tmp_path, ToySpec("a", "killed once"), num_workers=1)
    assert failures == []
    assert [state for state, _ in updates.of("a")].count("started") == 2


def test_a_full_disk_does_not_hide_an_interruption(tmp_path, monkeypatch):
    def on_update(update):
        raise KeyboardInterrupt

    def set_status(folder, state, **details):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "set_status", set_status)
    with pytest.raises(KeyboardInterrupt):
        run_cells([ToySpec("a")], root=tmp_path, source=None, num_workers=1, on_update=on_update, run_cell=toy_cell)


@pytest.mark.parametrize("file_system", ["as it was", "read-only"])
def test_an_output_file_that_cannot_be_removed_hides_no_end(tmp_path, monkeypatch, file_system):
    def unlink(path, missing_ok=False):
        raise OSError(30, "Read-only file system", str(path))

    spec = ToySpec("a", "raise")
    if file_system == "read-only":
        monkeypatch.setattr(Path, "unlink", unlink)
    assert do_cell(toy_cell, spec, tmp_path, None, lambda event: None).message.startswith("ValueError: lr = -1.0")
    assert (tmp_path / "a" / "output.txt").exists() == (file_system == "read-only")


def test_exits_in_words():
    assert describe_exit(-11) == "was killed by SIGSEGV (a crash in compiled code)"
    assert describe_exit(-signal.SIGTERM) == "was killed by SIGTERM"
    assert describe_exit(None) == "ended with exit code None"


# -- whole programs ----------------------------------------------------------------------------------------------------

SCRIPT = """
import os, sys, time
from dataclasses import dataclass
from pathlib import Path
from autotunenet_bench.executors import run_cells

@dataclass(frozen=True)
class Spec:
    run_id: str
    num_epochs: int = 1000

def cell(spec, root, source, on_event):
    (root / spec.run_id).mkdir(parents=True, exist_ok=True)
    (root / spec.run_id / "pid").write_text(str(os.getpid()))
    if spec.run_id == "stubborn":
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    on_event({"event": "epoch", "epoch": 1})
    time.sleep(0 if spec.run_id == "quick" else 60)

if __name__ == "__main__":
    specs = [Spec(name) for name in sys.argv[2:]]
    run_cells(specs, root=Path(sys.argv[1]), source=None, num_workers=2, run_cell=cell)
"""


def start_script(tmp_path, text, *args, **options):
    script = tmp_path / "my script.py"
    script.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(SOURCE_DIR)}
    return subprocess.Popen(
        [sys.executable, script, *args],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # its own group, to which a signal goes as a terminal's Ctrl-C would
        **options,
    )


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def group_is_gone(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    stats = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            stats.append(path.read_text().rpartition(")")[2].split())
    members = [state for state, _, pgrp, *_ in stats if int(pgrp) == group]
    return bool(stats) and set(members) <= {"Z"}  # dead, and not yet collected by a lazy init process


@pytest.fixture
def running(tmp_path):
    """A program with two cells under way, a third one waiting, and one done."""
    root = tmp_path / "results"
    process = start_script(tmp_path, SCRIPT, root, "quick", "slow", "stubborn", "waiting")
    wait_until(lambda: (root / "stubborn" / "pid").exists() and (root / "slow" / "pid").exists())
    time.sleep(0.2)
    yield process, root
    if not group_is_gone(process.pid):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_ctrl_c_leaves_no_process_and_no_noise(running):
    process, root = running
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)  # impatient, in the middle of the cleanup
    _, errors = process.communicate(timeout=15)
    assert process.returncode == -signal.SIGINT  # an uncaught KeyboardInterrupt
    assert errors.count("Traceback") == 1
    assert errors.strip().endswith("KeyboardInterrupt")
    assert [status(root, name)["state"] for name in ("slow", "stubborn")] == ["interrupted", "interrupted"]
    assert not (root / "waiting").exists()
    assert not (root / "quick" / "status.json").exists()  # its own business: it was done
    wait_until(lambda: group_is_gone(process.pid))


def test_workers_end_when_the_parent_is_killed(running):
    process, _ = running
    process.kill()
    process.wait()
    wait_until(lambda: group_is_gone(process.pid), seconds=5)


def test_a_script_needs_no_guard_nor_any_stdin(tmp_path):
    script = f"""
    import sys
    from pathlib import Path
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    from autotunenet_bench.executors import run_cells
    from {Path(__file__).stem} import ToySpec, toy_cell
    print(run_cells([ToySpec("a")], root=Path(sys.argv[1]), source=None, num_workers=1, run_cell=toy_cell))
    """
    process = start_script(tmp_path, textwrap.dedent(script), tmp_path / "out", preexec_fn=lambda: os.close(0))
    output, errors = process.communicate(timeout=30)
    assert (output, errors) == ("[]\n", "")


def test_the_status_is_not_that_of_another_run(tmp_path):
    run_toys(tmp_path, ToySpec("a", "raise"), ToySpec("b"))
    assert status(tmp_path, "a")["state"] == "failed"
    assert not (tmp_path / "b" / "status.json").exists()
