"""What a surrogate sees of a point: numbers between 0 and 1, equal for equal points."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from autotunenet.space import Categorical, Dimension, Float, Int, SearchSpace

Array = NDArray[np.float64]


class Encoding:
    """Turns coordinates of the unit cube into features, many points at a time.

    A `Float` keeps its coordinate. `Int` and `Ordinal` are rounded to their values first, as the objective will see
    them (Garrido-Merchan and Hernandez-Lobato 2020), and go from 0 to 1: an `Ordinal` by rank, an `Int` as its range
    has it. A `Categorical` has a column for each choice, scaled so that two choices lie at distance 1.

    Args:
        space: Whose points.

    Attributes:
        groups: Number of the dimension that each column comes from, shape ``(num_features,)``, ascending.

    >>> from autotunenet import Ordinal
    >>> encoding = Encoding(SearchSpace({"batch": Ordinal((16, 32, 128)), "act": Categorical(("relu", "gelu"))}))
    >>> encoding.features(np.array([[0.5, 0.9]])).round(3).tolist(), encoding.groups.tolist()
    ([[0.5, 0.0, 0.707]], [0, 1, 1])
    """

    def __init__(self, space: SearchSpace) -> None:
        self._dimensions = list(space.values())
        widths = [d.num_values if isinstance(d, Categorical) else 1 for d in self._dimensions]
        self.groups: NDArray[np.intp] = np.repeat(np.arange(len(widths)), widths)

    def features(self, u: Array) -> Array:
        """Return features of shape ``(n, num_features)`` for coordinates of shape ``(n, d)``."""
        return np.hstack([_columns(dimension, u[:, i]) for i, dimension in enumerate(self._dimensions)])


def _columns(dimension: Dimension, u: Array) -> Array:
    u = np.clip(u, 0.0, 1.0)
    if isinstance(dimension, Float):
        return u[:, None]
    if isinstance(dimension, Int) and dimension.log:
        return _log_int(dimension, u)[:, None]
    ranks = np.minimum(np.floor(u * dimension.num_values), dimension.num_values - 1)
    if isinstance(dimension, Categorical):
        return np.asarray(np.eye(dimension.num_values)[ranks.astype(np.intp)] * math.sqrt(0.5), dtype=np.float64)
    return ranks[:, None] / (dimension.num_values - 1)


def _log_int(dimension: Int, u: Array) -> Array:
    """Return log(value / low) / log(high / low) of the whole numbers that `from_unit` makes of the coordinates."""
    low, high = math.log(dimension.low - 0.5), math.log(dimension.high + 0.5)
    values = np.clip(np.rint(np.exp(low + u * (high - low))), dimension.low, dimension.high)
    return np.asarray(np.log(values / dimension.low) / math.log(dimension.high / dimension.low), dtype=np.float64)
