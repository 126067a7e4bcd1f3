"""The command line: its exit codes and what it says. Whole runs through real processes are tested elsewhere."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from autotunenet.files import FolderInUseError, locked
from autotunenet_bench import cli
from autotunenet_bench import suite as suite_module
from autotunenet_bench.config import RunSpec, parse_config
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.data import DataSource
from autotunenet_bench.data.cifar10 import decode_cifar10
from autotunenet_bench.metrics import METRICS
from autotunenet_bench.results.claims import Claims
from autotunenet_bench.results.store import ResultStore, RunFolder
from autotunenet_bench.suite import NoRunsError, SuiteResult, make_plan, rebuild_report, resolve, run_suite
from autotunenet_bench.testing import TASK_RULES
from autotunenet_bench.types import Event

CONFIG = """\
task: digits_mlp
regime: stationary
controller: fixed
num_epochs: 2
seeds: [0, 1]
"""
Outcome = Callable[[RunSpec], str]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def events(num_epochs: int) -> list[Event]:
    clock = {"train_seconds": 0.1, "eval_seconds": 0.1, "control_seconds": 0.1}
    rows: list[Event] = [
        {"event": "start", "environment": {}, "hyperparams": {"lr": 0.1}, "val": {"loss": 2.3, "accuracy": 0.1}}
    ]
    for epoch in range(1, num_epochs + 1):
        val = {"loss": 1 / epoch, "accuracy": 0.5}
        row = {"event": "epoch", "epoch": epoch, "step": epoch, "losses": [1.0], "val": val}
        rows.append({**row, "hyperparams": {"lr": 0.1}, "clock": clock})
    return [*rows, {"event": "end", "num_restarts": 0, "weights_sha256": "ab"}]


class FakeExecutor:
    """Writes runs instead of training; a run's outcome is "done", "failed" or an interruption."""

    def __init__(self, outcome: Outcome = lambda spec: "done") -> None:
        self.outcome = outcome
        self.started: list[RunSpec] = []

    def __call__(self, specs: Sequence[RunSpec], *, root: Path, **options: Any) -> list[Any]:
        for spec in specs:
            self.started.append(spec)
            folder = ResultStore(root).folder(spec)
            folder.create(spec)
            state = self.outcome(spec)
            if state == "interrupted":
                folder.set_status("interrupted")
                raise KeyboardInterrupt
            if state == "done":
                folder.append(events(spec.num_epochs))
                folder.set_status("done")
            else:
                folder.set_status("failed", error="RuntimeError: out of luck")
        return []


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> FakeExecutor:
    fake = FakeExecutor()
    monkeypatch.setattr(suite_module, "run_cells", fake)
    return fake


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(CONFIG)
    return "mine.yaml"


# -- a run -----------------------------------------------------------------------------------------------------------


def test_a_run_ends_with_a_table_and_the_paths_of_the_report(config: str, executor: FakeExecutor) -> None:
    result = invoke("run", "--config", config)
    assert result.exit_code == 0, result.output
    assert "2 runs in all" in result.output
    assert "fixed" in result.output
    assert f"Report: {Path('results/mine/report.html')}\n" in result.output
    for name in (
        "report.md",
        "summary.csv",
        "curves.csv",
        "decisions.csv",
        "overall.csv",
        "score.csv",
        "claims.csv",
        "tables.tex",
    ):
        assert Path("results/mine", name).is_file()
        assert f" {name}" in result.output


def test_finished_runs_are_reused_and_this_is_said(config: str, executor: FakeExecutor) -> None:
    invoke("run", "--config", config)
    again = invoke("run", "--config", config)
    assert "2 finished runs reused; --fresh runs them again" in again.output
    assert (again.exit_code, len(executor.started)) == (0, 2)
    fresh = invoke("run", "--config", config, "--fresh")
    assert "reused" not in fresh.output
    assert len(executor.started) == 4


def test_a_larger_config_reuses_what_it_shares(config: str, executor: FakeExecutor) -> None:
    invoke("run", "--config", config)
    result = invoke("run", "--config", config, "--set", "seeds=[0, 1, 2]")
    assert "3 runs in all; 2 finished runs reused" in result.output
    assert [spec.seed for spec in executor.started] == [0, 1, 2]


def test_runs_of_other_settings_in_the_folder_are_not_mixed_in(config: str, executor: FakeExecutor) -> None:
    invoke("run", "--config", config)
    invoke("run", "--config", config, "--set", "num_epochs=1")
    assert len(rebuild_report(Path("results/mine")).traces) == 2


