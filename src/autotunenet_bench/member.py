"""The field type for plug-ins: a union discriminated by ``name``, over whatever a registry holds when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, SerializationInfo, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema


@dataclass(frozen=True, eq=False)
class Member:
    """Annotation of a field that holds one member of a registry.

    The field takes a mapping with the key ``name``, or the bare name, or a ready instance. Validation is strict (the
    text ``"3"`` is no number), as configs have real numbers.

    Attributes:
        family: What the registry holds, in the singular: ``"controller"``.
        registry: Config models by name.
    """

    family: str
    registry: Mapping[str, type[BaseModel]]

    def find(self, value: Any) -> type[BaseModel] | None:
        """Return the model that `value` names, or None."""
        name = value.get("name") if isinstance(value, Mapping) else value
        return self.registry.get(name) if isinstance(name, str) else None

    def read(self, value: Any) -> BaseModel:
        """Turn what stands in a config into the member's own model.

        Raises:
            ValidationError: If there is no such member, or its keys are wrong; locations are relative to the field.
        """
        if not isinstance(value, str | Mapping):
            raise _custom("member_type", (), value)
        if isinstance(value, Mapping) and "name" not in value:
            raise _custom("member_unnamed", ("name",), value)
        model = self.find(value)
        if model is None:
            loc = () if isinstance(value, str) else ("name",)
            raise _custom("member_unknown", loc, value if isinstance(value, str) else value["name"])
        keys = {"name": value} if isinstance(value, str) else dict(value)
        # As JSON, so that a list is accepted for a tuple and nothing else is converted.
        return model.model_validate_json(json.dumps(keys, default=str), strict=True)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def read(value: Any) -> BaseModel:
            return value if isinstance(value, source) else self.read(value)

        def write(value: BaseModel, info: SerializationInfo) -> dict[str, Any]:
            return value.model_dump(mode=info.mode)

        serializer = core_schema.plain_serializer_function_ser_schema(write, info_arg=True)
        return core_schema.no_info_plain_validator_function(read, serialization=serializer)


def _custom(kind: str, loc: tuple[str, ...], value: Any) -> ValidationError:
    # The words are made in explain.py, which knows the file; these show only to callers of the Python API.
    message = {
        "member_type": "expected a name or a mapping with the key 'name'",
        "member_unnamed": "the key 'name' is required",
        "member_unknown": "there is no such name in the registry",
    }[kind]
    error = InitErrorDetails(type=PydanticCustomError(kind, message), loc=loc, input=value)
    return ValidationError.from_exception_data("member", [error])
