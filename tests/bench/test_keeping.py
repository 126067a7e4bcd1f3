"""Keeping results: what `verify` finds, and how `resume` goes on."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_suites import CONFIG, HereExecutor, make_suite, runs_of, without_clock
from typer.testing import CliRunner, Result

from autotunenet_bench import cli
from autotunenet_bench import suite as suite_module
from autotunenet_bench.config import ConfigError, Range, RunConfig, SuiteConfig, load_config, parse_config
from autotunenet_bench.config.stored import read_stored_config, references_in, stored_config
from autotunenet_bench.data import DataSource
from autotunenet_bench.executors import run_cells
from autotunenet_bench.results import RunFolder
from autotunenet_bench.results.suite_file import CHECKSUMS, SuiteFileError, read_suite_file
from autotunenet_bench.results.verifying import Soundness, verify_folder
from autotunenet_bench.suite import read_results, resolve


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "small"
    with pytest.MonkeyPatch.context() as patch:
        make_suite(folder, patch)
    return folder


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


# -- the same numbers --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_number_of_workers_and_the_order_of_runs_move_no_number(finished, tmp_path):
    specs = resolve(parse_config(CONFIG, "small.yaml"), DataSource())
    shuffled = [specs[place] for place in (2, 0, 3, 1)]
    assert run_cells(shuffled, root=tmp_path / "two", source=DataSource(), num_workers=2) == []
    HereExecutor()(specs[::-1], root=tmp_path / "one", source=DataSource())
    for run in runs_of(finished):
        for other in ("one", "two"):
            assert without_clock(RunFolder(tmp_path / other / run.path.name)) == without_clock(run)


def test_everything_that_decides_what_a_run_does_is_in_its_id():
    (spec,) = resolve(parse_config(CONFIG, "small.yaml", ["seeds=[0]", "controllers=[fixed]"]), DataSource())
    data = spec.data
    others = {
        "task": spec.task.model_copy(update={"lr": 0.123}),
        "regime": parse_config(CONFIG, "a", ["regimes=[data_shift]"]).regimes[0],
        "controller": parse_config(CONFIG, "a", ["controllers=[{name: cosine, final: 0.2}]"]).controllers[0],
        "seed": 1,
        "num_epochs": 3,
        "num_threads": 2,
        "protocol": "9.9",
        "space": {"lr": Range(low=1e-3, high=1.0, log=True)},
        "data": dataclasses.replace(data, sha256="ab"),
    }
    ids = {spec.run_id, *(spec.model_copy(update={key: value}).run_id for key, value in others.items())}
    ids |= {spec.model_copy(update={"data": dataclasses.replace(data, weights_sha256="ab")}).run_id}
    # A scale is what it puts over the config: a share of the data, epochs, seeds, members.
    ids |= {spec.model_copy(update={"task": spec.task.model_copy(update={"data_fraction": 0.5})}).run_id}
    assert len(ids) == len(others) + 3


# -- verify ------------------------------------------------------------------------------------------------------------


def test_a_finished_suite_is_intact(folder):
    found = verify_folder(folder)
    assert (found.is_sound, len(found.of(Soundness.INTACT)), found.unnamed) == (True, 4, ())
    result = invoke("verify", folder)
    assert (result.exit_code, "4 runs: 4 intact" in result.output) == (0, True), result.output
    assert invoke("verify", folder, "--digest", found.digest).exit_code == 0
    assert not list(folder.rglob("checkpoint.pt"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def cut_last_row(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def swap_digit(path: Path) -> None:
    """Another number, with the same length."""
    text = path.read_text()
    place = text.index('"loss":') + 9
    digit = next(i for i in range(place, len(text)) if text[i].isdigit())
    path.write_text(f"{text[:digit]}{(int(text[digit]) + 1) % 10}{text[digit + 1 :]}")


def flip_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def append(path: Path) -> None:
    path.write_text(path.read_text() + '{"event":"note"}\n')


def other_seed(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "seed": 99}, indent=2) + "\n")


def same_values(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text())))


def without_checksums(path: Path) -> None:
    path.write_text('{"state": "done"}\n')


def running(path: Path) -> None:
    path.write_text('{"state": "running"}\n')


@pytest.mark.parametrize(
    ("name", "harm", "words"),
    [
        ("events.jsonl", Path.unlink, "it is missing"),
        ("events.jsonl", cut, "it was truncated"),
        ("events.jsonl", cut_last_row, "it was truncated"),
        ("events.jsonl", swap_digit, "it was edited, or bits of it were lost"),
        ("events.jsonl", flip_bit, "it was edited, or bits of it were lost"),
        ("events.jsonl", append, "it was written to after the end of the run"),
        ("spec.json", Path.unlink, "this file is missing"),
        ("spec.json", cut, "this file is damaged"),
        ("spec.json", other_seed, "this file was edited, or its folder renamed: its values are those of the run"),
        ("spec.json", same_values, "it was truncated"),
        ("status.json", Path.unlink, "this file is missing"),
        ("status.json", cut, "this file is damaged"),
        ("status.json", without_checksums, "this file has no checksums, unlike suite.json"),
        ("status.json", running, "the run was finished when the suite ended, and is running by this file"),
    ],
)
def test_harm_to_any_file_is_found_and_named(folder, name, harm: Callable[[Path], None], words):
    path = runs_of(folder)[1].path / name
    harm(path)
    found = verify_folder(folder)
    (broken,) = found.of(Soundness.BROKEN)
    assert broken.run_id == path.parent.name
    (fault,) = [fault for fault in broken.faults if fault.startswith(f"{path}: ") and words in fault]
    assert "restore the file" in fault or "remove the folder" in fault
    result = invoke("verify", folder)
    assert (result.exit_code, fault in result.output, "3 intact, 1 broken" in result.output) == (1, True, True)


def test_a_folder_that_is_gone_is_missed(folder):
    run = runs_of(folder)[2]
    run.clear()
    (broken,) = verify_folder(folder).of(Soundness.BROKEN)
    assert f"{run.path}: this folder is missing" in broken.faults[0]


def test_a_run_whose_checksums_were_made_anew_is_found_by_those_of_the_suite_and_else_by_the_digest(folder):
    digest, run = verify_folder(folder).digest, runs_of(folder)[0]
    swap_digit(run.events_path)
    run.finish(2)
    (broken,) = verify_folder(folder).of(Soundness.BROKEN)
    assert "has another checksum of the events than suite.json" in broken.faults[0]
    about = json.loads((folder / "suite.json").read_text())
    about[CHECKSUMS][run.path.name] = run.details()["files"]["events.jsonl"]["sha256"]
    (folder / "suite.json").write_text(json.dumps(about))
    assert verify_folder(folder).is_sound, "whoever works out all checksums anew is not found by them"
    result = invoke("verify", folder, "--digest", digest)
    assert (result.exit_code, "runs were added, removed or changed" in result.output) == (1, True)


def test_runs_of_before_checksums_are_not_checkable_and_not_broken(folder):
    about = json.loads((folder / "suite.json").read_text())
    del about[CHECKSUMS]
    (folder / "suite.json").write_text(json.dumps(about))
    first, second, *_ = runs_of(folder)
    first.set_status("done")
    second.set_status("done")
    cut_last_row(second.events_path)
    found = verify_folder(folder)
    assert [one.run_id for one in found.of(Soundness.NOT_CHECKABLE)] == [first.path.name]
    assert [one.run_id for one in found.of(Soundness.BROKEN)] == [second.path.name]
    second.clear()
    assert invoke("verify", folder).exit_code == 0
    assert invoke("verify", folder, "--strict").exit_code == 1


def test_a_damaged_suite_file_is_a_fault_and_hides_no_other(folder):
    cut(runs_of(folder)[3].events_path)
    (folder / "suite.json").write_text("{")
    found = verify_folder(folder)
    assert len(found.findings) == 4
    assert len(found.of(Soundness.BROKEN)) == 1
    assert "suite.json: this file is damaged" in found.faults[0]


def test_a_run_taken_from_the_list_is_found(folder):
    about = json.loads((folder / "suite.json").read_text())
    lost = about["runs"].pop()
    (folder / "suite.json").write_text(json.dumps(about))
    found = verify_folder(folder)
    assert (found.unnamed, found.is_sound) == ((lost,), False)
    assert f"it has a checksum of {lost} and does not name it" in found.faults[0]


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "..\\x", "C:x"])
def test_no_name_of_a_run_leads_out_of_the_folder(tmp_path, name):
    (tmp_path / "suite.json").write_text(json.dumps({"runs": [name]}))
    with pytest.raises(SuiteFileError, match="this file is damaged"):
        read_suite_file(tmp_path)


def test_a_report_does_not_take_numbers_that_were_edited(folder):
    run = runs_of(folder)[0]
    swap_digit(run.events_path)
    results = read_results(folder)
    assert "it was edited" in results.failures[run.path.name]
    assert len(results.traces) == 3


def test_nothing_to_verify_is_refused(tmp_path):
    result = invoke("verify", tmp_path / "nope")
    assert (result.exit_code, "there are no runs in this folder" in result.output) == (2, True)


# -- resume ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(tmp_path, monkeypatch) -> Path:
    """One run finished, one with a checkpoint, two that have not begun."""
    folder = tmp_path / "interrupted"
    make_suite(folder, monkeypatch, stop_after=1)
    monkeypatch.setattr(suite_module, "run_cells", HereExecutor())
    return folder


def test_resume_finishes_what_was_interrupted_with_equal_numbers(interrupted, finished):
    assert invoke("verify", interrupted).exit_code == 0
    result = invoke("resume", interrupted)
    assert result.exit_code == 0, result.output
    assert "4 runs in all; 1 finished run reused" in result.output
    for one, other in zip(runs_of(interrupted), runs_of(finished), strict=True):
        assert without_clock(one) == without_clock(other)
    assert len(verify_folder(interrupted).of(Soundness.INTACT)) == 4
    for name in ("decisions.csv", "score.csv"):
        assert (interrupted / name).read_bytes() == (finished / name).read_bytes()


def test_rows_edited_while_a_run_was_interrupted_are_not_gone_on_with(interrupted):
    run = runs_of(interrupted)[1]
    assert (run.path / "checkpoint.pt").exists()
    swap_digit(run.events_path)
    (broken,) = verify_folder(interrupted).of(Soundness.BROKEN)
    assert "was edited after checkpoint.pt was written" in broken.faults[0]
    with pytest.raises(ValueError, match=r"was edited after checkpoint\.pt was written; remove the checkpoint"):
        run.load_checkpoint()


def test_bits_lost_in_a_checkpoint_are_found(interrupted):
    path = runs_of(interrupted)[1].path / "checkpoint.pt"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1  # in the middle of the weights
    path.write_bytes(raw)
    (broken,) = verify_folder(interrupted).of(Soundness.BROKEN)
    assert f"{path}: this checkpoint is broken" in broken.faults[0]


def test_resume_refuses_in_a_sentence(finished, interrupted, tmp_path, monkeypatch):
    def says(words, *arguments):
        result = invoke("resume", *arguments)
        assert (result.exit_code, words in " ".join(result.output.split())) == (2, True), result.output

    says("there is no such file, so this is no folder of a suite", tmp_path)
    about = json.loads((interrupted / "suite.json").read_text())

    def stored(**changes):
        (interrupted / "suite.json").write_text(json.dumps({**about, **changes}))
        return interrupted

    says("it was written before configs were stored; give the command again that made it", stored(config=None))
    says("its config is damaged, or of another version", stored(config={**about["config"], "num_epochs": -1}))
    says("its config asks for other runs now than when it was begun", stored(config={**about["config"], "seeds": [7]}))
    says("its runs need classes that do not come with this package: os:system", stored(config={"task": "os:system"}))
    (interrupted / "suite.json").write_text("{")
    says("this file is damaged", interrupted)


@pytest.mark.parametrize("overrides", [(), ("controllers.1.max_delta=0.5", "tasks.0={name: digits_mlp, lr: 0.05}")])
def test_a_stored_config_asks_for_the_same(overrides):
    config = parse_config(CONFIG, "a.yaml", overrides)
    assert isinstance(config, SuiteConfig)
    again = read_stored_config(json.loads(json.dumps(stored_config(config))), "suite.json")
    assert again == config


def test_a_stored_config_of_one_run_asks_for_the_same():
    regime = "{name: data_shift, kind: label_noise}"
    config = parse_config(
        f"{{task: digits_mlp, regime: {regime}, controller: heuristic, num_epochs: 3, seeds: [1]}}", "a.yaml"
    )
    assert isinstance(config, RunConfig)
    assert read_stored_config(stored_config(config), "suite.json") == config


def test_names_of_classes_are_found_wherever_they_stand():
    parts = {"name": "compound", "parts": [{"name": "mine:One"}, "mine:Two"]}
    assert references_in({"regimes": [parts], "controllers": ["fixed", "mine:One"]}) == ["mine:One", "mine:Two"]


@pytest.mark.parametrize("suite", ["oha", "trust"])
def test_words_with_a_colon_are_no_names_of_classes(suite):
    config = load_config(suite, ['tasks.0.label="digits: mine"']).config
    assert isinstance(config, SuiteConfig)
    assert ":" in (config.title or "")
    assert references_in(stored_config(config)) == []


def test_a_stored_config_imports_nothing_unless_that_is_allowed():
    stored = {**stored_config(parse_config(CONFIG, "a.yaml")), "controllers": ["antigravity:Escape"]}
    with pytest.raises(ConfigError, match="the module antigravity is not imported for what a results folder says"):
        read_stored_config(stored, "suite.json")
    assert "antigravity" not in sys.modules
