"""``autotunenet watch`` shows a run that is being written, one that has ended, and one that is not there yet."""

from __future__ import annotations

import io
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from test_reporting import train
from test_sinks_jsonl import tell

from autotunenet import Action, __version__
from autotunenet.cli import main
from autotunenet.sinks import JsonlSink
from autotunenet.watch.chart import ASCII, LABEL_WIDTH, UNICODE, Size, axis, chart, column_of, held
from autotunenet.watch.following import follow

CONTROL = re.compile(r"\x1b|\r")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished training with a launch and rollbacks: its tuner and its file."""
    path = tmp_path_factory.mktemp("runs") / "run.jsonl"
    _, _, tuner = train([JsonlSink(path)])
    tuner.observe(0.25)
    tuner.close()
    return tuner, path


# -- curves ----------------------------------------------------------------------------------------------------------


def text_of(lines):
    return [label + line for label, line in lines]


def test_a_log_curve_stands_at_its_values():
    lines = text_of(chart([(1, 100.0), (3, 1.0), (5, 0.01)], Size(last=6, width=16, height=5), strokes=ASCII))
    assert lines == [
        "      100|--\\",
        "         |  |",
        "        1|  \\-\\",
        "         |    |",
        "     0.01|    \\-",
    ]


def test_points_lie_over_the_curve_and_gaps_stay_open():
    curve = [(1, 1.0), (2, math.inf), (4, 3.0)]
    lines = text_of(chart(curve, Size(last=5, width=15, height=3), [(3, 2.0), (5, math.nan)], strokes=ASCII))
    assert lines == ["        3|   --", "         |  o", "        1|-"]


def test_a_column_shows_the_mean_or_the_last():
    curve = [(1, 2.0), (2, 4.0), (3, math.nan), (4, 8.0)]
    assert held(curve, 4, 2) == [3.0, 8.0]
    assert held(curve, 4, 2, mean=False) == [4.0, 8.0]
    assert held([(3, 1.0)], 8, 4) == [None, 1.0, 1.0, 1.0]


points = st.lists(st.tuples(st.integers(1, 500), st.floats(allow_nan=True, allow_infinity=True)), max_size=30)


@given(points, points, st.integers(LABEL_WIDTH + 2, 120), st.integers(2, 20), st.sampled_from([ASCII, UNICODE]))
def test_a_chart_is_as_large_as_asked_for(curve, others, width, height, strokes):
    lines = text_of(chart(sorted(curve), Size(500, width, height), sorted(others), strokes=strokes))
    assert len(lines) == height
    assert all(len(line) <= width for line in lines)
    assert all(line[LABEL_WIDTH - 1] == strokes.edge for line in lines)
    assert all(len(line) == width for line in axis(500, width, strokes))


def test_steps_fill_the_columns_in_order():
    columns = [column_of(step, 100, 40) for step in range(1, 101)]
    assert columns == sorted(columns)
    assert set(columns) == set(range(40))


# -- once ------------------------------------------------------------------------------------------------------------


def test_a_run_is_printed_once(run, capsys):
    tuner, path = run
    assert main(["watch", str(path), "--once", "--width", "100"]) == 0
    shown, errors = capsys.readouterr()
    assert not errors
    assert not CONTROL.search(shown)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.rstrip() for line in lines] == lines
    words = " ".join(shown.split())
    rollback = [each for each in tuner.history if each.action is Action.ROLLBACK][-1]
    assert " ".join(rollback.reason.split()) in words
    assert f"{len(tuner.history)} decisions" in words
    assert f"lr {tuner.metrics()['autotunenet/lr']:.4g}" in words
    assert "finished" in words
    (marks,) = [line for line in lines if line.startswith("    marks")]
    columns = 100 - LABEL_WIDTH
    assert marks[LABEL_WIDTH + column_of(rollback.observation.step, 300, columns)] == "R"


@pytest.mark.parametrize("width", [1, 23, 40, 200])
def test_it_fits_any_width(run, width, capsys):
    assert main(["watch", str(run[1]), "--once", "--width", str(width)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= max(width, 22)


def test_a_terminal_without_unicode_gets_ascii(run, monkeypatch):
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    assert main(["watch", str(run[1]), "--once"]) == 0
    ascii_only.flush()
    assert b"|-" in ascii_only.buffer.getvalue()


def test_a_run_of_a_folder_that_goes_on_and_lines_that_cannot_be_read(tmp_path, capsys):
    sink = JsonlSink(tmp_path)
    tell(sink, 10, 20)
    sink.resumed(10, 1)
    tell(sink, 20)
    with sink.path.open("ab") as file:
        file.write(b'oops\n{"event":"decis')
    assert main(["watch", str(tmp_path), "--once"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "running, last report 0 s ago" in words or "running, last report 1 s ago" in words
    assert "r resumed" in words
    assert "line 9: Expecting value" in words


def test_an_old_report_is_not_called_running(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    tell(JsonlSink(tmp_path), 10)
    monkeypatch.setattr(time, "time", lambda: 1000.0 + 600)
    main(["watch", str(tmp_path), "--once"])
    shown = " ".join(capsys.readouterr().out.split())  # a long path breaks the line elsewhere
    assert "last report 10 min ago" in shown
    assert "running" not in shown


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_run_that_is_not_there_is_an_error_at_once(tmp_path, capsys):
    assert main(["watch", str(tmp_path / "run.jsonl"), "--once"]) == 2
    shown, errors = capsys.readouterr()
    assert not shown
    assert re.fullmatch(r"autotunenet: error: there is no event file .*run\.jsonl; .*\n", errors)


def test_a_folder_of_several_is_an_error(tmp_path, capsys):
    for name in ("a.jsonl", "b.jsonl"):
        tell(JsonlSink(tmp_path / name), 10)
    assert main(["watch", str(tmp_path)]) == 2
    assert "name one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [["--interval", "0"], ["--interval", "soon"], ["--interval", "inf"], ["--decisions", "0"], ["--width", "-1"]],
)
def test_arguments_out_of_range_are_refused(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["watch", "run.jsonl", *wrong])
    assert wrong[0] in capsys.readouterr().err


def test_rich_that_is_not_there_names_its_extra(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)  # Python's own way of saying that there is none
    assert main(["watch", str(run[1]), "--once"]) == 2
    assert "pip install 'autotunenet[watch]'" in capsys.readouterr().err


def test_help_teaches(capsys):
    for arguments in (["--help"], ["watch", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
        shown = capsys.readouterr().out
        assert "autotunenet watch runs/first.jsonl" in shown
        assert max(map(len, shown.splitlines())) <= 100
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"{__version__}\n"


# -- live ------------------------------------------------------------------------------------------------------------


class Writer:
    """Writes the next part of a run whenever a follower sleeps; the parts do not end where lines do."""

    def __init__(self, source, path, num_parts=5, at=()):
        data = source.read_bytes()
        size = -(-len(data) // num_parts)
        self.parts = [data[start : start + size] for start in range(0, len(data), size)]
        self.path, self.num_sleeps, self.at = path, 0, dict(at)

    def __call__(self, seconds):
        self.num_sleeps += 1
        self.at.get(self.num_sleeps, lambda: None)()
        if self.parts:
            with self.path.open("ab") as file:
                file.write(self.parts.pop(0))


def test_a_pipe_gets_a_line_for_every_decision_that_is_news(run, tmp_path, capsys):
    tuner, source = run
    path = tmp_path / "run.jsonl"
    console = Console(file=io.StringIO())
    follow(path, console, num_decisions=6, interval=0.1, sleep=Writer(source, path))
    shown = console.file.getvalue()
    assert not CONTROL.search(shown)
    news = [each for each in tuner.history if not (each.action is Action.HOLD and each.health.value == "stable")]
    assert [line.split(",")[0] for line in shown.splitlines()] == [f"step {each.observation.step}" for each in news]
    assert all(each.reason in line for each, line in zip(news, shown.splitlines(), strict=True))


def terminal(width=90, height=30):
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)


def frames(console):
    """What was drawn, frame by frame, and what stays on the screen after it was left."""
    before, _, after = console.file.getvalue().partition("\x1b[?1049l")
    drawn = [re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", frame) for frame in before.split("\x1b[H")]
    return [frame for frame in drawn if frame], after


def test_a_terminal_is_drawn_anew_until_the_run_ends(run, tmp_path):
    _, source = run
    path, console = tmp_path / "run.jsonl", terminal()
    shrink = {4: lambda: setattr(console, "size", (60, 20))}
    follow(path, console, num_decisions=6, interval=0.1, sleep=Writer(source, path, at=shrink))
    drawn, stays = frames(console)
    assert "waiting for it" in drawn[0]
    assert all(len(frame.splitlines()) <= 30 for frame in drawn)
    widths = [max(len(line) for line in frame.splitlines()) for frame in drawn]
    assert widths[1] == 90
    assert widths[-1] == 60
    assert "300" in stays
    assert "finished" in stays


def test_a_run_that_is_cut_while_it_is_shown_is_no_fault(run, tmp_path):
    _, source = run
    path, console = tmp_path / "run.jsonl", terminal()
    writer = Writer(source, path, at={4: lambda: path.write_bytes(b"")})
    writer.parts += writer.parts
    follow(path, console, num_decisions=6, interval=0.1, sleep=writer)
    assert "finished" in frames(console)[1]


def test_ctrl_c_leaves_the_terminal_as_it_was(run, tmp_path, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    path, console = tmp_path / "run.jsonl", terminal()
    writer = Writer(run[1], path, at={3: interrupt})
    with pytest.raises(KeyboardInterrupt):
        follow(path, console, num_decisions=6, interval=0.1, sleep=writer)
    _, stays = frames(console)
    assert console.file.getvalue().rindex("\x1b[?25h") > console.file.getvalue().rindex("\x1b[?25l")  # the cursor
    assert "running" in stays or "last report" in stays


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_a_real_terminal_and_a_real_ctrl_c(run, tmp_path):
    import pty

    path = tmp_path / "run.jsonl"
    path.write_bytes(b"".join(run[1].read_bytes().splitlines(keepends=True)[:-1]))  # not ended
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "TERM": "xterm"}
    command = [sys.executable, "-m", "autotunenet", "watch", str(path)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True)
    os.close(theirs)
    shown = b""
    while b"Last verdicts" not in shown:
        shown += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    rest = os.read(ours, 1 << 20)
    os.close(ours)
    assert b"\x1b[?1049l" in rest
    assert b"Traceback" not in rest


@pytest.mark.slow
def test_a_reader_that_has_gone_is_no_fault(run):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    command = [sys.executable, "-m", "autotunenet", "watch", str(run[1]), "--once"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 0
