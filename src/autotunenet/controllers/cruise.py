"""Cruise and land: hold the lr, come down at the end, take off again when the world has changed."""

from __future__ import annotations

import math

from autotunenet.controllers.base import Controller, is_same
from autotunenet.types import Hyperparams

_MEMORY = 256
"""Means that are remembered, for the plateau; where there are more, two neighbours become one. Even."""

_NO_FALL = 0.5
"""A slope no further below zero than so many of its standard errors is none."""

_REWARM_STEPS = 24
"""Steps in which a warm-up after a change of the data brings lr back: as many as the first two trials of a launch."""

_REWARM_SHARE = 5
"""A warm-up takes no more than the steps that are left divided by this, where they are known."""

_REWARM_INTERVALS = 2
"""Control intervals that a warm-up takes at the least, so that no guard on the rise of lr holds it back."""

_PAYS = 2.0
"""A cut has paid where the loss has come down by more than so many standard errors of the difference."""


class Cruise(Controller):
    """Plays ``lr(t) = peak * cut(t) * warmth(t) * landing(t)``; other hyperparameters stay as they are.

    With a known end it holds, and then falls linearly to zero (warmup-stable-decay, Haegele et al. 2024; the launch is
    the warm-up). A controller that follows the short-term loss comes down too early instead, because every cut is
    rewarded by a one-off drop (short-horizon bias, Wu et al. 2018); that is why the known end, and not the loss, says
    when to land.

    Without a known end it halves the lr whenever the loss has stalled: when a straight line through the interval means
    of the last `patience` of the run does not fall by half its standard error, and a validation metric, where there is
    one, has not improved over the same time either. A cut that comes late costs little, one that comes early costs the
    run; so it is the stall that has to be shown. The window is long enough to see a slow fall through noise, it grows
    with the run, cuts do not make it shorter again, and it has to be half new before the question is asked again:
    asked at every interval, chance would answer it with yes before long. So the questions are as many as the logarithm
    of the run's length.

    And a cut has to pay. One that helps is rewarded by a drop of the loss, for the noise floor comes down with lr. So
    when the next question is due, the mean of the window has to lie below that before the cut by more than two
    standard errors of the difference, or a validation metric has to have reached a new best since. Otherwise the cut is
    undone: it met no stall that a smaller lr helps, perhaps a fall too slow to be seen through the noise. The next one
    then needs twice the window of the last, and twice that again after another that does not pay; a cut that pays sets
    the window back. A rollback, a launch or an interval that is not finite ends the trial, because what is before it
    and what is after it cannot be compared: the cut stands.

    After a change of the world (`forget`) it takes off again: nothing is left of the cuts nor of a longer window, and
    the landing is planned anew for the steps that are left. The lr never rises above the peak, which is the user's or
    the launch's, or what rollbacks have left of it.

    Where it was the data that have changed, the lr warms up once more (`rewarm`), geometrically over 24 steps: where
    the loss has jumped the gradients have too, and an adaptive optimizer still divides them by the small ones from
    before (Ma and Yarats 2021 on warm-up; Gupta et al. 2023 on warming up again when the data change).

    Args:
        total_steps: Optimizer steps of the whole training, at least 1; None: not known.
        hold: Share of the steps left at the start, or at a change of the world, before the landing begins, in [0, 1).
        land: Whether to land at all.
        cut: Factor on lr where the loss has stalled, in (0, 1). Used where the end is not known. It is taken back where
            the loss has not come down by it.
        warmth: Factor on lr right after a change of the data, in (0, 1]; 1: no warm-up.
        patience: Share of the run, or of the time since a change of the world, that has to pass without progress, in
            (0, 1].
        min_intervals: Control intervals that have to pass without progress at the least, 4 or more.

    Raises:
        ValueError: If an argument is out of its range.

    >>> cruise = Cruise(total_steps=100, hold=0.5)
    >>> first = cruise.start({"lr": 0.1})
    >>> for step in (50, 75, 100):
    ...     cruise.observe(metric=1.0, step=step)
    ...     print(round(cruise.propose({"lr": 0.1})["lr"], 6))
    0.1
    0.05
    0.0
    """

    needs = ("lr",)
    state_names = (
        "_peak",
        "_cut",
        "_step",
        "_anchor",
        "_warm_from",
        "_begin",
        "_num_intervals",
        "_num_seen",
        "_num_asked",
        "_means",
        "_part",
        "_per_mean",
        "_num_least",
        "_trial",
        "_best_val",
        "_last_val_best",
        "reason",
    )

    def __init__(
        self,
        *,
        total_steps: int | None = None,
        hold: float = 0.5,
        land: bool = True,
        cut: float = 0.5,
        warmth: float = 0.5,
        patience: float = 0.25,
        min_intervals: int = 40,
    ) -> None:
        if total_steps is not None and total_steps < 1:
            raise ValueError(f"Cruise: total_steps must be at least 1, or None for not known, got {total_steps}")
        if not 0 <= hold < 1:
            raise ValueError(f"Cruise: hold must lie in [0, 1), got {hold}")
        if not (0 < cut < 1 and 0 < patience <= 1):
            raise ValueError(f"Cruise: cut must lie in (0, 1) and patience in (0, 1], got {cut} and {patience}")
        if not 0 < warmth <= 1:
            raise ValueError(f"Cruise: warmth must lie in (0, 1], got {warmth}")
        if min_intervals < 4:
            raise ValueError(f"Cruise: min_intervals must be at least 4, for a line with an error, got {min_intervals}")
        self.total_steps, self.hold, self.land = total_steps, hold, land
        self.cut, self.warmth, self.patience, self.min_intervals = cut, warmth, patience, min_intervals
        self._peak = math.nan  # the lr that a cut and a landing of 1 stand for
        self._cut = 1.0
        self._step = 0
        self._anchor = 0  # step from which the landing is planned
        self._warm_from: int | None = None  # step at which the last warm-up began; None: it is over
        self._begin = 0  # step since which means are remembered: of the last cut, rollback or change of the world
        self._num_intervals = 0  # of the run, or since the last change of the world
        self._num_seen = 0  # intervals since `_begin`
        self._num_asked = 0  # those of them that there were at the last question
        self._means: list[float] = []  # of `_per_mean` intervals each
        self._part: list[float] = []  # intervals that do not make a mean yet
        self._per_mean = 1
        self._num_least = 0  # intervals that the window has at the least, because of cuts that did not pay
        # Of a cut that has yet to pay: the factor before it, its step, and the loss before it with its standard error.
        self._trial: list[float] = []
        self._best_val = math.inf
        self._last_val_best = 0  # step at which it was reached
        self.reason = ""

    @property
    def is_landing(self) -> bool:
        """Whether the lr is coming down to the known end."""
        return self.landing() < 1

    @property
    def is_warming_up(self) -> bool:
        """Whether the lr is on its way back up after a change of the data."""
        return self._warmth() < 1

    @property
    def planned_lr(self) -> float:
        """The lr that the plan has for now."""
        return self._peak * self._factor()

    def _factor(self) -> float:
        return self._cut * self._warmth() * self.landing()

    def landing(self) -> float:
        """Return the landing's factor on lr, in [0, 1]."""
        if not self.land or self.total_steps is None:
            return 1.0
        if self._step >= self.total_steps:
            return 0.0
        begin = self._anchor + self.hold * (self.total_steps - self._anchor)
        if self._step <= begin:
            return 1.0
        return max(0.0, (self.total_steps - self._step) / (self.total_steps - begin))

    def _warmth(self) -> float:
        """Return the warm-up's factor on lr, from `warmth` to 1."""
        if self._warm_from is None:
            return 1.0
        num = _REWARM_STEPS
        if self.total_steps is not None:
            num = min(num, (self.total_steps - self._warm_from) // _REWARM_SHARE)
        done = min((self._step - self._warm_from) / max(num, 1), self._num_intervals / _REWARM_INTERVALS)
        return float(self.warmth ** max(0.0, 1 - done))

    def start(self, initial: Hyperparams) -> Hyperparams:
        """Take the user's lr as the peak."""
        self._peak = initial["lr"]
        return dict(initial)

    def observe(self, metric: float, step: int) -> None:
        """Take note of an interval's mean training loss; one that is not finite starts the memory afresh."""
        self._step = step
        self._num_intervals += 1
        if math.isfinite(metric):
            self._remember(metric)
        else:
            self._start_afresh(step)

    def observe_validation(self, metric: float, step: int) -> None:
        """Take note of a validation metric."""
        if metric < self._best_val:
            self._best_val, self._last_val_best = metric, step

    def propose(self, current_params: Hyperparams) -> Hyperparams:
        """Return the lr of the plan."""
        self.reason = ""
        if self.land and self.total_steps is None:
            self._ask()
        elif self.is_warming_up:
            self.reason = "Warming up again: the data have changed."
        elif self.is_landing:
            self.reason = f"Landing: {100 * self.landing():.0f} % of the way to go."
        return {"lr": self.planned_lr}

    def follow(self, current_params: Hyperparams) -> None:
        """Scale the plan so that it meets the lr in force, from a launch or a rollback. A warm-up ends there."""
        if not is_same(current_params["lr"], self.planned_lr):
            self._warm_from = None
            if self._factor() > 0:
                self._peak = current_params["lr"] / self._factor()
        self._start_afresh(self._step)

    def forget(self, step: int) -> None:
        """Take off again: no cuts, and a landing planned for the steps that are left."""
        self._step = self._anchor = step
        self._cut, self._best_val, self._num_intervals, self._num_least = 1.0, math.inf, 0, 0
        self._warm_from = None
        self._start_afresh(step)

    def rewarm(self, current_params: Hyperparams) -> Hyperparams:
        """Begin a warm-up where the last `forget` was."""
        self._warm_from = self._anchor
        return {"lr": self.planned_lr}

    def _start_afresh(self, step: int) -> None:
        self._means, self._part, self._per_mean = [], [], 1
        self._num_seen = self._num_asked = 0
        self._trial = []
        self._begin = self._last_val_best = step

    def _remember(self, metric: float) -> None:
        """Keep an interval's mean; a long memory is kept in coarser means, so that it reaches back as far as needed."""
        self._num_seen += 1
        self._part = [*self._part, metric]
        if len(self._part) == self._per_mean:
            self._means, self._part = [*self._means, _mean(self._part)], []
        if len(self._means) == _MEMORY:
            self._means = [_mean(self._means[i : i + 2]) for i in range(0, _MEMORY, 2)]
            self._per_mean *= 2

    def _ask(self) -> None:
        """Where it is time to: undo the last cut if it has not paid, or else cut where the loss has stalled."""
        num = max(self.min_intervals, math.ceil(self.patience * self._num_intervals), self._num_least)
        # The first interval after a change still comes down from it.
        if self._num_seen <= num or self._num_asked > self._num_seen - num / 2:
            return
        self._num_asked = self._num_seen
        window = self._means[-max(4, math.ceil(num / self._per_mean)) :]
        mean, error = _level(window)
        if self._trial:
            if not self._has_paid(mean, error):
                self._undo(mean, num)
                return
            self._trial, self._num_least = [], 0
        if self._has_stalled(window, num):
            trial = [self._cut, self._step, mean, error]
            self._cut *= self.cut
            self.reason = f"The loss has not fallen for {self._step - self._begin} steps."
            self._start_afresh(self._step)
            self._trial = trial

    def _has_paid(self, mean: float, error: float) -> bool:
        """Whether the loss, or a validation metric, is better than before the cut on trial."""
        _, _, mean_before, error_before = self._trial
        return mean_before - mean > _PAYS * math.hypot(error_before, error) or self._last_val_best > self._begin

    def _undo(self, mean: float, num: int) -> None:
        self._cut, step, mean_before, _ = self._trial
        self._num_least = 2 * num
        self.reason = (
            f"The cut at step {step:.0f} did not pay and is undone: "
            f"the loss was {mean_before:.4g} before it and {mean:.4g} after it."
        )
        self._start_afresh(self._step)

    def _has_stalled(self, window: list[float], num: int) -> bool:
        """Whether the means do not fall, and no validation metric has improved over the last `num` intervals."""
        if self._best_val < math.inf and self._is_validation_improving(num):
            return False
        slope, error = _slope(window)
        return slope >= -_NO_FALL * error

    def _is_validation_improving(self, num: int) -> bool:
        return self._last_val_best > self._step - (self._step - self._begin) * num / self._num_seen


def _mean(values: list[float]) -> float:
    return sum(value / len(values) for value in values)  # divided first: a sum of huge losses may be infinite


def _level(values: list[float]) -> tuple[float, float]:
    """Return the mean and its standard error."""
    unit = max(abs(value) for value in values) or 1.0  # a sum of huge losses may be infinite, and a square sooner
    y = [value / unit for value in values]
    n, mean = len(y), math.fsum(y) / len(y)
    return unit * mean, unit * math.sqrt(sum((v - mean) ** 2 for v in y) / (n - 1) / n)


def _slope(values: list[float]) -> tuple[float, float]:
    """Return the least-squares slope over 0, 1, 2, ... and its standard error, in units of the largest magnitude."""
    unit = max(abs(value) for value in values) or 1.0
    y = [value / unit for value in values]
    n = len(y)
    x_mean, y_mean = (n - 1) / 2, sum(y) / n
    x_square = n * (n * n - 1) / 12
    slope = sum((i - x_mean) * (v - y_mean) for i, v in enumerate(y)) / x_square
    residual = sum((v - y_mean - slope * (i - x_mean)) ** 2 for i, v in enumerate(y))
    return slope, math.sqrt(residual / (n - 2) / x_square)
