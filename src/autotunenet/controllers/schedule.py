"""The classic learning-rate schedules: a factor on the user's lr, as a function of time.

Time is counted in optimizer steps or in epochs. After k units, torch's schedulers give ``lr * factor(k)`` as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from autotunenet.controllers.base import Controller
from autotunenet.types import Hyperparams

Factor = Callable[[int], float]
"""Units done so far, from 0, to a factor on the user's lr, 0 or more."""


def constant() -> Factor:
    """Always 1."""
    return lambda t: 1.0


def step_decay(period: int, gamma: float = 0.1) -> Factor:
    """Return ``gamma ** (t // period)``, torch's `StepLR`.

    Args:
        period: Units between two cuts, at least 1.
        gamma: Factor of a cut, above 0.

    >>> [round(step_decay(period=2)(t), 6) for t in range(5)]
    [1.0, 1.0, 0.1, 0.1, 0.01]
    """
    _check_positive(period=period, gamma=gamma)
    return lambda t: float(gamma ** (t // period))


def exponential_decay(gamma: float, decay_units: int = 1, staircase: bool = False) -> Factor:
    """Return ``gamma ** (t / decay_units)``; with 1 unit, torch's `ExponentialLR`.

    Args:
        gamma: Factor per `decay_units`, above 0.
        decay_units: Units in which the factor is reached, at least 1: the ``decay_steps`` of the classic form.
        staircase: Whether to cut only at whole multiples of `decay_units`.
    """
    _check_positive(gamma=gamma, decay_units=decay_units)
    return lambda t: float(gamma ** (t // decay_units if staircase else t / decay_units))


def cosine(total: int, final: float = 0.0) -> Factor:
    """Half a cosine from 1 to `final` over `total` units, then `final` (Loshchilov and Hutter 2017, no restarts).

    Up to `total` this is torch's `CosineAnnealingLR`, which climbs again after that.

    >>> round(cosine(total=10)(5), 12), cosine(total=10, final=0.1)(99)
    (0.5, 0.1)
    """
    _check_positive(total=total)
    return lambda t: final + (1 - final) * (1 + math.cos(math.pi * min(t, total) / total)) / 2


def one_cycle(total: int, warmup: float = 0.3, start: float = 1 / 25, final: float = 1 / 25 / 1e4) -> Factor:
    """Cosine from `start` up to 1 and down to `final` (Smith and Topin 2018), torch's `OneCycleLR`: user's lr on top.

    Args:
        total: Length in units, at least 2.
        warmup: Share of `total` spent on the way up, in (0, 1); torch's ``pct_start``.
        start: First factor; torch's ``1 / div_factor``.
        final: Last factor; torch's ``1 / (div_factor * final_div_factor)``.
    """
    _check_positive(total=total - 1, start=start)
    if not 0 < warmup < 1:
        raise ValueError(f"one_cycle: warmup must lie in (0, 1), got {warmup}")
    top = warmup * total - 1

    def factor(t: int) -> float:
        t = min(t, total - 1)
        if t < top:
            return _cosine_between(start, 1.0, t / top)
        return _cosine_between(1.0, final, (t - top) / (total - 1 - top))

    return factor


def warmup_stable_decay(
    total: int, warmup: float = 0.05, decay: float = 0.2, start: float = 0.01, final: float = 0.0
) -> Factor:
    """Linear from `start` up to 1, hold, linear down to `final` (Haegele et al. 2024).

    Args:
        total: Length in units, at least 1.
        warmup: Share of `total` on the way up, in [0, 1].
        decay: Share of `total` on the way down, in [0, 1]; with `warmup` at most 1.
        start: First factor.
        final: Last factor.

    >>> factor = warmup_stable_decay(total=10, warmup=0.2, decay=0.5, start=0.5)
    >>> [round(factor(t), 6) for t in range(11)]
    [0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    """
    _check_positive(total=total)
    if not (0 <= warmup <= 1 and 0 <= decay <= 1 and warmup + decay <= 1):
        raise ValueError(
            f"warmup_stable_decay: warmup and decay are shares with a sum of at most 1, got {warmup} and {decay}"
        )
    num_warmup, num_decay = round(warmup * total), round(decay * total)

    def factor(t: int) -> float:
        if t < num_warmup:
            return start + (1 - start) * t / num_warmup
        if t <= total - num_decay:
            return 1.0
        return 1 + (final - 1) * (min(t, total) - (total - num_decay)) / num_decay

    return factor


SCHEDULES: dict[str, Callable[..., Factor]] = {
    "constant": constant,
    "step_decay": step_decay,
    "exponential_decay": exponential_decay,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "warmup_stable_decay": warmup_stable_decay,
}
"""Makers of factors by name."""


class Schedule(Controller):
    """Plays a schedule on lr; other hyperparameters stay as they are.

    It starts from the user's lr. After a rollback it goes on from the lr that the rollback put in force, with the same
    shape, so that the back-off lasts; the top of the shape never rises above the user's lr.

    Args:
        factor: One of `SCHEDULES`, made with its arguments. None: `constant`.
        steps_per_unit: Optimizer steps in a unit of time, at least 1: 1 for a schedule per step, the steps of an epoch
            for one per epoch.

    Raises:
        ValueError: If `steps_per_unit` is below 1.

    >>> controller = Schedule(cosine(total=4))
    >>> controller.start({"lr": 0.1})
    {'lr': 0.1}
    >>> controller.observe(metric=2.3, step=2)
    >>> round(controller.propose({"lr": 0.1})["lr"], 12)
    0.05
    """

    needs = ("lr",)
    state_names = ("_initial", "_base", "_time")

    def __init__(self, factor: Factor | None = None, steps_per_unit: int = 1) -> None:
        _check_positive(steps_per_unit=steps_per_unit)
        self._factor = factor or constant()
        self._steps_per_unit = steps_per_unit
        self._initial = math.nan  # the user's lr
        self._base = math.nan  # the lr that a factor of 1 stands for now
        self._time = 0

    def start(self, initial: Hyperparams) -> Hyperparams:
        """Take the user's lr as the one that a factor of 1 stands for, and return the first value."""
        self._initial = self._base = initial["lr"]
        return {**initial, "lr": self._base * self._factor(0)}

    def observe(self, metric: float, step: int) -> None:
        """Take note of the time; the metric does not matter."""
        self._time = step // self._steps_per_unit

    def propose(self, current_params: Hyperparams) -> Hyperparams:
        """Return the schedule's lr."""
        return {"lr": self._base * self._factor(self._time)}

    def follow(self, current_params: Hyperparams) -> None:
        """Keep the shape, and scale it so that it meets the lr in force."""
        factor = self._factor(self._time)
        if factor > 0:
            self._base = min(self._initial, current_params["lr"] / factor)


def _cosine_between(begin: float, end: float, share: float) -> float:
    return end + (begin - end) / 2 * (1 + math.cos(math.pi * share))


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a finite number above 0, got {value}")
