"""The shipped tables, and races on them."""

from __future__ import annotations

import math

import pytest
from typer.testing import CliRunner

from autotunenet.hpo import GridSearch, RandomSearch, tune
from autotunenet_bench import cli
from autotunenet_bench.config import HpoConfig, load_config
from autotunenet_bench.config.files import parse_search
from autotunenet_bench.data import DataSource
from autotunenet_bench.hpo.trainings import Points, outcome_of, train
from autotunenet_bench.results import ResultStore
from autotunenet_bench.tables import TableError, TableObjective, load_table, shipped_tables
from autotunenet_bench.tables.race import race, run_search


@pytest.mark.parametrize("name", shipped_tables())
def test_a_shipped_table_is_whole_and_says_where_it_comes_from(name: str) -> None:
    table = load_table(name)
    assert table.space.num_points == len(table.outcomes) == 24
    origin = table.provenance
    assert origin.commit
    assert not origin.commit.endswith("-dirty")
    assert origin.command.startswith("autotunenet-bench hpo --config ")
    assert ("--scale" in origin.command) == (", scale " in origin.title)
    assert {"python", "numpy", "torch", "autotunenet"} <= origin.versions.keys()
    assert len(origin.data["sha256"]) == 64
    for outcome in table.outcomes.values():
        assert outcome.cost.steps > 0
        assert outcome.cost.seconds > 0
        assert math.isfinite(float(outcome.value))
        assert outcome.metrics[origin.objective] == outcome.value


def test_a_row_of_the_digits_table_is_what_training_gives(tmp_path) -> None:
    table = load_table("digits_mlp")
    seeds = f"training_seeds={list(table.provenance.training_seeds)}"
    config = load_config("hpo_digits", [seeds]).config
    assert isinstance(config, HpoConfig)
    params = table.space.point_at(2)
    specs = Points(config, DataSource()).specs(params)
    outcome = outcome_of([train(spec, ResultStore(tmp_path), DataSource()) for spec in specs], config.goal)
    recorded = table.look_up(params)
    assert outcome.value == pytest.approx(recorded.value, abs=0.005)  # another machine adds up in another order
    assert (outcome.cost.steps, outcome.cost.flops) == (recorded.cost.steps, recorded.cost.flops)


def test_what_is_not_there_is_said_with_what_is() -> None:
    with pytest.raises(TableError, match="did you mean 'digits_mlp'"):
        load_table("digits_mpl")
    table = load_table("digits_mlp")
    with pytest.raises(KeyError, match="is no point of the table digits_mlp"):
        table.look_up({**table.space.point_at(0), "task.lr": 0.5})
    with pytest.raises(KeyError, match="is no point"):
        table.look_up({"task.lr": 0.01})


def test_a_table_is_an_objective_for_tune() -> None:
    table = load_table("digits_mlp")
    result = tune(TableObjective(table), table.space, "random", 24, direction="maximize", seed=1)
    assert result.best
    assert result.best.value == table.best
    assert result.cost.steps == table.cost.steps
    assert result.cost.flops == pytest.approx(table.cost.flops)


def test_the_numbers_of_a_finish_are_those_of_its_trials() -> None:
    table = load_table("digits_mlp")
    values = [float(table.look_up(table.space.point_at(index)).value) for index in range(24)]
    finish = run_search(table, GridSearch(table.space, direction="maximize"), 10)
    assert finish.regret == pytest.approx(max(values) - max(values[:10]))
    assert (finish.num_trials, finish.num_duplicates) == (10, 0)
    whole = run_search(table, GridSearch(table.space, direction="maximize"), 30)
    assert (whole.regret, whole.num_trials, whole.trials_to_best) == (0, 24, values.index(max(values)) + 1)
    assert run_search(table, RandomSearch(table.space, direction="maximize"), 24).regret == 0


def test_a_race_is_the_same_every_time_and_counts_what_random_search_must_find() -> None:
    table = load_table("digits_mlp")
    searches = [parse_search("random", "test")]
    rows = race(table, searches, num_seeds=150, num_trials=10)
    assert rows[0].finishes[:20] == race(table, searches, num_seeds=20, num_trials=10)[0].finishes
    share = rows[0].share_found
    best = [point for point, outcome in table.outcomes.items() if outcome.value == table.best]
    assert len(best) == 1
    assert share.low < 10 / 24 < share.high  # without replacement each point is among the ten with this probability
    assert rows[0].duplicates == 0
    (grid,) = race(table, [parse_search("{name: grid, order: random}", "test")], num_seeds=3, num_trials=10)
    assert grid.share_found.point == 1.0  # a grid has all of its points, whatever the others get
    assert grid.regret.high == 0


@pytest.mark.slow
def test_two_workers_say_what_one_says() -> None:
    table = load_table("digits_mlp")
    searches = [parse_search("random", "test")]
    told: list[tuple[int, int]] = []
    rows = race(table, searches, num_seeds=20, num_trials=3, num_workers=2, on_progress=lambda *done: told.append(done))
    assert rows == race(table, searches, num_seeds=20, num_trials=3)
    assert told == [(10, 20), (20, 20)]


def test_the_command_prints_a_row_a_search_or_the_tables() -> None:
    result = CliRunner().invoke(cli.app, ["race"])
    assert (result.exit_code, "digits_mlp" in result.output) == (0, True)
    arguments = ["race", "digits_mlp", "--seeds", "5", "--trials", "6", "--workers", "1"]
    result = CliRunner().invoke(cli.app, [*arguments, "--search", "random", "--search", "{name: surrogate}"])
    assert result.exit_code == 0, result.output
    assert "24 points, 6 trials, 5 seeds" in result.output
    assert "surrogate gp" in result.output
    refused = CliRunner().invoke(cli.app, [*arguments, "--search", "randm"])
    assert refused.exit_code == 2
    assert "did you mean 'random'" in refused.output
