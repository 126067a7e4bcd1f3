"""Pydantic's errors in the words of this project: where, what, the rule, the mend."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from autotunenet_bench.config.errors import Loc, Problem, did_you_mean
from autotunenet_bench.config.yaml import Document
from autotunenet_bench.member import Member

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list: "a list",
    tuple: "a list",
}
_SIGNS = ((annotated_types.Gt, "gt", ">"), (annotated_types.Ge, "ge", ">="))
_SIGNS += ((annotated_types.Lt, "lt", "<"), (annotated_types.Le, "le", "<="))  # type: ignore[assignment]
_FREE_TEXT = ("value_error", "assertion_error", "range_list", "json_invalid")


@dataclass(frozen=True)
class _Place:
    """What is allowed at a location: the type, its constraints, and the model that owns the key."""

    loc: Loc
    annotation: Any
    metadata: Sequence[Any] = ()
    description: str | None = None
    owner: type[BaseModel] | None = None

    @property
    def member(self) -> Member | None:
        """The registry whose members stand here, if any."""
        return next((item for item in self.metadata if isinstance(item, Member)), None)


def explain(error: ValidationError, document: Document, model: type[BaseModel]) -> list[Problem]:
    """Return one problem for every wrong place, in the order of the file's keys.

    Args:
        error: What validating ``document.data`` raised.
        document: The values and where they were written.
        model: The model they were validated against.
    """
    problems: dict[Loc, Problem] = {}
    for item in error.errors(include_url=False):
        # Items that were refused are not counted: of a list that is long enough, only they are worth a sentence.
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue
        place = _find(model, document.data, item["loc"])
        # A union of plain types reports one error a branch: one sentence about the place is enough.
        problems.setdefault(place.loc, _problem(item["type"], item, place, document))
    return list(problems.values())


def _problem(kind: str, item: Any, place: _Place, document: Document) -> Problem:
    where, loc, value = document.where(place.loc), place.loc, item["input"]
    if kind == "extra_forbidden":
        known = list(place.owner.model_fields) if place.owner else []
        return Problem(
            where, "unknown key", f"{did_you_mean(loc[-1], known)}allowed keys: {', '.join(known)}", loc, value
        )
    if kind == "missing":
        meaning = f": {place.description}" if place.description else ""
        return Problem(where, f"this key is required{meaning}", f"it must be {_words(place)}", loc)
    if kind.startswith("member_") and kind != "member_type":
        return _member_problem(kind, item, place, where)
    if kind in _FREE_TEXT:
        message = item["ctx"]["error"] if "error" in item.get("ctx", {}) else item["msg"]
        # A rule over several keys names the values it is about: the whole mapping beside it would hide them.
        shown = {} if isinstance(value, dict | BaseModel) else {"value": value}
        return Problem(document.where_of_rule(loc, str(message)), str(message), loc=loc, **shown)
    choices = _choices(place.annotation)
    hint = did_you_mean(value, [str(choice) for choice in choices]) if isinstance(value, str) and choices else ""
    return Problem(where, f"must be {_words(place)}", hint.strip() or _mend(value, place), loc, value)


def _member_problem(kind: str, item: Any, place: _Place, where: str) -> Problem:
    """The name of a member is missing, or leads to none."""
    loc, value, known = place.loc, item["input"], list(place.member.registry) if place.member else []
    if kind == "member_unnamed":
        return Problem(where, "this key is required", f"choose one of {', '.join(known)}", loc)
    if kind == "member_own":
        return Problem(where, item["ctx"]["rule"], item["ctx"]["mend"], loc, value)
    assert place.member
    rule = f"no {place.member.family} has this name"
    choice = f"{did_you_mean(value, known)}choose one of {', '.join(known)}"
    own = "; a class of your own is written module:Class" if isinstance(value, str) and "." in value else ""
    return Problem(where, rule, _null_hint(value, place) or f"{choice}{own}", loc, value)


def explain_non_finite(loc: Loc, value: float, document: Document, model: type[BaseModel]) -> Problem:
    """Return the problem of a NaN or an infinity, which the types of the fields let pass, with the field's own rule."""
    place = _find(model, document.data, loc)
    if place.loc != loc or place.annotation is None:  # an unknown key, or no key at all
        return Problem(document.where(loc), "must be a finite number", "", loc, value)
    words = _words(place).replace("a number", "a finite number", 1)
    return Problem(document.where(loc), f"must be {words}", _mend(value, place), loc, value)


