"""What a command line puts over a config: single values (``--set key.path=value``) and whole sections (``--scale``)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from autotunenet_bench.config.errors import ConfigError, Loc, Problem
from autotunenet_bench.config.experiment import Block
from autotunenet_bench.config.yaml import MAX_DEPTH, MAX_WORDS, OVERRIDE, Document, parse_yaml

_SINGULAR = ("task", "regime", "controller")
_PLURAL = ("tasks", "regimes", "controllers", "searches")

FRACTION = "data_fraction"
"""A key of sections that is one of tasks."""


def apply_override(document: Document, text: str) -> None:
    """Put one override over a document, in place; a fault is added to the document's problems.

    The value is read as YAML. Missing mappings on the way are made, and the short form ``controller: cosine`` becomes
    ``{name: cosine}`` when one of its keys is set. Items of a list are named by their index.

    >>> document = parse_yaml("controller: cosine", "a.yaml")
    >>> apply_override(document, "controller.max_delta=1e-3")
    >>> document.data, document.where(("controller", "max_delta"))
    ({'controller': {'name': 'cosine', 'max_delta': 0.001}}, '--set controller.max_delta=1e-3')
    """
    where = f"{OVERRIDE}{text}"
    key, equals, raw = text.partition("=")
    parts = _parts(key)
    if not equals or not all(parts):
        document.problems.append(Problem(where, "an override is written key=value", "for example --set num_epochs=3"))
        return
    if len(parts) > MAX_DEPTH:
        document.problems.append(Problem(where[:MAX_WORDS], f"the key has more than {MAX_DEPTH} parts", "shorten it"))
        return
    try:
        value = parse_yaml(raw, where, numbered=False)
        if value.data is None and raw.strip()[:1] in ("", "#"):
            # To YAML this is null, but it is as likely a shell variable that was empty.
            mend = f"write null, {key.strip()}=null, where no value is meant"
            document.problems.append(Problem(where, "there is no value after the =", mend, tuple(parts)))
            return
        document.problems.extend(replace(problem, loc=(*parts, *problem.loc)) for problem in value.problems)
        _put(document, parts, value.data, where)
    except ConfigError as error:
        document.problems.extend(error.problems)


def apply_section(document: Document, name: str, loc: Loc) -> Block:
    """Put a checked section of a document over its other keys, in place, and return what was put over what.

    Each value keeps the line that it was written at. ``data_fraction``, which is a key of tasks, is put on them by
    `apply_fraction`, when overrides have said what the tasks are.

    Args:
        document: Its keys are those of a run or of a suite.
        name: What the section is called.
        loc: Where it stands: ``("full",)``, ``("scales", "small")``. One that is not there puts nothing.

    >>> document = parse_yaml("{num_epochs: 50, scales: {small: {num_epochs: 10}}}", "a.yaml")
    >>> apply_section(document, "small", ("scales", "small")).specified, document.data["num_epochs"]
    ({'num_epochs': 50}, 10)
    """
    section = document.data
    for part in loc:
        section = section.get(part) or {}
    values = {key: value for key, value in copy.deepcopy(section).items() if value is not None}
    specified = {key: copy.deepcopy(document.data.get(key)) for key in values}
    if FRACTION in values:
        specified[FRACTION] = _told_fraction(document)
    for key in values.keys() - {FRACTION}:
        document.data[key] = copy.deepcopy(values[key])
        _forget_below(document, (key,))
        for old, origin in list(document.origins.items()):
            if old[: len(loc) + 1] == (*loc, key):
                document.origins[old[len(loc) :]] = origin
    return Block(name=name, values=values, specified=specified)


def apply_fraction(document: Document, block: Block, loc: Loc) -> None:
    """Put the ``data_fraction`` of a section on every task of a document, in place.

    A task that has one of its own keeps it where the section brought that task in, or an override said so.

    Args:
        document: `apply_section` and overrides have been applied to it.
        block: What `apply_section` returned.
        loc: Where the section stands.

    >>> document = parse_yaml("{tasks: [mnist_cnn], scales: {small: {data_fraction: 0.1}}}", "a.yaml")
    >>> apply_fraction(document, apply_section(document, "small", ("scales", "small")), ("scales", "small"))
    >>> document.data["tasks"]
    [{'name': 'mnist_cnn', 'data_fraction': 0.1}]
    """
    if FRACTION not in block.values:
        return
    has_brought_tasks = bool({"task", "tasks"} & block.values.keys())
    for holder, index, at in _tasks(document):
        task = holder[index] if isinstance(holder[index], dict) else {"name": holder[index]}
        place: Loc = (*at, FRACTION)
        is_meant = has_brought_tasks or document.where(place).startswith(OVERRIDE)
        if FRACTION not in task or not is_meant:
            document.origins[place] = document.where((*loc, FRACTION))
            holder[index] = {**task, FRACTION: block.values[FRACTION]}


def _tasks(document: Document) -> Iterator[tuple[Any, Any, Loc]]:
    """Yield every task as what holds it, its key or index in there, and its place in the document."""
    if "task" in document.data:
        yield document.data, "task", ("task",)
    tasks = document.data.get("tasks")
    for index in range(len(tasks) if isinstance(tasks, list) else 0):
        yield tasks, index, ("tasks", index)


def _told_fraction(document: Document) -> Any:
    """Return the one share of the data that all tasks have; a list of them where they differ."""
    tasks = [holder[index] for holder, index, _ in _tasks(document)]
    shares = [task.get(FRACTION, 1.0) if isinstance(task, dict) else 1.0 for task in tasks]
    return shares[0] if len(set(map(repr, shares))) == 1 else shares


def _parts(key: str) -> list[str]:
    """Split a path at its dots; the names of a space of an offline search keep theirs.

    >>> _parts("space.task.lr.low"), _parts("space.lr.low")
    (['space', 'task.lr', 'low'], ['space', 'lr', 'low'])
    """
    parts = [part.strip() for part in key.split(".")]
    if parts[0] == "space" and len(parts) > 2 and parts[1] in _SINGULAR:
        parts[1:3] = [f"{parts[1]}.{parts[2]}"]
    return parts


def _put(document: Document, parts: list[str], value: Any, where: str) -> None:
    if not isinstance(document.data, dict):  # an empty file, or one whose top level is reported already
        document.data = {}
    holder: Any = document.data
    loc: Loc = ()
    for depth, part in enumerate(parts):
        index = _index(holder, part, loc, where)
        loc = (*loc, index)
        if depth == len(parts) - 1:
            holder[index] = value
            _forget_below(document, loc)
            document.origins[loc] = where
            return
        if isinstance(holder, dict) and holder.get(part) is None:
            holder[index] = {}
            document.origins[loc] = where
        elif isinstance(holder[index], str) and _is_member(loc):
            holder[index] = {"name": holder[index]}
        holder = holder[index]


def _index(holder: Any, part: str, loc: Loc, where: str) -> str | int:
    """Return `part` as a key or index of `holder`."""
    if isinstance(holder, dict):
        return part
    if not isinstance(holder, list):
        raise ConfigError([Problem(where, f"has no keys, so {part!r} cannot be set", "", loc, holder)])
    if not (part.isascii() and part.isdigit() and int(part) < len(holder)):
        items = ", ".join(f"{index} ({_name(item)})" for index, item in enumerate(holder))
        mend = f"name an item by its index: {items}" if holder else "set the whole list"
        raise ConfigError([Problem(where, f"is a list of {len(holder)}, and {part!r} is no index of it", mend, loc)])
    return int(part)


def _name(item: Any) -> str:
    return str(item.get("name", "no name") if isinstance(item, dict) else item)


def _is_member(loc: Loc) -> bool:
    return (len(loc) == 1 and loc[0] in _SINGULAR) or (len(loc) == 2 and loc[0] in _PLURAL)


def _forget_below(document: Document, loc: Loc) -> None:
    """What stood below a replaced value is gone, and so are its lines."""
    for old in [old for old in document.origins if old[: len(loc)] == loc]:
        del document.origins[old]
