"""What was run, in words: for the section of that name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.report.own import own_classes
from autotunenet_bench.report.remarks import num_seeds
from autotunenet_bench.results.trace import Trace


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of "what was run"; more than one value where the runs differ."""

    name: str
    values: tuple[str, ...]


def facts(runs: Sequence[Trace]) -> list[Fact]:
    """What was run: data, tasks, regimes, controllers, seeds and versions, each value once."""
    specs = [run.spec for run in runs]
    data = [spec.get("data") or {} for spec in specs]
    return [
        _fact("Data set", [_data_words(one) for one in data]),
        _fact("Data SHA-256", [one.get("sha256") for one in data]),
        _fact("Tasks", [_member_words(run, "task") for run in runs]),
        _fact("Values at the first step", [f"{run.label[0]}: {_first_values(run)}" for run in runs]),
        _fact("Regimes", [_member_words(run, "regime") for run in runs]),
        _fact("Controllers", [_controller_words(run) for run in runs]),
        *([_fact("Classes of your own", own)] if (own := own_classes(runs)) else []),
        _fact("Length of a run", [_length(run) for run in runs if run.finished] or ["no run finished"]),
        _fact("Seeds per controller", [num_seeds(runs)]),
        _fact("Threads per run", [spec.get("num_threads") for spec in specs]),
        _fact("Protocol", [spec.get("protocol") for spec in specs]),
        _fact("Run with", [_versions(run.environment) for run in runs]),
    ]


def _fact(name: str, values: Sequence[object]) -> Fact:
    known = dict.fromkeys(str(value) for value in values if value not in (None, ""))
    return Fact(name, tuple(known) or ("not recorded",))


def _data_words(data: Mapping[str, Any]) -> str:
    if not data:
        return ""
    sizes = f"{data.get('num_train', '?')} training and {data.get('num_val', '?')} validation examples"
    sizes += f", {data['num_test']} for the test" if data.get("num_test") else ""
    return f"{data.get('name', '?')} from {data.get('source', '?')}: {sizes}"


def _member_words(run: Trace, kind: str) -> str:
    """The display name of the run's task or regime and every field that is set."""
    config = run.spec.get(kind) or {}
    fields = {key: value for key, value in _fields(config).items() if value is not None}
    return _named(run.spec["labels"][kind], config.get("name"), _pairs(fields))


def _controller_words(run: Trace) -> str:
    """The display name of the run's controller and the fields that are not at its defaults; all where it is unknown."""
    config = run.spec.get("controller") or {}
    name = config.get("name")
    fields = _fields(config)
    if fields and name in CONTROLLERS:
        usual = _default_fields(name)
        # A field of another version, without a default here, is no default either.
        fields = {key: value for key, value in fields.items() if key not in usual or value != usual[key]}
        return _named(run.label[2], name, _pairs(fields) or "defaults")
    return _named(run.label[2], name, _pairs(fields) or "settings not recorded")


@cache
def _default_fields(controller: str) -> dict[str, Any]:
    return CONTROLLERS[controller].model_validate({}).model_dump(mode="json")


def _fields(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("name", "label")}


def _named(label: str, name: str | None, fields: str) -> str:
    """``label: name, fields``, without the name where it is the label."""
    words = [word for word in (name if name != label else None, fields) if word]
    return f"{label}: {', '.join(words)}" if words else label


def _first_values(run: Trace) -> str:
    # A launch begins with a value that hardly moves the weights, computed and not written by a person.
    return _pairs({name: float(f"{value:.4g}") for name, value in run.initial_hyperparams.items()})


def _pairs(values: Mapping[str, Any]) -> str:
    """Values as a config has them.

    >>> _pairs({"lr": 0.1, "rollback": "none", "max_delta": None, "within_space": False})
    'lr 0.1, rollback none, max_delta null, within_space false'
    """
    return ", ".join(f"{key} {value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items())


def _length(run: Trace) -> str:
    return f"{len(run.epochs)} epochs, {run.epochs[-1].step if run.epochs else 0} optimizer steps"


def _versions(environment: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in environment.items())
