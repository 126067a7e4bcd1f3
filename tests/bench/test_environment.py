"""Versions that a run was made with: those that decide about its numbers, and no others."""

from __future__ import annotations

import dataclasses
import sys
from importlib import metadata

import pytest
import torch
from made_up_runs import run
from torch import nn

from autotunenet import Float, SearchSpace
from autotunenet.hpo import extras
from autotunenet_bench.config import expand, parse_config
from autotunenet_bench.controllers import CONTROLLERS, ControllerConfig, stepping
from autotunenet_bench.controllers.offline import OfflineConfig
from autotunenet_bench.controllers.surrogate_search import SurrogateConfig
from autotunenet_bench.data import DataSource
from autotunenet_bench.environment import environment, is_other
from autotunenet_bench.report.facts import facts
from autotunenet_bench.results import ResultStore
from autotunenet_bench.runners import run as run_spec
from autotunenet_bench.suite import make_plan
from autotunenet_bench.types import Horizon

SOURCE = DataSource()
DISTRIBUTIONS = {"sklearn": "scikit-learn", "scipy": "scipy"}
CONFIG = "{task: digits_mlp, regime: stationary, controller: CONTROLLER, num_epochs: 1, seeds: [0]}"


def spec_of(controller):
    (cell,) = expand(parse_config(CONFIG.replace("CONTROLLER", controller), "a.yaml"))
    return cell.resolve(cell.task.load(SOURCE)[1])


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_method_names_the_packages_that_it_imports_and_no_other(name, monkeypatch):
    imported = set()

    def spy(module, controller, require=stepping.require):
        imported.add(stepping.PACKAGES[module])
        return require(module, controller)

    config = CONTROLLERS[name]()
    own = sys.modules[type(config).__module__]
    if hasattr(own, "require"):
        monkeypatch.setattr(own, "require", spy)
        space = SearchSpace({"lr": Float(1e-6, 1.0, log=True)})
        config.check_run(Horizon(num_epochs=10, steps_per_epoch=10), space, seed=0)
        if isinstance(config, ControllerConfig):
            model = nn.Linear(2, 1)
            config.build_stepping(model, torch.optim.Adam(model.parameters()), Horizon(num_epochs=1, steps_per_epoch=1))
        assert isinstance(config, ControllerConfig | OfflineConfig)
    if isinstance(config, SurrogateConfig):
        monkeypatch.setattr(extras, "import_module", lambda module: imported.add(DISTRIBUTIONS[module]))
        config.build_search(SearchSpace({"lr": Float(1e-6, 1.0, log=True)}), seed=0)
    assert set(config.packages) == imported


def test_a_run_stores_the_versions_of_its_own_packages_and_keeps_its_id(tmp_path):
    store = ResultStore(tmp_path)
    for name, packages in (("fixed", []), ("dog", ["dog-optimizer"])):
        spec = spec_of(name)
        assert "dog-optimizer" not in spec.model_dump_json()
        run_spec(spec, SOURCE, store.folder(spec))
        stored = next(store.folder(spec).events())["environment"]
        assert stored == environment() | {package: metadata.version(package) for package in packages}


@pytest.mark.parametrize(
    ("change", "num_other"),
    [
        ({}, 0),
        ({"dog-optimizer": None}, 0),  # a run of before these were stored
        ({"dog-optimizer": "0.1"}, 1),
        ({"torch": "1.0"}, 1),
        ({"torch": None}, 1),
        ({"optuna": "1.0"}, 0),  # is none of its packages
    ],
)
def test_a_finished_run_is_of_another_environment_where_a_version_is_another(tmp_path, change, num_other):
    spec = spec_of("dog")
    folder = ResultStore(tmp_path).folder(spec)
    folder.create(spec)
    stored = {**environment(spec.controller.packages), **change}
    stored = {name: version for name, version in stored.items() if version is not None}
    folder.append([{"event": "start", "environment": stored}, {"event": "end"}])
    folder.set_status("done")
    assert make_plan([spec], ResultStore(tmp_path)).num_other_environment == num_other


def test_a_package_without_metadata_has_an_unknown_version():
    assert environment(["no-such-package"])["no-such-package"] == "unknown"
    assert not is_other(environment(["no-such-package"]), ["no-such-package"])


def test_the_report_shows_versions_once_and_those_that_contradict_apart():
    def value(*environments):
        traces = [dataclasses.replace(run("fixed", 1.0), environment=one) for one in environments]
        return next(fact for fact in facts(traces) if fact.name == "Run with").values

    base = {"python": "3.11", "torch": "2.13"}
    dog, zclip = {**base, "dog-optimizer": "1"}, {**base, "zclip": "2"}
    assert value(base, dog, zclip, base) == ("python 3.11, torch 2.13, dog-optimizer 1, zclip 2",)
    other = {**base, "torch": "2.14"}
    assert value(dog, other) == ("python 3.11, torch 2.13, dog-optimizer 1", "python 3.11, torch 2.14")
