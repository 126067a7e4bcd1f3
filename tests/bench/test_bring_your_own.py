"""The example that brings everything of its own, as a user runs it: in a folder of its own, by the real commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autotunenet_bench import cli, references
from autotunenet_bench.results import ResultStore

# Many processes, each of which imports torch; one worker has them all, so that the suite is run once.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("bring_your_own")]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "bring_your_own"

# What the console script of an installed package is; its folder and not the current one leads the path, as there.
SCRIPT = "import sys; from autotunenet_bench.cli import main; sys.exit(main())\n"

BROKEN = '''
"""Broken in two ways."""

import random

from autotunenet.controllers import Controller


class Restless(Controller):
    """Draws lr from the global generator and forgets its state."""

    def __init__(self):
        self._lr = None

    def observe(self, metric, step):
        self._lr = (self._lr or 0.1) * random.uniform(0.9, 1.1)

    def propose(self, current_params):
        return {"lr": self._lr or current_params["lr"]}
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the example, and the script beside which nothing lies."""
    path = tmp_path_factory.mktemp("bring your own")
    shutil.copytree(EXAMPLE, path / "mine")
    (path / "bin").mkdir()
    (path / "bin" / "autotunenet-bench").write_text(SCRIPT)
    return path / "mine"


def python_path():
    """The source first. No empty part: that would be the current folder."""
    return os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))


def call(folder, *arguments, code=0):
    """Run a command as a user does, and return what it printed."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    environment["PYTHONPATH"] = python_path()
    done = subprocess.run(
        [sys.executable, str(folder.parent / "bin" / "autotunenet-bench"), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def suite(folder):
    """What the suite printed, with fewer epochs than the file asks for: that is enough."""
    return call(folder, "suite", "my_suite.yaml", "--set", "num_epochs=2", "--workers", "2")


def test_the_suite_runs_in_worker_processes(folder, suite):
    assert "12 runs in all" in suite
    assert "breast_cancer · fading 0.8 @ 50 %" in suite
    runs = {run.path.name: run for run in ResultStore(folder / "results" / "my_suite").folders()}
    assert [run.status() for run in runs.values()] == ["done"] * 12
    names = [name for name in runs if name.startswith("my_tasks_BreastCancer-my_regimes_Fading-my_methods_HalveOnRise")]
    assert len(names) == 2
    specs = [runs[name].spec() for name in names]
    assert {spec["labels"]["controller"] for spec in specs} == {"HalveOnRise", "careful"}
    expected = {"my_tasks:BreastCancer", "my_regimes:Fading", "my_methods:HalveOnRise"}
    assert all(spec["sources"].keys() == expected for spec in specs)


def test_equal_files_are_reused_and_changed_ones_are_not(folder, suite, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(folder, mine)
    shutil.copytree(folder.parent / "bin", tmp_path / "bin")
    small = ["suite", "my_suite.yaml", "--set", "num_epochs=2", "--set", "regimes=[stationary]"]
    small += ["--set", "tasks=[{name: digits_mlp, lr: 0.1}]"]
    assert "3 finished runs reused" in call(mine, *small)
    path = mine / "my_methods.py"
    path.write_text(path.read_text().replace("factor: float = 0.5", "factor: float = 0.4"))
    assert "1 finished run reused" in call(mine, *small)  # `fixed` is ours


def test_run_takes_one_by_set_and_a_bare_name(folder):
    out = call(folder, "run", "-c", "digits_quick", "--set", "controller=my_methods:HalveOnRise", "--set", "seeds=[0]")
    assert "HalveOnRise" in out
    (run,) = ResultStore(folder / "results" / "digits_quick").folders()
    assert json.loads((run.path / "spec.json").read_text())["controller"]["factor"] == 0.5


def test_the_report_can_be_made_where_the_modules_are_not(folder, suite, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder / "results" / "my_suite", elsewhere / "results")
    shutil.copytree(folder.parent / "bin", tmp_path / "bin")
    assert "Report: results/report.html" in call(elsewhere, "report", "results")
    page = (elsewhere / "results" / "report.html").read_text()
    for name in ("my_tasks:BreastCancer", "my_regimes:Fading", "my_methods:HalveOnRise"):
        assert f"{name}, file SHA-256 " in page
    assert page.count("its module is not found here") == 3
    call(folder, "report", "results/my_suite")
    page = (folder / "results" / "my_suite" / "report.html").read_text()
    assert "my_methods:HalveOnRise, file SHA-256 " in page
    assert "is not found here" not in page


@pytest.fixture
def check(folder, monkeypatch):
    """The command `check` in this process, which afterwards knows nothing of the folder any more."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(references, "_more_folders", [])
    monkeypatch.setattr(sys, "path", list(sys.path))

    def invoke(*arguments, code=0):
        done = CliRunner().invoke(cli.app, ["check", *arguments])
        assert done.exit_code == code, done.output
        return done.output

    yield invoke
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("name", ["my_methods:HalveOnRise", "my_regimes:Fading", "my_tasks:BreastCancer"])
def test_check_finds_nothing_wrong(check, name):
    out = check(name)
    assert ", 0 broken" in out
    assert "  ok      can_be_made: " in out


