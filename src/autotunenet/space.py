"""WHAT may be tuned: dimensions and the search space they span.

A point of a space is a mapping of names to values; the unit cube ``[0, 1]^d`` is what surrogates and samplers see.
In it a logarithmic dimension is linear in ``log(value)``. Dimensions other than `Float` have finitely many values, each
with a rank; a space of such dimensions alone has finitely many points, each with an index. Neither is ever listed, so a
space may have more points than fit into memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _check_bounds(kind: str, low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{kind}: bounds must be finite numbers, got low={low}, high={high}")
    if not low < high:
        raise ValueError(f"{kind}: low must be below high, got low={low}, high={high}")
    if log and low <= 0:
        raise ValueError(f"{kind}: a logarithmic range needs low > 0, got low={low}; raise low or set log=False")


@dataclass(frozen=True, slots=True)
class Float:
    """A real value in ``[low, high]``; with `log`, its order of magnitude is what is searched.

    Raises:
        ValueError: If the bounds are not finite, not ordered, or not positive where `log` is set.

    >>> lr = Float(1e-4, 1.0, log=True)
    >>> round(lr.to_unit(1e-2), 12), lr.clip(7.0), lr.contains(float("nan"))
    (0.5, 1.0, False)
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_bounds("Float", self.low, self.high, self.log)

    @property
    def num_values(self) -> None:
        """None: a range of real numbers has no end of values."""
        return None

    def contains(self, value: Any) -> bool:
        """Whether `value` lies in the range; NaN and non-numbers do not."""
        return _is_number(value) and self.low <= value <= self.high

    def clip(self, value: float) -> float:
        """Return the nearest value in the range. Raises ValueError for NaN, which is near nothing."""
        _refuse_nan(value)
        return float(min(max(value, self.low), self.high))

    def to_unit(self, value: float) -> float:
        """Map a value to its coordinate in [0, 1]; values outside are clipped first."""
        return _to_unit(self.clip(value), self.low, self.high, self.log)

    def from_unit(self, coordinate: float) -> float:
        """Inverse of `to_unit`, up to rounding; coordinates outside [0, 1] are clipped first."""
        return self.clip(_from_unit(coordinate, self.low, self.high, self.log))


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number in ``{low, ..., high}``; with `log`, its order of magnitude is what is searched.

    Every number owns an equal share of the unit interval (linear case), the ends included.

    Raises:
        ValueError: If the bounds are not whole, not ordered, or not positive where `log` is set.

    >>> Int(1, 4).from_unit(0.0), Int(1, 4).from_unit(0.26), Int(1, 4).from_unit(1.0)
    (1, 2, 4)
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check_bounds("Int", self.low, self.high, self.log)
        if self.low != int(self.low) or self.high != int(self.high):
            raise ValueError(f"Int: bounds must be whole numbers, got low={self.low}, high={self.high}")

    @property
    def num_values(self) -> int:
        """How many whole numbers the range holds."""
        return int(self.high) - int(self.low) + 1

    def value_at(self, rank: int) -> int:
        """Return the value of a rank, counted from 0 at the low end."""
        return int(self.low) + _checked_rank(rank, self.num_values)

    def rank_of(self, value: float) -> int:
        """Inverse of `value_at`; values that are none are clipped first."""
        return self.clip(value) - int(self.low)

    def contains(self, value: Any) -> bool:
        """Whether `value` is a whole number in the range."""
        return _is_number(value) and self.low <= value <= self.high and value == int(value)

    def clip(self, value: float) -> int:
        """Return the nearest whole number in the range. Raises ValueError for NaN."""
        _refuse_nan(value)
        return round(min(max(value, self.low), self.high))

    # Half a step beyond either end, so that after rounding the end values are as likely as the others.
    def to_unit(self, value: float) -> float:
        """Map a value to the middle of its share of [0, 1]."""
        return _to_unit(self.clip(value), self.low - 0.5, self.high + 0.5, self.log)

    def from_unit(self, coordinate: float) -> int:
        """Return the number whose share of [0, 1] holds `coordinate`."""
        return self.clip(_from_unit(coordinate, self.low - 0.5, self.high + 0.5, self.log))


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of a few choices without an order.

    Raises:
        ValueError: If there are fewer than two choices, or two that are equal.

    >>> Categorical(("a", "b")).from_unit(0.75)
    'b'
    """

    choices: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))
        if len(self.choices) < 2:
            raise ValueError(f"Categorical: at least two choices are needed, got {self.choices!r}")
        if any(a == b for i, a in enumerate(self.choices) for b in self.choices[:i]):
            raise ValueError(f"Categorical: choices must differ, got {self.choices!r}")

    @property
    def num_values(self) -> int:
        """How many choices there are."""
        return len(self.choices)

    def value_at(self, rank: int) -> Any:
        """Return the choice of a rank, counted from 0 in the order given."""
        return self.choices[_checked_rank(rank, self.num_values)]

    def rank_of(self, value: Any) -> int:
        """Inverse of `value_at`; raises ValueError as `clip` does."""
        return self.choices.index(self.clip(value))

    def contains(self, value: Any) -> bool:
        """Whether `value` is one of the choices."""
        return value in self.choices

    def clip(self, value: Any) -> Any:
        """Return `value` if it is a choice. Raises ValueError if not: no choice is nearer than another."""
        if value not in self.choices:
            raise ValueError(f"{value!r} is not one of the choices {self.choices!r}")
        return value

    def to_unit(self, value: Any) -> float:
        """Map a choice to the middle of its share of [0, 1]."""
        return (self.rank_of(value) + 0.5) / self.num_values

    def from_unit(self, coordinate: float) -> Any:
        """Return the choice whose share of [0, 1] holds `coordinate`."""
        return self.choices[_share(coordinate, self.num_values)]


@dataclass(frozen=True, slots=True)
class Ordinal:
    """One of a few numbers, in increasing order: what people write into the table of a grid.

    Every value owns an equal share of the unit interval, however far it lies from its neighbours.

    Raises:
        ValueError: If there are fewer than two values, or they do not increase.
        TypeError: If a value is no finite number.

    >>> lr = Ordinal((2e-5, 3e-5, 5e-5))
    >>> lr.to_unit(3e-5), lr.from_unit(0.9), lr.clip(1.0), lr.contains(4e-5)
    (0.5, 5e-05, 5e-05, False)
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if len(self.values) < 2:
            raise ValueError(f"Ordinal: at least two values are needed, got {self.values!r}")
        for value in self.values:
            if not _is_number(value):
                raise TypeError(f"Ordinal: values must be finite numbers, got {value!r}; use Categorical for others")
        if not all(a < b for a, b in itertools.pairwise(self.values)):
            raise ValueError(f"Ordinal: values must increase, got {self.values!r}")

    @property
    def num_values(self) -> int:
        """How many values there are."""
        return len(self.values)

    def value_at(self, rank: int) -> float:
        """Return the value of a rank, counted from 0 in the order given."""
        return self.values[_checked_rank(rank, self.num_values)]

    def rank_of(self, value: float) -> int:
        """Inverse of `value_at`; values that are none are clipped first."""
        return self.values.index(self.clip(value))

    def contains(self, value: Any) -> bool:
        """Whether `value` is one of the values."""
        return _is_number(value) and value in self.values

    def clip(self, value: float) -> float:
        """Return the nearest of the values, the lower of two that are equally near. Raises ValueError for NaN."""
        _refuse_nan(value)
        inside = min(max(value, self.values[0]), self.values[-1])
        return min(self.values, key=lambda near: abs(near - inside))

    def to_unit(self, value: float) -> float:
        """Map a value to the middle of its share of [0, 1]; values that are none are clipped first."""
        return (self.rank_of(value) + 0.5) / self.num_values

    def from_unit(self, coordinate: float) -> float:
        """Return the value whose share of [0, 1] holds `coordinate`."""
        return self.values[_share(coordinate, self.num_values)]


