"""Several offline searches together."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_searches import TEXT, run_inline
from typer.testing import CliRunner

from autotunenet_bench import cli
from autotunenet_bench.config import ConfigError, HpoSetConfig, load_config
from autotunenet_bench.config.sets import load_members
from autotunenet_bench.hpo import suite
from autotunenet_bench.report.departure import departure_words

SET = "title: Two of them\nconfigs: [{folder}/one.yaml, {folder}/two.yaml]\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(suite, "run_cells", run_inline)
    (tmp_path / "one.yaml").write_text(TEXT)
    (tmp_path / "two.yaml").write_text(TEXT + "objective: val_loss\n")
    (tmp_path / "both.yaml").write_text(SET.format(folder=tmp_path))
    return tmp_path


def test_a_set_is_its_members_with_the_overrides_over_each() -> None:
    whole, members = load_members("surrogate_hpo", ["num_trials=3", "configs=[hpo_sst2, hpo_cifar10]"], scale="small")
    assert isinstance(whole.config, HpoSetConfig)
    assert whole.folder == "surrogate_hpo-small"
    assert [member.name for member in members] == ["hpo_sst2", "hpo_cifar10"]
    assert [member.config.num_trials for member in members] == [3, 3]
    assert [member.config.task.name for member in members] == ["sst2_bert_small", "cifar10_resnet50_small"]
    single, none = load_members("hpo_digits")
    assert (single.name, none) == ("hpo_digits", [])


def test_what_a_scale_searches_in_and_for_is_told_beside_what_is_specified() -> None:
    (told,) = departure_words(load_config("hpo_mrpc", scale="small").departure)
    small, specified = told.split(". As specified ")
    assert "objective val_loss; space task.lr 5e-05/0.0001/0.0002, task.batch_size 16/32" in small
    assert "objective val_f1; space task.lr 2e-05/3e-05/5e-05, task.batch_size 16/32" in specified


def test_a_wrong_member_is_told_as_by_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="shipped configs: "):
        load_members("surrogate_hpo", ["configs=[hpo_sst3]"])
    with pytest.raises(ConfigError, match="a config may stand once"):
        load_members("surrogate_hpo", ["configs=[hpo_sst2, hpo_sst2]"])
    refused = CliRunner().invoke(cli.app, ["hpo", "-c", "surrogate_hpo", "--set", "configs=[digits_quick]"])
    assert refused.exit_code == 2
    assert "is a config of one run" in refused.output


def test_the_command_searches_all_and_sums_them_up(folder: Path) -> None:
    few = ("--set", "seeds=[0]", "--set", "num_epochs=1", "--out", str(folder / "out"))
    result = CliRunner().invoke(cli.app, ["hpo", "-c", str(folder / "both.yaml"), *few])
    assert result.exit_code == 0, result.output
    assert "the best mean rank over 2 data sets" in result.output
    page = (folder / "out" / "both" / "report.html").read_text()
    assert 'href="one/report.html"' in page
    assert (folder / "out" / "both" / "one" / "report.html").exists()
    markdown = (folder / "out" / "both" / "report.md").read_text()
    assert "two: validation loss in" in markdown
    again = CliRunner().invoke(cli.app, ["report", str(folder / "out" / "both")])
    assert (again.exit_code, (folder / "out" / "both" / "report.html").read_text()) == (0, page)


def test_what_a_later_member_lacks_is_known_before_the_first_runs(folder: Path) -> None:
    (folder / "two.yaml").write_text(TEXT.replace("num_test: 100", "num_test: 1437"))
    arguments = ["hpo", "-c", str(folder / "both.yaml"), "--out", str(folder / "out")]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert "lower num_test" in result.output
    assert not (folder / "out" / "both" / "one").exists()
