"""The space of an offline search, as a config says it: a dimension is a list of values, of choices, or a range."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from autotunenet.space import Categorical, Dimension, Float, Int, Ordinal

_KINDS = "values: [...], choices: [...], or low: and high:"


class DimensionConfig(BaseModel):
    """One dimension; exactly one of `values`, `choices`, and `low` with `high` says what it holds.

    >>> DimensionConfig(values=(16, 32)).dimension()
    Ordinal(values=(16, 32))
    >>> DimensionConfig(low=1, high=8, integer=True).dimension()
    Int(low=1, high=8, log=False)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    values: tuple[int | float, ...] | None = Field(None, min_length=2, description="numbers that rise, and no others")
    choices: tuple[bool | int | float | str, ...] | None = Field(
        None, min_length=2, description="values of any kind, without an order"
    )
    low: float | None = Field(None, description="smallest value of a range")
    high: float | None = Field(None, description="largest value of a range")
    log: bool = Field(False, description="whether the order of magnitude is what is searched; of a range")
    integer: bool = Field(False, description="whether the values are whole numbers; of a range")

    @model_validator(mode="before")
    @classmethod
    def _no_bare_list(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            raise PydanticCustomError(
                "range_list",
                "a dimension is not a bare list, which could mean numbers in an order, choices without one or a range; "
                "write {values: [...]}, {choices: [...]} or {low: ..., high: ...}",
            )
        if isinstance(value, dict):  # what went through Python is no JSON any more, and strict: a list is no tuple then
            return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
        return value

    @model_validator(mode="after")
    def _says_one(self) -> DimensionConfig:
        has_range = self.low is not None or self.high is not None
        if sum((self.values is not None, self.choices is not None, has_range)) != 1:
            raise ValueError(f"a dimension is said by one of {_KINDS}")
        if has_range and (self.low is None or self.high is None):
            raise ValueError("a range has both ends; write low: and high:")
        if not has_range and (self.log or self.integer):
            raise ValueError("log and integer are of a range; remove them")
        self.dimension()
        return self

    def dimension(self) -> Dimension:
        """Return it as a search takes it.

        Raises:
            ValueError: If choices are equal, values do not rise, or bounds are not ordered, not positive where `log` is
                set, or not whole where `integer` is.
        """
        if self.values is not None:
            return Ordinal(self.values)
        if self.choices is not None:
            return Categorical(self.choices)
        assert self.low is not None
        assert self.high is not None
        if not self.integer:
            return Float(self.low, self.high, self.log)
        if not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"with integer: true bounds must be whole numbers, got low={self.low}, high={self.high}")
        return Int(int(self.low), int(self.high), self.log)

    def probes(self) -> tuple[Any, ...]:
        """Return values that stand for all: each one where there are few, else the ends of the range."""
        dimension = self.dimension()
        if isinstance(dimension, Ordinal):
            return dimension.values
        return dimension.choices if isinstance(dimension, Categorical) else (dimension.low, dimension.high)

    def key_of(self, value: Any) -> str:
        """Return the key that brought one of the `probes` in."""
        if self.values is not None or self.choices is not None:
            return "choices" if self.values is None else "values"
        return "low" if value == self.low else "high"
