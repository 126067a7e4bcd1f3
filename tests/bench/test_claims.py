"""Claims: two processes never have one run, whoever dies, sleeps or comes late; whatever their clocks say."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import autotunenet_bench
from autotunenet_bench.results import owners
from autotunenet_bench.results.claims import ClaimedElsewhereError, ClaimedFolder, ClaimLostError, Claims, Watch
from autotunenet_bench.results.owners import Owner

SOURCE_DIR = Path(autotunenet_bench.__file__).parent.parent


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def claim_of_another_machine(root, name="a", generation=1, **changes):
    """A claim as a process of another machine would have left it."""
    owner = replace(Owner.of_this_process(), host="elsewhere", world="another boot", **changes)
    path = root / ".claims" / f"{name}.{generation}"
    path.parent.mkdir(exist_ok=True)
    path.write_text(owner.to_json() + "\n")
    return path


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_claim_is_held_by_one_and_leaves_nothing_behind(tmp_path):
    claims = Claims(tmp_path)
    with claims.hold("a") as claim:
        claim.check()
        with pytest.raises(ClaimedElsewhereError, match=f"a: process {os.getpid()} on .* works on it"):
            claims.take("a")
        with claims.hold("b"):  # another name is free
            assert sorted(claims.active()) == ["a", "b"]
    assert list(tmp_path.iterdir()) == []


def test_names_may_have_dots_and_be_the_beginning_of_others(tmp_path):
    claims = Claims(tmp_path)
    with claims.hold("a.1"), claims.hold("a"), claims.hold("a.1.2"):
        assert sorted(claims.active()) == ["a", "a.1", "a.1.2"]


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_a_full_disk_leaves_no_claim_of_nobody(tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # as on a full disk, a file can be made and not written
    try:
        with pytest.raises(OSError, match="too large"):
            Claims(tmp_path).take("a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert Claims(tmp_path).active() == {}
    with Claims(tmp_path).hold("a"):
        pass


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_of_many_at_once_one_gets_it(tmp_path):
    claims, got, most = Claims(tmp_path), [], []
    barrier = threading.Barrier(8)

    def compete():
        barrier.wait()
        for _ in range(20):
            try:
                claim = claims.take("a")
            except ClaimedElsewhereError:
                continue
            got.append(claim)
            time.sleep(0.001)
            most.append(len(got))
            got.remove(claim)
            claim.release()

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert claims.active() == {}


def test_of_many_that_take_over_one_gets_it(tmp_path):
    claims, won = Claims(tmp_path), []
    claim_of_another_machine(tmp_path)
    found = claims.find("a")
    barrier = threading.Barrier(8)

    def compete():
        barrier.wait()
        try:
            won.append(claims.take("a", over=found))
        except ClaimedElsewhereError:
            return

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    won[0].check()
    won[0].release()
    assert claims.find("a") is None


@pytest.mark.skipif(not owners.PROC.exists(), reason="reads /proc")
def test_a_claim_of_a_dead_process_of_this_machine_is_free_at_once(tmp_path):
    path = claim_of_another_machine(tmp_path)
    owner = replace(Owner.of_this_process(), pid=dead_process())
    path.write_text(owner.to_json() + "\n")
    with Claims(tmp_path).hold("a") as claim:
        claim.check()
        assert not path.exists()
    # The same id, but of a later process.
    path = claim_of_another_machine(tmp_path)
    path.write_text(replace(Owner.of_this_process(), started="1").to_json() + "\n")
    with Claims(tmp_path).hold("a"):
        pass


def test_where_the_system_tells_no_start_a_process_that_is_not_there_is_gone():
    owner = replace(Owner.of_this_process(), started="")
    assert not owner.is_gone()
    assert replace(owner, pid=dead_process()).is_gone() or os.name != "posix"
    assert not replace(owner, pid=dead_process(), world="").is_gone()
    assert not replace(owner, pid=dead_process(), world="another boot").is_gone()


def test_a_claim_is_stale_when_it_was_seen_to_stand_still_and_not_before(tmp_path):
    path, clock = claim_of_another_machine(tmp_path), Clock()
    claims = Claims(tmp_path)
    watch = Watch(claims, stale_seconds=60, clock=clock)
    for _ in range(5):  # it beats, slowly
        assert watch.look("a") == "held"
        clock.now += 50
        with path.open("a") as file:
            file.write(".")
    assert watch.look("a") == "held"
    clock.now += 59
    assert watch.look("a") == "held"
    clock.now += 2
    assert watch.look("a") == "abandoned"
    assert claims.find("a") is None
    assert watch.look("a") == "released"


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_no_wall_clock_makes_a_claim_old_or_young(tmp_path, monkeypatch, jump):
    path, clock = claim_of_another_machine(tmp_path), Clock()
    os.utime(path, (time.time() + jump,) * 2)
    watch = Watch(Claims(tmp_path), stale_seconds=60, clock=clock)
    assert watch.look("a") == "held"
    os.utime(path, (time.time() - jump,) * 2)
    monkeypatch.setattr(time, "time", lambda: jump)
    clock.now += 59
    assert watch.look("a") == "held"
    clock.now += 2
    assert watch.look("a") == "abandoned"


def test_a_claim_that_was_released_and_claimed_anew_is_watched_anew(tmp_path):
    clock = Clock()
    watch = Watch(Claims(tmp_path), stale_seconds=60, clock=clock)
    claim_of_another_machine(tmp_path)
    assert watch.look("a") == "held"
    clock.now += 61
    claim_of_another_machine(tmp_path)  # of the same generation, with another token
    assert watch.look("a") == "held"


@pytest.mark.parametrize("content", [b"", b'{"host": "x"', b'{"host": 3}\n', b"[]\n", b"\xff\n"])
def test_a_claim_that_nobody_can_read_is_held_until_it_is_stale(tmp_path, content):
    path, clock = claim_of_another_machine(tmp_path), Clock()
    path.write_bytes(content)
    claims = Claims(tmp_path)
    with pytest.raises(ClaimedElsewhereError, match="an unknown process works on it"):
        claims.take("a")
    watch = Watch(claims, stale_seconds=60, clock=clock)
    assert watch.look("a") == "held"
    clock.now += 61
    assert watch.look("a") == "abandoned"
    with claims.hold("a"):
        pass


def test_a_claim_beats(tmp_path):
    claims = Claims(tmp_path, beat_seconds=0.01)
    with claims.hold("a") as claim:
        before, deadline = claims.find("a").num_bytes, time.monotonic() + 20
        while claims.find("a").num_bytes < before + 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        claim.check()


def test_who_has_lost_its_claim_writes_nothing_and_spoils_nothing(tmp_path):
    claims = Claims(tmp_path)
    late = claims.take("a")
    folder = ClaimedFolder(tmp_path / "a", late)
    folder.path.mkdir()
    folder.append([{"event": "start"}])
    winner = claims.take("a", over=claims.find("a"))  # as after a sleep of `late`
    before = folder.events_path.read_bytes()
    for write in (
        lambda: folder.append([{"event": "epoch"}]),
        lambda: folder.set_status("done"),
        lambda: folder.save_checkpoint({}),
        folder.load_checkpoint,
        folder.remove_checkpoint,
        folder.clear,
        lambda: folder.create(None),
    ):
        with pytest.raises(ClaimLostError, match="another one has taken the run over"):
            write()
    assert folder.events_path.read_bytes() == before
    late.release()  # it is not its to release
    winner.check()
    winner.release()
    assert claims.find("a") is None


def test_who_waits_gets_it_after_the_others(tmp_path):
    claims, order = Claims(tmp_path), []

    def wait():
        with claims.hold_soon("a", pause_seconds=0.01):
            order.append("second")

    with claims.hold("a"):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


# -- processes, stopped and killed for real ----------------------------------------------------------------------------

SCRIPT = """
import json, sys, time
from pathlib import Path
from autotunenet_bench.results.claims import ClaimedFolder, Claims, ClaimLostError

