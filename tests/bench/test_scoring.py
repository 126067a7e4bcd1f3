"""The score: the two examples of its page computed anew, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotunenet_bench.metrics import METRICS
from autotunenet_bench.metrics.compute import flop_budget
from autotunenet_bench.metrics.scoring import SCORING_VERSION, compute_adjusted
from autotunenet_bench.protocol import PROTOCOL_VERSION, comparable
from autotunenet_bench.results.trace import Trace

PAGE = (Path(__file__).parents[2] / "docs" / "scoring.md").read_text(encoding="utf-8")
FLOPS = {"train_epoch": 600, "num_batches": 6, "evaluation": 100}
L_0 = 2.0
score_of = METRICS["compute_adjusted_val_loss"]


def example(name):
    """The rows of a table of the page, as dicts by its head."""
    table = re.search(rf"<!-- example: {name} -->\n((?:\|.*\n)+)", PAGE)[1]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return [dict(zip(head, row, strict=True)) for row in rows]


def make(
    losses, passes=None, *, controller="fixed", cell="A", seed=0, flops=FLOPS, is_finished=True, num_epochs=None, **spec
):
    """A run of 6 steps an epoch; `spec` replaces keys of the spec."""
    passes = passes or [6 * (e + 1) for e in range(len(losses))]
    start = {"event": "start", "environment": {}, "hyperparams": {"lr": 0.1}, "val": {"loss": L_0}}
    rows = [start if flops is None else {**start, "flops": flops}]
    clock = dict.fromkeys(("train_seconds", "eval_seconds", "control_seconds"), 0.0)
    for number, (loss, count) in enumerate(zip(losses, passes, strict=True), start=1):
        row = {"event": "epoch", "epoch": number, "step": 6 * number, "passes": count, "losses": [1.0] * 6}
        rows.append({**row, "val": {"loss": loss}, "hyperparams": {"lr": 0.1}, "clock": clock})
    if is_finished:
        rows.append({"event": "end", "num_restarts": 0, "weights_sha256": "00"})
    whole = {
        "task": {"name": cell, "lr": None},
        "regime": {"name": "stationary"},
        "seed": seed,
        "num_epochs": len(losses) if num_epochs is None else num_epochs,
        "protocol": PROTOCOL_VERSION,
        "labels": {"task": cell, "regime": "stationary", "controller": controller},
    }
    return Trace.from_events({**whole, **spec}, rows)


@pytest.mark.parametrize("row", example("budget"), ids=lambda row: row["run"])
def test_the_first_example_of_the_page(row):
    trace = make([float(loss) for loss in row["losses"].split()], [int(count) for count in row["passes"].split()])
    assert flop_budget(trace) == 2200
    spent = [trace.flops.spent(epoch.passes, epoch.epoch + 1) for epoch in trace.epochs]
    assert spent == [float(number) for number in row["spent"].split()]
    assert score_of(trace) == pytest.approx(float(row["loss at the budget"]), rel=1e-12)


def second_example():
    rows = example("score")
    return [
        make([1.5, float(row["loss"])], controller=row["method"], cell=row["cell"], seed=int(row["seed"]))
        for row in rows
    ]


def test_the_second_example_of_the_page():
    scores = {score.controller: score for score in compute_adjusted(second_example(), num_resamples=200)}
    expected = {}
    for row in example("score"):
        regret = (min(float(row["loss"]), L_0) - float(row["oracle"])) / (L_0 - float(row["oracle"]))
        assert max(0.0, 1.0 if math.isnan(regret) else regret) == pytest.approx(float(row["regret"]), abs=1e-8)
        expected.setdefault(row["method"], []).append(float(row["regret"]))
    for name, values in expected.items():
        assert [value for row in scores[name].regrets for value in row] == pytest.approx(values, abs=1e-8)
    assert list(scores) == [row["method"] for row in example("result")]
    for row in example("result"):
        score = scores[row["method"]]
        assert score.iqm.point == pytest.approx(float(row["score"]), abs=1e-8)
        assert score.worst_decile == pytest.approx(float(row["worst decile"]))
        assert row["failed"] == f"{score.failures.hits} of {score.failures.num}"
        assert score.iqm.low <= score.iqm.point <= score.iqm.high


def test_the_page_tells_the_version():
    assert f"version {SCORING_VERSION} of" in PAGE


def test_a_run_without_flops_has_no_score_and_says_so():
    assert math.isnan(score_of(make([1.0], flops=None)))
    with pytest.raises(ValueError, match="no FLOPs were recorded"):
        compute_adjusted([make([1.0], flops=None, seed=seed) for seed in (0, 1)])


def test_an_unfinished_run_counts_only_once_the_budget_is_spent():
    assert math.isnan(score_of(make([1.0], is_finished=False, num_epochs=2)))
    assert math.isnan(score_of(make([], is_finished=False, num_epochs=2)))
    assert score_of(make([1.0, 0.5], [12, 20], is_finished=False, num_epochs=2)) == pytest.approx(1.0 - 0.5 * 1 / 9)
    with pytest.raises(ValueError, match="not finished"):
        compute_adjusted([make([1.0, 0.5]), make([1.0, 0.5], seed=1, is_finished=False)])


def test_an_initial_loss_that_is_not_finite_gives_none():
    trace = dataclasses.replace(make([1.0]), initial_val={"loss": math.nan})
    assert math.isnan(score_of(trace))


losses = st.lists(st.floats(0, 5) | st.sampled_from([math.nan, math.inf]), min_size=1, max_size=5)


@given(losses)
def test_without_extra_passes_it_is_the_final_loss_at_most_the_first(values):
    last = values[-1] if math.isfinite(values[-1]) else L_0
    assert score_of(make(values)) == min(last, L_0)


@given(losses, st.integers(0, 40), st.integers(0, 40))
def test_it_lies_among_the_losses_and_more_passes_never_buy_more_epochs(values, extra, more):
    def run(num):
        return make(values, [6 * (e + 1) + (e + 1) * num for e in range(len(values))])

    known = [L_0, *(min(loss, L_0) if math.isfinite(loss) else L_0 for loss in values)]
    assert min(known) - 1e-12 <= score_of(run(extra)) <= L_0
    falling = sorted(values, key=lambda loss: -min(loss, L_0) if math.isfinite(loss) else -L_0)
    values[:] = falling
    assert score_of(run(extra)) <= score_of(run(extra + more)) + 1e-12


def test_the_oracle_never_sees_the_seed_it_is_for():
    """A miracle on one seed is none of its own oracle, and does not move its regret."""
    runs = [make([loss], controller="ours", seed=seed) for seed, loss in enumerate([0.01, 1.0, 1.0])]
    (score,) = compute_adjusted(runs, num_resamples=10)
    assert score.regrets[0][0] == 0
    assert score.regrets[0][1] == pytest.approx((1.0 - 0.505) / (2.0 - 0.505))


def test_references_from_another_initial_lr_make_the_oracle():
    runs = [make([1.0], controller="ours", seed=seed) for seed in (0, 1)]
    grid = [make([0.5], seed=seed, task={"name": "A", "lr": 0.3}) for seed in (5, 6)]
    (score,) = compute_adjusted(runs, references=grid, num_resamples=10)
    assert score.regrets[0] == pytest.approx((1 / 3, 1 / 3))
    with pytest.raises(ValueError, match="other seeds"):
        compute_adjusted(runs, references=[make([0.5], cell="B", seed=9)])


def test_a_run_that_has_not_learnt_at_the_budget_counts_as_lost():
    runs = [make([loss], seed=seed) for seed, loss in enumerate([1.8, 1.0, 1.0])]
    (score,) = compute_adjusted(runs, num_resamples=10)
    assert score.regrets[0][0] == 1.0
    assert (score.failures.hits, score.failures.num) == (1, 3)


REFUSED = {
    "at least one run": [],
    "may not be compared": [make([1.0]), make([1.0], seed=1, protocol="0.9")],
    "its budget is another": [make([1.0]), make([1.0], seed=1, flops={**FLOPS, "evaluation": 1})],
    "the same seeds, once": [make([1.0], seed=0), make([1.0], seed=1), make([1.0], controller="b", seed=0)],
    "a seed is there twice": [make([1.0], seed=0), make([1.0], seed=0)],
    "the oracle needs runs with other seeds": [make([1.0])],
    "no reference has learnt anything": [make([2.5], seed=0), make([2.5], seed=1)],
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_can_not_be_scored_is_refused_in_words(words):
    with pytest.raises(ValueError, match=words):
        compute_adjusted(REFUSED[words], num_resamples=10)


def test_versions_are_compared_by_major_and_minor():
    assert comparable("1.1", "1.1")
    assert comparable("1.1", "1.1.7")
    assert not comparable("1.1", "1.2")
    assert not comparable("1.1", "2.1")
    assert not comparable("1.1", "1.10")
    for wrong in ("1", "1.x", "", "v1.1", None):
        with pytest.raises(ValueError, match=r"Major\.Minor"):
            comparable("1.1", wrong)
