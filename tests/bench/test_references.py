"""Classes of the user's own in place of a name: how they are found, wrapped, stored, and refused."""

# ruff: noqa: E501  (messages are tested as they are read: on one line)

from __future__ import annotations

import json
import pickle
import sys

import pytest

from autotunenet import Float, SearchSpace
from autotunenet.controllers import Plateau, RandomWalk
from autotunenet_bench.config import ConfigError, RunConfig, RunSpec, expand, parse_config
from autotunenet_bench.config.specs import run_id_of
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.controllers.own import config_of
from autotunenet_bench.data import DataSource
from autotunenet_bench.references import ClassNotFoundError, find_source, import_class, reference_to, source_digest
from autotunenet_bench.report.own import own_classes
from autotunenet_bench.results import ResultStore
from autotunenet_bench.runners import run_online
from autotunenet_bench.suite import rebuild_report, resolve
from autotunenet_bench.tasks import DigitsMlp
from autotunenet_bench.types import DataInfo, Horizon

MODULE = '''
"""What a user might have written."""

import math
from typing import Any, Callable, Literal

from pydantic import Field

from autotunenet.controllers import Controller, Fixed
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.regimes.base import TriggeredConfig
from autotunenet_bench.regimes.loss_noise import LossNoise
from autotunenet_bench.tasks import DigitsMlp


class Halve(Controller):
    """Halves the learning rate in every control step."""

    def __init__(self, factor: float = 0.5, *, every: int = 1, words=("a", "b"), key: Callable = math.exp, seed=0):
        if not 0 < factor < 1:
            raise ValueError(f"Halve: factor must lie in (0, 1), got {factor}")
        self.factor, self.every, self.words, self.key, self.seed = factor, every, words, key, seed

    def observe(self, metric, step):
        pass

    def propose(self, current_params):
        return {"lr": current_params["lr"] * self.factor}


class Bare(Halve):
    def __init__(self, factor):
        super().__init__(factor)


class Clumsy(Halve):
    def __init__(self, factor: float = 0.5):
        super().__init__(**{"fcator": factor})


class Taken(Halve):
    def __init__(self, warmup: int = 1, label: str = "x"):
        super().__init__()


class Unfinished(Controller):
    def observe(self, metric, step):
        pass


class Own(ControllerConfig):
    """Changes nothing, under a name of its own."""

    name: Literal["own"] = "own"
    rate: float = Field(0.5, gt=0, lt=1, description="of something")

    def build(self, horizon, space, seed):
        return Fixed()

    class Inner:
        pass


class Nameless(ControllerConfig):
    def build(self, horizon, space, seed):
        return Fixed()


class OwnTask(DigitsMlp):
    name: Literal["own_task"] = "own_task"


class OwnNoise(LossNoise):
    name: Literal["own_noise"] = "own_noise"


class Hiding(Halve):
    def __init__(self, build: int = 1, interval: int = 2):
        super().__init__()
'''
DATA = DataInfo(name="digits", source="test", num_train=10, num_val=5, sha256="ab")
RUN = """\
task: digits_mlp
regime: stationary
controller:
  name: CONTROLLER
num_epochs: 2
seeds: [0]
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The user's module, importable for the length of one test."""
    name = f"methods_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def parsed(reference: str, *overrides: str) -> RunConfig:
    config = parse_config(RUN.replace("CONTROLLER", reference), "a.yaml", overrides)
    assert isinstance(config, RunConfig)
    return config


