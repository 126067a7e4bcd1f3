"""Configs of offline searches: what they mean, and what is said of wrong ones."""

from __future__ import annotations

import json

import pytest

from autotunenet import Categorical, Float, Int, Ordinal
from autotunenet_bench.config import ConfigError, HpoConfig, load_config, parse_config, shipped_configs
from autotunenet_bench.config.files import parse_search
from autotunenet_bench.config.schema import config_schema
from autotunenet_bench.searches import SEARCHES

TEXT = """\
task: {name: digits_mlp, optimizer: sgd}
num_epochs: 2
space:
  task.lr: {values: [0.01, 0.1]}
  task.batch_size: {low: 16, high: 64, integer: true}
  num_epochs: {values: [1, 2]}
searches: [random, {name: surrogate, num_trials: 4}]
num_trials: 3
"""
SHIPPED = [name for name in shipped_configs() if name.startswith("hpo_")]


def parse(*overrides: str, scale: str | None = None) -> HpoConfig:
    config = parse_config(TEXT, "a.yaml", overrides, scale=scale)
    assert isinstance(config, HpoConfig)
    return config


def test_a_space_has_the_names_and_kinds_that_the_config_says() -> None:
    config = parse(
        "space.task.weight_decay={low: 1e-6, high: 1e-2, log: true}", "space.task.optimizer={choices: [sgd, adam]}"
    )
    assert dict(config.search_space()) == {
        "task.lr": Ordinal((0.01, 0.1)),
        "task.batch_size": Int(16, 64),
        "num_epochs": Ordinal((1, 2)),
        "task.weight_decay": Float(1e-6, 1e-2, log=True),
        "task.optimizer": Categorical(("sgd", "adam")),
    }


def test_a_point_is_a_run_with_its_values_over_the_config_and_no_others() -> None:
    config = parse("training_seeds=[3, 4]", "controller=cosine")
    run = config.run_config({"task.lr": 0.1, "task.batch_size": 20, "num_epochs": 1})
    assert (run.task.lr, run.task.batch_size, run.num_epochs, run.seeds) == (0.1, 20, 1, (3, 4))
    assert (run.task.optimizer, run.regime.name, run.controller.name) == ("sgd", "stationary", "cosine")


def test_seeds_of_searches_are_no_seeds_of_trainings() -> None:
    one, other = parse("seeds=[0]"), parse("seeds=[7, 8]")
    point = one.first_point()
    assert one.run_config(point) == other.run_config(point)


def test_overrides_reach_into_a_dimension_and_into_a_search() -> None:
    config = parse("space.task.lr.values=[0.5, 1.0]", "searches.0.num_trials=9", "searches.1.acquisition=mean")
    assert config.search_space()["task.lr"] == Ordinal((0.5, 1.0))
    assert (config.searches[0].num_trials, config.searches[1].display) == (9, "surrogate gp, mean")


