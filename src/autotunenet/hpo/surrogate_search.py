"""Surrogate search: a model of the objective, trained on what has been tried, says what to try next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from autotunenet.hpo.acquisitions import ACQUISITIONS, Acquisition
from autotunenet.hpo.base import Direction, Search
from autotunenet.hpo.designs import DESIGNS, Design
from autotunenet.hpo.encoding import Array, Encoding
from autotunenet.hpo.extras import check_extras
from autotunenet.hpo.losses import Evidence
from autotunenet.hpo.maximise import ranked_points
from autotunenet.hpo.surrogates import SURROGATES, Surrogate
from autotunenet.hpo.trial import Trial
from autotunenet.hpo.untried import draw_untried
from autotunenet.space import SearchSpace

NUM_CENTERS = 5
"""Best points so far that the acquisition function is searched around."""

SEPARATION = 0.05
"""Largest difference of coordinates that two points of a batch have at least, where a dimension is a `Float`."""

T = TypeVar("T")


class SurrogateSearch(Search):
    """Bayesian optimization: an initial design, then always the point of the highest acquisition.

    After `num_initial` points of a design, a surrogate is fitted to all trials so far, and the acquisition function
    says which point is worth most. Jones, Schonlau and Welch 1998, "Efficient Global Optimization"; with the forest,
    Hutter, Hoos and Leyton-Brown 2011. Every fit begins anew, so that a proposal depends on nothing but the trials.

    In a finite space no point comes twice, and the search ends when all have been tried. A failed trial counts as bad
    as the worst, a pending one as an average one; while all losses are equal, the next point is one far from the
    others. A fitted noise is part of the Gaussian process. The incumbent is the lowest loss that was told: under noise
    that is below any prediction, so that points of which little is known are worth more.

    Args:
        space: Where to search.
        surrogate: A name of `SURROGATES`, or a `Surrogate` with other settings.
        acquisition: A name of `ACQUISITIONS`, or a function like those.
        initial: A name of `DESIGNS`, or a function like those.
        num_initial: Points of the design; None: one more than there are dimensions, in a finite space one more than
            half of that, and 3 at least.
        batch_size: Trials that are chosen from one fit, the best in order, without what the others of the batch were
            told. With `acquisition="mean"` they are the top predictions of a surrogate trained on `num_initial` points.
            To have trials run side by side leave it at 1 and ask before others are told.
        seed: Of the design, the surrogate and the candidates.
        direction: Whether small or large values are good.

    Raises:
        ImportError: If scipy or scikit-learn is missing.
        ValueError: If a name is none of its family, or a number is below 1.

    >>> import math
    >>> from autotunenet import Categorical, Float
    >>> space = SearchSpace({"lr": Float(1e-5, 1.0, log=True), "act": Categorical(("relu", "gelu"))})
    >>> search = SurrogateSearch(space, seed=0)
    >>> for _ in range(15):
    ...     trial = search.ask()
    ...     bowl = math.log10(trial.params["lr"] / 0.01) ** 2
    ...     _ = search.tell(trial.number, bowl + (trial.params["act"] == "relu"))
    >>> search.best.params["act"], abs(math.log10(search.best.params["lr"] / 0.01)) < 0.1
    ('gelu', True)
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        surrogate: str | Surrogate = "gp",
        acquisition: str | Acquisition = "log_ei",
        initial: str | Design = "sobol",
        num_initial: int | None = None,
        batch_size: int = 1,
        seed: int = 0,
        direction: Direction = "minimize",
    ) -> None:
        super().__init__(space, seed=seed, direction=direction)
        check_extras(type(self).__name__)
        few = len(space) + 1 if space.num_points is None else len(space) // 2 + 1
        self.num_initial = max(few, 3) if num_initial is None else num_initial
        self.batch_size = batch_size
        for name in ("num_initial", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        self.surrogate = surrogate if isinstance(surrogate, Surrogate) else _named("surrogate", surrogate, SURROGATES)()
        self._acquire = _named("acquisition", acquisition, ACQUISITIONS)
        self._design = _named("initial", initial, DESIGNS)
        self._encoding = Encoding(space)

    def _propose(self, number: int) -> Trial | None:
        if self.is_exhausted:
            return None
        if number < self.num_initial:
            return Trial(number=number, params=self._initial_point(number))
        return self._best_trial(number)

    def _initial_point(self, number: int) -> dict[str, Any]:
        points = self._design(self.space, self.num_initial, self._stream(-1))
        if self.space.num_points is None:
            return points[number]
        tried = self._tried()
        if number < len(points) and self.space.index_of(points[number]) not in tried:
            return points[number]
        return self.space.point_at(draw_untried(self._stream(number), self.space.num_points, tried))

    def _best_trial(self, number: int) -> Trial:
        """Return the trial of the highest acquisition, by what was known when its batch began."""
        first = number - (number - self.num_initial) % self.batch_size
        seen, batch, rng = self._trials[:first], self._trials[first:], self._stream(first)
        evidence = Evidence.of(seen, self._loss)
        u = np.stack([self.space.to_unit(trial.params) for trial in seen])
        x = self._encoding.features(u)
        if not evidence.tells_apart:
            ranked = ranked_points(self.space, lambda others: self._distance(others, x), u, rng)
            return Trial(number=number, params=self.space.from_unit(self._first_allowed(ranked, batch, rng)))
        posterior = self.surrogate.fit(x, evidence.losses, self._encoding.groups, rng)
        means = posterior.predict(x)[0]
        best = float(evidence.losses[evidence.is_done].min())

        def utility(coordinates: Array) -> Array:
            return self._acquire(*posterior.predict(self._encoding.features(coordinates)), best)

        centers = u[np.argsort(means, kind="stable")[:NUM_CENTERS]]
        chosen = self._first_allowed(ranked_points(self.space, utility, centers, rng), batch, rng)
        mean, std = posterior.predict(self._encoding.features(chosen[None]))
        expected, spread = evidence.scale.from_unit(float(mean[0]), float(np.hypot(std[0], posterior.noise_std)))
        signed = expected if self.direction == "minimize" else -expected
        return Trial(number=number, params=self.space.from_unit(chosen), predicted=(signed, spread))

    def _distance(self, coordinates: Array, x: Array) -> Array:
        """Return how far points lie from the nearest of those with features `x`."""
        features = self._encoding.features(coordinates)
        distances: Array = np.linalg.norm(features[:, None] - x, axis=2).min(axis=1)
        return distances

    def _first_allowed(self, ranked: Array, batch: Sequence[Trial], rng: np.random.Generator) -> Array:
        """Return the first point that is new: untried in a finite space, apart from the rest of its batch in others."""
        index = 0
        if self.space.num_points is not None:
            tried = self._tried()
            is_new = (self.space.index_of(self.space.from_unit(u)) not in tried for u in ranked)
            index = next((i for i, new in enumerate(is_new) if new), -1)
            if index < 0:
                return self.space.to_unit(self.space.point_at(draw_untried(rng, self.space.num_points, tried)))
        elif batch:
            taken = np.stack([self.space.to_unit(trial.params) for trial in batch])
            index = int(np.argmax(np.abs(ranked[:, None] - taken).max(axis=2).min(axis=1) > SEPARATION))
        chosen: Array = ranked[index]
        return chosen


def _named(family: str, member: str | T, members: Mapping[str, T]) -> T:
    """Return a member of a family by its name, or the one that is given."""
    if not isinstance(member, str):
        return member
    if member not in members:
        raise ValueError(f"{family} must be one of {', '.join(members)}, got {member!r}")
    return members[member]