def test_out_and_set_reach_the_run(config: str, executor: FakeExecutor) -> None:
    invoke("run", "-c", config, "--out", "elsewhere", "--set", "controller=cosine", "--set", "controller.final=0.5")
    assert executor.started[0].controller == CONTROLLERS["cosine"](name="cosine", final=0.5)  # type: ignore[call-arg]
    assert Path("elsewhere/mine/report.html").is_file()


def test_a_failed_run_leaves_the_others_and_ends_in_1(config: str, executor: FakeExecutor) -> None:
    executor.outcome = lambda spec: "failed" if spec.seed == 0 else "done"
    result = invoke("run", "--config", config)
    assert result.exit_code == 1
    run_id = executor.started[0].run_id
    assert "1 of 2 runs failed:" in result.output
    assert f"{run_id}: RuntimeError: out of luck" in result.output
    assert str(Path("results/mine", run_id)) in result.output
    assert Path("results/mine/report.html").is_file()


def test_an_interruption_says_how_to_go_on(
    config: str, executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["run", "--config", config, "--set", "seeds=[0, 1]", "--fresh"]
    monkeypatch.setattr(sys, "orig_argv", ["python", "run_benchmark.py", *arguments[1:]])
    executor.outcome = lambda spec: "interrupted" if spec.seed == 1 else "done"
    result = invoke(*arguments)
    assert result.exit_code == 130
    assert "python run_benchmark.py --config mine.yaml --set 'seeds=[0, 1]'\n" in result.output
    executor.outcome = lambda spec: "done"
    result = invoke(*arguments[:-1])
    assert "1 finished run reused; --fresh runs them again; 1 interrupted run continued" in result.output


def test_the_command_to_go_on_is_the_one_that_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "orig_argv", ["/venv/bin/python", "/venv/bin/autotunenet-bench", "suite", "a b", "--fresh"]
    )
    monkeypatch.setattr("shutil.which", lambda name: "/venv/bin/autotunenet-bench")
    assert cli.continue_command() == "autotunenet-bench suite 'a b'"
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert cli.continue_command() == "/venv/bin/python /venv/bin/autotunenet-bench suite 'a b'"


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_faulty_config_is_refused_with_every_problem(config: str, executor: FakeExecutor) -> None:
    result = invoke("run", "-c", config, "--set", "num_epochs=0", "--set", "controller.max_dleta=1")
    assert result.exit_code == 2
    assert "--set num_epochs=0: num_epochs = 0: must be a whole number >= 1" in result.output
    assert "did you mean 'max_delta'?" in result.output
    assert "2 problems; nothing was run." in result.output
    assert not Path("results").exists()


def test_missing_data_are_refused(config: str, executor: FakeExecutor, tmp_path: Path) -> None:
    result = invoke("run", "-c", config, "--set", "task=mnist_cnn", "--data-dir", str(tmp_path / "nowhere"))
    assert result.exit_code == 2
    assert "nowhere" in result.output
    assert "Traceback" not in result.output


def test_a_place_that_cannot_hold_results_is_refused(config: str, executor: FakeExecutor) -> None:
    result = invoke("run", "-c", config, "--out", config)
    assert result.exit_code == 2
    assert (
        "mine.yaml/mine: no files can be read or written here: Not a directory; name another folder with --out"
        in result.output
    )


