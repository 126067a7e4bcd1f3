"""The arithmetic of the estimate against values worked out by hand, and what is shown where."""

import io
import math
from dataclasses import dataclass, field

import pytest
from rich.console import Console
from rich.text import Text

from autotunenet_bench.executors import CellUpdate, ProgressDisplay
from autotunenet_bench.executors.eta import (
    Tracker,
    format_duration,
    format_seconds_left,
    make_cells,
    makespan,
    seconds_left_in_cell,
)
from autotunenet_bench.executors.following import Follower
from autotunenet_bench.executors.progress import shorten
from autotunenet_bench.results import RunFolder


@dataclass(frozen=True)
class ToySpec:
    run_id: str
    num_epochs: int = 10
    seed: int = 0
    labels: dict = field(default_factory=dict)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def labelled(run_id, task="digits", seed=0, num_epochs=10):
    labels = {"task": task, "regime": "label noise [0.4]", "controller": "cosine"}
    return ToySpec(run_id, num_epochs, seed, labels)


def start(run_id):
    return CellUpdate(run_id, "started", 0, 10)


def epoch(run_id, number, message="val loss 0.5"):
    return CellUpdate(run_id, "epoch", number, 10, message)


@pytest.mark.parametrize(
    ("running", "waiting", "num_workers", "expected"),
    [
        ([], [], 1, 0.0),
        ([], [10.0], 4, 10.0),
        ([5.0], [10.0, 10.0], 1, 25.0),
        ([5.0, 20.0], [10.0, 10.0], 2, 25.0),  # 5 -> 15 -> 25 on the first worker
        ([5.0, 30.0], [10.0], 2, 30.0),  # the longest running cell decides
        ([5.0, 6.0], [10.0], 1, 15.0),  # more are running than there should be
    ],
)
def test_makespan(running, waiting, num_workers, expected):
    assert makespan(running, waiting, num_workers) == expected


@pytest.mark.parametrize(
    ("pace", "left", "since", "expected"),
    [(2.0, 3, 0.0, 6.0), (2.0, 3, 1.5, 4.5), (2.0, 1, 9.0, 0.0), (2.0, 0, 1.0, 0.0)],
)
def test_seconds_left_in_cell(pace, left, since, expected):
    assert seconds_left_in_cell(pace, left, since) == expected


@pytest.mark.parametrize(
    ("seconds", "duration", "left"),
    [
        (0.0, "0 s", "about 0 s left"),
        (19.2, "19 s", "about 20 s left"),
        (59.7, "1:00", "about 1:00 left"),
        (61.0, "1:01", "about 1:10 left"),
        (3599.6, "1:00:00", "about 1:00:00 left"),
        (90000.0, "25:00:00", "about 25:00:00 left"),
    ],
)
def test_words_for_durations(seconds, duration, left):
    assert (format_duration(seconds), format_seconds_left(seconds)) == (duration, left)


def make_tracker(*specs, num_reused=0, num_workers=2):
    return Tracker(make_cells(specs), num_reused, num_workers, started=0.0)


def test_estimate_is_unknown_before_the_first_epoch():
    tracker = make_tracker(ToySpec("a"))
    tracker.update(start("a"), 0.0)
    assert tracker.seconds_left(5.0) is None


def test_estimate_counts_running_and_waiting_cells():
    tracker = make_tracker(ToySpec("a"), ToySpec("b"), ToySpec("c"), num_reused=7)
    for name in "ab":
        tracker.update(start(name), 0.0)
        tracker.update(epoch(name, 1), 2.0)
    assert tracker.seconds_left(2.0) == 9 * 2.0 + 10 * 2.0
    assert tracker.seconds_left(3.0) == 8 * 2.0 + 1.0 + 10 * 2.0
    assert (tracker.total, tracker.count("done"), tracker.count("running")) == (10, 7, 2)
    assert tracker.cells_done == pytest.approx(7.2)


def test_a_resumed_cell_is_judged_by_the_epochs_it_has_done_here():
    tracker = make_tracker(ToySpec("a"))
    tracker.update(start("a"), 0.0)
    tracker.update(epoch("a", 8), 3.0)  # seven were done before
    assert tracker.seconds_left(3.0) == 2 * 3.0


def test_a_slow_first_epoch_does_not_count_once_there_are_others():
    tracker = make_tracker(ToySpec("a"), ToySpec("b"), num_workers=1)
    tracker.update(start("a"), 0.0)
    tracker.update(epoch("a", 1), 5.0)  # libraries and data were loaded
    assert tracker.seconds_left(5.0) == 19 * 5.0
    tracker.update(epoch("a", 2), 6.0)
    assert tracker.seconds_left(6.0) == 18 * 1.0


def test_kinds_of_cells_have_their_own_pace():
    tracker = make_tracker(labelled("a", "digits"), labelled("b", "mnist"), labelled("c", "digits"), num_workers=1)
    tracker.update(start("a"), 0.0)
    for number in range(1, 11):
        tracker.update(epoch("a", number), float(number))
    tracker.update(CellUpdate("a", "done", 10, 10), 10.0)
    tracker.update(start("b"), 10.0)
    assert tracker.seconds_left(10.0) == 20.0  # no mnist yet: the mean of all
    tracker.update(epoch("b", 1), 20.0)
    assert tracker.seconds_left(20.0) == 9 * 10.0 + 10 * 1.0


