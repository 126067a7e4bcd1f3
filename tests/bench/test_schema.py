"""The JSON schema of configs: the shipped one is today's, and it agrees with the loader."""

from __future__ import annotations

import json

import jsonschema
import pytest
from typer.testing import CliRunner

from autotunenet_bench import cli
from autotunenet_bench.config import ConfigError, parse_config, shipped_configs
from autotunenet_bench.config.files import shipped_folder
from autotunenet_bench.config.schema import DIALECT, SCHEMA_FILE, config_schema, schema_text
from autotunenet_bench.config.yaml import parse_yaml
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.regimes import REGIMES
from autotunenet_bench.tasks import TASKS

VALIDATOR = jsonschema.Draft202012Validator(config_schema())

RUN = "{task: digits_mlp, regime: stationary, controller: fixed, num_epochs: 1, seeds: [0]}"
SUITE = "{tasks: [digits_mlp], regimes: [stationary], controllers: [fixed], num_epochs: 1, seeds: [0]}"


def faults(text: str, *overrides: str) -> list[str]:
    """What the schema and the loader each have against a config."""
    data = parse_yaml(text, "a.yaml").data
    for override in overrides:
        key, _, value = override.partition("=")
        data[key] = parse_yaml(value, "a.yaml").data
    found = ["schema" for _ in list(VALIDATOR.iter_errors(data))[:1]]
    try:
        parse_config(json.dumps(data), "a.yaml")
    except ConfigError:
        found.append("loader")
    return found


def test_the_shipped_file_is_the_schema_of_today() -> None:
    shipped = (shipped_folder() / SCHEMA_FILE).read_text(encoding="utf-8")
    command = f"autotunenet-bench schema --out src/autotunenet_bench/configs/{SCHEMA_FILE}"
    assert shipped == schema_text(), f"a registry or a field has changed; run: {command}"


def test_it_is_a_schema_of_the_dialect_that_it_names() -> None:
    assert config_schema()["$schema"] == DIALECT == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    jsonschema.Draft202012Validator.check_schema(config_schema())


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configs_are_valid_and_name_the_schema_where_it_lies(name: str) -> None:
    path = shipped_folder() / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    assert not list(VALIDATOR.iter_errors(parse_yaml(text, name).data))
    first = text.partition("\n")[0]
    if first.startswith("# yaml-language-server:"):
        assert (path.parent / first.partition("$schema=")[2]).resolve() == (shipped_folder() / SCHEMA_FILE).resolve()


@pytest.mark.parametrize(
    ("family", "registry"),
    [("task", TASKS), ("regime", REGIMES), ("controller", CONTROLLERS)],
    ids=lambda x: str(x)[:9],
)
def test_every_member_has_a_branch_with_its_keys_as_defaults_allow(family: str, registry: dict) -> None:
    for name, model in registry.items():
        branch = config_schema()["$defs"][f"{family}.{name}"]
        assert branch["properties"].keys() == model.model_fields.keys()
        assert branch["additionalProperties"] is False
        assert all("description" in value for key, value in branch["properties"].items() if key != "name")
        for value in (name, {"name": name}):
            assert faults(RUN, f"{family}={json.dumps(value)}", "num_epochs=10") == []


@pytest.mark.parametrize(
    "override",
    [
        "controller={name: heuristic, max_delta: null, observe: train_loss}",
        "space={lr: {low: 1e-5, high: 1.0, log: true}}",
        "regime={name: compound, parts: [{name: data_shift, severity: 0.2}, loss_noise]}",
        "title=null",
    ],
)
def test_what_is_right_is_right_to_both(override: str) -> None:
    assert faults(RUN, override, "num_epochs=4") == []


@pytest.mark.parametrize(
    "override",
    [
        "num_epoch=3",
        "num_epochs=0",
        "num_epochs=many",
        "seeds=[]",
        "seeds=[-1]",
        "seeds=3",
        "title=''",
        "controller=heuristc",
        "controller={max_delta: 0.5}",
        "controller={name: heuristic, max_delta: 50}",
        "controller={name: heuristic, max_dleta: 0.5}",
        "controller={name: heuristic, rollback: ful}",
        "controller={name: heuristic, within_space: 'yes'}",
        "controller={name: fixed, raise_factor: 2}",
        "controller=[fixed]",
        "controller='my methods:HalveOnRise'",
        "regime={name: data_shift, severity: 1.5}",
        "regime={name: data_shift, kind: label_nose}",
        "regime={name: compound, parts: [loss_noise]}",
        "regime={name: compound, parts: [stationary, loss_noise]}",
        "task={name: digits_mlp, lr: 0}",
        "task=null",
        "space={lr: [1e-5, 1.0]}",
        "space={lr: {low: 1e-5}}",
        "tasks=[digits_mlp]",
    ],
)
def test_what_is_wrong_is_wrong_to_both(override: str) -> None:
    assert faults(RUN, override) == ["schema", "loader"]


@pytest.mark.parametrize("override", ["controllers=[]", "controllers=fixed", "controllers=[fixd]", "controller=fixed"])
def test_a_wrong_suite_is_wrong_to_both(override: str) -> None:
    assert faults(SUITE, override) == ["schema", "loader"]
    assert faults(SUITE) == []


def test_a_class_of_your_own_is_left_to_the_loader() -> None:
    for value in ("my_methods:HalveOnRise", {"name": "my.methods:Outer.Inner", "factor": 0.5}):
        assert faults(RUN, f"controller={json.dumps(value)}") == ["loader"]  # there is none here


def test_the_command_prints_it_or_writes_it(tmp_path) -> None:
    assert CliRunner().invoke(cli.app, ["schema"]).stdout == schema_text()
    path = tmp_path / "new" / "config.schema.json"
    result = CliRunner().invoke(cli.app, ["schema", "--out", str(path)])
    assert (result.exit_code, path.read_text(encoding="utf-8")) == (0, schema_text())
    refused = CliRunner().invoke(cli.app, ["schema", "--out", str(path / "below")])
    assert refused.exit_code == 2
    assert "name another file with --out" in refused.output