@pytest.mark.parametrize(
    "arguments", [["run"], ["run", "-c", "nope"], ["suite", "nope"], ["list", "nope"], ["report", "nope"]]
)
def test_wrong_usage_ends_in_2(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output


SUITE = CONFIG.replace("task: digits_mlp", "tasks: [digits_mlp]").replace("regime: s", "regimes: [s")
SUITE = SUITE.replace("stationary", "stationary]").replace("controller: fixed", "controllers: [fixed]")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "-c", "suites/trust"], "suites/trust is a suite: autotunenet-bench suite trust"),
        (["run", "-c", "my suite.yaml"], "my suite.yaml is a suite: autotunenet-bench suite 'my suite.yaml'"),
        (["suite", "digits_quick"], "digits_quick is a config of one run: autotunenet-bench run --config digits_quick"),
        (["suite", "mine.yaml"], "mine.yaml is a config of one run: autotunenet-bench run --config mine.yaml"),
    ],
)
def test_run_takes_no_suite_and_suite_no_run(
    arguments: list[str], words: str, config: str, executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("my suite.yaml").write_text(SUITE)
    monkeypatch.setattr("autotunenet_bench.cli.saying._is_console_script", lambda: True)
    result = invoke(*arguments)
    assert (result.exit_code, result.output) == (2, f"{words}\n")
    assert not executor.started
    assert not Path("results").exists()
    assert invoke("suite", "my suite.yaml").exit_code == 0
    assert len(executor.started) == 2


QUESTION = "experiment: {question: Is it so?, subject: cosine, against: [fixed], conclusion: best_of}\n"


def test_a_suite_says_its_answer_before_its_report(config: str, executor: FakeExecutor) -> None:
    Path("asks.yaml").write_text(SUITE.replace("[fixed]", "[fixed, cosine]") + QUESTION)
    for command in (["suite", "asks.yaml"], ["report", "results/asks"]):
        result = invoke(*command)
        assert result.exit_code == 0, result.output
        lines = result.output.splitlines()
        (place,) = [number for number, line in enumerate(lines) if line.startswith("Answer: In these runs: ")]
        assert lines[place + 1].startswith("Report: ")
    assert "Answer:" not in invoke("run", "--config", config).output


def test_the_process_shows_problems_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(CONFIG + "num_epoch: 3\n")
    command = [sys.executable, "-m", "autotunenet_bench", "run", "--config", "bad.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("bad.yaml:6: num_epoch = 3: unknown key; did you mean 'num_epochs'?")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "override", "words"),
    [
        ("cosine", "finl=0.5", "--set finl=0.5: finl = 0.5: unknown key; did you mean 'final'? allowed keys: "),
        ("cosine", "final=half", "--set final=half: final = 'half': must be a number "),
        ("null", "trigger_epoch=-1", "--set trigger_epoch=-1: trigger_epoch = -1: must be "),
        ("digits_mlp", "lr=.inf", "--set lr=.inf: lr = inf: must be a finite number > 0"),
    ],
)
def test_check_refuses_a_key_in_the_words_of_configs(name: str, override: str, words: str) -> None:
    result = invoke("check", name, "--set", override)
    assert result.exit_code == 2, result.output
    assert result.output.startswith(words)
    assert "pydantic" not in result.output


def test_check_without_the_data_of_a_task_says_so_and_breaks_no_rule(tmp_path: Path) -> None:
    result = invoke("check", "cifar10_resnet18_small", "--data-dir", str(tmp_path))
    assert result.exit_code == 2, result.output
    assert f"the data directory {tmp_path} holds no CIFAR-10: looked for " in " ".join(result.output.split())
    assert "broken" not in result.output


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10_resnet18_small", "imdb_bilstm_small"])
def test_check_takes_the_data_of_a_task_from_a_folder(name: str, small_data: Path) -> None:
    result = invoke("check", name, "--data-dir", str(small_data))
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == f"{len(TASK_RULES)} rules, 0 broken"


# -- help and lists --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["run"], ["suite"], ["list"], ["report"]])
def test_help_teaches_by_examples(command: list[str]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert f"autotunenet-bench {' '.join(command)}".rstrip() in result.output.partition("\n")[2]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from autotunenet_bench.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'matplotlib', 'pydantic') if name in sys.modules])"
    )
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("[]\n")
    assert time.perf_counter() - begin < 10  # 0.1 s on an idle machine


def test_version() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.output.startswith("autotunenet-bench ")) == (0, True)


def test_list_has_every_member() -> None:
    result = invoke("list")
    assert all(f"\n  {name} " in result.output for name in [*CONTROLLERS, *METRICS, "demo", "digits_quick"])


def test_list_runs_shows_states(config: str, executor: FakeExecutor) -> None:
    assert "no runs here" in invoke("list", "runs").output
    executor.outcome = lambda spec: "failed" if spec.seed == 0 else "done"
    invoke("run", "--config", config)
    lines = invoke("list", "runs").output.splitlines()
    assert sorted(line.partition("  ")[2].split("  ")[1] for line in lines if "mine" in line) == [
        "done, 2 of 2 epochs",
        "failed, 0 of 2 epochs",
    ]


def test_list_runs_says_of_one_that_is_done_without_its_last_row_that_it_was_cut_off(
    config: str, executor: FakeExecutor
) -> None:
    invoke("run", "--config", config)
    path = next(Path("results/mine").glob("*-s0-*/events.jsonl"))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    said = " ".join(invoke("list", "runs").output.split())
    assert f"{path.parent} cut off, 1 of 2 epochs: its status is done, but its events are not complete;" in said
    assert said.count("done, 2 of 2 epochs") == 1