def test_estimate_does_not_jump():
    tracker = make_tracker(*(ToySpec(str(number)) for number in range(20)), num_workers=1)
    previous, now = None, 0.0
    for number in range(20):
        tracker.update(start(str(number)), now)
        for done in range(1, 11):
            now += 1.5 if done % 3 else 0.5  # uneven epochs
            tracker.update(epoch(str(number), done), now)
            left = tracker.seconds_left(now)
            if previous is not None and number:
                assert abs(left - previous) < 0.1 * 230  # of the whole
            previous = left
        tracker.update(CellUpdate(str(number), "done", 10, 10), now)
    assert tracker.seconds_left(now) == 0.0


def test_names_come_from_labels_or_the_run_id():
    names = [cell.name for cell in make_cells([labelled("a", seed=3), ToySpec("b")]).values()]
    assert names == ["digits / label noise [0.4] / cosine / seed 3", "b"]


@pytest.mark.parametrize(
    ("width", "expected"),
    [(60, "digits / label noise / cosine / seed 1"), (30, "digi… / labe… / cosi… / seed 1"), (1, "d… / l… / c… / s…")],
)
def test_a_name_keeps_all_its_parts(width, expected):
    assert shorten("digits / label noise / cosine / seed 1", width) == expected


# -- what is shown -----------------------------------------------------------------------------------------------------


@pytest.fixture
def interactive(monkeypatch):
    for name in ("CI", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def make_console(terminal, width=80):
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=10)


def test_plain_lines_one_for_each_finished_cell():
    clock, console = Clock(), make_console(terminal=False)
    with ProgressDisplay(console=console, clock=clock) as progress:
        progress.begin([labelled("a"), labelled("b", seed=1)], num_reused=28, num_workers=1)
        progress.update(start("a"))
        for number in range(1, 11):
            clock.now += 0.81
            progress.update(epoch("a", number, "val loss 0.123"))
        progress.update(CellUpdate("a", "done", 10, 10))
        progress.update(start("b"))
        clock.now += 1.0
        progress.update(CellUpdate("b", "failed", 0, 10, "ValueError: [bad] lr"))
    assert console.file.getvalue().splitlines() == [
        "[29/30] done digits / label noise [0.4] / cosine / seed 0  8.1 s  val loss 0.123"
        "  (0 running, 0 failed, about 9 s left)",
        "[30/30] failed digits / label noise [0.4] / cosine / seed 1  1.0 s  ValueError: [bad] lr"
        "  (0 running, 1 failed, about 0 s left)",
    ]


def test_plain_heartbeat_while_nothing_finishes():
    console = make_console(terminal=False)
    with ProgressDisplay(console=console, heartbeat_seconds=0.05) as progress:
        progress.begin([labelled("a")], num_reused=0, num_workers=1)
        progress.update(start("a"))
        for _ in range(200):
            if console.file.getvalue().count("\n") >= 2:
                break
            progress._ended.wait(0.02)
    assert console.file.getvalue().splitlines()[1] == (
        "[0/1] 1 running, 0 failed, time left unknown yet  digits / label noise [0.4] / cosine / seed 0 epoch 0/10"
    )


def test_a_second_try_is_told():
    console = make_console(terminal=False)
    with ProgressDisplay(console=console) as progress:
        progress.begin([ToySpec("a")], num_reused=0, num_workers=1)
        progress.update(CellUpdate("a", "started", 3, 10, "again: the process was killed by SIGKILL"))
    assert console.file.getvalue() == "a: again: the process was killed by SIGKILL\n"


@pytest.mark.usefixtures("interactive")
@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_live_picture_fits_the_terminal(width):
    clock, console = Clock(), make_console(terminal=True, width=width)
    progress = ProgressDisplay(console=console, clock=clock)
    with progress:
        progress.begin([labelled(str(number)) for number in range(20)], num_reused=3, num_workers=20)
        for number in range(20):
            progress.update(start(str(number)))
            clock.now += 1.0
            progress.update(epoch(str(number), 1))
    with console.capture() as captured:  # after the display has let go of the console
        console.print(progress._picture())
    lines = [Text.from_ansi(line).plain for line in captured.get().splitlines()]
    assert len(lines) == 8  # of the terminal's ten
    assert all(len(line) <= width for line in lines)
    assert "3/23 done, 20 running" in lines[0]
    assert all("epoch 1/10  val loss 0.5" in line for line in lines[1:7])
    assert lines[7] == "  and 14 more"


@pytest.mark.parametrize("variables", [{"CI": "1", "TERM": "xterm"}, {"TERM": "dumb"}])
@pytest.mark.usefixtures("interactive")
def test_no_live_display_in_ci_or_on_a_dumb_terminal(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    console = make_console(terminal=True)
    with ProgressDisplay(console=console) as progress:
        progress.begin([ToySpec("a")], num_reused=0, num_workers=1)
        progress.update(start("a"))
    assert console.file.getvalue() == ""


def test_nothing_to_run_shows_nothing():
    console = make_console(terminal=True)
    with ProgressDisplay(console=console) as progress:
        progress.begin([], num_reused=5, num_workers=1)
    assert console.file.getvalue() == ""


def test_an_update_before_begin_is_an_error():
    with pytest.raises(RuntimeError, match="came before ProgressDisplay"):
        ProgressDisplay().update(start("a"))


def test_losses_that_are_not_finite_are_followed_too(tmp_path):
    seen = []
    folder = RunFolder(tmp_path / "a")
    folder.path.mkdir()
    folder.append([{"event": "epoch", "epoch": 1, "val": {"loss": math.nan}}])
    folder.append([{"event": "epoch", "epoch": 2, "val": {"loss": math.inf}}])
    Follower(tmp_path, [ToySpec("a")], seen.append).tell("a", "done")
    assert [(update.state, update.message) for update in seen] == [
        ("epoch", "val loss nan"),
        ("epoch", "val loss inf"),
        ("done", ""),
    ]