def _null_hint(value: Any, place: _Place) -> str:
    """YAML reads a bare ``null`` as nothing at all; where there is a member of that name it may have been meant."""
    is_name = place.member is not None and "null" in place.member.registry
    return 'for the member of that name write "null" in quotes' if value is None and is_name else ""


def _mend(value: Any, place: _Place) -> str:
    if hint := _null_hint(value, place):
        return hint
    kind = _plain(place.annotation)
    if isinstance(value, str) and kind in (int, float):
        return "write it as a bare number, without quotes or a unit"
    if isinstance(value, str) and kind is bool:
        return "write true or false"
    if get_origin(kind) in (list, tuple, Sequence) and not isinstance(value, list | dict | None):
        return f"write [{value}]"
    return f"it is: {place.description}" if place.description else ""


def _find(model: type[BaseModel], data: Any, loc: Loc) -> _Place:
    """Walk from the top model down to `loc`, choosing plug-in models by the names that stand in `data`."""
    place = _Place((), model)
    for part in loc:
        inner, kind = place.member, _plain(place.annotation)
        owner = inner.find(data) if inner else kind if _is_model(kind) else None
        if owner is None and inner:  # the member is unknown: stay at its name
            return _Place((*place.loc, part), place.annotation, place.metadata, place.description)
        if owner is not None:
            field = owner.model_fields.get(str(part), FieldInfo())
            place = _Place((*place.loc, part), field.annotation, field.metadata, field.description, owner)
        elif get_origin(kind) in (list, tuple, dict, Sequence):
            annotation, metadata = _peel([a for a in get_args(kind) if a is not Ellipsis][-1])
            place = _Place((*place.loc, part), annotation, metadata, place.description)
        else:  # a branch of a union of plain types
            return place
        data = _item(data, part)
    return place


def _item(data: Any, part: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(part)
    return data[part] if isinstance(data, list) and isinstance(part, int) and part < len(data) else None


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _peel(annotation: Any) -> tuple[Any, Sequence[Any]]:
    """Split ``Annotated[X, ...]`` into X and its constraints; pydantic's Field(...) holds them in `metadata`."""
    if get_origin(annotation) is not Annotated:
        return annotation, ()
    inner, *extras = get_args(annotation)
    return inner, [part for extra in extras for part in (extra.metadata if isinstance(extra, FieldInfo) else [extra])]


def _plain(annotation: Any) -> Any:
    """Return X of ``X | None`` and of ``Annotated[X, ...]``; any other annotation as it is."""
    annotation = _peel(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return _peel(parts[0])[0] if len(parts) == 1 else annotation
    return annotation


def _choices(annotation: Any) -> tuple[Any, ...]:
    kind = _plain(annotation)
    return get_args(kind) if get_origin(kind) is Literal else ()


def _words(place: _Place) -> str:
    """Describe what is allowed: ``a number > 0 and <= 10, or null``."""
    kind = _plain(place.annotation)
    words = _WORDS.get(kind) or _shape(kind, place)
    limits = [
        f"{sign} {getattr(constraint, name)}"
        for constraint in place.metadata
        for cls, name, sign in _SIGNS
        if isinstance(constraint, cls)
    ]
    if limits:
        words += f" {' and '.join(limits)}"
    for constraint in place.metadata:
        if isinstance(constraint, annotated_types.MinLen):
            words += f", at least {constraint.min_length} long"
        if isinstance(constraint, annotated_types.MaxLen):
            words += f", at most {constraint.max_length} long"
    optional = type(None) in get_args(_peel(place.annotation)[0])
    return f"{words}, or null" if optional else words


def _shape(kind: Any, place: _Place) -> str:
    if place.member:
        return f"a name, or a mapping with the key 'name': one of {', '.join(place.member.registry)}"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) in (list, tuple, Sequence):
        annotation, metadata = _peel(get_args(kind)[0])
        item = _words(_Place((), annotation, metadata))
        return f"a list, each item {item}"
    if get_origin(kind) is dict or kind is dict:
        return "a mapping of keys to values"
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_words(_Place((), part)) for part in get_args(kind) if part is not type(None))
    return f"a mapping with the keys {', '.join(kind.model_fields)}" if _is_model(kind) else str(kind)