# -- the library below -----------------------------------------------------------------------------------------------


def test_report_rebuilds_what_was_lost(config: str, executor: FakeExecutor) -> None:
    invoke("run", "--config", config)
    page = Path("results/mine/report.html")
    before = page.read_bytes()
    page.unlink()
    result = invoke("report", "results/mine", "--out", "pages/mine.html")
    assert result.exit_code == 0, result.output
    assert page.read_bytes() == Path("pages/mine.html").read_bytes() == before


def test_a_damaged_run_is_named_and_the_others_are_reported(config: str, executor: FakeExecutor) -> None:
    invoke("run", "--config", config)
    damaged = next(Path("results/mine").glob("*-s0-*/events.jsonl"))
    damaged.write_text("nonsense\n")
    result = invoke("report", "results/mine")
    assert result.exit_code == 1
    assert f"{damaged}:1: this row is damaged" in result.output


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_a_run_that_is_done_without_its_last_row_is_named_and_run_again(
    keep: float, config: str, executor: FakeExecutor
) -> None:
    invoke("run", "--config", config)
    path = next(Path("results/mine").glob("*-s0-*/events.jsonl"))
    rows = path.read_bytes()
    path.write_bytes(rows[: int(keep * len(rows))])
    result = invoke("report", "results/mine")
    assert result.exit_code == 1
    words = f"{path.parent.name}: its status is done, but its events are not complete; run it again"
    assert words in result.output
    assert "1 of 2 runs failed" in result.output
    assert words in " ".join(re.sub("<[^>]*>", "", Path("results/mine/report.html").read_text()).split())
    path.unlink()  # what the runner does, which finds no checkpoint
    assert invoke("run", "--config", config).exit_code == 0
    assert [spec.seed for spec in executor.started] == [0, 1, 0]


def test_a_folder_without_runs_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(NoRunsError, match="no runs in this folder"):
        rebuild_report(tmp_path)


def test_run_suite_is_a_library_call(tmp_path: Path, executor: FakeExecutor) -> None:
    result = run_suite(parse_config(CONFIG, "a.yaml"), tmp_path, DataSource(), name="by hand")
    assert [trace.spec["seed"] for trace in result.traces] == [0, 1]
    assert json.loads((tmp_path / "suite.json").read_text())["title"] == "by hand"
    assert "by hand" in result.report.html.read_text()


def test_workers_are_as_many_as_cores_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite_module, "num_cores", lambda: 8)
    store = ResultStore(tmp_path)

    def workers(text: str, asked: int | None = None) -> int:
        return make_plan(resolve(parse_config(text, "a.yaml"), DataSource()), store, asked).num_workers

    assert workers(CONFIG) == 2  # no more than runs
    assert workers(CONFIG.replace("[0, 1]", "[0, 1, 2, 3, 4]") + "num_threads: 3") == 2
    assert workers(CONFIG + "num_threads: 99") == 1
    assert workers(CONFIG, asked=1) == 1


# -- two at once, and what a crash or a hand left behind --------------------------------------------------------------


def test_fresh_throws_away_no_run_that_another_process_is_on(config: str, executor: FakeExecutor) -> None:
    assert invoke("run", "--config", config).exit_code == 0
    first, second = sorted(run.path for run in ResultStore(Path("results/mine")).folders())
    with Claims(Path("results/mine")).hold(second.name):
        result = invoke("run", "--config", config, "--fresh")
    assert result.exit_code == 2
    assert "--fresh would throw away a run that process" in result.output
    assert len(executor.started) == 2
    assert RunFolder(first).is_done()
    assert invoke("run", "--config", config, "--fresh").exit_code == 0
    assert len(executor.started) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--address", "auto"], "--address names a cluster; it needs --executor ray or slurm"),
        (["--memory-per-cell", "much"], "'much' is no size; write a number and a unit"),
        (["--gpus-per-cell", "1"], "the local executor hands out no GPUs"),
        (["--executor", "slurm", "--address", "nowhere"], "there is no 'nowhere' for Slurm jobs to go to"),
        (["--executor", "cloud"], "'cloud' is not one of 'local', 'ray', 'slurm'"),
    ],
)
def test_what_an_executor_cannot_do_is_refused(
    config: str, executor: FakeExecutor, options: list[str], words: str
) -> None:
    result = invoke("run", "--config", config, *options)
    assert result.exit_code == 2
    assert words in " ".join(result.output.replace("\u2502", " ").split())
    assert executor.started == []


