"""The performance harness runs, and keeps each table at its place."""

import math
import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def performance(monkeypatch):
    """The package, which is no part of what is installed."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import performance
    from benchmarks.performance import __main__, tables

    yield performance
    del __main__, tables
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        del sys.modules[name]


def test_quick_runs_print_tables(performance, capsys):
    threads = torch.get_num_threads()
    performance.__main__.main(["proposals", "cells", "--quick"])
    printed = capsys.readouterr()
    for title in ("A proposal inside a training", "A proposal between trainings", "A cell of the benchmark"):
        assert f"**{title}" in printed.out
    assert re.search(r"^\| digits_mlp \| by hand \| \d+\.\d\d \| \d+\.\d\d \(", printed.out, re.MULTILINE)
    assert "cells: " in printed.err
    assert torch.get_num_threads() == threads


def test_every_part_has_its_place_in_the_page(performance, tmp_path):
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    for part in performance.__main__.PARTS:
        performance.tables.write_part(page, part, f"numbers of {part}")
    found = page.read_text(encoding="utf-8")
    for part in performance.__main__.PARTS:
        assert f"<!-- {part}: written by make bench -->\n\nnumbers of {part}\n\n<!-- end of {part} -->" in found
    with pytest.raises(ValueError, match="needs the lines '<!-- speed: written"):
        performance.tables.write_part(page, "speed", "")


def test_unknown_parts_and_quick_numbers_are_refused(performance, capsys):
    for words, said in [(["speed"], "no part speed"), (["--quick", "--write", "page.md"], "are not written")]:
        with pytest.raises(SystemExit):
            performance.__main__.main(words)
        assert said in capsys.readouterr().err


def test_a_goal_says_whether_it_is_met(performance):
    goal = performance.tables.Goal
    assert str(goal("import", 40.0, 50, "{:.0f} ms")) == "import: 40 ms, goal 50 ms at most, met"
    assert "**missed**" in str(goal("import", 60.0, 50))
    assert not goal("a number that is none", math.nan, 50).is_met


def test_other_networks_are_trained_from_every_start(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import other_networks

    threads = torch.get_num_threads()
    try:
        monkeypatch.setattr(sys, "argv", ["other_networks", "regression", "--optimizers", "adamw", "--num-steps", "3"])
        other_networks.main()
    finally:
        torch.set_num_threads(threads)
    head, _, line = capsys.readouterr().out.strip().splitlines()
    assert head.startswith("| adamw | best cosine | AutoTuneNet, median | from 1e-07 |")
    numbers = [float(cell.split()[0]) for cell in line.strip("| ").split(" | ")[1:]]
    assert len(numbers) == 2 + len(other_networks.STARTS["adamw"])
    assert all(map(math.isfinite, numbers))
    for name, task in other_networks.TASKS.items():
        inputs, targets = task.draw(torch.Generator().manual_seed(0), True)
        assert math.isfinite(task.loss(task.build(), (inputs, targets)).item()), name
