"""tune: what it calls, what it counts, and how it ends."""

import functools
import math
import os
import pickle
import runpy
from pathlib import Path

import numpy as np
import pytest
from hpo_runs import SPACE, parabola, rows, without_seconds

from autotunenet import Float, SearchSpace
from autotunenet.hpo import (
    Budget,
    Cost,
    Outcome,
    RandomSearch,
    Search,
    Trial,
    TrialState,
    TuneUpdate,
    tune,
)


class Waiting(Search):
    """Proposes a second trial once the first is told, with the first as its parent, and then no more."""

    def __init__(self, space, *, budgets=(1.0, 3.0), seed=0, direction="minimize"):
        super().__init__(space, seed=seed, direction=direction)
        self.budgets = budgets

    @property
    def is_exhausted(self):
        return len(self._trials) == len(self.budgets)

    def _propose(self, number):
        if self.is_exhausted or (number and self._trials[-1].state is TrialState.PENDING):
            return None
        parent = number - 1 if number else None
        return Trial(number=number, params={"x": 0.5, "lr": 0.1}, budget=self.budgets[number], parent=parent)


class Stuck(Search):
    """Proposes nothing, and does not say that it never will."""

    def _propose(self, number):
        return None


def continued(trial):
    """Goes on with the steps that its parent, or an earlier attempt, has left in a file."""
    checkpoints = [folder / "steps" for folder in (trial.folder, trial.parent_folder) if folder is not None]
    steps = next((int(path.read_text()) for path in checkpoints if path.exists()), 0)
    (trial.folder / "steps").write_text(str(int(trial.budget)))
    return Outcome(1.0 / trial.budget, {"from": steps}, Cost(steps=int(trial.budget) - steps))


def interrupted_once(trial, folder):
    if trial.number == 2 and not (folder / "was here").exists():
        (folder / "was here").touch()
        raise KeyboardInterrupt
    return parabola(trial)


def dies_on_odd_numbers(trial):
    if trial.number % 2:
        os._exit(3)
    return parabola(trial)


def raises(trial, kind=ValueError):
    raise kind("lr is too large\nreally")


# -- one worker ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_folder", [False, True])
def test_the_same_seed_finds_the_same_trials(tmp_path, in_folder):
    results = [
        tune(parabola, SPACE, "random", 6, seed=3, folder=tmp_path / name if in_folder else None) for name in "ab"
    ]
    assert without_seconds(results[0].trials) == without_seconds(results[1].trials)
    assert without_seconds(tune(parabola, SPACE, "random", 6, seed=4).trials) != without_seconds(results[0].trials)
    assert results[0].best == min(results[0].trials, key=lambda trial: trial.value)


@pytest.mark.parametrize("search", ["random", "surrogate"])
def test_a_search_goes_on_from_its_folder(tmp_path, search):
    first = tune(parabola, SPACE, search, 7, folder=tmp_path)
    calls = []
    again = tune(calls.append, SPACE, search, 7, folder=tmp_path)
    assert (again.trials, calls) == (first.trials, [])
    longer = tune(parabola, SPACE, search, 9, folder=str(tmp_path))
    assert longer.trials[:7] == first.trials
    assert without_seconds(longer.trials) == without_seconds(tune(parabola, SPACE, search, 9).trials)


