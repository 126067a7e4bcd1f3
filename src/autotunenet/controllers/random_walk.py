"""Random steps: the floor that every online method has to beat."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from autotunenet.controllers.base import Controller
from autotunenet.types import Hyperparams


class RandomWalk(Controller):
    """Multiplies every value by a log-uniform factor between ``1 / (1 + max_step)`` and ``1 + max_step``.

    It looks at no metric. Zero stays zero.

    Args:
        max_step: Largest relative step, above 0.
        seed: Of the walk's own generator.

    Raises:
        ValueError: If `max_step` is not a finite number above 0.

    >>> first, second = (RandomWalk(seed=1).propose({"lr": 0.1}) for _ in range(2))
    >>> first == second
    True
    """

    state_names = ()

    def __init__(self, *, max_step: float = 0.5, seed: int = 0) -> None:
        if not (math.isfinite(max_step) and max_step > 0):
            raise ValueError(f"RandomWalk: max_step must be a finite number above 0, got {max_step}")
        self.max_step = max_step
        self._rng = np.random.default_rng(seed)

    def observe(self, metric: float, step: int) -> None:
        """Do nothing."""

    def propose(self, current_params: Hyperparams) -> Hyperparams:
        """Return a random neighbour; draws one number per value."""
        reach = math.log1p(self.max_step)
        return {name: value * math.exp(self._rng.uniform(-reach, reach)) for name, value in current_params.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the generator's state."""
        return {"rng": self._rng.bit_generator.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a saved generator. Raises ValueError for a state of something else."""
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "rng"})
        if "rng" not in state_dict:
            raise ValueError("this is no state of RandomWalk: it lacks rng")
        self._rng.bit_generator.state = state_dict["rng"]
