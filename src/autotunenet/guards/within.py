"""Keep values inside the search space."""

from __future__ import annotations

from autotunenet.guards.base import Guard
from autotunenet.space import SearchSpace
from autotunenet.types import Hyperparams


def within(space: SearchSpace) -> Guard:
    """Allow the nearest point inside `space`. Values that the space does not name pass unchanged.

    >>> from autotunenet.space import Float
    >>> within(SearchSpace({"lr": Float(1e-4, 1.0, log=True)}))({"lr": 0.5}, {"lr": 4.0}, 1)
    {'lr': 1.0}
    """

    def guard(current: Hyperparams, proposed: Hyperparams, step: int) -> dict[str, float]:
        return {name: space[name].clip(value) if name in space else value for name, value in proposed.items()}

    return guard
