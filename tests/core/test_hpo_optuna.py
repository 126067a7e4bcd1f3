"""Optuna's samplers as searches: what they are told, what they answer, and what they leave behind."""

import logging
import math
import os
import pickle
import sys
import warnings

import optuna
import pytest
import torch

from autotunenet import Categorical, Float, Int, Ordinal, SearchSpace
from autotunenet.hpo import OptunaSearch, TrialState
from autotunenet.hpo.optuna_bridge import leaving_no_trace
from autotunenet.testing import check_search

LR = SearchSpace({"lr": Float(1e-4, 1.0, log=True)})
FINITE = SearchSpace({"batch": Ordinal((16, 32, 256)), "depth": Int(1, 2), "act": Categorical(("relu", "gelu"))})
SAMPLERS = ("tpe", "gp", "random", "grid")


def valley(params):
    """Lowest at lr 0.01."""
    return (math.log10(params["lr"]) + 2) ** 2


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_the_contract_over_a_finite_space(sampler):
    check_search(
        lambda: OptunaSearch(FINITE, sampler=sampler, num_initial=3 if sampler == "tpe" else None), num_trials=6
    )


def test_the_contract_with_a_gaussian_process():
    check_search(
        lambda: OptunaSearch(LR, sampler="gp", num_initial=2, direction="maximize"), num_trials=3, covers=False
    )


def test_the_contract_where_points_may_come_twice():
    check_search(lambda: OptunaSearch(FINITE, allow_duplicates=True), repeats=True, covers=False)


# -- what it is told -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_an_answer_is_that_of_a_fresh_sampler_about_the_trials_so_far(name):
    search = OptunaSearch(LR, sampler=name, seed=4, num_initial=3, direction="maximize")
    for _ in range(5):
        asked = search.ask()
        search.tell(asked.number, None if asked.number == 1 else -valley(asked.params))
    search.ask()  # the sixth is pending
    states = {TrialState.DONE: "COMPLETE", TrialState.FAILED: "FAIL", TrialState.PENDING: "RUNNING"}
    distributions = {"lr": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True)}
    make = {"tpe": optuna.samplers.TPESampler, "gp": optuna.samplers.GPSampler}[name]
    seed = int(search._stream(6).integers(2**32))
    with leaving_no_trace(optuna):
        study = optuna.create_study(sampler=make(seed=seed, n_startup_trials=3), direction="maximize")
        for trial in search.trials:
            study.add_trial(
                optuna.trial.create_trial(
                    state=optuna.trial.TrialState[states[trial.state]],
                    value=trial.value,
                    params=dict(trial.params),
                    distributions=distributions,
                )
            )
        expected = study.ask(distributions).params
    assert search.ask().params == expected


class Listening(optuna.samplers.RandomSampler):
    """Keeps the study that it was asked about."""

    seen = None

    def before_trial(self, study, trial):
        type(self).seen = [(t.state.name, t.value, t.params) for t in study.trials[:-1]]
        super().before_trial(study, trial)


def test_a_sampler_of_ones_own_is_made_anew_for_every_trial():
    seeds = []
    search = OptunaSearch(FINITE, sampler=lambda seed: seeds.append(seed) or Listening(seed=seed), seed=1)
    first, second = search.ask(), search.ask()
    search.tell(first.number, 0.5)
    assert FINITE.contains(search.ask().params)
    assert len(set(seeds)) == len(seeds) >= 3
    ranks = [{**trial.params, "batch": (16, 32, 256).index(trial.params["batch"])} for trial in (first, second)]
    assert Listening.seen == [("COMPLETE", 0.5, ranks[0]), ("RUNNING", None, ranks[1])]


# -- what it answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_it_closes_in_on_the_lowest(name):
    search = OptunaSearch(LR, sampler=name, seed=0, num_initial=4)
    for _ in range(12):
        asked = search.ask()
        search.tell(asked.number, valley(asked.params))
    assert search.best.value < {"tpe": 0.05, "gp": 0.005}[name] < search.trials[0].value