def test_the_lock_is_not_handed_to_other_programs(tmp_path: Path) -> None:
    with locked(tmp_path):
        sleeper = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
        with pytest.raises(FolderInUseError), locked(tmp_path):
            pass
    with locked(tmp_path):  # though the other one still lives
        assert sleeper.poll() is None
    sleeper.communicate()


def test_each_of_two_suites_in_one_folder_reports_its_own_runs(tmp_path: Path, executor: FakeExecutor) -> None:
    others: list[SuiteResult] = []

    def outcome(spec: RunSpec) -> str:
        if not others:
            executor.outcome = lambda spec: "done"
            others.append(
                run_suite(parse_config(CONFIG, "b.yaml", ["seeds=[5]"]), tmp_path, DataSource(), name="other")
            )
        return "done"

    executor.outcome = outcome
    result = run_suite(parse_config(CONFIG, "a.yaml"), tmp_path, DataSource(), name="mine")
    assert [[trace.spec["seed"] for trace in one.traces] for one in (*others, result)] == [[5], [0, 1]]
    assert "mine" in (tmp_path / "report.html").read_text()
    assert not (tmp_path / ".claims").exists()


def test_runs_that_never_started_are_counted_and_named(config: str, executor: FakeExecutor) -> None:
    executor.outcome = lambda spec: "interrupted" if spec.seed == 1 else "done"
    assert invoke("run", "--config", config, "--set", "seeds=[0, 1, 2]").exit_code == 130
    result = rebuild_report(Path("results/mine"))
    assert (len(result.traces), result.num_runs, result.failures) == (1, 3, {})
    assert sorted(result.missing.values()) == ["interrupted", "not started"]
    page = result.report.html.read_text()
    assert all(name in page for name in result.missing)
    shown = invoke("report", "results/mine")
    assert "1 of 3 finished; 1 interrupted; 1 not started" in shown.output
    assert shown.exit_code == 0


def test_a_suite_of_which_nothing_is_there_has_a_report_too(config: str, executor: FakeExecutor) -> None:
    invoke("run", "--config", config)
    for path in Path("results/mine").glob("*/*"):
        path.unlink()
    result = invoke("report", "results/mine")
    assert result.exit_code == 0, result.output
    assert "0 of 2 finished; 2 not started" in result.output


