"""How what was run departs from its config, in sentences. Texts are as they came: whoever shows them escapes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from autotunenet_bench.config.experiment import Block, Departure


def departure_words(departure: Departure | None) -> tuple[str, ...]:
    """Return at which scale a suite ran, and what ``--set`` changed, a sentence each; empty where there is nothing.

    >>> block = Block(name="small", values={"num_epochs": 10}, specified={"num_epochs": 50})
    >>> departure_words(Departure(scale=block, scales=("small",)))
    ('Scale small: 10 epochs. As specified it has 50 epochs.',)
    >>> departure_words(Departure(overrides=("num_epochs=3",)))
    ('Changed by --set: num_epochs=3.',)
    """
    if departure is None:
        return ()
    found = [_sentence("With --full, the whole of the data", departure.full)] if departure.full else []
    if departure.scale:
        found.append(_sentence(f"Scale {departure.scale.name}", departure.scale))
    elif departure.scales:
        found.append(f"Scale: that of the experiment as it is specified, none of {', '.join(departure.scales)}.")
    if departure.overrides:
        found.append(f"Changed by --set: {'; '.join(departure.overrides)}.")
    return tuple(found)


def _sentence(head: str, block: Block) -> str:
    words, specified = _values(block.values), _values(block.specified)
    if not words:
        return f"{head}."
    return f"{head}: {words}. As specified it has {specified}."


def _values(values: Mapping[str, Any]) -> str:
    return "; ".join(words(values[key]) for key, words in _WORDS.items() if key in values)


def _counted(noun: str) -> Callable[[Any], str]:
    def words(value: Any) -> str:
        number = len(value) if isinstance(value, list) else value
        return f"{number} {noun}{'' if number == 1 else 's'}"

    return words


def _share(value: Any) -> str:
    if isinstance(value, list):
        return f"shares of the data {', '.join(map(str, value))}"
    return "all of the data" if value == 1 else f"{100 * value:g} % of the data"


def _named(noun: str) -> Callable[[Any], str]:
    def words(value: Any) -> str:
        members = value if isinstance(value, list) else [value]
        return f"{noun}{'' if len(members) == 1 else 's'} {', '.join(map(_member, members))}"

    return words


def _member(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    keys = [
        f"{key} {item if isinstance(item, str) else json.dumps(item, default=str)}"
        for key, item in value.items()
        if key != "name"
    ]
    return f"{value.get('name')} ({', '.join(keys)})" if keys else str(value.get("name"))


def _space(value: Mapping[str, Mapping[str, Any]]) -> str:
    return f"space {', '.join(f'{name} {_dimension(fields)}' for name, fields in value.items())}"


def _dimension(fields: Mapping[str, Any]) -> str:
    """Return the values of a dimension, or its ends.

    >>> _dimension({"values": [16, 64]}), _dimension({"low": 0.001, "high": 1.0, "log": True})
    ('16/64', '0.001 to 1.0')
    """
    points = fields.get("values") or fields.get("choices")
    return "/".join(map(str, points)) if points else f"{fields['low']} to {fields['high']}"


_WORDS: Mapping[str, Callable[[Any], str]] = {
    "num_epochs": _counted("epoch"),
    "data_fraction": _share,
    "seeds": _counted("seed"),
    "task": _named("task"),
    "tasks": _named("task"),
    "regime": _named("regime"),
    "regimes": _named("regime"),
    "controller": _named("controller"),
    "controllers": _named("controller"),
    "num_trials": _counted("trial"),
    "objective": lambda value: f"objective {value}",
    "space": _space,
}
"""How the value of each key of a section is told, in this order."""
