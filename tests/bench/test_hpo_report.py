"""What the report of offline searches computes, on trials made up so that every number is known."""

from __future__ import annotations

import itertools
import math
from statistics import fmean

import numpy as np
import pytest

from autotunenet import Categorical, Float, Ordinal, SearchSpace
from autotunenet.hpo import Cost, Trial, TrialState
from autotunenet_bench.report.hpo.costs import (
    at_equal_cost,
    best_so_far,
    best_within,
    cost_to,
    target_of,
    total,
    trials_at_random,
)
from autotunenet_bench.report.hpo.headline import headline
from autotunenet_bench.report.hpo.importance import WEAK_R2, importance
from autotunenet_bench.report.hpo.pages import describe, to_html, to_markdown
from autotunenet_bench.report.hpo.predictions import predictions
from autotunenet_bench.report.hpo.records import Goal, SearchRun, Study
from autotunenet_bench.report.hpo.summary import describe_set
from autotunenet_bench.report.hpo.tables import searches_table

ACCURACY = Goal(
    name="val_accuracy", metric="accuracy", title="validation accuracy", direction="maximize", is_share=True
)
LOSS = Goal(name="val_loss", metric="loss", title="validation loss", direction="minimize", is_share=False)
SPACE = SearchSpace({"task.lr": Ordinal((0.1, 1.0)), "num_epochs": Ordinal((1, 2))})


def trial(number, value, *, lr=0.1, epochs=1, flops=10.0, predicted=None, **metrics):
    return Trial(
        number=number,
        params={"task.lr": lr, "num_epochs": epochs},
        state=TrialState.FAILED if value is None else TrialState.DONE,
        value=value,
        error="the loss was not finite" if value is None else "",
        cost=Cost(steps=epochs * 5, seconds=2.0, flops=flops),
        predicted=predicted,
        metrics=metrics,
    )


def run(search, *trials, seed=0):
    return SearchRun(search=search, seed=seed, num_trials=len(trials), trials=trials)


def study(*runs, goal=ACCURACY, space=SPACE):
    names = dict.fromkeys(run.search for run in runs)
    return Study(
        title="Made <up>",
        description="",
        goal=goal,
        space=space,
        runs=runs,
        traces={},
        settings=dict.fromkeys(names, ""),
        versions={},
        failures={},
    )


GRID = run(
    "grid", trial(0, 0.5), trial(1, 0.6, epochs=2), trial(2, None, lr=1.0), trial(3, 0.9, lr=1.0, epochs=2, flops=30.0)
)


def test_the_best_so_far_is_charged_for_failed_trials_too():
    costs, values = best_so_far(GRID, "flops", ACCURACY)
    assert (costs.tolist(), values.tolist()) == ([10.0, 20.0, 30.0, 60.0], [0.5, 0.6, 0.6, 0.9])
    assert best_so_far(GRID, "steps", LOSS)[1].tolist() == [0.5, 0.5, 0.5, 0.5]
    assert [total(GRID, unit) for unit in ("trials", "steps", "seconds", "flops")] == [4, 30, 8, 60]


def test_what_counts_within_a_budget_has_ended_by_then():
    assert [best_within(GRID, "flops", ACCURACY, budget) for budget in (9.0, 10.0, 59.0, 60.0)] == [None, 0.5, 0.6, 0.9]
    assert [cost_to(GRID, "trials", ACCURACY, target) for target in (0.6, 0.7, 0.95)] == [2.0, 4.0, None]
    assert cost_to(GRID, "steps", LOSS, 0.5) == 5.0


def test_searches_are_compared_at_the_total_of_the_cheapest():
    early = run("early", trial(0, 0.9, lr=1.0, epochs=2, flops=30.0), trial(1, 0.5, flops=10.0))
    equal = at_equal_cost(study(GRID, early))
    assert (equal.unit, equal.budget) == ("flops", 40.0)
    assert [(standing.search, standing.mean) for standing in equal.standings] == [("early", 0.9), ("grid", 0.6)]


@pytest.mark.parametrize("num_near", [1, 2, 5, 7])
def test_draws_without_repeats_need_as_many_trials_as_all_orders_have_in_the_mean(num_near):
    firsts = [min(places) for places in itertools.combinations(range(1, 8), num_near)]
    assert trials_at_random(num_near, 7) == pytest.approx(fmean(firsts))


def test_without_counted_operations_steps_are_the_cost():
    uncounted = run("early", trial(0, 0.7, flops=None))
    assert at_equal_cost(study(GRID, uncounted)).unit == "steps"


def test_the_headline_says_who_is_ahead_how_soon_and_what_that_is_worth():
    early = run("early", trial(0, 0.9, lr=1.0, epochs=2, flops=30.0), trial(1, 0.5, flops=10.0))
    never = run("never", trial(0, 0.6, epochs=2), trial(1, 0.5), trial(2, None, lr=1.0))
    found = study(GRID, early, never)
    target = target_of(found)
    assert (target.value, target.is_optimum, target.whole_cost["flops"]) == (0.9, True, 60.0)
    ahead, best, how_hard, *reached, caution = headline(found, at_equal_cost(found), target)
    assert ahead == (
        "At equal cost, 3.00e+01 FLOPs, early is ahead by the best validation accuracy found: early 90.00 %; "
        "grid 60.00 %; never 60.00 %."
    )
    assert best == "The best of all 4 points has a validation accuracy of 90.00 %."
    assert how_hard == (
        "1 point comes near to it, to 89.50 % or better: draws without repeats need 2.5 trials for the first in the "
        "mean, so that searches can hardly be told apart here."
    )
    assert reached == [
        "early came to the best after 1 trial, at 50 % of what all points cost.",
        "never did not come to the best in 3 trials.",
    ]
    assert caution.startswith("One seed a search is too few")


