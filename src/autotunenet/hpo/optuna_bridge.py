"""What the bridges to Optuna share: the package, its silence, and its distributions."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from autotunenet.space import Categorical, Dimension, Int, Ordinal

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def import_optuna(who: str) -> Any:
    """Return the package Optuna.

    Args:
        who: What needs it, for the error.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        raise ImportError(
            f"{who} needs Optuna, which cannot be imported ({error}): pip install 'optuna>=5.0'"
        ) from error


@contextmanager
def leaving_no_trace(optuna: Any) -> Iterator[None]:
    """Keep Optuna quiet; afterwards its log level and the filters of warnings are what they were.

    It logs to stderr, and warns, about things that are no news to who asks for a point. Its Gaussian process sets
    torch's threads and a variable of the environment while it works; from version 5.0 on it puts them back itself.
    """
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def to_distribution(optuna: Any, dimension: Dimension) -> BaseDistribution:
    """Return what Optuna's samplers search in place of a dimension.

    An `Ordinal` becomes the ranks of its values: a categorical distribution would lose their order, and a range of real
    numbers their even spacing. The others have a distribution of the same kind.

    >>> import optuna
    >>> to_distribution(optuna, Ordinal((16, 64, 1024)))
    IntDistribution(high=2, log=False, low=0, step=1)
    """
    distributions = optuna.distributions
    if isinstance(dimension, Categorical):
        return distributions.CategoricalDistribution(dimension.choices)  # type: ignore[no-any-return]
    if isinstance(dimension, Ordinal):
        return distributions.IntDistribution(0, dimension.num_values - 1)  # type: ignore[no-any-return]
    make = distributions.IntDistribution if isinstance(dimension, Int) else distributions.FloatDistribution
    return make(dimension.low, dimension.high, log=dimension.log)  # type: ignore[no-any-return]


def to_sampled(dimension: Dimension, value: Any) -> Any:
    """Return a value as it is called in the distribution of its dimension."""
    return dimension.rank_of(value) if isinstance(dimension, Ordinal) else value


def from_sampled(dimension: Dimension, value: Any) -> Any:
    """Inverse of `to_sampled`."""
    return dimension.value_at(value) if isinstance(dimension, Ordinal) else value
