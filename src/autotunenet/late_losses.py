"""Losses that lie on an accelerator: sent for when they are computed, read some steps later. So nobody waits for them.

call n   loss n is sent for           ->  loss n - lag is read, which has long arrived, and judged
         the live state is that of n      a verdict comes so many steps late, and goes back to a state from before them
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from autotunenet.state import PlainState, check_keys
from autotunenet.types import PendingNumber

Loss = float | PendingNumber
"""A number, or one that is on its way."""


class LateLosses(PlainState):
    """A queue of the losses of the last steps.

    It is always as long, however fast they arrive, so that a training is judged alike on every machine.

    Args:
        lag: Steps that a loss on its way is read late, at least 0. Numbers that are here already do not wait.

    >>> losses = LateLosses(lag=1)
    >>> losses.hear(0.5)
    0.5
    """

    def __init__(self, lag: int) -> None:
        self.lag = lag
        self._waiting: deque[Loss] = deque()

    @property
    def num_waiting(self) -> int:
        """Losses that have not been heard yet."""
        return len(self._waiting)

    def hear(self, loss: Loss, *, at_once: bool = False) -> float | None:
        """Take the loss of a step; return the one whose turn it is to be judged. None: that comes later.

        Args:
            loss: Of this step.
            at_once: Wait for this one, and leave out those before it.
        """
        if not self._waiting and isinstance(loss, float):
            return loss
        if at_once:
            self.clear()
            return value_of(loss)
        self._waiting.append(loss)
        heard = None
        while len(self._waiting) > self.lag:  # once, unless the lag was larger in a run that this one goes on from
            heard = self._waiting.popleft()
        return None if heard is None else value_of(heard)

    def clear(self) -> None:
        """Leave out what is on its way: it came from a state that is gone."""
        self._waiting.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the losses that were not heard yet; waits for them."""
        return {"waiting": [value_of(loss) for loss in self._waiting]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, or raise ValueError and stay as it was."""
        check_keys(type(self).__name__, state_dict, ("waiting",))
        waiting = state_dict["waiting"]
        if not isinstance(waiting, list) or not all(isinstance(loss, float) for loss in waiting):
            raise ValueError("this is no saved state: the losses that wait are a list of numbers")
        self._waiting = deque(waiting)


def value_of(loss: Loss) -> float:
    """Return the number; waits for one that is on its way."""
    return loss if isinstance(loss, int | float) else loss.value()


def mean_of(losses: Sequence[Loss]) -> Loss:
    """Return the mean, which is on its way where one of them is.

    >>> mean_of([1.0, 2.0])
    1.5
    """
    numbers = [loss for loss in losses if isinstance(loss, int | float)]
    return sum(numbers) / len(numbers) if len(numbers) == len(losses) else _Mean(losses)


class _Mean:
    def __init__(self, losses: Sequence[Loss]) -> None:
        self._losses = losses

    def value(self) -> float:
        return sum(map(value_of, self._losses)) / len(self._losses)
