"""One line a controller over a whole suite."""

import csv
import io
import math

import pytest
from test_report import CASES, make_trace

from autotunenet_bench.report.csvs import overall_csv
from autotunenet_bench.report.overall import METRICS_IN_ALL, overall

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
    rows = overall(runs(a=[[1.0, 0.2, 0.4], [0.6]], b=[[0.1, 0.1, 2.0], [0.3]]))
    assert [(row["controller"], row["cells"], row["runs"], row["failed"]) for row in rows] == [
        ("b", 2, 4, 0),
        ("a", 2, 4, 0),
    ]
    assert [row["final_val_loss"] for row in rows] == pytest.approx([0.2, 0.5])
    assert [row["mean_rank"] for row in rows] == [1.0, 2.0]


@pytest.mark.parametrize("lost", [NAN, INF, 1e30, 9.0])
def test_a_lost_run_counts_as_the_loss_that_it_began_with_and_as_failed(lost):
    (row,) = overall(runs(a=[[lost]]))
    assert (row["final_val_loss"], row["post_trigger_val_loss"], row["failed"]) == (2.3, 2.3, 1)


def test_only_cells_that_all_have_finished_are_compared():
    """Else whoever skips the hard ones would win."""
    traces = [*runs(a=[[0.1], [2.0]], b=[[0.2]]), make_trace("b", regime="regime 1", finished=False)]
    assert [(row["controller"], row["cells"], row["final_val_loss"]) for row in overall(traces)] == [
        ("a", 1, 0.1),
        ("b", 1, 0.2),
    ]
    assert overall([make_trace(finished=False)]) == []


@pytest.mark.parametrize("name", CASES)
def test_any_set_of_runs_makes_a_file(name):
    rows = list(csv.DictReader(io.StringIO(overall_csv(CASES[name]))))
    assert all(math.isfinite(float(row[metric])) for row in rows for metric in METRICS_IN_ALL)