def test_the_seed_decides():
    def points(seed):
        search = OptunaSearch(LR, sampler="random", seed=seed)
        return [search.ask().params["lr"] for _ in range(4)]

    assert points(0) == points(0) != points(1)
    assert len(set(points(0))) == 4


def test_a_sampler_that_insists_on_one_point_gets_another_drawn():
    fixed = {"batch": 1, "depth": 2, "act": "relu"}

    def insisting(seed):
        return optuna.samplers.PartialFixedSampler(fixed, optuna.samplers.RandomSampler(seed=seed))

    search = OptunaSearch(FINITE, sampler=insisting)
    trials = list(iter(search.ask, None))
    assert trials[0].params == {"batch": 32, "depth": 2, "act": "relu"}
    assert sorted(FINITE.index_of(trial.params) for trial in trials) == list(range(12))
    assert search.is_exhausted
    again = OptunaSearch(FINITE, sampler=insisting, allow_duplicates=True)
    assert [again.ask().params for _ in range(14)] == [trials[0].params] * 14
    assert not again.is_exhausted
    line = SearchSpace({"x": Float(0.0, 1.0)})
    pinned = OptunaSearch(
        line, sampler=lambda _: optuna.samplers.PartialFixedSampler({"x": 0.5}, optuna.samplers.RandomSampler())
    )
    assert len({pinned.ask().params["x"] for _ in range(3)}) == 3


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_it_can_be_handed_to_another_process(sampler):
    search = OptunaSearch(FINITE, sampler=sampler, seed=1)
    search.tell(search.ask().number, 1.0)
    other = pickle.loads(pickle.dumps(search))
    assert [other.ask() for _ in range(3)] == [search.ask() for _ in range(3)]


# -- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "rule"),
    [
        ({"sampler": "cmaes"}, "sampler must be one of tpe, gp, random, grid, or a function; got 'cmaes'"),
        ({"sampler": "random", "num_initial": 3}, "for 'tpe' and 'gp'; got 3 for 'random'"),
        ({"num_initial": 0}, "at least 1, .* got 0 for 'tpe'"),
        ({"sampler": "grid"}, "the space has infinitely many. Write the values of a range as an Ordinal, or use Grid"),
        ({"sampler": "grid", "space": SearchSpace({"n": Int(1, 10**9)})}, "at most 100000 here; the space has 10000"),
    ],
)
def test_samplers_that_are_none_are_refused(kwargs, rule):
    with pytest.raises(ValueError, match=rule):
        OptunaSearch(**{"space": LR, **kwargs})


def test_without_optuna_it_is_said_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"OptunaSearch needs Optuna, .*pip install 'optuna>=5.0'"):
        OptunaSearch(LR)


# -- what it leaves behind -------------------------------------------------------------------------------------------


def process():
    return optuna.logging.get_verbosity(), list(warnings.filters), torch.get_num_threads(), dict(os.environ)


def test_the_process_is_as_before_also_its_threads(capfd):
    torch.set_num_threads(2)
    before = process()
    try:
        search = OptunaSearch(LR, sampler="gp", num_initial=1)
        for _ in range(2):
            search.tell(search.ask().number, 1.0)
        assert process() == before
    finally:
        torch.set_num_threads(1)
    assert capfd.readouterr() == ("", "")


def test_another_log_level_comes_back_also_after_an_error(capfd):
    before = process()
    optuna.logging.set_verbosity(logging.DEBUG)

    def go_wrong():
        with leaving_no_trace(optuna):
            optuna.create_study()
            warnings.warn("heard by nobody", stacklevel=1)
            raise ZeroDivisionError

    try:
        with pytest.raises(ZeroDivisionError):
            go_wrong()
        assert optuna.logging.get_verbosity() == logging.DEBUG
    finally:
        optuna.logging.set_verbosity(before[0])
    assert process() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_large_seed_is_fine(sampler):
    assert OptunaSearch(FINITE, sampler=sampler, seed=2**40 + 1).ask() is not None
