"""The field type for plug-ins: a union discriminated by ``name``, over whatever a registry holds when it is read.

In place of a name there may stand ``module:Class``, a class of the user's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, SerializationInfo, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from autotunenet_bench.references import ClassNotFoundError, import_class, is_reference, reference_to

_NO_VALUES = (property, cached_property, FunctionType, classmethod, staticmethod)

JSON_SCHEMA_KEY = "x-member"
"""Stands in JSON schemas of pydantic where a member does, with its family; see `autotunenet_bench.config.schema`."""


@dataclass(frozen=True, eq=False)
class Member:
    """Annotation of a field that holds one member of a registry.

    The field takes a mapping with the key ``name``, or the bare name, or a ready instance. Validation is strict (the
    text ``"3"`` is no number), as configs have real numbers. A member that is not in the registry is written under the
    name ``module:Class``, so that it can be read again.

    Attributes:
        family: What the registry holds, in the singular: ``"controller"``.
        registry: Config models by name.
        base: What a class of the user's own must derive from.
        adapted: Another base, of classes that are no config models.
        adapt: Makes a config model of a class that derives from `adapted`.
    """

    family: str
    registry: Mapping[str, type[BaseModel]]
    base: type[BaseModel]
    adapted: type | None = None
    adapt: Callable[[Any], type[BaseModel]] | None = None

    def find(self, value: Any) -> type[BaseModel] | None:
        """Return the model that `value` names, or None."""
        name = value.get("name") if isinstance(value, Mapping) else value
        if isinstance(name, str) and is_reference(name):
            try:
                return self.find_own(name)
            except ClassNotFoundError:
                return None
        return self.registry.get(name) if isinstance(name, str) else None

    @property
    def bases(self) -> tuple[type, ...]:
        """What classes of the user's own may derive from."""
        return (self.base, self.adapted) if self.adapted else (self.base,)

    def takes(self, cls: type) -> bool:
        """Return whether a class of the user's own belongs to this family."""
        return issubclass(cls, self.bases)

    def find_own(self, reference: str) -> type[BaseModel]:
        """Return the model of a class of the user's own, and import its module for that.

        Raises:
            ClassNotFoundError: If there is no such class, or it is no member of this family.
        """
        cls = import_class(reference)
        if not self.takes(cls):
            bases = " or ".join(f"{base.__module__}.{base.__name__}" for base in self.bases)
            raise ClassNotFoundError(f"the class {cls.__name__} is no {self.family}", f"derive it from {bases}")
        if missing := ", ".join(sorted(getattr(cls, "__abstractmethods__", ()))):
            raise ClassNotFoundError(f"the class {cls.__name__} does not define {missing}", "write what is missing")
        model: type[BaseModel] = self.adapt(cls) if self.adapt and not issubclass(cls, self.base) else cls
        if hidden := ", ".join(hidden_names(model)):
            raise ClassNotFoundError(
                f"the class {cls.__name__} has a key of a name that its base has for something else: {hidden}",
                "give the key another name",
            )
        if not isinstance(model.model_fields["name"].default, str):
            word = cls.__name__.lower()
            raise ClassNotFoundError(
                f"the field name of {cls.__name__} has no default, so it does not say its name itself",
                f'write `name: Literal["{word}"] = "{word}"`',
            )
        return model

    def read(self, value: Any) -> BaseModel:
        """Turn what stands in a config into the member's own model.

        Raises:
            ValidationError: If there is no such member, or its keys are wrong; locations are relative to the field.
        """
        if not isinstance(value, str | Mapping):
            raise _custom("member_type", (), value)
        if isinstance(value, Mapping) and "name" not in value:
            raise _custom("member_unnamed", ("name",), value)
        keys = {"name": value} if isinstance(value, str) else dict(value)
        loc = () if isinstance(value, str) else ("name",)
        name = keys["name"]
        if is_reference(name):
            try:
                model: type[BaseModel] | None = self.find_own(name)
            except ClassNotFoundError as error:
                raise _custom("member_own", loc, name, rule=error.rule, mend=error.mend) from error
            del keys["name"]  # the class knows its own
        else:
            model = self.find(name)
        if model is None:
            raise _custom("member_unknown", loc, name)
        # As JSON, so that a list is accepted for a tuple and nothing else is converted.
        return model.model_validate_json(json.dumps(keys, default=str), strict=True)

    def write(self, value: BaseModel, mode: str = "json") -> dict[str, Any]:
        """Return a member as it stands in a config, with the name that leads back to it."""
        values = value.model_dump(mode=mode)
        return values if self.is_registered(value) else {**values, "name": own_reference(value)}

    def is_registered(self, value: BaseModel) -> bool:
        """Return whether a member is one of the registry, and not of the user's own."""
        return self.registry.get(getattr(value, "name", "")) is type(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def read(value: Any) -> BaseModel:
            return value if isinstance(value, source) else self.read(value)

        def write(value: BaseModel, info: SerializationInfo) -> dict[str, Any]:
            return self.write(value, info.mode)

        serializer = core_schema.plain_serializer_function_ser_schema(write, info_arg=True)
        return core_schema.no_info_plain_validator_function(read, serialization=serializer)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {JSON_SCHEMA_KEY: self.family}


def hidden_names(cls: type) -> list[str]:
    """Return the keys of a config model that have the name of a method or property of one of its bases.

    Such a key is taken from configs and never read, or it stands in the way of a method.

    >>> class Base(BaseModel):
    ...     @property
    ...     def when(self) -> str:
    ...         return "now"
    >>> hidden_names(type("Late", (Base,), {"__annotations__": {"when": str}, "__module__": __name__}))
    ['when']
    """
    bases = [base for base in cls.__mro__ if issubclass(base, BaseModel) and base is not BaseModel]
    keys = getattr(cls, "model_fields", {})
    return [key for key in keys if any(isinstance(vars(base).get(key), _NO_VALUES) for base in bases)]


def own_class(value: BaseModel) -> type:
    """Return the class of the user's own behind a member: its model, or what the model was made from."""
    made_from: type | None = getattr(type(value), "made_from", None)
    return made_from or type(value)


def own_reference(value: BaseModel) -> str:
    """Return ``module:Class`` of a member that is in no registry."""
    return reference_to(own_class(value))


def _custom(kind: str, loc: tuple[str, ...], value: Any, **words: str) -> ValidationError:
    # The words are made in explain.py, which knows the file; these show only to callers of the Python API.
    message = {
        "member_type": "expected a name or a mapping with the key 'name'",
        "member_unnamed": "the key 'name' is required",
        "member_unknown": "there is no such name in the registry",
        "member_own": "{rule}; {mend}",
    }[kind]
    error = InitErrorDetails(type=PydanticCustomError(kind, message, words), loc=loc, input=value)
    return ValidationError.from_exception_data("member", [error])
