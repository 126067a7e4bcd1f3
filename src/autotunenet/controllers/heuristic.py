"""A rule-based adaptive learning rate: a little more while it works, much less when it does not."""

from __future__ import annotations

import math

from autotunenet.controllers.base import Controller
from autotunenet.types import Hyperparams


class Heuristic(Controller):
    """Raises lr a little while the metric falls consistently, and cuts it when the metric stalls or rises.

    At every control step the metric is compared with the one before it:

    * lower by more than ``rtol * abs(previous)``: a fall. From the `raise_patience`-th fall in a row on, each one
      multiplies lr by `raise_factor`.
    * higher by more than ``rtol * abs(previous)``: a rise. `rise_patience` in a row multiply lr by `cut_factor`.
    * neither: a stall. `stall_patience` stalls or rises in a row multiply lr by `cut_factor`.
    * NaN or infinite: lr is cut at once.

    After a cut the counting starts anew. To watch accuracy, give the tuner ``mode="max"``. Other hyperparameters stay
    as they are.

    Args:
        raise_factor: Factor of a rise of lr, at least 1.
        cut_factor: Factor of a cut, in (0, 1).
        raise_patience: Falls in a row before lr is raised, at least 1.
        rise_patience: Rises in a row before lr is cut, at least 1.
        stall_patience: Stalls or rises in a row before lr is cut, at least 1.
        rtol: Smallest relative change of the metric that counts, 0 or more.
        min_ratio: lr stays above this multiple of the user's lr, in (0, 1].
        max_ratio: lr stays below this multiple of the user's lr, at least 1.

    Raises:
        ValueError: If an argument is out of its range.

    >>> controller = Heuristic(raise_factor=1.1, raise_patience=2)
    >>> lr = controller.start({"lr": 0.1})
    >>> for metric in (1.0, 0.9, 0.8):
    ...     controller.observe(metric, step=1)
    ...     lr = controller.propose(lr)
    >>> round(lr["lr"], 12)
    0.11
    >>> controller.observe(1.5, step=4)
    >>> round(controller.propose(lr)["lr"], 12)
    0.055
    """

    needs = ("lr",)
    state_names = ("_initial", "_previous", "_num_falls", "_num_rises", "_num_stalls", "_factor")

    def __init__(
        self,
        *,
        raise_factor: float = 1.05,
        cut_factor: float = 0.5,
        raise_patience: int = 2,
        rise_patience: int = 1,
        stall_patience: int = 2,
        rtol: float = 0.01,
        min_ratio: float = 1e-3,
        max_ratio: float = 10.0,
    ) -> None:
        _check("raise_factor", raise_factor, 1 <= raise_factor < math.inf, "at least 1")
        _check("cut_factor", cut_factor, 0 < cut_factor < 1, "in (0, 1)")
        _check("raise_patience", raise_patience, raise_patience >= 1, "at least 1")
        _check("rise_patience", rise_patience, rise_patience >= 1, "at least 1")
        _check("stall_patience", stall_patience, stall_patience >= 1, "at least 1")
        _check("rtol", rtol, 0 <= rtol < math.inf, "a finite number, 0 or more")
        _check("min_ratio", min_ratio, 0 < min_ratio <= 1, "in (0, 1]")
        _check("max_ratio", max_ratio, 1 <= max_ratio < math.inf, "at least 1")
        self.raise_factor, self.cut_factor = raise_factor, cut_factor
        self.raise_patience, self.rise_patience, self.stall_patience = raise_patience, rise_patience, stall_patience
        self.rtol, self.min_ratio, self.max_ratio = rtol, min_ratio, max_ratio
        self._initial: float | None = None
        self._previous: float | None = None
        self._num_falls = 0
        self._num_rises = 0
        self._num_stalls = 0  # rises included
        self._factor = 1.0  # on lr, as the last observation wants it

    def start(self, initial: Hyperparams) -> Hyperparams:
        """Take the user's lr as the one that the bounds refer to."""
        self._initial = initial["lr"]
        return dict(initial)

    def observe(self, metric: float, step: int) -> None:
        """Count falls, rises and stalls, and conclude a factor on lr."""
        previous, self._previous = self._previous, metric if math.isfinite(metric) else None
        if not math.isfinite(metric):
            self._cut()
        elif previous is None:
            self._factor = 1.0
        elif metric < previous - self.rtol * abs(previous):
            self._count_fall()
        else:
            self._count_failure(rise=metric > previous + self.rtol * abs(previous))

    def propose(self, current_params: Hyperparams) -> Hyperparams:
        """Return lr times the factor that the last observation asked for, within the bounds."""
        lr = current_params["lr"]
        if self._factor == 1.0 or self._initial is None:
            return {"lr": lr}
        low, high = self._initial * self.min_ratio, self._initial * self.max_ratio
        # An lr that a rollback took below the bounds is not pulled up by a cut, nor down by a raise.
        wanted = lr * self._factor
        return {"lr": min(lr, max(wanted, low)) if self._factor < 1 else max(lr, min(wanted, high))}

    def _count_fall(self) -> None:
        self._num_falls += 1
        self._num_rises = self._num_stalls = 0
        self._factor = self.raise_factor if self._num_falls >= self.raise_patience else 1.0

    def _count_failure(self, rise: bool) -> None:
        self._num_falls = 0
        self._num_stalls += 1
        self._num_rises = self._num_rises + 1 if rise else 0
        self._factor = 1.0
        if self._num_rises >= self.rise_patience or self._num_stalls >= self.stall_patience:
            self._cut()

    def _cut(self) -> None:
        self._factor = self.cut_factor
        self._num_falls = self._num_rises = self._num_stalls = 0


def _check(name: str, value: float, valid: bool, rule: str) -> None:
    if not valid:
        raise ValueError(f"Heuristic: {name} must be {rule}, got {value}")
