"""One line a controller over a whole suite."""

import csv
import io
import math

import pytest
from test_report import CASES, WellFormed, make_trace, terminal

from autotunenet_bench.report.aggregate import aggregate
from autotunenet_bench.report.csvs import overall_csv
from autotunenet_bench.report.html import render
from autotunenet_bench.report.overall import METRICS_IN_ALL, overall, overviews
from autotunenet_bench.report.tables import MAX_BLOCKS

NAN, INF = math.nan, math.inf


def runs(**losses):
    """Give each controller its final losses: per cell, per seed."""
    return [
        make_trace(name, regime=f"regime {i}", seed=seed, val_loss=loss)
        for name, cells in losses.items()
        for i, cell in enumerate(cells)
        for seed, loss in enumerate(cell)
    ]


def test_means_over_cells_of_medians_over_seeds_the_best_first():
    rows = overall(aggregate(runs(a=[[1.0, 0.2, 0.4], [0.6]], b=[[0.1, 0.1, 2.0], [0.3]])))
    assert [(row["controller"], row["cells"], row["runs"], row["failed"]) for row in rows] == [
        ("b", 2, 4, 0),
        ("a", 2, 4, 0),
    ]
    assert [row["final_val_loss"] for row in rows] == pytest.approx([0.2, 0.5])
    assert [row["mean_rank"] for row in rows] == [1.0, 2.0]


@pytest.mark.parametrize("lost", [NAN, INF, 1e30, 9.0])
def test_a_lost_run_counts_as_the_loss_that_it_began_with_and_as_failed(lost):
    (row,) = overall(aggregate(runs(a=[[lost]])))
    assert (row["final_val_loss"], row["post_trigger_val_loss"], row["failed"]) == (2.3, 2.3, 1)


def test_only_cells_that_all_have_finished_are_compared():
    """Else whoever skips the hard ones would win."""
    traces = [*runs(a=[[0.1], [2.0]], b=[[0.2]]), make_trace("b", regime="regime 1", finished=False)]
    assert [(row["controller"], row["cells"], row["final_val_loss"]) for row in overall(aggregate(traces))] == [
        ("a", 1, 0.1),
        ("b", 1, 0.2),
    ]
    assert overall(aggregate([make_trace(finished=False)])) == []


def grid():
    """Two tasks under two regimes; a is best under one of them, b under the other."""
    losses = {"a": {"calm": 0.1, "wild": 2.0}, "b": {"calm": 0.5, "wild": 0.7}}
    return [
        make_trace(name, task=task, regime=regime, val_loss=loss + extra)
        for task, extra in (("easy", 0.0), ("hard", 0.2))
        for name, by_regime in losses.items()
        for regime, loss in by_regime.items()
    ]


def test_overviews_are_over_everything_each_regime_and_each_task():
    found = overviews(aggregate(grid()))
    assert [(o.over, o.of) for o in found] == [
        ("everything", ""),
        ("regime", "calm"),
        ("regime", "wild"),
        ("task", "easy"),
        ("task", "hard"),
    ]
    means = [{row["controller"]: row["final_val_loss"] for row in o.rows} for o in found]
    expected = [(1.15, 0.7), (0.2, 0.6), (2.1, 0.8), (1.05, 0.6), (1.25, 0.8)]
    assert means == [pytest.approx({"a": a, "b": b}) for a, b in expected]
    assert [row["controller"] for row in found[1].rows] == ["a", "b"]


def test_one_task_under_one_regime_has_no_parts():
    assert [(o.over, o.of) for o in overviews(aggregate(runs(a=[[1.0]], b=[[0.5]])))] == [("everything", "")]
    assert overviews([]) == []


def test_page_and_terminal_show_them_where_there_are_several():
    page = WellFormed(render(grid(), title="t"))
    assert "overall" in page.ids
    for words in ("Over all tasks and regimes", "by regime and by task", "wild", "1.150"):
        assert words in page.text
    text = terminal(grid(), width=120)
    assert "over all tasks and regimes" in text
    lines = [line.split() for line in text.splitlines()]
    assert [line for line in lines if len(line) == 5 and "/4" in line[-1]] == [
        ["b", "0.700", "0.700", "1.50", "0/4"],
        ["a", "1.150", "1.150", "1.50", "1/4"],
    ]
    single = runs(a=[[1.0]], b=[[0.5]])
    assert "overall" not in WellFormed(render(single, title="t")).ids
    assert "over all" not in terminal(single)


def test_a_terminal_shows_only_the_overview_of_many_tables():
    many = [make_trace(name, regime=f"regime {i}") for name in "ab" for i in range(MAX_BLOCKS + 1)]
    text = terminal(many, width=120)
    assert f"{MAX_BLOCKS + 1} tables by task and regime, and 0 remarks on them, are in the report." in text
    assert "regime 3" not in text


@pytest.mark.parametrize("name", CASES)
def test_any_set_of_runs_makes_a_file(name):
    rows = list(csv.DictReader(io.StringIO(overall_csv(aggregate(CASES[name])))))
    assert all(math.isfinite(float(row[metric])) for row in rows for metric in METRICS_IN_ALL)


def test_a_cell_counts_only_where_all_have_finished_the_same_seeds():
    """A median over the seeds that are left would favour whoever drops the hard ones."""
    whole = runs(a=[[0.1], [0.2, 0.9]], b=[[0.2], [0.3, 0.3]])
    hard = ("a", "regime 1", 1)
    dropped = [run for run in whole if (run.label[2], run.label[1], run.spec["seed"]) != hard]
    assert len(dropped) == len(whole) - 1
    assert [row["cells"] for row in overall(aggregate(whole))] == [2, 2]
    assert [row["cells"] for row in overall(aggregate(dropped))] == [1, 1]
