"""What was run, in words: for the section of that name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError

from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.report.own import own_classes
from autotunenet_bench.report.remarks import num_seeds
from autotunenet_bench.results.trace import Trace
from autotunenet_bench.tasks import TASKS

_ALWAYS_TOLD = ("num_trials", "search_share")
"""Settings that a reader needs even where they are the usual ones."""


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
        *([_fact("First weights", begin)] if any(begin := [_first_weights(one) for one in data]) else []),
        _fact("Tasks", [_member_words(run, "task") for run in runs]),
        _fact("Values at the first step", _first_values(runs)),
        *([_fact("Search space of your own", space)] if (space := list(filter(None, map(_space, specs)))) else []),
        _fact("Regimes", [_member_words(run, "regime") for run in runs]),
        _fact("Controllers", [_controller_words(run) for run in runs]),
        *([_fact("Classes of your own", own)] if (own := own_classes(runs)) else []),
        _fact("Length of a run", [_length(run) for run in runs if run.finished] or ["no run finished"]),
        _fact("Seeds per controller", [num_seeds(runs)]),
        _fact("Threads per run", [spec.get("num_threads") for spec in specs]),
        *([_fact("Computed on", computed)] if any(computed := [_computed_on(run) for run in runs]) else []),
        _fact("Protocol", [spec.get("protocol") for spec in specs]),
        _fact("Run with", _environments(runs)),
    ]


def _fact(name: str, values: Sequence[object]) -> Fact:
    known = dict.fromkeys(str(value) for value in values if value not in (None, ""))
    return Fact(name, tuple(known) or ("not recorded",))


def _computed_on(run: Trace) -> str:
    """The device and how it is used; nothing for the usual: the CPU in float32, nothing compiled."""
    compute = run.spec.get("compute") or {}
    if not compute:
        return ""
    parts = [str(compute.get("device", "cpu")), f"{compute.get('precision', 'float32')} passes"]
    return ", ".join([*parts, "compiled"] if compute.get("compile") else parts)


def _data_words(data: Mapping[str, Any]) -> str:
    if not data:
        return ""
    sizes = f"{data.get('num_train', '?')} training and {data.get('num_val', '?')} validation examples"
    sizes += f", {data['num_test']} for the test" if data.get("num_test") else ""
    return f"{data.get('name', '?')} from {data.get('source', '?')}: {sizes}"


def _first_weights(data: Mapping[str, Any]) -> str:
    """What training began with, where the task may begin with something else than random weights."""
    words, digest = data.get("pretrained", ""), data.get("weights_sha256", "")
    return f"{words}, SHA-256 {digest}" if digest else str(words)


def _member_words(run: Trace, kind: str) -> str:
    """The display name of the run's task or regime and every field that is set."""
    config = run.spec.get(kind) or {}
    fields = {key: value for key, value in _fields(config).items() if value is not None}
    if kind == "task" and "lr" not in fields and (lr := _usual_lr(config)):
        fields["lr"] = lr
    return _named(run.spec["labels"][kind], config.get("name"), _pairs(fields))


def _controller_words(run: Trace) -> str:
    """The display name of the run's controller and the fields that are not at its defaults; all where it is unknown."""
    config = run.spec.get("controller") or {}
    name = config.get("name")
    fields = _fields(config)
    if fields and name in CONTROLLERS:
        usual = _default_fields(name)
        # A field of another version, without a default here, is no default either.
        told = {key: value for key, value in fields.items() if key in _ALWAYS_TOLD}
        fields = {key: value for key, value in fields.items() if key not in usual or value != usual[key]} | told
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


def _first_values(runs: Sequence[Trace]) -> list[str]:
    """By task; and by controller where they begin with other values, as a launch does, or a search."""
    # Computed and not written by a person, so not with all digits.
    values = [_pairs({name: float(f"{v:.4g}") for name, v in run.initial_hyperparams.items()}) for run in runs]
    by_task: dict[str, set[str]] = {}
    for run, words in zip(runs, values, strict=True):
        by_task.setdefault(run.label[0], set()).add(words)
    return [
        f"{run.label[0] if len(by_task[run.label[0]]) == 1 else f'{run.label[0]}, {run.label[2]}'}: {words}"
        for run, words in zip(runs, values, strict=True)
    ]


def _space(spec: Mapping[str, Any]) -> str:
    """The ranges that a config has put over those of the task; empty without any."""
    return "; ".join(f"{name} {_pairs(bounds)}" for name, bounds in (spec.get("space") or {}).items())


def _usual_lr(config: Mapping[str, Any]) -> float | None:
    """The initial lr of a task whose config leaves it open; None for a task that is not ours."""
    model = TASKS.get(str(config.get("name")))
    try:
        return model.model_validate(config).defaults.get("lr") if model else None
    except ValidationError:  # of another version
        return None


def _pairs(values: Mapping[str, Any]) -> str:
    """Values as a config has them.

    >>> _pairs({"lr": 0.1, "rollback": "none", "max_delta": None, "within_space": False})
    'lr 0.1, rollback none, max_delta null, within_space false'
    """
    return ", ".join(f"{key} {value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items())


def _length(run: Trace) -> str:
    return f"{len(run.epochs)} epochs, {run.epochs[-1].step if run.epochs else 0} optimizer steps"


def _environments(runs: Sequence[Trace]) -> list[str]:
    """The versions, once; those that contradict others apart. Some packages stand only in the runs of their method."""
    found: list[dict[str, str]] = []
    for run in runs:
        same = (one for one in found if all(one.get(name, v) == v for name, v in run.environment.items()))
        if (one := next(same, None)) is None:
            found.append(dict(run.environment))
        else:
            one.update(run.environment)
    return [", ".join(f"{name} {version}" for name, version in one.items()) for one in found]
