"""Imports only go down, torch is where it may be, and libraries do not print."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"

# A unit may import units of the floors below it, and itself. A new module has to be given its floor here; one of a
# sub-package may be given one of its own.
FLOORS = [
    {"types", "state", "space", "files", "processes", "optional"},
    {"hpo", "sinks", "views", "surrogates", "launch_losses", "late_losses"},
    {"launch_search"},
    {"attribution", "controllers", "guards", "launch", "monitors", "snapshots"},
    {"agreement", "arguments", "reasons", "reporting", "resuming", "step_losses"},
    {"control", "way_back"},
    {"replaying"},
    {"trial"},
    {"recovery"},
    {"launching"},
    {"tuner"},
    {"adapters", "testing"},
    {"autotune", "watch"},
    {"adapters._options"},
    {"adapters.accelerate", "adapters.keras", "adapters.lightning", "adapters.transformers"},
    {"cli"},
    {"__main__"},
]
MAY_IMPORT_TORCH = {"adapters", *(name for names in FLOORS for name in names if name.startswith("adapters."))}
MAY_IMPORT_TORCH_INSIDE_FUNCTIONS = {"testing", "autotune", "sinks"}

CORE = sorted((SRC / "autotunenet").rglob("*.py"))
BENCH = sorted((SRC / "autotunenet_bench").rglob("*.py"))


def unit(path):
    """Return the unit that a file of a package belongs to: its module, or the sub-package it lies in."""
    return unit_of(".".join(path.relative_to(SRC).with_suffix("").parts))


def unit_of(module):
    """Return the unit of a dotted name: its second part, with the third where that has a floor of its own."""
    names = module.split(".")[1:3]
    return ".".join(names) if floor(".".join(names)) is not None else names[0]


def imports(path, nested=True):
    """Return the dotted names that a file imports; without `nested`, only at module level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = []
    for node in ast.walk(tree) if nested else tree.body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide directions; write the full name"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def our_units(path, package="autotunenet"):
    return {unit_of(name) for name in imports(path) if name.startswith(package + ".")}


def ids(path):
    return str(path.relative_to(SRC))


def floor(name):
    return next((i for i, names in enumerate(FLOORS) if name in names), None)


def test_every_module_of_the_core_has_a_floor():
    assert {unit(path) for path in CORE} - {"__init__"} == set().union(*FLOORS)


@pytest.mark.parametrize("path", [p for p in CORE if unit(p) != "__init__"], ids=ids)
def test_the_core_imports_only_downwards(path):
    own = unit(path)
    for other in our_units(path) - {own}:
        assert floor(other) is not None, f"{ids(path)} imports autotunenet.{other}; import from the module that has it"
        assert floor(other) < floor(own), f"{ids(path)} is on floor {floor(own)}, {other} is on floor {floor(other)}"


@pytest.mark.parametrize("path", CORE, ids=ids)
def test_the_core_knows_nothing_of_the_bench(path):
    assert not [name for name in imports(path) if name.split(".")[0] == "autotunenet_bench"]


def test_the_lowest_floor_stands_by_itself():
    for name in FLOORS[0]:
        assert our_units(SRC / "autotunenet" / f"{name}.py") == set()


@pytest.mark.parametrize("path", CORE, ids=ids)
def test_torch_is_imported_only_where_it_may_be(path):
    def torches(nested):
        return [name for name in imports(path, nested) if name.split(".")[0] == "torch"]

    if unit(path) not in MAY_IMPORT_TORCH:
        assert not torches(nested=False)
        assert unit(path) in MAY_IMPORT_TORCH_INSIDE_FUNCTIONS or not torches(nested=True)


@pytest.mark.parametrize("path", CORE, ids=ids)
def test_the_core_does_not_print_nor_seed(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "pprint"), f"{ids(path)}:{node.lineno} prints; log it"
            assert called.split(".")[-1] not in ("manual_seed", "seed", "set_num_threads"), (
                f"{ids(path)}:{node.lineno} calls {called}, which belongs to the user"
            )


@pytest.mark.parametrize("path", [p for p in BENCH if unit(p) in ("results", "metrics", "report")], ids=ids)
def test_what_reads_results_knows_nothing_of_what_makes_them(path):
    above = our_units(path, "autotunenet_bench") & {"runners", "executors", "cli", "suite"}
    assert not above, f"{ids(path)} imports {', '.join(above)}"


@pytest.mark.parametrize("path", [p for p in BENCH if unit(p) == "models"], ids=ids)
def test_the_models_know_torch_only_and_transformers_where_one_is_made(path):
    assert our_units(path, "autotunenet_bench") <= {"models"}
    for nested, known in ((False, {"torch"}), (True, {"torch", "transformers"})):
        names = {name.split(".")[0] for name in imports(path, nested)}
        assert names - {"autotunenet_bench", *sys.stdlib_module_names} <= known


@pytest.mark.parametrize("path", [p for p in BENCH if unit(p) == "data"], ids=ids)
def test_the_data_know_nothing_of_what_is_done_with_them(path):
    assert our_units(path, "autotunenet_bench") <= {"data", "types"}


@pytest.mark.parametrize("path", [p for p in BENCH if unit(p) == "statistics"], ids=ids)
def test_the_statistics_know_numbers_only(path):
    assert our_units(path, "autotunenet_bench") <= {"statistics"}
    others = {name.split(".")[0] for name in imports(path)} - {"autotunenet_bench", *sys.stdlib_module_names}
    assert others <= {"numpy"}


def in_a_new_process(code):
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


OPTIONAL = (
    *("torch", "scipy", "sklearn", "optuna", "matplotlib", "pandas", "rich", "tensorboard", "wandb", "mlflow"),
    *("transformers", "lightning", "accelerate", "keras"),
)


@pytest.mark.parametrize("module", ["autotunenet", "autotunenet.hpo, autotunenet.testing", "autotunenet.cli"])
def test_the_core_comes_without_torch_and_without_what_only_some_need(module):
    done = in_a_new_process(
        f"import {module}, sys; assert not {{{', '.join(map(repr, OPTIONAL))}}} & sys.modules.keys()"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_changes_nothing_for_others(tmp_path):
    """No output, no hook, no folder, no seed, no logging set-up."""
    code = (
        f"import os; os.chdir({str(tmp_path)!r})\n"
        "import logging, random, sys\n"
        "before = sys.excepthook, random.getstate(), list(logging.root.handlers), logging.root.level\n"
        "import autotunenet, autotunenet.adapters.pytorch, autotunenet.adapters.accelerate\n"
        f"assert not {set(OPTIONAL) - {'torch'}} & sys.modules.keys()\n"
        "assert before == (sys.excepthook, random.getstate(), logging.root.handlers, logging.root.level)\n"
        "assert os.listdir('.') == []\n"
    )
    done = in_a_new_process(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
