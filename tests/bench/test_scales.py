"""Other sizes of a config: what --scale puts over it, and how the report tells it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_cli import FakeExecutor, invoke

from autotunenet_bench import suite as suite_module
from autotunenet_bench.config import ConfigError, Departure, SuiteConfig, load_config, parse_config
from autotunenet_bench.config.experiment import Block
from autotunenet_bench.report.departure import departure_words

SUITE = """\
tasks: [digits_mlp, {name: digits_mlp, lr: 0.01, data_fraction: 0.5}]
regimes: [stationary]
controllers: [fixed, {name: step_decay, period: 10}]
num_epochs: 50
seeds: [0, 1]
full: {num_epochs: 60, seeds: [5, 6]}
scales:
  small:
    num_epochs: 10
    data_fraction: 0.1
    controllers: [fixed, {name: step_decay, period: 2}]
  other: {tasks: [mnist_cnn, {name: digits_mlp, data_fraction: 0.3}], data_fraction: 0.2}
"""


def small(*overrides: str, **more: bool) -> SuiteConfig:
    config = parse_config(SUITE, "a.yaml", overrides, scale="small", **more)
    assert isinstance(config, SuiteConfig)
    return config


def complaint(text: str, *overrides: str, scale: str = "small") -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "a.yaml", overrides, scale=scale)
    return str(caught.value)


# -- what it does ------------------------------------------------------------------------------------------------------


def test_a_scale_puts_its_values_over_the_config_and_leaves_the_rest() -> None:
    config = small()
    assert (config.num_epochs, config.seeds) == (10, (0, 1))
    assert [task.data_fraction for task in config.tasks] == [0.1, 0.1]
    assert [task.lr for task in config.tasks] == [None, 0.01]
    assert config.controllers[1].period == 2  # type: ignore[attr-defined]
    plain = parse_config(SUITE, "a.yaml")
    assert (plain.num_epochs, plain.controllers[1].period) == (50, 10)  # type: ignore[attr-defined]


def test_a_task_that_a_scale_brings_in_keeps_a_share_of_its_own() -> None:
    config = parse_config(SUITE, "a.yaml", scale="other")
    assert [(task.name, task.data_fraction) for task in config.tasks] == [("mnist_cnn", 0.2), ("digits_mlp", 0.3)]


def test_what_set_says_holds_over_a_scale() -> None:
    assert small("num_epochs=3").num_epochs == 3
    assert small("scales.small.num_epochs=4").num_epochs == 4
    # An index is one into the list that is run, so the other values of the scale stay.
    config = small("controllers.1.gamma=0.5", "tasks.1.data_fraction=0.9")
    assert (config.controllers[1].period, config.controllers[1].gamma) == (2, 0.5)  # type: ignore[attr-defined]
    assert [task.data_fraction for task in config.tasks] == [0.1, 0.9]
    # Other tasks are trained at this size too, unless they say otherwise.
    config = small("tasks=[mnist_cnn, {name: digits_mlp, data_fraction: 1.0}]")
    assert [task.data_fraction for task in config.tasks] == [0.1, 1.0]


def test_a_scale_goes_over_full() -> None:
    config = small(full=True)
    assert (config.num_epochs, config.seeds) == (10, (5, 6))


def test_a_config_of_one_run_has_scales_too() -> None:
    text = "{task: digits_mlp, regime: stationary, controller: fixed, num_epochs: 9, seeds: [0], scales: {s: {SCALE}}}"
    config = parse_config(text.replace("SCALE", "num_epochs: 2, data_fraction: 0.5"), "a.yaml", scale="s")
    assert (config.num_epochs, config.tasks[0].data_fraction) == (2, 0.5)
    config = parse_config(text.replace("SCALE", "task: mnist_cnn, controller: cosine"), "a.yaml", scale="s")
    assert (config.tasks[0].name, config.controllers[0].name) == ("mnist_cnn", "cosine")
    assert "unknown key" in complaint(text.replace("SCALE", "tasks: [mnist_cnn]"), scale="s")


# -- what is wrong -----------------------------------------------------------------------------------------------------


def test_a_scale_that_is_not_there_is_refused_with_those_that_are() -> None:
    assert complaint(SUITE, scale="smal") == (
        "--scale smal: the config has no scale 'smal'; did you mean 'small'? choose from small, other, or leave "
        "--scale out to run it as it is specified"
    )
    none = SUITE.partition("scales:")[0]
    assert complaint(none) == (
        "--scale small: the config has no scales; leave --scale out to run it as it is specified"
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("num_epochs: 10", "num_epochs: 0", "a.yaml:9: scales.small.num_epochs = 0: must be a whole number, or null;"),
        (
            "fraction: 0.1",
            "fraction: 2",
            "a.yaml:10: scales.small.data_fraction = 2: must be a number > 0 and <= 1, or null;",
        ),
        (
            "fraction: 0.1",
            "fractions: 1",
            "a.yaml:10: scales.small.data_fractions = 1: unknown key; did you mean 'data",
        ),
        (
            "period: 2",
            "perio: 2",
            "a.yaml:11: scales.small.controllers.1.perio = 2: unknown key; did you mean 'period'",
        ),
        ("  small:", "  sm-all:", "a.yaml:7: scales: a scale's name has letters, digits and _ only, 30 at most,"),
    ],
)
def test_faults_of_a_scale_are_told_at_their_line(old: str, new: str, expected: str) -> None:
    assert SUITE.count(old) == 1
    assert complaint(SUITE.replace(old, new)).startswith(expected)


def test_what_does_not_fit_at_a_scale_is_no_fault_at_another_and_is_told_at_its_line() -> None:
    text = SUITE.replace("{name: step_decay, period: 2}", "{name: one_cycle, per: epoch}")
    text = text.replace("num_epochs: 10", "num_epochs: 1")
    parse_config(text, "a.yaml")
    assert complaint(text).startswith("a.yaml:11: controllers.1: one_cycle per epoch goes up and down, which takes")


# -- what is told ------------------------------------------------------------------------------------------------------


def test_what_was_put_over_what_is_told_in_a_sentence() -> None:
    path = Path("a.yaml")
    told = departure_words(loaded(path, scale="small").departure)
    assert told == (
        "Scale small: 10 epochs; 10 % of the data; controllers fixed, step_decay (period 2). As specified it has 50 "
        "epochs; shares of the data 1.0, 0.5; controllers fixed, step_decay (period 10).",
    )
    told = departure_words(loaded(path, "num_epochs=1", full=True).departure)
    assert told == (
        "With --full, the whole of the data: 60 epochs; 2 seeds. As specified it has 50 epochs; 2 seeds.",
        "Scale: that of the experiment as it is specified, none of small, other.",
        "Changed by --set: num_epochs=1.",
    )
    assert departure_words(Departure()) == departure_words(None) == ()
    whole = Block(name="big", values={"data_fraction": 1}, specified={"data_fraction": 0.5})
    assert departure_words(Departure(scale=whole)) == (
        "Scale big: all of the data. As specified it has 50 % of the data.",
    )


def loaded(path: Path, *overrides: str, **more: object):  # type: ignore[no-untyped-def]
    path.write_text(SUITE)
    return load_config(str(path), overrides, **more)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(suite_module, "run_cells", FakeExecutor())
    return tmp_path


def test_every_scale_has_a_folder_of_its_own_and_every_form_of_the_report_says_which_it_is(folder: Path) -> None:
    Path("mine.yaml").write_text(SUITE)
    result = invoke("suite", "mine.yaml", "--scale", "small", "--set", "title=<b>T</b>", "--set", "tasks=[digits_mlp]")
    assert result.exit_code == 0, result.output
    invoke("suite", "mine.yaml")
    assert {path.name for path in Path("results").iterdir()} == {"mine", "mine-small"}
    about = json.loads(Path("results/mine-small/suite.json").read_text())["departure"]
    assert about["scale"]["values"]["num_epochs"] == 10
    assert about["scale"]["specified"]["num_epochs"] == 50
    assert about["overrides"] == ["title=<b>T</b>", "tasks=[digits_mlp]"]
    page, text = (Path("results/mine-small", name).read_text() for name in ("report.html", "report.md"))
    for shown in (page, text, result.output):
        assert "Scale small: 10 epochs; 10 % of the data;" in shown
        assert "As specified it has 50 epochs;" in shown
    assert "Changed by --set: title=<b>T</b>; tasks=[digits_mlp]." in result.output
    for shown in (page, text):
        assert "Changed by --set: title=&lt;b&gt;T&lt;/b&gt;; tasks=" in shown
    # The report can be made again of what lies in the folder.
    assert invoke("report", "results/mine-small").exit_code == 0
    assert Path("results/mine-small/report.html").read_text() == page


def test_a_damaged_record_of_the_scale_is_refused() -> None:
    Path("mine.yaml").write_text(SUITE)
    invoke("suite", "mine.yaml", "--scale", "small")
    path = Path("results/mine-small/suite.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "departure": {"scale": 3}}))
    result = invoke("report", "results/mine-small")
    assert result.exit_code == 2
    assert "its departure has 1 wrong or missing keys" in result.output


def test_the_terminal_says_where_nothing_may_be_claimed() -> None:
    question = "experiment: {question: Q?, subject: step_decay, against: [fixed], conclusion: best_of}\n"
    Path("mine.yaml").write_text(SUITE + question)
    said = invoke("suite", "mine.yaml").output
    assert "Answer: In these runs: partly; step_decay was worse than none" in said
    assert "Nothing can be claimed: " in said.partition("Answer:")[2].partition("\n")[0]