def test_check_names_the_rules_that_are_broken_with_reason_and_mend(folder):
    (folder / "broken.py").write_text(BROKEN)
    lines = call(folder, "check", "broken:Restless", code=1).splitlines()
    assert lines[0] == "broken:Restless, a controller:"
    broken = {line.split()[1] for line in lines if line.startswith("  broken  ")}
    assert broken == {
        "keeps_the_contract_of_the_core:",
        "runs_under_every_regime:",
        "resumes_where_it_was_cut_off:",
    }
    (core,) = [line for line in lines if "  keeps_the_contract" in line]
    assert "Found: " in core
    assert "Mend: see autotunenet.testing.check_controller" in core
    (under,) = [line for line in lines if "  runs_under_every_regime" in line]
    assert "Found: under stationary: " in under
    assert "the global random generators belong to the user; Python's was touched" in under
    assert lines[-1] == "16 rules, 3 broken"


def test_check_refuses_what_is_not_there(check, folder):
    out = check("my_method:HalveOnRise", code=2)
    assert f"my_method:HalveOnRise: there is no module my_method in {folder}, " in out
    assert "did you mean 'my_methods'?" in out
    out = check("my_methods:Halve", code=2)
    assert "the module my_methods has no class Halve; did you mean 'HalveOnRise'?" in out
    out = check("my_regimes:FadingRegime", code=2)
    assert "the class FadingRegime is no controller, regime or task; derive it from one of autotunenet_bench." in out
    assert "did you mean 'cosine'?" in check("cosin", code=2)
    assert "an override is written key=value" in check("cosine", "--set", "x", code=2)
    out = check("my_methods:HalveOnRise", "--set", "factr=0.7", code=2)
    assert out.startswith("--set factr=0.7: factr = 0.7: unknown key; did you mean 'factor'? allowed keys: ")
    assert "pydantic" not in out


def test_check_takes_keys_and_shipped_names(check):
    out = check("null", "--set", "trigger_epoch=3")
    assert "null, a regime:" in out
    out = check("my_methods:HalveOnRise", "--set", "factor=2", code=1)
    assert "can_be_made" in out
    assert "HalveOnRise: factor must lie in (0, 1), got 2" in out
    assert "1 rule, 1 broken" in out


def test_a_file_in_the_current_folder_stands_in_for_nothing_until_a_class_is_named(folder, tmp_path):
    (tmp_path / "bin").mkdir()
    shutil.copy(folder.parent / "bin" / "autotunenet-bench", tmp_path / "bin")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "jinja2.py").write_text("raise SystemExit('this is no jinja2')")
    small = ["--set", "num_epochs=2", "--set", "seeds=[0]"]
    assert "Report:" in call(mine, "run", "-c", "digits_quick", *small)


SCRIPT_WITH_ITS_OWN = """
from pathlib import Path

from autotunenet.controllers import Controller
from autotunenet_bench.config import parse_config
from autotunenet_bench.controllers.fixed import FixedConfig
from autotunenet_bench.data import DataSource
from autotunenet_bench.suite import run_suite


class Halve(Controller):
    def observe(self, metric, step):
        pass

    def propose(self, current_params):
        return {"lr": current_params["lr"] / 2}


class Own(FixedConfig):
    pass


if __name__ == "__main__":
    text = "{tasks: [digits_mlp], regimes: [stationary], controllers: ['__main__:Halve', '__main__:Own'], "
    config = parse_config(text + "num_epochs: 2, seeds: [0]}", "in the script")
    for reused in (0, 2):
        result = run_suite(
            config, Path("mine"), DataSource(), num_workers=2, on_plan=lambda plan: print("reused", plan.num_reused)
        )
        print("finished", [trace.finished for trace in result.traces], dict(result.failures))
"""


def test_classes_of_a_script_itself_run_in_its_workers(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT_WITH_ITS_OWN)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    finished = "finished [True, True] {}"
    assert done.stdout.splitlines() == ["reused 0", finished, "reused 2", finished]
