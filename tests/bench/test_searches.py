"""Offline searches: what they ask for, how they share out the epochs of a run, and what they refuse."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from autotunenet.hpo import SurrogateSearch
from autotunenet.hpo.optuna_bridge import leaving_no_trace
from autotunenet.space import Categorical, Float, Int, SearchSpace
from autotunenet_bench.config import ConfigError, parse_config
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.controllers.grid_search import GridSearch
from autotunenet_bench.controllers.offline import OfflineConfig
from autotunenet_bench.controllers.random_search import RandomSearch, RandomSearchConfig
from autotunenet_bench.data import DataSource
from autotunenet_bench.suite import resolve

LR = SearchSpace({"lr": Float(1e-4, 1.0, log=True)})
OFFLINE = [name for name, member in CONTROLLERS.items() if issubclass(member, OfflineConfig)]


def points(search, num):
    return [search.ask() for _ in range(num)]


# -- how the epochs are shared out -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_trials", "share", "num_epochs", "expected"),
    [
        (5, 0.5, 10, (1, 5)),
        (5, 0.5, 12, (1, 7)),  # 6 epochs for the trials, one of them too few for a second round
        (3, 0.7, 10, (2, 4)),
        (2, 0.29, 100, (14, 72)),  # 29 epochs, where 0.29 * 100 is 28.999999999999996
        (1, 0.5, 2, (1, 1)),
        (9, 0.9, 10, (1, 1)),
    ],
)
def test_the_epochs_are_shared_out_evenly_and_the_rest_is_trained_last(num_trials, share, num_epochs, expected):
    plan = RandomSearchConfig(num_trials=num_trials, search_share=share).plan(num_epochs)
    assert (plan.num_trials, plan.trial_epochs, plan.final_epochs) == (num_trials, *expected)


def test_the_table_of_the_documentation_is_right():
    page = (Path(__file__).resolve().parents[2] / "docs" / "offline.md").read_text(encoding="utf-8")
    settings = re.findall(r"T = (\d+), share (\S+)", page.partition("| E = ")[0])
    rows = re.findall(r"^\| E = (\d+) \| (.*) \|$", page, re.MULTILINE)
    assert (len(settings), len(rows)) == (2, 3)
    for num_epochs, cells in rows:
        for (num_trials, share), cell in zip(settings, cells.split(" | "), strict=True):
            plan = RandomSearchConfig(num_trials=int(num_trials), search_share=float(share)).plan(int(num_epochs))
            numbers = [int(number) for number in re.findall(r"\d+", cell)]
            assert numbers == [plan.num_trials, plan.trial_epochs, plan.final_epochs]


configs = st.builds(
    RandomSearchConfig,
    num_trials=st.integers(1, 30),
    search_share=st.integers(1, 99).map(lambda percent: percent / 100),
)


@given(config=configs, num_epochs=st.integers(1, 200))
def test_every_epoch_is_somebodys_whatever_the_number_of_trials(config, num_epochs):
    try:
        plan = config.plan(num_epochs)
    except ValueError:
        assert config.num_trials > Fraction(repr(config.search_share)) * num_epochs
        return
    assert config.num_trials * plan.trial_epochs + plan.final_epochs == num_epochs
    assert plan.trial_epochs >= 1
    assert plan.final_epochs >= 1
    assert config.num_trials * plan.trial_epochs <= Fraction(repr(config.search_share)) * num_epochs
    ends = [epoch for epoch in range(1, num_epochs + 1) if plan.ends_trial(epoch)]
    assert ends == [plan.trial_epochs * number for number in range(1, config.num_trials + 1)]


@given(config=configs, num_epochs=st.integers(1, 200))
def test_every_mend_of_a_run_that_is_too_short_mends_it(config, num_epochs):
    try:
        config.plan(num_epochs)
    except ValueError as error:
        mends = str(error).partition("; ")[2].split(", or ")
        for mend in mends:
            key, number = mend.split()[1], mend.split()[3]
            longer = int(number) if key == "num_epochs" else num_epochs
            values = {} if key == "num_epochs" else {key: float(number) if key == "search_share" else int(number)}
            config.model_copy(update=values).plan(longer)
        assert mends[0].startswith("raise num_epochs to ")


def test_a_run_that_is_too_short_is_refused_with_its_place():
    with pytest.raises(ConfigError) as caught:
        parse_config(
            "{task: digits_mlp, regime: stationary, controller: grid_search, num_epochs: 4, seeds: [0]}", "a.yaml"
        )
    assert str(caught.value) == (
        "a.yaml:1: controller: grid_search has num_trials=5 trials of at least one epoch, and search_share=0.5 "
        "of 4 epochs leaves them 2; raise num_epochs to 10, or lower num_trials to 2"
    )


@pytest.mark.parametrize("key", ["max_delta: 0.5", "rollback: full", "within_space: true", "warmup: 2"])
@pytest.mark.parametrize("name", OFFLINE)
def test_keys_of_online_methods_are_unknown(name, key):
    text = f"{{task: digits_mlp, regime: stationary, controller: {{name: {name}, {key}}}, num_epochs: 20, seeds: [0]}}"
    with pytest.raises(ConfigError, match=rf"controller\.{key.partition(':')[0]}.*unknown key"):
        parse_config(text, "a.yaml")


# -- grid ------------------------------------------------------------------------------------------------------------


def test_the_points_of_a_grid_lie_at_equal_ratios_ends_included():
    assert [point["lr"] for point in points(GridSearch(LR, 5), 5)] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    ends = points(GridSearch(LR, 2), 2)
    assert [point["lr"] for point in ends] == [1e-4, 1.0]  # exactly
    assert points(GridSearch(LR, 1), 1)[0]["lr"] == pytest.approx(1e-2)


def test_a_grid_over_several_dimensions_has_as_many_points_in_each_range_and_every_choice():
    space = SearchSpace({"share": Float(0.0, 1.0), "num": Int(1, 5), "kind": Categorical((3.0, 4.0))})
    assert points(GridSearch(space, 18), 18) == [
        {"share": share, "num": num, "kind": kind}
        for share in (0.0, 0.5, 1.0)
        for num in (1, 3, 5)
        for kind in (3.0, 4.0)
    ]


def test_whole_numbers_stand_in_a_grid_once():
    space = SearchSpace({"num": Int(1, 3)})
    assert points(GridSearch(space, 3), 3) == [{"num": 1}, {"num": 2}, {"num": 3}]
    with pytest.raises(ValueError, match=r"num_trials=4 points make no grid over num .* for example to 3"):
        GridSearch(space, 4)
    log = SearchSpace({"num": Int(1, 100, log=True)})
    assert points(GridSearch(log, 3), 3) == [{"num": 1}, {"num": 10}, {"num": 100}]


def test_a_number_of_trials_that_makes_no_grid_is_refused():
    space = SearchSpace({"lr": Float(1e-4, 1.0, log=True), "momentum": Float(0.0, 0.99)})
    with pytest.raises(ValueError, match=r"num_trials=5 .* over lr, momentum .* for example to 4 or 9"):
        GridSearch(space, 5)
    assert len(points(GridSearch(space, 9), 9)) == 9


# -- random ----------------------------------------------------------------------------------------------------------


def test_random_points_are_uniform_over_orders_of_magnitude_and_the_seeds():
    drawn = [math.log10(point["lr"]) for point in points(RandomSearch(LR, seed=0), 2000)]
    counts = [sum(low <= value < low + 1 for value in drawn) for low in (-4, -3, -2, -1)]
    assert all(400 < count < 600 for count in counts)
    assert points(RandomSearch(LR, seed=1), 3) != points(RandomSearch(LR, seed=2), 3)


# -- Optuna ----------------------------------------------------------------------------------------------------------

OPTUNA = ("optuna_tpe", "optuna_gp")
OWN = ("surrogate_gp", "surrogate_forest")
every_sampler = pytest.mark.parametrize("name", OPTUNA)


def valley(params):
    """Lowest at lr 0.01."""
    return (math.log10(params["lr"]) + 2) ** 2


@every_sampler
def test_a_sampler_gives_what_optuna_gives_by_hand(name):
    search = CONTROLLERS[name](num_trials=8).build_search(LR, seed=2**32 + 5)
    make = {"optuna_tpe": optuna.samplers.TPESampler, "optuna_gp": optuna.samplers.GPSampler}[name]
    with leaving_no_trace(optuna):
        study = optuna.create_study(sampler=make(seed=5, n_startup_trials=2))
    distributions = {"lr": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True)}
    for _ in range(8):
        asked = search.ask()
        with leaving_no_trace(optuna):
            trial = study.ask(distributions)
            study.tell(trial, valley(trial.params))
        assert asked == trial.params
        search.tell(asked, valley(asked))


def test_a_gaussian_process_closes_in_on_the_lowest():
    search = CONTROLLERS["optuna_gp"](num_trials=12).build_search(LR, seed=0)
    values = []
    for _ in range(12):
        asked = search.ask()
        values.append(valley(asked))
        search.tell(asked, values[-1])
    assert min(values) < 0.01 < values[0]


@every_sampler
@pytest.mark.parametrize("order", [[math.inf, 1.0, 2.0], [1.0, math.inf, 2.0], [math.inf] * 3])
def test_diverged_trials_are_the_worst_and_no_error(name, order):
    search = CONTROLLERS[name](num_trials=6).build_search(LR, seed=0)
    for value in [*order, 0.5, 0.5]:
        asked = search.ask()
        assert LR.contains(asked)
        search.tell(asked, value)
    assert LR.contains(search.ask())


@every_sampler
def test_a_search_that_is_all_random_is_refused(name):
    with pytest.raises(
        ValidationError, match=r"num_random=2 of num_trials=2 .* raise num_trials to at least 3, or use"
    ):
        CONTROLLERS[name](num_trials=2)
    CONTROLLERS[name](num_trials=2, num_random=1)


def config_of(name, num_epochs=10):
    return parse_config(
        f"{{task: digits_mlp, regime: stationary, controller: {name}, num_epochs: {num_epochs}, seeds: [0]}}", "a.yaml"
    )


@pytest.mark.parametrize(
    ("name", "module"), [("optuna_tpe", "optuna"), ("optuna_gp", "optuna"), ("optuna_gp", "scipy")]
)
def test_a_missing_package_is_said_before_anything_runs(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ConfigError, match=rf"{name} needs the package {module}, .*pip install 'autotunenet\[peers\]', or leave"
    ):
        resolve(config_of(name), DataSource())


@pytest.mark.parametrize("name", OWN)
def test_a_missing_package_of_the_surrogates_is_said_too(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ConfigError, match=rf"{name} cannot be built: .* needs scipy and scikit-learn .*pip install"):
        resolve(config_of(name), DataSource())


@pytest.mark.parametrize("name", ["grid_search", "random_search"])
def test_the_others_need_no_package(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert resolve(config_of(name), DataSource())


# -- the project's own ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_a_surrogate_gives_what_the_search_gives_by_hand(name):
    search = CONTROLLERS[name](num_trials=6, num_initial=3).build_search(LR, seed=5)
    surrogate = {"surrogate_gp": "gp", "surrogate_forest": "random_forest"}[name]
    own = SurrogateSearch(LR, surrogate=surrogate, num_initial=3, seed=5)
    for number in range(6):
        asked = search.ask()
        assert asked == own.ask().params
        search.tell(asked, math.inf if number == 1 else valley(asked))
        own.tell(number, None if number == 1 else valley(asked))


@pytest.mark.parametrize("name", OWN)
def test_a_search_that_leaves_the_surrogate_nothing_is_refused(name):
    with pytest.raises(ValidationError, match=r"num_initial=2 of num_trials=2 .* to at least 3, or use random_search"):
        CONTROLLERS[name](num_trials=2)
    CONTROLLERS[name](num_trials=2, num_initial=1)


def test_a_surrogate_that_has_tried_all_says_so():
    search = CONTROLLERS["surrogate_gp"](num_trials=4).build_search(SearchSpace({"num": Int(1, 3)}), seed=0)
    for _ in range(3):
        search.tell(search.ask(), 1.0)
    with pytest.raises(RuntimeError, match="all 3 points of the space have been tried; lower num_trials"):
        search.ask()


PLAY = """
import math, os
import torch
torch.set_num_threads(2)
environ = dict(os.environ)
from autotunenet import Float, SearchSpace
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.controllers.offline import OfflineConfig
for name, member in CONTROLLERS.items():
    if issubclass(member, OfflineConfig):
        search = member(num_trials=6).build_search(SearchSpace({"lr": Float(1e-4, 1.0, log=True)}), seed=7)
        for number in range(6):
            asked = search.ask()
            assert torch.get_num_threads() == 2
            search.tell(asked, math.inf if number == 3 else (math.log10(asked["lr"]) + 2) ** 2)
            print(name, asked["lr"].hex())
assert torch.get_num_threads() == 2 and dict(os.environ) == environ
"""


@pytest.mark.slow
def test_two_processes_ask_for_the_same_and_keep_their_threads():
    source = str(Path(__file__).resolve().parents[2] / "src")
    outputs = []
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", PLAY],
            env={**os.environ, "PYTHONPATH": source, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        outputs.append(done.stdout.splitlines())
    assert outputs[0] == outputs[1]
    assert len(set(outputs[0])) == 6 * len(OFFLINE)