root = Path(sys.argv[1])
with Claims(root, beat_seconds=0.05).hold("a") as claim:
    folder = ClaimedFolder(root / "a", claim)
    folder.path.mkdir(exist_ok=True)
    number = 0
    try:
        while True:
            folder.append([{"row": number, "by": sys.argv[2]}])
            number += 1
            time.sleep(0.02)
    except ClaimLostError:
        print("lost", flush=True)
"""


def start(tmp_path, name):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path), name]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE_DIR)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="stops processes by signals")
def test_a_process_that_slept_finds_its_run_taken_over(tmp_path):
    events, claims = tmp_path / "a" / "events.jsonl", Claims(tmp_path, beat_seconds=0.05)
    sleeper = start(tmp_path, "sleeper")
    try:
        wait_for(events.exists)
        watch = Watch(claims, stale_seconds=1.0)
        for _ in range(30):  # it lives, and nobody takes it away, though 1.5 seconds go by
            assert watch.look("a") == "held"
            time.sleep(0.05)
        sleeper.send_signal(signal.SIGSTOP)
        wait_for(lambda: watch.look("a") != "held")
        with claims.hold("a") as claim:
            ClaimedFolder(tmp_path / "a", claim).append([{"row": 0, "by": "heir"}])
            sleeper.send_signal(signal.SIGCONT)
            assert sleeper.communicate(timeout=60)[0] == "lost\n"
            claim.check()
    finally:
        sleeper.kill()
        sleeper.communicate()
    rows = [json.loads(line)["by"] for line in events.read_text().splitlines()]
    assert rows.count("heir") == 1
    # At most the row that it was writing when it was stopped comes after that of the heir.
    assert len(rows) - rows.index("heir") <= 2


@pytest.mark.slow
@pytest.mark.skipif(not owners.PROC.exists(), reason="reads /proc")
def test_a_killed_process_is_succeeded_at_once(tmp_path):
    victim = start(tmp_path, "victim")
    wait_for((tmp_path / "a" / "events.jsonl").exists)
    with pytest.raises(ClaimedElsewhereError):
        Claims(tmp_path).take("a")
    victim.kill()  # dead, and not collected yet
    wait_for(lambda: Claims(tmp_path).find("a").is_abandoned, seconds=5)
    with Claims(tmp_path).hold("a"):
        pass
    victim.communicate()
