"""F1 and top-5 accuracy: by hand, and in reports only where a task has them."""

import csv
import io
import math
from dataclasses import replace

import pytest
from made_up_runs import run

from autotunenet_bench.metrics import METRICS, summarize
from autotunenet_bench.report.aggregate import aggregate
from autotunenet_bench.report.csvs import summary_csv
from autotunenet_bench.report.html import render


def with_f1(trace, first, last, test):
    (epoch,) = trace.epochs
    return replace(
        trace,
        initial_val={**trace.initial_val, "f1": first},
        epochs=[replace(epoch, val={**epoch.val, "f1": last})],
        test={"loss": 1.0, "f1": test},
    )


@pytest.mark.parametrize(
    ("last", "test", "expected"), [(0.75, 0.5, (0.75, 0.5)), (math.nan, math.nan, (0.25, 0.25)), (0.0, 0.1, (0.0, 0.1))]
)
def test_what_is_not_finite_counts_as_before_training(last, test, expected):
    values = summarize(with_f1(run("fixed", 1.0), 0.25, last, test))
    assert (values["final_val_f1"], values["final_test_f1"]) == expected


def test_reports_have_their_columns_only_where_a_task_has_them():
    plain = run("fixed", 1.0)
    told = with_f1(run("fixed", 1.0, task="texts"), 0.25, 0.75, 0.5)
    names = [name for name, metric in METRICS.items() if metric.needs]
    for traces, has_f1 in (([plain], False), ([plain, told], True)):
        page, rows = render(traces, title="title"), list(csv.DictReader(io.StringIO(summary_csv(traces))))
        assert ("test F1" in page) is has_f1
        assert ("final_val_f1" in page) is has_f1
        assert "top-5" not in page
        assert [name for name in names if name in rows[0]] == (["final_val_f1", "final_test_f1"] if has_f1 else [])
    assert [row["final_val_f1"] for row in rows] == ["", "0.75"]
    assert "0.750" in page


def test_a_row_with_runs_of_before_it_was_recorded_has_no_mean_of_it():
    (group,) = aggregate([with_f1(run("fixed", 1.0), 0.25, 0.75, 0.5), run("fixed", 1.0, seed=1)])
    (row,) = group.rows
    assert row.stat("final_val_f1").values[0] == 0.75
    assert math.isnan(row.stat("final_val_f1").mean)
    assert row.stat("final_val_top5_accuracy").values == ()