def complaint(reference: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(reference, *overrides)
    (line,) = str(caught.value).splitlines()
    return line


def spec_of(config: RunConfig) -> RunSpec:
    return expand(config)[0].resolve(DATA)


# -- what is right ---------------------------------------------------------------------------------------------------


def test_a_config_of_your_own_stands_where_a_name_does(module):
    config = parsed(f"{module}:Own", "controller.rate=0.25")
    assert type(config.controller) is sys.modules[module].Own
    assert (config.controller.name, config.controller.rate, config.controller.display) == ("own", 0.25, "own")
    assert parsed("fixed", f"controller={module}:Own").controller.rate == 0.5  # the bare name
    assert parsed("fixed", f"controller={{name: {module}:Own, rate: 0.1}}").controller.rate == 0.1


def test_tasks_and_regimes_and_parts_of_regimes_too(module):
    text = f"""
    task: "{module}:OwnTask"
    regime: {{name: compound, parts: [data_shift, "{module}:OwnNoise"]}}
    controller: fixed
    num_epochs: 2
    seeds: [0]
    """
    spec = spec_of(parse_config(text, "a.yaml"))
    assert (spec.task.name, spec.regime.parts[1].name) == ("own_task", "own_noise")
    assert spec.sources.keys() == {f"{module}:OwnTask", f"{module}:OwnNoise"}
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec


def test_the_keys_of_a_controller_of_the_core_are_its_arguments(module):
    config = parsed(f"{module}:Halve", "controller.factor=0.25", "controller.words=[c]", "controller.rollback=full")
    controller = config.controller
    assert (controller.display, controller.rollback, controller.max_delta) == ("Halve", "full", None)
    assert {*type(controller).model_fields} - {*CONTROLLERS["fixed"].model_fields} == {"factor", "every", "words"}
    built = controller.build(Horizon(num_epochs=1, steps_per_epoch=1), DigitsMlp().space, seed=7)
    assert type(built) is sys.modules[module].Halve
    assert (built.factor, built.every, built.words, built.key(0), built.seed) == (0.25, 1, ("c",), 1.0, 7)
    assert config_of(type(built)) is type(controller)


def test_an_argument_without_a_default_is_a_required_key(module):
    line = complaint(f"{module}:Bare")
    assert line.startswith(
        "a.yaml:3: controller.factor: this key is required: argument factor of the class; it must be"
    )
    assert parsed(f"{module}:Bare", "controller.factor=0.5").controller.factor == 0.5


def test_what_a_run_gives_is_no_key():
    space = SearchSpace({"lr": Float(1e-3, 1.0, log=True)})
    config = config_of(RandomWalk)(max_step=0.2)
    assert "seed" not in type(config).model_fields
    walks = [config.build(Horizon(num_epochs=1, steps_per_epoch=1), space, seed) for seed in (1, 1, 2)]
    first, same, other = [walk.propose({"lr": 0.1}) for walk in walks]
    assert first == same != other


@pytest.mark.parametrize("name", ["Own", "Halve"])
def test_specs_go_to_workers_and_come_back_from_files(module, name):
    spec = spec_of(parsed(f"{module}:{name}", "controller.label=mine"))
    assert pickle.loads(pickle.dumps(spec)) == spec
    stored = json.loads(spec.model_dump_json())
    assert stored["controller"]["name"] == f"{module}:{name}"
    assert RunSpec.model_validate_json(json.dumps(stored)) == spec
    assert run_id_of(stored) == spec.run_id
    assert spec.run_id.startswith(f"digits_mlp-stationary-{module}_{name}-s0-")


def test_an_instance_from_python_is_stored_under_the_name_that_leads_back_to_it(module):
    own = import_class(f"{module}:Own")(rate=0.3)
    config = RunConfig(task=DigitsMlp(), regime="stationary", controller=own, num_epochs=1, seeds=(0,))
    assert RunSpec.model_validate_json(spec_of(config).model_dump_json()).controller == own


def test_specs_of_registered_members_are_stored_as_before():
    stored = json.loads(spec_of(parsed("cosine")).model_dump_json())
    assert "sources" not in stored
    assert stored["controller"]["name"] == "cosine"
    # The id that this spec had before there were classes of one's own.
    assert spec_of(parsed("cosine")).run_id == "digits_mlp-stationary-cosine-s0-106103a542"


def test_a_changed_file_is_another_run(module, tmp_path):
    before = spec_of(parsed(f"{module}:Own"))
    path = tmp_path / f"{module}.py"
    path.write_text(path.read_text() + "\n# a thought\n")
    after = spec_of(parsed(f"{module}:Own"))
    assert before.run_id != after.run_id
    assert before.sources != after.sources
    assert after.sources == {f"{module}:Own": source_digest(import_class(f"{module}:Own"))}


def test_a_file_that_changes_while_a_suite_runs_is_not_run_under_the_old_name(module, tmp_path):
    (spec,) = resolve(parsed(f"{module}:Own", "num_epochs=1"), DataSource())
    path = tmp_path / f"{module}.py"
    path.write_text(path.read_text() + "\n# a thought\n")
    with pytest.raises(ValueError, match="A file was changed after the suite had begun; run the config again"):
        run_online(spec, DataSource(), ResultStore(tmp_path / "results").folder(spec))


# -- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Field name")  # pydantic says it too, and goes on
@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("MODULE:Hlave", "the module MODULE has no class Hlave; did you mean 'Halve'? its classes are Halve, Bare, Clumsy and others"),
        ("MODULE:math", "the module MODULE has no class math"),
        ("MODULE:Own.Outer", "the module MODULE has no class Own.Outer"),
        ("MODULE:Own.Inner", "the class Inner is no controller; derive it from autotunenet_bench.controllers.base.MethodConfig or autotunenet.controllers.base.Controller"),
        ("MODULE:OwnTask", "the class OwnTask is no controller"),
        ("MODULE:Unfinished", "the class Unfinished does not define propose; write what is missing"),
        ("MODULE:Nameless", 'the field name of Nameless has no default, so it does not say its name itself; write `name: Literal["nameless"] = "nameless"`'),
        ("MODULE:Taken", "the argument label, warmup of Taken is also a key of every controller; rename it, or write a subclass of autotunenet_bench.controllers.base.ControllerConfig"),
        ("MODULE:Hiding", "the class Hiding has a key of a name that its base has for something else: build, interval; give the key another name"),
        ("MODULE:", "is no name of a class; write module:Class, such as my_methods:HalveOnRise"),
        (":Own", "is no name of a class"),
        ("MODULE:Own:Own", "is no name of a class"),
        ("no_such_module:Own", "there is no module no_such_module in FOLDER, "),
        ("json.no_such_module:Own", "there is no module json.no_such_module in FOLDER, "),
    ],
)  # fmt: skip
def test_a_reference_that_leads_nowhere_is_told_with_its_line(module, tmp_path, reference, expected):
    reference, expected = (
        text.replace("MODULE", module).replace("FOLDER", str(tmp_path)) for text in (reference, expected)
    )
    line = complaint(f'"{reference}"')
    assert line.startswith(f"a.yaml:4: controller.name = {reference!r}: {expected}"), line
    bare = complaint("fixed", f"controller='{reference}'")
    assert bare.startswith(f"--set controller='{reference}': controller = {reference!r}: {expected}"), bare


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("controller.factr=0.5", "controller.factr = 0.5: unknown key; did you mean 'factor'? allowed keys: name, observe,"),
        ("controller.factor='a'", "controller.factor = 'a': must be a number; write it as a bare number"),
        ("controller.every=1.5", "controller.every = 1.5: must be a whole number"),
        ("controller.seed=3", "controller.seed = 3: unknown key"),
        ("controller.backoff=0.3", "controller.backoff = 0.3: has no effect because rollback is none"),
    ],
)  # fmt: skip
def test_keys_of_a_class_are_checked_like_those_of_ours(module, override, expected):
    assert complaint(f"{module}:Halve", override).startswith(f"--set {override}: {expected}")


