"""Bayesian cruise: multipliers on a prior plan, moved only on strong evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from autotunenet.controllers.base import Controller, is_same
from autotunenet.controllers.cruise import Cruise
from autotunenet.surrogates import TimeDecayGP, expected_improvement, probability_below
from autotunenet.types import Hyperparams

_MIN_REWARDS = 12
"""Rewards before anything is tried: with fewer the posterior is surer than it should be."""

_SLOWEST = 1e-12
"""Least magnitude of a metric that relative progress is measured by."""


class Bayesian(Controller):
    """Tunes hyperparameters as log-multipliers on a prior plan, by Gaussian-process regression of the pace of learning.

    A point is a vector of decades: 0.3 for lr means twice the plan's lr; for momentum it means that ``1 - momentum`` is
    half of the user's. An interval is worth its relative progress, ``(m[i-1] - m[i]) / |m[i-1]|``, above the running
    mean of such progress, in logarithms of which the loss laws are smooth. It is credited to the values that were in
    force in both intervals: the first interval after a change is left out, for it holds the change's one-off drop, and
    that drop would reward every cut of lr (short-horizon bias, Wu et al. 2018).

    The surrogate is `autotunenet.surrogates.TimeDecayGP` (time-varying GP bandits, Bogunovic et al. 2016). Every second
    interval the candidate with the largest expected improvement within `step_size` of the incumbent is tried, within
    `reach` of the plan and below every value that broke the run (after SafeOpt, Sui et al. 2015). The incumbent moves
    where the posterior says better with probability `confidence`, for a smaller lr with `cut_confidence`. Where the
    surrogate finds more noise than signal there is nothing to be learned from trying: then it holds, and so the plan is
    all there is. While the plan lands nothing is tried; while it warms up nothing is credited.

    Args:
        names: What is tuned: ``"lr"``, and others in any number.
        prior: The plan. None: `Cruise()`.
        step_size: Largest step of a trial away from the incumbent, in decades, above 0.
        reach: Largest distance of a value from the plan, in decades, at least `step_size`.
        confidence: Probability of being better that moves the incumbent, in (0.5, 1).
        cut_confidence: The same for a smaller lr, in (0.5, 1).
        noise_limit: Noise variance over signal variance above which nothing is tried, above 0.
        seed: Seed of the candidates where more than one hyperparameter is tuned.

    Raises:
        ValueError: If an argument is out of its range.

    >>> controller = Bayesian()
    >>> first = controller.start({"lr": 0.1})
    >>> controller.observe(metric=2.0, step=10)
    >>> controller.propose({"lr": 0.1})
    {'lr': 0.1}
    """

    needs = ("lr",)
    state_names = (
        "_initial",
        "_incumbent",
        "_point",
        "_limit",
        "_num_intervals",
        "_num_since_change",
        "_last_metric",
        "_usual",
        "_num_rewards",
        "_has_tried",
        "reason",
    )

    def __init__(
        self,
        names: Sequence[str] = ("lr",),
        *,
        prior: Cruise | None = None,
        step_size: float = 0.15,
        reach: float = 0.6,
        confidence: float = 0.9,
        cut_confidence: float = 0.99,
        noise_limit: float = 1.0,
        seed: int = 0,
    ) -> None:
        if "lr" not in names:
            raise ValueError(f"Bayesian: the plan is one for lr, so lr must be among the names, got {list(names)}")
        if not 0 < step_size <= reach:
            raise ValueError(f"Bayesian: 0 < step_size <= reach must hold, got {step_size} and {reach}")
        if not (0.5 < confidence < 1 and 0.5 < cut_confidence < 1):
            raise ValueError(f"Bayesian: confidences must lie in (0.5, 1), got {confidence} and {cut_confidence}")
        if not noise_limit > 0:
            raise ValueError(f"Bayesian: noise_limit must be above 0, got {noise_limit}")
        # lr first: candidates are compared by their first coordinate.
        self.names = ("lr", *(name for name in names if name != "lr"))
        self.prior = prior or Cruise()
        self.step_size, self.reach, self.noise_limit = step_size, reach, noise_limit
        self.confidence, self.cut_confidence = confidence, cut_confidence
        self._gp = TimeDecayGP(len(self.names))
        self._rng = np.random.default_rng(seed)
        self._initial: dict[str, float] = {}
        self._incumbent = [0.0] * len(self.names)
        self._point = [0.0] * len(self.names)  # in force
        self._limit = math.inf  # decades of lr above the plan that broke the run
        self._num_intervals = 0
        self._num_since_change = 0
        self._last_metric = math.nan
        self._usual = 0.0  # running mean of the relative progress of an interval
        self._num_rewards = 0
        self._has_tried = False  # whether any point but the plan's was
        self.reason = ""

    # -- the controller's four questions -----------------------------------------------------------------------------

    def start(self, initial: Hyperparams) -> Hyperparams:
        """Take the user's values as the plan's."""
        self._initial = {name: initial[name] for name in self.names if name in initial}
        return self.prior.start(initial)

    def observe(self, metric: float, step: int) -> None:
        """Credit an interval to the values that were in force in it and in the one before."""
        self.prior.observe(metric, step)
        self._num_intervals += 1
        self._num_since_change += 1
        if not math.isfinite(metric):
            self._note_broken()
        elif self._num_since_change >= 2 and math.isfinite(self._last_metric) and not self.prior.is_warming_up:
            self._reward((self._last_metric - metric) / max(abs(self._last_metric), _SLOWEST))
        self._last_metric = metric

    def observe_validation(self, metric: float, step: int) -> None:
        """Pass it on to the plan."""
        self.prior.observe_validation(metric, step)

    def propose(self, current_params: Hyperparams) -> Hyperparams:
        """Return the plan's values times the multipliers."""
        planned = self.prior.propose(current_params)
        self.reason = self.prior.reason
        wanted = self._incumbent if self.prior.is_landing else self._next_point()
        if wanted != self._point:
            self._point, self._num_since_change = list(wanted), 0
        known = {name: self._initial[name] for name in self.names if name in current_params}
        return {
            name: _scaled(name, {**known, **planned}[name], decades)
            for name, decades in zip(self.names, self._point, strict=True)
            if name in current_params
        }

    def follow(self, current_params: Hyperparams) -> None:
        """Go on from the values in force: plan times multiplier is what they are.

        An lr that is not the one in force before was put there by a rollback or a launch, and by no trial: its
        multiplier is the incumbent's, and the plan is scaled. The others have no plan: their multipliers follow from
        the values.
        """
        planned, lr = self.prior.planned_lr, current_params["lr"]
        if not is_same(lr, _scaled("lr", planned, self._point[0])):
            self._point[0] = self._incumbent[0]
        self.prior.follow({**current_params, "lr": lr / 10 ** self._point[0]})
        if min(planned, self.prior.planned_lr) > 0:  # a plan that was scaled up is nearer to what broke the run
            self._limit -= max(0.0, math.log10(self.prior.planned_lr / planned))
        for i, name in enumerate(self.names[1:], start=1):
            if name in current_params:
                self._meet(i, name, current_params[name])
        self._num_since_change, self._last_metric = 0, math.nan

    def forget(self, step: int) -> None:
        """Drop all evidence: the world is another one."""
        self.prior.forget(step)
        self._gp.forget()
        self._has_tried = False
        self._incumbent = [0.0] * len(self.names)
        self._limit = math.inf
        self._num_since_change, self._last_metric = 0, math.nan

    def rewarm(self, current_params: Hyperparams) -> Hyperparams:
        """Leave it to the plan; lr is at the plan's own then, as all evidence is gone."""
        self._point[0] = self._incumbent[0]
        return self.prior.rewarm(current_params)

    # -- evidence ----------------------------------------------------------------------------------------------------

    def _reward(self, progress: float) -> None:
        progress = min(max(progress, -1.0), 1.0)
        self._num_rewards += 1
        self._usual += (progress - self._usual) / min(self._num_rewards, 20)
        self._gp.add(self._point, t=float(self._num_intervals), y=self._usual - progress)

    def _meet(self, i: int, name: str, value: float) -> None:
        """Make the multiplier of a value without a plan agree with what is in force."""
        initial = self._initial[name]
        if is_same(value, _scaled(name, initial, self._point[i])):
            return
        before, after = (1 - value, 1 - initial) if name == "momentum" else (initial, value)
        if before > 0 and after > 0:
            self._point[i] = math.log10(after / before)
        else:  # no multiple of the user's value: somebody else's
            self._initial[name], self._point[i] = value, 0.0

    def _note_broken(self) -> None:
        """A value that broke the run is never tried again, nor one above it. The trial is over."""
        if self._point[0] > 0:
            self._limit = min(self._limit, self._point[0])
        self._incumbent = [min(self._incumbent[0], 0.0), *self._incumbent[1:]]
        self._point, self._num_since_change = list(self._incumbent), 0

    # -- decisions ---------------------------------------------------------------------------------------------------

    def _next_point(self) -> list[float]:
        """Return the point for the next interval: the same until it has a reward, then a candidate or the incumbent."""
        if self._num_since_change < 2 or len(self._gp) < _MIN_REWARDS:
            return self._point
        if not self._has_tried:  # one point tells nothing about signal and noise
            self._has_tried = True
            return self._candidates()[-1]
        chosen = self._gp.hyperparams
        if chosen.noise_variance > self.noise_limit * chosen.signal_variance:
            return self._incumbent
        candidates = self._candidates()
        mean, std = self._gp.predict(np.array([self._incumbent, *candidates]), t=float(self._num_intervals + 1))
        self._move(candidates, mean, std)
        gain = expected_improvement(mean[1:], std[1:], float(mean[0]))
        return candidates[int(np.argmax(gain))]

    def _move(self, candidates: list[list[float]], mean: Any, std: Any) -> None:
        """Make a candidate the incumbent where it is better with enough confidence."""
        # The two are taken as independent, which they are not: nearby points covary, so this is the cautious side.
        spread = np.sqrt(std[1:] ** 2 + std[0] ** 2)
        better = probability_below(mean[1:], spread, float(mean[0]))
        best = int(np.argmax(better))
        needed = self.cut_confidence if candidates[best][0] < self._incumbent[0] else self.confidence
        if better[best] > needed:
            self._incumbent = candidates[best]
            share = ", ".join(
                f"{name} x {10**value:.3g}" for name, value in zip(self.names, self._incumbent, strict=True)
            )
            self.reason = f"Better than the plan with probability {better[best]:.2f}: {share}."

    def _candidates(self) -> list[list[float]]:
        """Return points within a step of the incumbent, inside the reach and below what broke the run."""
        if len(self.names) == 1:
            offsets = np.linspace(-self.step_size, self.step_size, 7)[:, None]
        else:
            offsets = self._rng.uniform(-self.step_size, self.step_size, size=(24, len(self.names)))
        points = np.clip(np.array(self._incumbent) + offsets, -self.reach, self.reach)
        points[:, 0] = np.minimum(points[:, 0], self._limit - self.step_size)
        return [[float(value) for value in point] for point in points]

    # -- resume ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return evidence, plan and the state of the random generator as well."""
        parts = {"prior": self.prior.state_dict(), "gp": self._gp.state_dict()}
        return {**super().state_dict(), **parts, "rng": self._rng.bit_generator.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state. Raises ValueError if it is none of this class."""
        parts = {"prior": self.prior, "gp": self._gp}
        own = {name: value for name, value in state_dict.items() if name not in (*parts, "rng")}
        if missing := {*parts, "rng"} - state_dict.keys():
            raise ValueError(f"this is no state of {type(self).__name__}: it lacks {', '.join(sorted(missing))}")
        super().load_state_dict(own)
        for name, part in parts.items():
            part.load_state_dict(state_dict[name])
        self._rng.bit_generator.state = state_dict["rng"]


def _scaled(name: str, value: float, decades: float) -> float:
    """Return a value moved by some decades; of momentum it is the distance from 1 that shrinks."""
    factor = math.pow(10.0, decades)
    return max(0.0, 1 - (1 - value) / factor) if name == "momentum" else value * factor
