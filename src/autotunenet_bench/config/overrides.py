"""``--set key.path=value``: single values put over a config from the command line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autotunenet_bench.config.errors import ConfigError, Loc, Problem
from autotunenet_bench.config.yaml import OVERRIDE, Document, parse_yaml

_SINGULAR = ("task", "regime", "controller")
_PLURAL = ("tasks", "regimes", "controllers")


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
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        document.problems.append(Problem(where, "an override is written key=value", "for example --set num_epochs=3"))
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


def apply_full(document: Document) -> None:
    """Put the section ``full`` of a checked document over its other keys, in place.

    A key that a ``--set`` has written stays: whoever wrote it there meant it.

    >>> document = parse_yaml("{num_epochs: 2, seeds: [0], full: {num_epochs: 9, seeds: [0, 1]}}", "a.yaml")
    >>> apply_override(document, "seeds=[7]")
    >>> apply_full(document)
    >>> document.data["num_epochs"], document.data["seeds"]
    (9, [7])
    """
    overridden = {loc[0] for loc, origin in document.origins.items() if origin.startswith(OVERRIDE)}
    for key, value in (document.data.get("full") or {}).items():
        if value is not None and key not in overridden:
            origin = document.where(("full", key))
            document.data[key] = value
            _forget_below(document, (key,))
            document.origins[key,] = origin


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