def test_what_the_class_itself_refuses_is_told_with_its_line(module):
    wrong = parsed(f"{module}:Halve", "controller.factor=2")  # has a seed, so it is made where that is known
    with pytest.raises(ConfigError, match=r"controller Halve: Halve: factor must lie in \(0, 1\), got 2"):
        resolve(wrong, DataSource())
    line = complaint(f"{module}:Bare", "controller.factor=2")
    assert line.startswith("--set controller.factor=2: controller: Halve: factor must lie in (0, 1), got 2")
    assert complaint(f"{module}:Clumsy").startswith("a.yaml:3: controller: Clumsy(...) raised TypeError: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import no_such_package_of_mine", "ModuleNotFoundError: No module named 'no_such_package_of_mine'"),
        ("x = 1 / 0", "ZeroDivisionError: division by zero (PATH:1); mend it until `import NAME` works"),
        ("def f(:\n", "SyntaxError: "),
        ("import sys\nsys.exit(3)", "SystemExit: 3 (PATH:2)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_with_the_reason(tmp_path, monkeypatch, text, expected):
    name = f"broken_{tmp_path.name}"
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    expected = expected.replace("PATH", str(path)).replace("NAME", name)
    assert f"the module {name} cannot be imported: {expected}" in complaint(f"{name}:Own")


def test_a_dot_in_place_of_the_colon_is_told():
    assert complaint("my_methods.Own").endswith("; a class of your own is written module:Class")


def test_core_controllers_can_be_named_unless_an_argument_is_a_key():
    assert parsed(reference_to(RandomWalk)).controller.display == "RandomWalk"
    with pytest.raises(ClassNotFoundError, match="the argument cooldown of Plateau is also a key of every controller"):
        config_of(Plateau)


# -- reports ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def ran(module, tmp_path):
    (spec,) = resolve(parsed(f"{module}:Own", "num_epochs=1"), DataSource())
    folder = tmp_path / "results"
    run_online(spec, DataSource(), ResultStore(folder).folder(spec))
    return folder, spec


def test_a_report_says_which_classes_were_somebodys_own_and_imports_none(ran, module, tmp_path):
    folder, spec = ran
    (digest,) = spec.sources.values()
    path = tmp_path / f"{module}.py"
    del sys.modules[module]

    def said() -> str:
        (words,) = own_classes(rebuild_report(folder).traces)
        assert words in (folder / "report.html").read_text(encoding="utf-8")
        assert module not in sys.modules
        return words

    assert said() == f"{module}:Own, file SHA-256 {digest}"
    path.write_text("raise SystemExit('a report must not run this')")
    assert said().endswith("; its file is another one now, so these runs are not those of the file")
    path.unlink()
    assert said().endswith("; its module is not found here, so these runs can be shown and not repeated")
    assert "own: " in (folder / "report.html").read_text(encoding="utf-8")


def test_a_failed_run_of_a_class_that_is_gone_is_counted_once(ran, module, tmp_path):
    folder, spec = ran
    ResultStore(folder).folder(spec).set_status("failed", error="out of luck")
    del sys.modules[module]
    (tmp_path / f"{module}.py").unlink()
    result = rebuild_report(folder)
    assert (result.num_runs, list(result.failures)) == (1, [spec.run_id])
    assert "1 run" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_spec_of_a_class_that_is_gone_is_refused_with_the_reason(ran, module, tmp_path):
    _, spec = ran
    stored = spec.model_dump_json()
    del sys.modules[module]
    (tmp_path / f"{module}.py").unlink()
    with pytest.raises(ValueError, match=f"there is no module {module}"):
        RunSpec.model_validate_json(stored)


def test_sources_are_found_without_importing(tmp_path, monkeypatch):
    package = tmp_path / "pkg_not_imported"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit")
    (package / "inner" / "deep.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_source("pkg_not_imported.inner.deep:Own") == package / "inner" / "deep.py"
    assert find_source("pkg_not_imported:Own") == package / "__init__.py"
    assert find_source("pkg_not_imported.none:Own") is None
    assert find_source("no_such_package:Own") is None
    assert "pkg_not_imported" not in sys.modules
