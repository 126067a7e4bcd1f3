"""A config as it is stored beside its results, so that what is unfinished can go on without the file it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

from pydantic import BaseModel, ValidationError

from autotunenet_bench.config.errors import ConfigError, Problem
from autotunenet_bench.config.models import CONTROLLER, REGIME, TASK, RunConfig, SuiteConfig
from autotunenet_bench.member import Member, own_reference
from autotunenet_bench.references import importing_nothing, is_reference

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


def read_stored_config(values: Mapping[str, Any], where: str, *, allow_own: bool = False) -> RunConfig | SuiteConfig:
    """Return the config that `stored_config` gave.

    Args:
        values: Plain values.
        where: The file, for messages.
        allow_own: Whether the modules of classes of the user's own are imported, which runs their code.

    Raises:
        ConfigError: If it is no config of this version.
    """
    model = SuiteConfig if "tasks" in values else RunConfig
    try:
        with nullcontext() if allow_own else importing_nothing():
            return model.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        rule = f"its config is damaged, or of another version: {place}: {first['msg']}"
        mend = "run the config file again, which goes on with what is unfinished too"
        raise ConfigError([Problem(where, rule, mend)]) from error


def references_in(config: Mapping[str, Any]) -> list[str]:
    """Return the names ``module:Class`` of the members in a stored config, each once; nothing is imported.

    >>> references_in({"title": "mine: all", "controllers": ["cosine", {"name": "my_methods:Halve", "factor": 0.5}]})
    ['my_methods:Halve']
    """
    members = [config[key] for name in _MEMBERS for key in (name, f"{name}s") if key in config]
    return list(dict.fromkeys(_references_in(members)))


def _references_in(value: Any) -> Iterator[str]:
    """Yield what may be a reference in the values of members, whose parts may be members too; labels are words."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key != "label":
                yield from _references_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references_in(item)
    elif is_reference(value):
        yield value


def _written(value: BaseModel, family: Member) -> dict[str, Any]:
    # Only what was set: a key that has no effect beside the others is refused where it stands in a config.
    values = value.model_dump(mode="json", exclude_unset=True)
    return {**values, "name": str(vars(value)["name"]) if family.is_registered(value) else own_reference(value)}