@pytest.mark.parametrize("text", ["", "nonsense\n", '{"event": "start"}\n'])
def test_done_without_the_last_row_is_not_done(config: str, executor: FakeExecutor, text: str) -> None:
    invoke("run", "--config", config)
    path = next(Path("results/mine").glob("*-s0-*/events.jsonl"))
    path.write_text(text)
    if not text:
        path.unlink()
    result = invoke("run", "--config", config)
    assert "1 finished run reused" in result.output
    assert [spec.seed for spec in executor.started] == [0, 1, 0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runs": "all"}', '{"runs": ["../elsewhere"]}', '{"title": 3}'])
def test_a_broken_suite_file_is_named_and_written_anew(config: str, executor: FakeExecutor, text: str) -> None:
    invoke("run", "--config", config)
    path = Path("results/mine/suite.json")
    path.write_text(text)
    result = invoke("report", "results/mine")
    assert result.exit_code == 2
    assert f"{path}: this file is damaged (" in result.output
    assert invoke("run", "--config", config).exit_code == 0
    assert len(json.loads(path.read_text())["runs"]) == 2


def test_a_spec_that_is_none_fails_its_own_run_only(config: str, executor: FakeExecutor) -> None:
    invoke("run", "--config", config)
    broken = min(Path("results/mine").glob("*/spec.json"))
    broken.write_text("{}")
    result = rebuild_report(Path("results/mine"))
    assert len(result.traces) == 1
    assert list(result.failures) == [broken.parent.name]
    assert f"{broken}: this is no spec of a run (no key 'labels')" in result.failures[broken.parent.name]
    listed = invoke("list", "runs")
    assert listed.exit_code == 0
    assert "cannot be read: no key 'num_epochs'" in listed.output
    assert "done, 2 of 2 epochs" in listed.output


# -- what the system refuses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["a" * 300, "mine.yaml"])
@pytest.mark.parametrize("command", [["run", "-c", "mine.yaml"], ["list", "runs"], ["report", "X"]])
def test_impossible_places_are_refused(config: str, executor: FakeExecutor, command: list[str], out: str) -> None:
    arguments = [f"{out}/x" if word == "X" else word for word in command]
    result = invoke(*arguments, *([] if "X" in command else ["--out", out]))
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert result.exit_code in ((0, 2) if command[0] == "list" else (2,))
    assert out in result.output


def test_a_page_cannot_take_the_place_of_a_folder(config: str, executor: FakeExecutor) -> None:
    invoke("run", "--config", config)
    Path("pages").mkdir()
    result = invoke("report", "results/mine", "--out", "pages")
    assert result.exit_code == 2
    assert "pages: no files can be read or written here: Is a directory; name another file with --out" in result.output
    assert invoke("report", "results/mine", "--out", "results/mine/report.html").exit_code == 0
    Path("results/mine/summary.csv").unlink()
    Path("results/mine/summary.csv").mkdir()
    result = invoke("report", "results/mine")
    assert result.exit_code == 2
    assert f"{Path('results/mine/summary.csv')}: no files can be read or written here" in result.output


def test_a_full_disk_is_told_with_the_file(
    config: str, executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    result = invoke("run", "--config", config)
    assert result.exit_code == 2
    words = "no files can be read or written here: No space left on device; name another folder with --out"
    assert f"{Path('results/mine/suite.json')}: {words}" in result.output
    assert list(Path("results/mine").iterdir()) == []


def test_a_terminal_that_lacks_letters_ends_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "autotunenet_bench", "list", "runs", "--out", "runs \N{GREEK SMALL LETTER PI}"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"runs ?" in done.stdout


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


def test_ctrl_c_before_the_first_run_promises_no_report(
    config: str, executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(suite_module, "resolve", interrupt)
    result = invoke("run", "--config", config)
    assert result.exit_code == 130
    assert "Interrupted. Finished runs are kept" in result.output
    assert "report" not in result.output.partition("To continue:")[2].partition("\n  ")[2].partition("\n")[2]


@pytest.mark.parametrize("arguments", [["run", "-c", "mine.yaml"], ["report", "results/mine"], ["list"]])
def test_ctrl_c_in_the_imports_ends_in_130(config: str, arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        f"from autotunenet_bench.cli import main; main({arguments!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "Interrupted." in done.stderr


def test_ctrl_c_in_a_report(config: str, executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(suite_module, "rebuild_report", interrupt)
    result = invoke("report", "results/mine")
    assert result.exit_code == 130
    assert "Interrupted. To continue:" in result.output


def test_the_commands_that_are_printed_can_be_run(
    config: str, executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "run_benchmark.py", "--config", config])
    executor.outcome = lambda spec: "interrupted" if spec.seed == 1 else "done"
    result = invoke("run", "--config", config)
    hint = result.output.rpartition("To see what is there:\n  ")[2].strip()
    assert shlex.split(hint) == [sys.executable, "-m", "autotunenet_bench", "report", str(Path("results/mine"))]
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "/venv/bin/autotunenet-bench", "run"])
    monkeypatch.setattr("shutil.which", lambda name: "/venv/bin/autotunenet-bench")
    executor.started.clear()
    result = invoke("run", "--config", config)
    assert result.output.endswith(f"\n  autotunenet-bench report {Path('results/mine')}\n")
    monkeypatch.setattr("shutil.which", lambda name: "/another/bin/autotunenet-bench")  # not what was typed
    assert cli.continue_command() == shlex.join([sys.executable, "/venv/bin/autotunenet-bench", "run"])


def test_more_threads_than_cores_are_said_and_not_forbidden(
    config: str, executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite_module, "num_cores", lambda: 3)
    crowd = ["run", "--config", config, "--set", "num_threads=2"]
    assert "slow each other down" not in invoke(*crowd).stderr
    result = invoke(*crowd, "--fresh", "--workers", "2")
    assert result.exit_code == 0
    assert "2 workers x 2 threads: more than there are cores here" in result.stderr


def test_a_first_decoding_is_told_and_a_second_one_is_not(executor, small_data, tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNENET_CACHE_DIR", str(tmp_path / "cache"))
    config = tmp_path / "a.yaml"
    config.write_text(CONFIG.replace("digits_mlp", "cifar10_resnet18_small"), encoding="utf-8")
    arguments = ("run", "-c", str(config), "--out", str(tmp_path), "--data-dir", str(small_data))
    decode_cifar10.cache_clear()
    first = invoke(*arguments)
    assert first.exit_code == 0, first.stderr
    assert re.search(r"^cifar10: decoded for the first time, and kept in .*cache", first.stderr, re.MULTILINE)
    decode_cifar10.cache_clear()
    assert "decoded" not in invoke(*arguments).stderr
    decode_cifar10.cache_clear()
