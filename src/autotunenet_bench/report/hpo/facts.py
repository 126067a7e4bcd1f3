"""What was searched and trained, in words: for the section of that name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from autotunenet.space import Categorical, Dimension, Float, Ordinal
from autotunenet_bench.report.facts import Fact, facts
from autotunenet_bench.report.hpo.points_figures import tick_text
from autotunenet_bench.report.hpo.records import Study

_OF_TRAININGS = ("Data set", "Data SHA-256", "Regimes", "Controllers", "Threads per run", "Computed on", "Protocol")


def hpo_facts(study: Study) -> list[Fact]:
    """Return what was searched, by whom, and what was trained for it; each value once."""
    traces = list(study.traces.values())
    of_trainings = {fact.name: fact for fact in facts(traces)} if traces else {}
    searches = tuple(f"{name}: {words}" if words else name for name, words in study.settings.items())
    seeds = sorted({run.seed for run in study.runs})
    training_seeds = sorted({trace.spec["seed"] for trace in traces})
    versions = ", ".join(f"{name} {version}" for name, version in study.versions.items())
    found = [
        Fact("Searched", tuple(f"{name}: {dimension_words(one)}" for name, one in study.space.items())),
        Fact("Searched for", (f"{study.goal.title} after the last epoch, {study.goal.direction[:-1]}ed",)),
        Fact("Searches", searches),
        Fact("Seeds of the searches", (_numbers(seeds),)),
        Fact("Task", tuple(dict.fromkeys(_task_words(trace.spec, study) for trace in traces))),
        *(of_trainings[name] for name in _OF_TRAININGS if name in of_trainings),
        Fact("Begins with", tuple(dict.fromkeys(words for trace in traces if (words := _weights(trace.spec["data"]))))),
        Fact("Seeds of the trainings", (_numbers(training_seeds),)),
        Fact("Trainings", (f"{sum(trace.finished for trace in traces)} finished",)),
        *([of_trainings["Run with"]] if "Run with" in of_trainings else []),
        *([Fact("Searched with", (versions,))] if versions else []),
    ]
    return [fact for fact in found if fact.values]


def dimension_words(dimension: Dimension) -> str:
    """Return what a dimension holds.

    >>> dimension_words(Float(1e-5, 1.0, log=True)), dimension_words(Ordinal((16, 32)))
    ('1e-05 to 1, over orders of magnitude', '16, 32')
    """
    if isinstance(dimension, Categorical | Ordinal):
        values = dimension.choices if isinstance(dimension, Categorical) else dimension.values
        return ", ".join(map(tick_text, values))
    kind = "" if isinstance(dimension, Float) else "whole numbers from "
    return f"{kind}{dimension.low:g} to {dimension.high:g}{', over orders of magnitude' if dimension.log else ''}"


def _task_words(spec: Mapping[str, Any], study: Study) -> str:
    """Return the task of a training with every key that is set and not searched."""
    searched = {name.removeprefix("task.") for name in study.space if name.startswith("task.")}
    task = {key: value for key, value in spec["task"].items() if key not in {"name", "label", *searched}}
    words = ", ".join(f"{key} {_word(value)}" for key, value in task.items() if value is not None)
    epochs = "" if "num_epochs" in study.space else f"; {spec['num_epochs']} epochs"
    return f"{spec['task']['name']}: {words}{epochs}"


def _weights(data: Mapping[str, Any]) -> str:
    """Return what weights training began with, with their digest; empty where they were random."""
    digest = f", SHA-256 {data['weights_sha256']}" if data.get("weights_sha256") else ""
    return f"{data['pretrained']}{digest}" if data.get("pretrained") else ""


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _numbers(values: list[int]) -> str:
    if len(values) > 8 and values == list(range(values[0], values[-1] + 1)):
        return f"{len(values)}: {values[0]} to {values[-1]}"
    return f"{len(values)}: {', '.join(map(str, values))}" if values else "none"