@pytest.mark.parametrize("in_folder", [False, True])
def test_an_interrupted_search_keeps_everything_and_goes_on(tmp_path, in_folder):
    search = RandomSearch(SPACE)
    folder = tmp_path / "search" if in_folder else None
    objective = functools.partial(interrupted_once, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        tune(objective, SPACE, search, 5, folder=folder, max_attempts=1)
    assert [trial.state.value for trial in search.trials] == ["done", "done", "pending"]
    result = tune(objective, SPACE, search, 5, folder=folder, max_attempts=1)
    assert without_seconds(result.trials) == without_seconds(tune(parabola, SPACE, "random", 5).trials)
    assert result.search is search


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_trial_goes_on_from_its_parents_folder(tmp_path, num_workers):
    for folder in (None, tmp_path):
        result = tune(continued, SPACE, Waiting(SPACE), Budget(trials=10), folder=folder, num_workers=num_workers)
        assert [trial.metrics for trial in result.trials] == [{"from": 0}, {"from": 1}]
        assert result.cost.steps == 3
    assert (tmp_path / "trials" / "000001" / "steps").read_text() == "3"


def test_an_outcome_tells_metrics_and_cost_and_the_rest_is_measured():
    def objective(trial):
        return Outcome(np.float32(1.5), {"acc": np.float64(0.5)}, Cost(steps=10, flops=1e6))

    result = tune(objective, SPACE, "random", 2)
    assert [(trial.value, trial.metrics, trial.cost.steps) for trial in result.trials] == [(1.5, {"acc": 0.5}, 10)] * 2
    assert (result.cost.steps, result.cost.flops) == (20, 2e6)
    assert all(0 < trial.cost.seconds < 1 for trial in result.trials)
    told = tune(lambda trial: Outcome(1.0, cost=Cost(seconds=99.0)), SPACE, "random", 1)
    assert told.cost.seconds == 99.0


def test_exceptions_and_values_that_are_not_finite_fail_a_trial():
    def objective(trial):
        if trial.number == 0:
            raises(trial)
        return math.nan if trial.number == 1 else 1.0

    result = tune(objective, SPACE, "random", 3)
    assert [trial.error for trial in result.trials] == ["ValueError: lr is too large", "the objective returned nan", ""]
    assert result.best.number == 2
    assert result.trials[0].cost.seconds > 0


def test_exceptions_that_are_not_to_be_caught_end_the_search(tmp_path):
    with pytest.raises(ValueError, match="lr is too large"):
        tune(raises, SPACE, "random", 3, folder=tmp_path, catch=(OSError,))
    assert [row["number"] for row in rows(tmp_path, "released")] == [0]


@pytest.mark.parametrize("returned", [None, "0.5", [1.0], True, np.array([1.0, 2.0])])
def test_what_is_no_number_is_refused(returned):
    with pytest.raises(TypeError, match=r"the objective returned .*; return a number or an Outcome"):
        tune(lambda trial: returned, SPACE, "random", 3)


def test_updates_tell_what_happens(tmp_path):
    for folder in (None, tmp_path):
        updates = []
        result = tune(parabola, SPACE, "random", 3, folder=folder, on_update=updates.append)
        assert [(update.kind, update.trial.number) for update in updates] == [
            (kind, number) for number in range(3) for kind in ("asked", "told")
        ]
        last = updates[-1]
        assert isinstance(last, TuneUpdate)
        assert (last.best, last.num_asked, last.num_done, last.num_failed) == (result.best, 3, 3, 0)
        assert last.cost == result.cost
        assert (updates[0].best, updates[0].num_asked, updates[0].num_done) == (None, 1, 0)
    updates.clear()
    tune(parabola, SPACE, "random", 4, folder=tmp_path, on_update=updates.append)
    assert [update.trial.number for update in updates] == [3, 3]  # what is known already is no news


def test_an_error_of_the_caller_gives_the_trial_back(tmp_path):
    def on_update(update):
        raise RuntimeError("the display is gone")

    with pytest.raises(RuntimeError, match="the display is gone"):
        tune(parabola, SPACE, "random", 3, folder=tmp_path, on_update=on_update)
    assert len(rows(tmp_path, "released")) == 1


# -- the budget ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "num_trials"),
    [
        (4, 4),
        (Budget(steps=35), 4),
        (Budget(steps=30), 3),
        (Budget(flops=1e7), 1),
        (Budget(seconds=4.5), 3),
        (Budget(trials=2, steps=1000), 2),
        (Budget(trials=9, seconds=1.0), 1),
    ],
)
def test_a_search_ends_when_any_part_of_its_budget_is_used_up(budget, num_trials):
    cost = Cost(steps=10, seconds=2.0, flops=1e7)
    assert len(tune(lambda trial: Outcome(1.0, cost=cost), SPACE, "random", budget).trials) == num_trials


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Budget, "at least one of trials, steps, seconds and flops"),
        (lambda: Budget(trials=0), "trials must be a finite number above 0, got 0"),
        (lambda: Budget(seconds=math.nan), "seconds must be a finite number above 0, got nan"),
        (lambda: tune(parabola, SPACE, "random", -1), "trials must be a finite number above 0, got -1"),
        (lambda: tune(parabola, SPACE, "random", 1, num_workers=0), "num_workers must be at least 1, got 0"),
        (lambda: tune(parabola, SPACE, "random", 1, max_attempts=0), "max_attempts must be at least 1, got 0"),
        (lambda: tune(parabola, SPACE, "best", 1), "there is no search 'best'; there are .*random"),
        (lambda: tune(parabola, SPACE, "random", Budget(steps=9)), "counts steps, but trial 0 is done and told none"),
        (lambda: tune(raises, SPACE, "random", Budget(flops=9)), "last 20 trials have failed .*: lr is too large"),
    ],
)
def test_what_makes_no_sense_or_would_never_end_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_search_that_neither_proposes_nor_ends_is_an_error():
    with pytest.raises(RuntimeError, match="Stuck proposes nothing"):
        tune(parabola, SPACE, Stuck(SPACE), 3)


