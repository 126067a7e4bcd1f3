"""A config as it is stored beside its results, so that what is unfinished can go on without the file it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from autotunenet_bench.config.errors import ConfigError, Problem
from autotunenet_bench.config.models import CONTROLLER, REGIME, TASK, RunConfig, SuiteConfig
from autotunenet_bench.member import Member, own_reference
from autotunenet_bench.references import is_reference

_MEMBERS = {"task": TASK, "regime": REGIME, "controller": CONTROLLER}
_SECTIONS = ("full", "scales")
"""What is put over the rest before a run, and so has no say in it any more."""


def stored_config(config: RunConfig | SuiteConfig) -> dict[str, Any]:
    """Return a config as plain values, without the sections that ``--full`` and ``--scale`` put over it."""
    families = {key: member for name, member in _MEMBERS.items() for key in (name, f"{name}s")}
    values = config.model_dump(mode="json", exclude={*_SECTIONS, *families}, exclude_none=True)
    for key, family in families.items():
        if key in type(config).model_fields:
            found = getattr(config, key)
            values[key] = [_written(one, family) for one in found] if key.endswith("s") else _written(found, family)
    return values


def read_stored_config(values: Mapping[str, Any], where: str) -> RunConfig | SuiteConfig:
    """Return the config that `stored_config` gave. Imports the modules of classes of the user's own.

    Args:
        values: Plain values.
        where: The file, for messages.

    Raises:
        ConfigError: If it is no config of this version.
    """
    model = SuiteConfig if "tasks" in values else RunConfig
    try:
        return model.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        rule = f"its config is damaged, or of another version: {place}: {first['msg']}"
        mend = "run the config file again, which goes on with what is unfinished too"
        raise ConfigError([Problem(where, rule, mend)]) from error


def references_in(values: Any) -> list[str]:
    """Return the names ``module:Class`` in a stored config, in their order, each once; nothing is imported.

    >>> references_in({"controllers": ["cosine", {"name": "my_methods:Halve", "factor": 0.5}]})
    ['my_methods:Halve']
    """
    if isinstance(values, Mapping):
        own = [values["name"]] if is_reference(values.get("name")) else []
        found = own + [name for value in values.values() for name in references_in(value)]
    elif isinstance(values, list):
        found = [name for value in values for name in (references_in(value) if not is_reference(value) else [value])]
    else:
        found = [values] if is_reference(values) else []
    return list(dict.fromkeys(found))


def _written(value: BaseModel, family: Member) -> dict[str, Any]:
    # Only what was set: a key that has no effect beside the others is refused where it stands in a config.
    values = value.model_dump(mode="json", exclude_unset=True)
    return {**values, "name": str(vars(value)["name"]) if family.is_registered(value) else own_reference(value)}
