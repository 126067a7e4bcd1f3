"""Optuna's samplers as searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

from autotunenet.hpo.base import Direction, Search
from autotunenet.hpo.optuna_bridge import from_sampled, import_optuna, leaving_no_trace, to_distribution, to_sampled
from autotunenet.hpo.trial import Trial, TrialState
from autotunenet.hpo.untried import draw_untried
from autotunenet.space import SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

SamplerName = Literal["tpe", "gp", "random", "grid"]

NUM_REDRAWS = 4
"""Further points that a sampler is asked for where it proposed one that has a trial. A Gaussian process that is sure of
its point gives it again and again, and is fitted each time."""

MAX_GRID = 100_000
"""Points of the largest grid that Optuna is asked for: it lists them all."""


class OptunaSearch(Search):
    """Points where one of Optuna's samplers wants them.

    Every answer is that of a fresh sampler, whose seed depends on that of the search and the number of the trial, about
    a fresh study that has the trials so far: those that are done, those that failed, and pending ones as running, which
    the samplers keep away from. So it is a function of these alone, as all searches are, and not what one sampler gives
    that is kept over a whole study: a Gaussian process, for one, is fitted from scratch. Building the study anew takes
    some 0.2 ms a trial.

    **Points that have a trial** may be proposed again by every sampler. Unless that is allowed, up to `NUM_REDRAWS`
    further samplers with other seeds are asked then, and at last an untried point is drawn at random. A finite space is
    exhausted when each of its points has a trial.

    Args:
        space: Where to search. An `Ordinal` is searched by the ranks of its values, as whole numbers.
        sampler: "tpe" (Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization"), "gp" (a Gaussian process;
            needs SciPy and torch), "random", or "grid" (all points of a finite space, in random order); or a function
            that takes a seed and returns a sampler of Optuna.
        seed: Of the seeds of the samplers.
        direction: Whether small or large values are good.
        num_initial: Results at random points before "tpe" and "gp" use what they were told; None: 10, as Optuna has it.
        allow_duplicates: Whether points may be proposed that have a trial, as where the objective is noisy. Nothing is
            ever exhausted then.

    Raises:
        ImportError: If Optuna is not installed.
        ValueError: If there is no such sampler, `num_initial` has no meaning for it or is below 1, or a grid is wanted
            over a space that is not finite or too large to list.

    >>> from autotunenet import Float
    >>> search = OptunaSearch(SearchSpace({"lr": Float(1e-4, 1.0, log=True)}), sampler="tpe", seed=0)
    >>> for _ in range(30):
    ...     trial = search.ask()
    ...     _ = search.tell(trial.number, abs(trial.params["lr"] - 0.01))
    >>> 0.008 < search.best.params["lr"] < 0.012
    True
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        sampler: SamplerName | Callable[[int], BaseSampler] = "tpe",
        seed: int = 0,
        direction: Direction = "minimize",
        num_initial: int | None = None,
        allow_duplicates: bool = False,
    ) -> None:
        super().__init__(space, seed=seed, direction=direction)
        optuna = import_optuna(type(self).__name__)
        if not callable(sampler) and sampler not in get_args(SamplerName):
            raise ValueError(
                f"sampler must be one of {', '.join(get_args(SamplerName))}, or a function; got {sampler!r}"
            )
        if num_initial is not None and (sampler not in ("tpe", "gp") or num_initial < 1):
            raise ValueError(f"num_initial is at least 1, and for 'tpe' and 'gp'; got {num_initial} for {sampler!r}")
        self.sampler = sampler
        self.num_initial = 10 if num_initial is None else num_initial
        self.allow_duplicates = allow_duplicates
        self._grid = _grid_values(space) if sampler == "grid" else {}
        self._distributions = {name: to_distribution(optuna, dimension) for name, dimension in space.items()}

    @property
    def is_exhausted(self) -> bool:
        """Whether every point of a finite space has a trial, and none may have two."""
        return not self.allow_duplicates and self._is_covered()

    def _propose(self, number: int) -> Trial | None:
        if self.is_exhausted:
            return None
        rng = self._stream(number)
        optuna = import_optuna(type(self).__name__)
        with leaving_no_trace(optuna):
            for _ in range(NUM_REDRAWS + 1):
                params = self._sample(optuna, seed=int(rng.integers(2**32)))
                if self.allow_duplicates or all(trial.params != params for trial in self._trials):
                    return Trial(number=number, params=params)
        if self.space.num_points is None:
            return Trial(number=number, params=self.space.sample(rng))
        index = draw_untried(rng, self.space.num_points, self._tried())
        return Trial(number=number, params=self.space.point_at(index))

    def _sample(self, optuna: Any, seed: int) -> dict[str, Any]:
        """Return the point that a sampler with this seed proposes after the trials so far."""
        sampler = self._make_sampler(optuna, seed)
        study = optuna.create_study(study_name="search", sampler=sampler, direction=self.direction)
        study.add_trials([self._told(optuna, trial) for trial in self._trials])
        values = study.ask(self._distributions).params
        return {name: from_sampled(dimension, values[name]) for name, dimension in self.space.items()}

    def _told(self, optuna: Any, trial: Trial) -> FrozenTrial:
        """Return a trial as Optuna is told it."""
        states = optuna.trial.TrialState
        state = {TrialState.DONE: states.COMPLETE, TrialState.FAILED: states.FAIL, TrialState.PENDING: states.RUNNING}
        return optuna.trial.create_trial(  # type: ignore[no-any-return]
            state=state[trial.state],
            value=trial.value,
            params={name: to_sampled(dimension, trial.params[name]) for name, dimension in self.space.items()},
            distributions=self._distributions,
        )

    def _make_sampler(self, optuna: Any, seed: int) -> BaseSampler:
        if callable(self.sampler):
            return self.sampler(seed)
        if self.sampler == "grid":  # its seed is that of the order, which is one for all trials
            return optuna.samplers.GridSampler(self._grid, seed=self.seed % 2**32)  # type: ignore[no-any-return]
        if self.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)  # type: ignore[no-any-return]
        make = optuna.samplers.TPESampler if self.sampler == "tpe" else optuna.samplers.GPSampler
        return make(seed=seed, n_startup_trials=self.num_initial)  # type: ignore[no-any-return]


def _grid_values(space: SearchSpace) -> dict[str, list[Any]]:
    """Return every value of every dimension of a finite space, as Optuna calls them."""
    num_points = space.num_points
    if num_points is None or num_points > MAX_GRID:
        size = "infinitely many" if num_points is None else num_points
        raise ValueError(
            f"Optuna's grid lists all points, at most {MAX_GRID} here; the space has {size}. Write the values of a "
            "range as an Ordinal, or use GridSearch"
        )
    return {
        name: [to_sampled(dimension, dimension.value_at(rank)) for rank in range(dimension.num_values)]
        for name, dimension in space.items()
        if dimension.num_values is not None
    }