# -- the result ------------------------------------------------------------------------------------------------------


def test_the_result_as_rows_and_as_a_curve():
    values = [3.0, math.nan, 1.0, 2.0]

    def objective(trial):
        return Outcome(values[trial.number], {"acc": 0.1 * trial.number}, Cost(steps=5, seconds=1.0))

    result = tune(objective, SPACE, "random", 4)
    row = result.to_rows()[2]
    assert (row["number"], row["state"], row["value"], row["steps"], row["metrics.acc"]) == (2, "done", 1.0, 5, 0.2)
    assert row["params.x"] == result.trials[2].params["x"]
    curve = result.convergence()
    assert [(point.trials, point.cost.steps, point.value, point.best) for point in curve] == [
        (1, 5, 3.0, 3.0),
        (2, 10, None, 3.0),
        (3, 15, 1.0, 1.0),
        (4, 20, 2.0, 1.0),
    ]
    best = [point.best for point in tune(objective, SPACE, "random", 4, direction="maximize").convergence()]
    assert best == [3.0, 3.0, 3.0, 3.0]


def test_a_search_is_pickled_with_its_arguments_and_trials():
    search = Waiting(SearchSpace({"x": Float(0.0, 1.0), "lr": Float(0.0, 1.0)}), budgets=(2.0,), seed=5)
    search.ask()
    again = pickle.loads(pickle.dumps(search))
    assert (again.trials, again.seed, again.budgets) == (search.trials, 5, (2.0,))
    assert again.settings == search.settings == {"budgets": (2.0,)}
    assert Waiting(SPACE).settings == {"budgets": (1.0, 3.0)}
    assert RandomSearch(SPACE, seed=1).settings == {}


# -- more workers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (lambda trial: 1.0, r"objective = <function .* cannot be handed to another process"),
        (open(os.devnull), "objective = .* cannot be handed to another process"),  # noqa: SIM115
    ],
)
def test_objectives_that_no_other_process_can_have_are_refused_at_once(tmp_path, objective, words):
    with pytest.raises(TypeError, match=words):
        tune(objective, SPACE, "random", 3, num_workers=2, folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="an exit as by a crash")
def test_a_trial_that_kills_its_workers_fails_and_the_others_go_on(tmp_path):
    updates = []
    result = tune(dies_on_odd_numbers, SPACE, "random", 4, num_workers=2, max_attempts=2, on_update=updates.append)
    assert [trial.error for trial in result.trials] == ["", "its worker died 2 times"] * 2
    attempts = [(update.trial.number, update.attempt) for update in updates if update.kind == "asked"]
    assert sorted(attempts) == [(0, 1), (1, 1), (1, 2), (2, 1), (3, 1), (3, 2)]
    assert updates[-1].num_failed == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_an_exception_of_a_worker_reaches_the_caller_with_its_traceback(tmp_path, kind):
    with pytest.raises(kind, match="lr is too large") as caught:
        tune(functools.partial(raises, kind=kind), SPACE, "random", 4, num_workers=2, folder=tmp_path, catch=())
    assert "in raises" in str(caught.value.__cause__)
    asked = {row["number"] for row in rows(tmp_path, "asked")}
    assert {row["number"] for row in rows(tmp_path, "released")} == asked


@pytest.mark.slow
def test_workers_that_cannot_start_are_an_error(tmp_path):
    with pytest.raises(RuntimeError, match=r"worker processes cannot start: 3 in a row .* ended with exit code 5"):
        tune(Unloadable(), SPACE, "random", 4, num_workers=2, folder=tmp_path)


class Unloadable:
    """Ends the process that unpickles it, as a broken library may."""

    def __call__(self, trial):
        return 1.0

    def __reduce__(self):
        return os._exit, (5,)


@pytest.mark.slow
def test_the_example_trains_on_digits():
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "tune_digits.py"))
    result = tune(example["train"], example["SPACE"], "random", 2)
    assert [trial.state for trial in result.trials] == [TrialState.DONE] * 2
    assert result.best.metrics["accuracy"] > 0.5
    assert result.cost.steps > 90