def test_what_was_written_reads_back_to_the_same_config() -> None:
    for name in SHIPPED:
        config = load_config(name).config
        assert isinstance(config, HpoConfig)
        again = HpoConfig.model_validate_json(json.dumps(config.as_written()), strict=True)
        assert again.as_written() == config.as_written()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("space.task.lr=[0.01, 0.1]", "a dimension is not a bare list"),
        ("space.task.lr.values=[0.1, 0.01]", "values must increase"),
        ("space.task.lr.low=1", "a dimension is said by one of"),
        ("space.task.lr={low: 1}", "a range has both ends"),
        ("space.task.lr={values: [0.1, 1], log: true}", "log and integer are of a range"),
        ("space.task.batch_size={low: 1.5, high: 4, integer: true}", "bounds must be whole numbers"),
        ("space.task.batch_size={low: 16, high: 64}", "16.0 cannot be trained: must be a whole number"),
        ("space.task.lr.values=[-1, 1]", "-1 cannot be trained: must be a number > 0"),
        ("space.num_epochs.values=[0, 1]", "0 cannot be trained: must be a whole number >= 1"),
        ("space.task.bath_size={values: [1, 2]}", "did you mean 'batch_size'?"),
        ("space.task.name={choices: [digits_mlp, mnist_cnn]}", "task digits_mlp has no such key"),
        ("space.lr={values: [1, 2]}", "did you mean 'task.lr'?"),
        ("space={}", "at least 1 long"),
        ("controller={name: one_cycle, per: epoch}", "num_epochs >= 2, got num_epochs=1"),
        ("objective=val_f1", "digits_mlp does not measure it; choose from val_accuracy, val_loss"),
        ("objective=accuracy", "did you mean 'val_accuracy'?"),
        ("num_trials=null", "nothing says how many trials it gets"),
        ("searches=[random, random]", "items 0 and 1 are both shown as 'random'"),
        ("searches=[surogate]", "did you mean 'surrogate'?"),
        ("searches=[{name: random, trials: 3}]", "did you mean 'num_trials'? allowed keys: name, label, num_trials"),
        ("searches=[{name: optuna, sampler: cma}]", "must be one of tpe, gp"),
        ("seeds=[0, 0]", "a seed may stand once"),
    ],
)
def test_what_is_wrong_is_said_at_its_place_with_the_rule(override: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(override)
    assert words in str(caught.value)
    key = override.partition("=")[0]
    assert str(caught.value).startswith(f"--set {override}: ") or key in ("num_trials", "controller")


def test_a_grid_over_real_numbers_needs_a_number_of_points() -> None:
    override = "space={task.lr: {low: 1e-4, high: 1, log: true}}"
    with pytest.raises(ConfigError, match="a grid over real numbers needs points_per_dimension"):
        parse(override, "searches=[grid]")
    config = parse(override, "searches=[{name: grid, points_per_dimension: 5}]")
    assert config.searches[0].trials_of(config.search_space(), usual=3) == 5


def test_faults_of_points_in_the_file_are_told_with_their_line() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(TEXT.replace("[0.01, 0.1]", "[0.01, 1e9]"), "a.yaml")
    assert str(caught.value).startswith("a.yaml:1: task: the initial lr 1e+09 of digits_mlp lies outside of its space")
    assert "at the point task.lr 1000000000.0, task.batch_size 16, num_epochs 1" in str(caught.value)
    with pytest.raises(ConfigError, match=r"a\.yaml:6: space\.num_epochs\.values: 20000 cannot be trained"):
        parse_config(TEXT.replace("[1, 2]", "[1, 20000]"), "a.yaml")


def test_a_search_can_be_read_by_itself() -> None:
    assert parse_search("{name: surrogate, surrogate: random_forest}", "--search").display == "surrogate forest"
    with pytest.raises(ConfigError, match="did you mean 'random'"):
        parse_search("randm", "--search")


@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_stands_in_the_schema_and_can_be_built_with_its_defaults(name: str) -> None:
    branch = config_schema()["$defs"][f"search.{name}"]
    assert branch["properties"].keys() == SEARCHES[name].model_fields.keys()
    assert all("description" in value for key, value in branch["properties"].items() if key != "name")
    space = parse("space.task.batch_size={values: [16, 32]}").search_space()
    search = parse_search(name, "test").build(space, seed=3, direction="maximize")
    points = [search.ask() for _ in range(2)]
    assert all(point and space.contains(point.params) for point in points)
    assert (search.seed, search.direction) == (3, "maximize")


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "hpo_digits"])
def test_the_shipped_searches_cover_24_points_at_every_scale(name: str) -> None:
    config = load_config(name).config
    assert isinstance(config, HpoConfig)
    small = [load_config(name, scale=scale).config for scale in config.scales]
    for one in (config, *small):
        assert isinstance(one, HpoConfig)
        assert one.search_space().num_points == 24
        names = [search.display for search in one.searches]
        assert names[:3] == ["grid", "random", "surrogate gp"]
        assert names[3:] == ["surrogate forest", "top predictions", "optuna tpe", "optuna gp"]