Dimension = Float | Int | Categorical | Ordinal
FiniteDimension = Int | Categorical | Ordinal


class SearchSpace(Mapping[str, Dimension]):
    """Named dimensions, in a fixed order. Immutable.

    Args:
        dimensions: Dimensions by hyperparameter name; their order is the order of the unit coordinates.

    Raises:
        ValueError: If there is no dimension.
        TypeError: If a dimension is not a `Float`, `Int`, `Categorical` or `Ordinal`.

    >>> space = SearchSpace({"lr": Float(1e-4, 1.0, log=True), "momentum": Float(0.0, 0.99)})
    >>> space.clip({"lr": 3.0, "momentum": 0.9})
    {'lr': 1.0, 'momentum': 0.9}
    >>> space.contains({"lr": 3.0, "momentum": 0.9})
    False
    """

    def __init__(self, dimensions: Mapping[str, Dimension]) -> None:
        if not dimensions:
            raise ValueError(
                "a search space needs at least one dimension, for example {'lr': Float(1e-5, 1.0, log=True)}"
            )
        for name, dimension in dimensions.items():
            if not isinstance(dimension, Float | Int | Categorical | Ordinal):
                raise TypeError(f"dimension {name!r} must be Float, Int, Categorical or Ordinal, got {dimension!r}")
        self._dimensions = dict(dimensions)

    def __getitem__(self, name: str) -> Dimension:
        return self._dimensions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dimensions)

    def __len__(self) -> int:
        return len(self._dimensions)

    def __repr__(self) -> str:
        return f"SearchSpace({self._dimensions!r})"

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Whether `values` names every dimension, no other, and each value lies in its range."""
        return values.keys() == self.keys() and all(self[name].contains(value) for name, value in values.items())

    def clip(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the nearest point inside the box. `values` may name a part of the space.

        Raises:
            KeyError: If a name is not in the space.
            ValueError: If a value is NaN, or no choice of a categorical dimension.
        """
        return {name: self._named(name).clip(value) for name, value in values.items()}

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """Draw a point uniformly from the unit cube; advances `rng` by ``len(self)`` draws."""
        return self.from_unit(rng.random(len(self)))

    def to_unit(self, values: Mapping[str, Any]) -> NDArray[np.float64]:
        """Map a point to coordinates of shape ``(d,)`` in [0, 1], logarithms applied."""
        return np.array([dimension.to_unit(values[name]) for name, dimension in self.items()], dtype=np.float64)

    def from_unit(self, x: NDArray[np.float64]) -> dict[str, Any]:
        """Map coordinates of shape ``(d,)`` back to a point.

        Raises:
            ValueError: If `x` does not have one coordinate per dimension.
        """
        if np.shape(x) != (len(self),):
            raise ValueError(f"expected coordinates of shape ({len(self)},), got {np.shape(x)}")
        return {name: dimension.from_unit(float(c)) for (name, dimension), c in zip(self.items(), x, strict=True)}

    @property
    def num_points(self) -> int | None:
        """How many points there are; None where a dimension is a `Float`.

        >>> SearchSpace({"lr": Ordinal((2e-5, 3e-5, 5e-5)), "act": Categorical(("relu", "gelu"))}).num_points
        6
        """
        sizes = [dimension.num_values for dimension in self.values()]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    def point_at(self, index: int) -> dict[str, Any]:
        """Return a point of a finite space; the last dimension varies fastest.

        Args:
            index: Counted from 0; any size.

        Raises:
            ValueError: If the space is not finite.
            IndexError: If there is no such point.

        >>> space = SearchSpace({"lr": Ordinal((2e-5, 3e-5, 5e-5)), "act": Categorical(("relu", "gelu"))})
        >>> space.point_at(1), space.index_of({"lr": 3e-5, "act": "relu"})
        ({'lr': 2e-05, 'act': 'gelu'}, 2)
        """
        finite, ranks = self._finite(), {}
        rest = _checked_rank(index, math.prod(dimension.num_values for dimension in finite.values()))
        for name, dimension in reversed(finite.items()):
            rest, ranks[name] = divmod(rest, dimension.num_values)
        return {name: dimension.value_at(ranks[name]) for name, dimension in finite.items()}

    def index_of(self, values: Mapping[str, Any]) -> int:
        """Inverse of `point_at`. Raises ValueError if the space is not finite."""
        index = 0
        for name, dimension in self._finite().items():
            index = index * dimension.num_values + dimension.rank_of(values[name])
        return index

    def _finite(self) -> dict[str, FiniteDimension]:
        """Return the dimensions, all of them finite."""
        real = [name for name, dimension in self.items() if isinstance(dimension, Float)]
        if real:
            raise ValueError(f"the points cannot be counted: {', '.join(real)} may be any real number of a range")
        return {name: dimension for name, dimension in self.items() if not isinstance(dimension, Float)}

    def _named(self, name: str) -> Dimension:
        if name not in self._dimensions:
            raise KeyError(f"{name!r} is not in the search space; it has {', '.join(self._dimensions)}")
        return self._dimensions[name]


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float | np.integer | np.floating)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _checked_rank(rank: int, num: int) -> int:
    if not 0 <= rank < num:
        raise IndexError(f"counted from 0 there are {num}, got {rank}")
    return rank


def _share(coordinate: float, num: int) -> int:
    """Return which of `num` equal shares of [0, 1] holds a coordinate."""
    return min(int(min(max(coordinate, 0.0), 1.0) * num), num - 1)


def _refuse_nan(value: float) -> None:
    if math.isnan(value):
        raise ValueError("NaN is near no value of the range; check the value before clipping it")


def _to_unit(value: float, low: float, high: float, log: bool) -> float:
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _from_unit(coordinate: float, low: float, high: float, log: bool) -> float:
    coordinate = min(max(coordinate, 0.0), 1.0)
    if log:
        return math.exp(math.log(low) + coordinate * (math.log(high) - math.log(low)))
    return low + coordinate * (high - low)
