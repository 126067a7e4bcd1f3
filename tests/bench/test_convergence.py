"""Time to a stated loss: by hand, with runs that never get there in every table."""

from __future__ import annotations

import csv
import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import asked
from test_metrics_runs import make as one_run
from test_scoring import FLOPS, make

from autotunenet_bench.config.experiment import Target
from autotunenet_bench.metrics.convergence import TimeTo, reached_by_all, time_to
from autotunenet_bench.report import write_report
from autotunenet_bench.report.aggregate import aggregate
from autotunenet_bench.report.convergence import convergence_csv, convergence_tables, target_of, target_words

NAN, INF = math.nan, math.inf
# Epochs of 10 steps; 2.75 seconds each, of training, validation and control. An epoch of training is 70 operations in
# 7 batches and a validation 5.
COSTS = {"flops": {"train_epoch": 70, "num_batches": 7, "evaluation": 5}, "passes": [10, 24, 38]}


def told(*times):
    return TimeTo(**dict(zip(("steps", "seconds", "flops"), times, strict=True)))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (1.0, told(10.0, 2.75, 10 * 10 + 2 * 5)),  # L_1 = 1.0 is at the target; one validation before, one after
        (0.9, told(20.0, 5.5, 24 * 10 + 3 * 5)),  # 24 passes: 4 were replayed
        (0.5, told(20.0, 5.5, 24 * 10 + 3 * 5)),
        (0.4, told(INF, INF, INF)),  # it never gets there
        (NAN, told(INF, INF, INF)),
    ],
)
def test_the_time_to_a_loss_by_hand(target, expected):
    assert time_to(one_run([1.0, 0.5, 0.7], **COSTS), target) == expected


def test_a_loss_that_is_not_finite_is_at_no_target():
    assert time_to(one_run([-INF, NAN, 0.1], **COSTS), 0.5).steps == 30


def test_a_run_that_may_still_get_there_is_not_judged_and_unrecorded_operations_are_unknown():
    unfinished = time_to(one_run([1.0], is_finished=False), 0.5)
    assert all(map(math.isnan, (unfinished.steps, unfinished.seconds, unfinished.flops)))
    there = time_to(one_run([0.4], is_finished=False), 0.5)
    assert (there.steps, there.seconds) == (10, 2.75)
    assert math.isnan(there.flops)


def test_what_all_runs_reached_is_the_worst_of_their_best():
    runs = [one_run([1.0, 0.3, 0.6]), one_run([0.5, 0.4]), one_run([0.2], is_finished=False)]
    assert reached_by_all(runs) == 0.4
    assert all(time_to(run, 0.4).steps < INF for run in runs[:2])
    assert reached_by_all([one_run([NAN]), *runs]) == 2.0  # a lost run makes the target that of the untrained model
    assert math.isnan(reached_by_all([]))


LOSS = st.floats(0.01, 3.0) | st.just(NAN) | st.just(INF)


@given(st.lists(LOSS, min_size=1, max_size=8), st.floats(0.01, 3.0), st.floats(1.0, 2.0))
def test_a_harder_target_is_never_reached_sooner(losses, target, factor):
    run = one_run(losses, flops=COSTS["flops"], passes=[10 * (index + 1) for index in range(len(losses))])
    easy, hard = time_to(run, target * factor), time_to(run, target)
    assert easy.steps <= hard.steps
    assert easy.seconds <= hard.seconds
    assert easy.flops <= hard.flops
    assert math.isfinite(hard.steps) == any(loss <= target for loss in losses)


# -- the table ---------------------------------------------------------------------------------------------------------

LOSSES = {"base": [[1.0, 0.5], [1.0, 0.6]], "fast": [[0.6, 0.4], [0.5, 0.9]], "slow": [[1.0, 0.6], [1.0, 0.9]]}


def group():
    runs = [make(row, controller=name, seed=seed) for name, rows in LOSSES.items() for seed, row in enumerate(rows)]
    return aggregate(runs)[0]


def test_no_run_is_dropped_from_the_table():
    (table,) = convergence_tables([group()], Target(baseline="base"))
    assert table.title == "Convergence time to a validation loss of 0.6: A · stationary"
    assert table.head == ("controller", "reached", "steps ↓", "seconds ↓", "FLOP ↓")
    # 6 steps an epoch; to the end of epoch e it is e x 600 + (e + 1) x 100 operations.
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["base", "2 of 2", "12", "0", "1,500"],
        ["fast", "2 of 2", "6", "0", "800"],
        ["slow", "1 of 2", "never (12 to never)", "never (0 to never)", "never (1,500 to never)"],
    ]
    assert [[cell.is_best for cell in row[2:]] for row in table.rows] == [
        [False, False, False],
        [True, False, True],  # a clock decides nothing
        [False, False, False],
    ]
    assert "never, later than any" in table.note


def test_the_target_is_the_one_given_else_that_of_the_baseline():
    assert target_of(group(), Target(baseline="base", val_loss={"A": 0.45})) == 0.45
    assert target_of(group(), Target(baseline="base", val_loss={"B": 0.45})) == 0.6
    assert math.isnan(target_of(group(), Target(val_loss={"B": 0.45})))
    assert target_words(Target(baseline="base", val_loss={"A": 0.45})) == (
        "the validation losses 0.45 of A; on the other tasks the lowest validation loss that every seed of base came "
        "to after some epoch."
    )


def test_without_a_target_a_cell_stays_in_the_table_without_numbers():
    (table,) = convergence_tables([group()], Target(val_loss={"B": 0.45}))
    assert table.title == "Convergence time to a validation loss that nobody has set: A · stationary"
    assert [cell.text for cell in table.rows[0]] == ["base", *["n/a"] * 4]


def test_the_file_has_a_row_a_run():
    rows = list(csv.DictReader(io.StringIO(convergence_csv([group()], Target(baseline="base")))))
    assert [(row["controller"], row["seed"], row["target_val_loss"], row["steps"]) for row in rows] == [
        ("base", "0", "0.6", "12.0"),
        ("base", "1", "0.6", "12.0"),
        ("fast", "0", "0.6", "6.0"),
        ("fast", "1", "0.6", "6.0"),
        ("slow", "0", "0.6", "12.0"),
        ("slow", "1", "0.6", "inf"),
    ]
    assert float(rows[0]["flops"]) == 2 * FLOPS["train_epoch"] + 3 * FLOPS["evaluation"]


def test_the_report_has_table_and_file_where_a_target_is_stated(tmp_path):
    runs = [run for row in group().rows for run in row.finished]
    states = asked("best_of", "base", subject="fast", target=Target(baseline="base"))
    paths = write_report(runs, tmp_path / "a", "T", experiment=states)
    for text in (paths.markdown.read_text(), paths.html.read_text()):
        assert "Convergence time" in text
        assert "the lowest validation loss that every seed of base came to" in text
    assert paths.convergence_csv.read_text().startswith("task,regime,controller,seed,target_val_loss,steps")
    silent = write_report(runs, tmp_path / "b", "T", experiment=asked("best_of", "base", subject="fast"))
    assert silent.convergence_csv is None
    assert "Convergence time" not in silent.markdown.read_text()
