"""A controller of the core, of the user's own, as a config: its keys are the arguments of its class."""

from __future__ import annotations

import inspect
import typing
from functools import cache
from typing import Any, ClassVar

from pydantic import Field, PydanticSchemaGenerationError, TypeAdapter, create_model, model_validator
from pydantic_core import PydanticUndefined

from autotunenet import SearchSpace
from autotunenet.controllers import Controller
from autotunenet_bench.controllers.base import ControllerConfig
from autotunenet_bench.references import ClassNotFoundError, import_class, reference_to
from autotunenet_bench.types import Horizon

GIVEN = ("horizon", "space", "seed")
"""Arguments that the run gives and no config does."""

_PLAIN = (bool, int, float, str, list, tuple, dict, type(None))


class OwnController(ControllerConfig):
    """A controller of the core in a config. It runs bare unless its keys say otherwise.

    Subclasses are made by `config_of`, one for each class, with a field for every argument.
    """

    made_from: ClassVar[type[Controller]]
    arguments: ClassVar[tuple[str, ...]] = ()
    given: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _can_be_made(self) -> OwnController:
        if not self.given:  # else the run has to tell first
            self._make({})
        return self

    @property
    def display(self) -> str:
        """The label, or the name of the class."""
        return self.label or self.made_from.__name__

    def build(self, horizon: Horizon, space: SearchSpace, seed: int) -> Controller:
        """Return a fresh controller.

        Raises:
            ValueError: If its class does not take these arguments.
        """
        return self._make({"horizon": horizon, "space": space, "seed": seed})

    def _make(self, given: dict[str, Any]) -> Controller:
        keys = {name: getattr(self, name) for name in self.arguments}
        try:
            return self.made_from(**keys, **{name: given[name] for name in self.given})
        except ValueError:
            raise
        except Exception as error:  # it is anybody's code; a config is wrong, whatever it raises
            raise ValueError(f"{self.made_from.__name__}(...) raised {type(error).__name__}: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        # The class of this config was made here and can be imported nowhere; the one that it was made from can.
        return _unpickled, (reference_to(self.made_from), self.model_dump(exclude_unset=True))


@cache
def config_of(cls: type[Controller]) -> type[OwnController]:
    """Return the config of a controller of the core.

    Arguments named `horizon`, `space` or `seed` are given by the run. One whose default is no plain value keeps it.

    Raises:
        ClassNotFoundError: If an argument cannot be a key.

    >>> from autotunenet.controllers import RandomWalk
    >>> config_of(RandomWalk)(max_step=0.2).max_step
    0.2
    """
    arguments: dict[str, Any] = {}
    given: list[str] = []
    hints = _hints(cls)
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ClassNotFoundError(f"the argument {name} of {cls.__name__} cannot be given by name", "remove the /")
        if name in GIVEN:
            given.append(name)
        elif parameter.default is parameter.empty or isinstance(parameter.default, _PLAIN):
            arguments[name] = _field(name, hints.get(name, Any), parameter.default)
    if taken := sorted(arguments.keys() & ControllerConfig.model_fields.keys()):
        base = f"{ControllerConfig.__module__}.{ControllerConfig.__name__}"
        raise ClassNotFoundError(
            f"the argument {', '.join(taken)} of {cls.__name__} is also a key of every controller",
            f"rename it, or write a subclass of {base}",
        )
    fields: dict[str, Any] = {"name": (str, reference_to(cls)), **arguments}
    model = create_model(cls.__name__, __base__=OwnController, __module__=cls.__module__, __doc__=cls.__doc__, **fields)
    model.made_from, model.arguments, model.given = cls, tuple(arguments), tuple(given)
    return model


def _hints(cls: type[Controller]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls.__init__)
    except (NameError, TypeError):  # names that are imported for type checkers only
        return {}


def _field(name: str, annotation: Any, default: Any) -> tuple[Any, Any]:
    if annotation is Any and isinstance(default, tuple):
        annotation = tuple  # JSON has lists only, of which it makes one again
    try:
        TypeAdapter(annotation)
    except PydanticSchemaGenerationError:  # no type that JSON has: the class itself has to look
        annotation = Any
    given = PydanticUndefined if default is inspect.Parameter.empty else default
    return annotation, Field(given, description=f"argument {name} of the class")


def _unpickled(reference: str, values: dict[str, Any]) -> OwnController:
    return config_of(import_class(reference))(**values)