def test_six_seeds_need_no_caution_and_a_part_of_them_is_told_as_such():
    lucky = [run("some", trial(0, 0.9 if seed < 2 else 0.5, lr=1.0, epochs=2), seed=seed) for seed in range(6)]
    grids = [run("grid", *GRID.trials, seed=seed) for seed in range(6)]
    found = study(*grids, *lucky)
    sentences = headline(found, at_equal_cost(found), target_of(found))
    assert sentences[-1] == "some came to the best with 2 of 6 seeds, after 1 trial, at 17 % of what all points cost."


def test_searches_that_are_level_share_the_best_mean_rank():
    rest = [run(name, trial(0, 0.5, flops=60.0)) for name in ("worse", "worst")]
    level = [run(name, trial(0, 0.9, lr=1.0, epochs=2, flops=60.0)) for name in ("one", "other", "third")]
    told = describe_set("T", "", {"a": study(*rest, *level), "b": study(*level, *rest)}).headline[0]
    assert told.startswith("At equal cost one, other and third have the best mean rank over 2 data sets: one 2.00; ")
    told = describe_set("T", "", {"a": study(*rest, level[0])}).headline[0]
    assert told.startswith("At equal cost one has the best mean rank over 1 data set")


def test_a_table_of_searches_has_test_metrics_of_what_was_chosen():
    worse, better = {"test_accuracy": 0.9, "test_f1": 0.8}, {"test_accuracy": 0.3, "test_f1": 0.4}
    chosen = run("one", trial(0, 0.5, **worse), trial(1, 0.6, lr=1.0, **better))
    table = searches_table(found := study(chosen), target_of(found))
    row = dict(zip(table.head, [cell.text for cell in table.rows[0]], strict=True))
    assert (row["best"], row["test accuracy"], row["test F1"]) == ("60.00 %", "30.00 %", "40.00 %")
    assert (row["steps"], row["seconds"], row["FLOPs"], row["trials to 59.50 %"]) == ("10", "4", "2.00e+01", "2")


def test_predictions_are_counted_in_intervals_of_a_normal_distribution():
    pairs = [(0.50, 0.50), (0.60, 0.65), (0.70, 0.82), (0.80, 0.60), (0.90, 0.95)]  # predicted and actual; std 0.1
    trials = [trial(number, actual, predicted=(mean, 0.1)) for number, (mean, actual) in enumerate(pairs)]
    (one,) = predictions(study(run("gp", trial(9, 0.3), *trials, trial(10, None, predicted=(0.1, 0.1)))))
    assert len(one.mean) == 5
    assert one.rmse == pytest.approx(math.sqrt((0.05**2 + 0.12**2 + 0.2**2 + 0.05**2) / 5))
    assert [one.num_inside(level) for level in (0.5, 0.8, 0.95)] == [3, 4, 4]  # z: 0.674, 1.282, 1.960; |z| up to 2
    assert one.spearman == pytest.approx(0.7)  # ranks 1 2 3 4 5 against 1 3 4 2 5: 1 - 6 * 6 / 120


def points(value_of, num=40, seed=0):
    rng = np.random.default_rng(seed)
    space = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0), "kind": Categorical(("a", "b"))})
    trials = []
    for number in range(num):
        params = space.sample(rng)
        value = float(value_of(params, rng))
        trials.append(Trial(number=number, params=params, state=TrialState.DONE, value=value, cost=Cost(steps=1)))
    return study(run("random", *trials), goal=LOSS, space=space)


def test_what_matters_is_found_and_noise_is_called_noise():
    found = importance(points(lambda params, rng: params["x"] + 0.3 * (params["kind"] == "b")))
    assert found
    assert [name for name, _ in found.ranked()] == ["x", "kind", "y"]
    assert found.r2 > 0.8
    noise = points(lambda params, rng: rng.normal())
    nothing = importance(noise)
    assert nothing
    assert nothing.r2 < WEAK_R2
    assert "hold them for noise" in describe(noise).importance_words
    assert importance(points(lambda params, rng: 1.0)) is None
    assert importance(points(lambda params, rng: params["x"], num=9)) is None


def test_words_of_others_are_text_in_the_page_and_in_markdown():
    found = study(run("<b>grid</b> | x", *GRID.trials))
    page, markdown = to_html(describe(found), found), to_markdown(describe(found))
    assert "Made &lt;up&gt;" in page
    assert "<b>grid</b>" not in page
    assert "&lt;b&gt;grid&lt;/b&gt; \\| x" in markdown


def test_equal_studies_give_equal_pages_and_an_empty_one_says_so():
    assert to_html(describe(study(GRID)), study(GRID)) == to_html(describe(study(GRID)), study(GRID))
    empty = study(run("grid"))
    assert "No trial has a result yet" in to_html(describe(empty), empty)
