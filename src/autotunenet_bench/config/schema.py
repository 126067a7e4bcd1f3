"""Configs as a JSON schema (draft 2020-12), for editors: made from the registries, so that it is never behind them.

What a schema cannot say is left to the loader: rules over several keys, and whether a class of your own is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from autotunenet_bench.config.hpo import SEARCH, HpoConfig, HpoSetConfig
from autotunenet_bench.config.models import CONTROLLER, REGIME, TASK, RunConfig, SuiteConfig
from autotunenet_bench.member import JSON_SCHEMA_KEY, Member
from autotunenet_bench.references import PATTERN
from autotunenet_bench.regimes.compound import PART

SCHEMA_FILE = "config.schema.json"
"""The name of the shipped one, beside the shipped configs."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_PLURALS = ("tasks", "regimes", "controllers")
_OF_SEARCHES = ("searches", "objective")


def config_schema() -> dict[str, Any]:
    """Return the schema of a config.

    What has ``tasks``, ``regimes`` or ``controllers`` is a suite, what has ``searches`` an offline search, and
    what has ``configs`` a set of these.

    >>> schema = config_schema()
    >>> schema["$defs"]["controller.cosine"]["properties"]["name"]["const"]
    'cosine'
    """
    definitions: dict[str, Any] = {}
    models = (RunConfig, SuiteConfig, HpoConfig, HpoSetConfig)
    run, suite, hpo, hpo_set = (_plain(model, definitions) for model in models)
    for family in (TASK, REGIME, CONTROLLER, PART, SEARCH):
        definitions.update(_family(family, definitions))
    return {
        "$schema": DIALECT,
        "title": "A config of autotunenet-bench",
        "description": "One run over some seeds, a suite of tasks, regimes and controllers, or an offline search.",
        "type": "object",
        "if": {"anyOf": [{"required": [key]} for key in _PLURALS]},
        "then": {"$ref": "#/$defs/suite"},
        "else": {
            "if": {"anyOf": [{"required": [key]} for key in _OF_SEARCHES]},
            "then": {"$ref": "#/$defs/hpo"},
            "else": {
                "if": {"required": ["configs"]},
                "then": {"$ref": "#/$defs/hpo_set"},
                "else": {"$ref": "#/$defs/run"},
            },
        },
        "$defs": {"run": run, "suite": suite, "hpo": hpo, "hpo_set": hpo_set, **dict(sorted(definitions.items()))},
    }


def schema_text() -> str:
    """Return the schema as it stands in a file."""
    return json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"


def _family(member: Member, definitions: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield a definition of every member of a family, of a class of one's own, and of any of them."""
    family = member.family
    folder = REGIME.family if member is PART else family  # a part is a regime
    for name, model in member.registry.items():
        yield f"{folder}.{name}", _member(name, model, definitions)
    own = {"type": "string", "pattern": PATTERN, "description": f"a {family} of your own, module:Class"}
    yield f"{family}.own", {"type": "object", "properties": {"name": own}, "required": ["name"]}
    names = {"enum": list(member.registry), "description": f"the {family} with its defaults"}
    mappings = [{"$ref": f"#/$defs/{folder}.{name}"} for name in member.registry]
    yield f"any_{family}", {"anyOf": [names, own, *mappings, {"$ref": f"#/$defs/{family}.own"}]}


def _member(name: str, model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    schema = _plain(model, definitions)
    required = [key for key in schema.get("required", []) if key != "name"]
    if required and _needs_no_key(model):  # a default that depends on other keys is none to pydantic
        required = []
    schema["properties"]["name"] = {"const": name}
    return {**schema, "required": ["name", *required]}


def _needs_no_key(model: type[BaseModel]) -> bool:
    try:
        model.model_validate({})
    except ValidationError:
        return False
    return True


def _plain(model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a model without titles; what it refers to goes into the definitions."""
    schema: dict[str, Any] = _cleaned(model.model_json_schema())
    definitions.update({name: _first_line(inner) for name, inner in schema.pop("$defs", {}).items()})
    return _first_line(schema)


def _first_line(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "description": schema["description"].partition("\n")[0]}


def _cleaned(value: Any, *, holds_keys: bool = False) -> Any:
    """Return a schema without the titles that repeat its keys, with references where members stand."""
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if not isinstance(value, dict):
        return value
    if JSON_SCHEMA_KEY in value:
        rest = {key: item for key, item in value.items() if key not in (JSON_SCHEMA_KEY, "title")}
        return {"$ref": f"#/$defs/any_{value[JSON_SCHEMA_KEY]}", **rest}
    kept = {key: item for key, item in value.items() if holds_keys or key != "title"}
    return {
        key: _cleaned(item, holds_keys=True) if key == "properties" else _cleaned(item) for key, item in kept.items()
    }
