"""What a report of offline searches is made of. Plain records: nothing here reads a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autotunenet.hpo import Direction, Trial, TrialState
from autotunenet.space import SearchSpace
from autotunenet_bench.results.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What was searched for.

    Attributes:
        name: The config's word: ``"val_accuracy"``.
        metric: Its name among the validation metrics of a run: ``"accuracy"``.
        title: In words.
        direction: Which way is better.
        is_share: Whether it is a share, told in per cent.
    """

    name: str
    metric: str
    title: str
    direction: Direction
    is_share: bool

    def text(self, value: float) -> str:
        """Return a value as a table shows it.

        >>> goal = Goal(name="val_accuracy", metric="accuracy", title="accuracy", direction="maximize", is_share=True)
        >>> goal.text(0.9514)
        '95.14 %'
        >>> loss = Goal(name="val_loss", metric="loss", title="loss", direction="minimize", is_share=False)
        >>> loss.text(0.576), loss.text(1234.5)
        ('0.5760', '1234')
        """
        return f"{100 * value:.2f} %" if self.is_share else f"{value:#.4g}".removesuffix(".")

    def best(self, values: Sequence[float]) -> float:
        """Return the best of some values, at least one."""
        return max(values) if self.direction == "maximize" else min(values)

    def is_as_good(self, value: float, target: float) -> bool:
        """Return whether a value is at least as good as a target."""
        return value >= target if self.direction == "maximize" else value <= target


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRun:
    """A search with one seed, as far as it came.

    Attributes:
        search: Its name in tables.
        seed: Its seed.
        num_trials: How many trials it was to have.
        trials: Those that have ended, by number.
    """

    search: str
    seed: int
    num_trials: int
    trials: tuple[Trial, ...]

    @property
    def done(self) -> list[Trial]:
        """The trials that have a value."""
        return [trial for trial in self.trials if trial.state is TrialState.DONE]

    def best(self, goal: Goal) -> Trial | None:
        """Return the best trial, the earliest of equals; None where none has a value."""
        done = self.done
        if not done:
            return None
        target = goal.best([value_of(trial) for trial in done])
        return next(trial for trial in done if trial.value == target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Searches over one space, and the trainings that they asked for.

    Attributes:
        title: The report's heading.
        description: A paragraph below it.
        goal: What was searched for.
        space: Where.
        runs: Every search, once a seed, in the config's order.
        traces: By run id, the trainings.
        settings: What the config says of each search, by its name in tables.
        departure: How what was run departs from its config, a sentence each.
        versions: Packages beside those of the trainings, by name.
        failures: What went wrong, by the name of a folder.
    """

    title: str
    description: str
    goal: Goal
    space: SearchSpace
    runs: tuple[SearchRun, ...]
    traces: Mapping[str, Trace]
    settings: Mapping[str, str]
    departure: tuple[str, ...] = ()
    versions: Mapping[str, str]
    failures: Mapping[str, str]

    @property
    def searches(self) -> dict[str, list[SearchRun]]:
        """The runs of every search that has a result, by its name, in the config's order."""
        found: dict[str, list[SearchRun]] = {}
        for run in self.runs:
            if run.done:
                found.setdefault(run.search, []).append(run)
        return found

    @property
    def points(self) -> list[Trial]:
        """A trial of every different point that has a value, in the order in which they were first asked for."""
        found: dict[tuple[Any, ...], Trial] = {}
        for run in self.runs:
            for trial in run.done:
                found.setdefault(point_key(trial.params), trial)
        return list(found.values())

    @property
    def whole(self) -> SearchRun | None:
        """A run that has tried every point of a finite space; None where there is none."""
        num_points = self.space.num_points
        return next((run for run in self.runs if num_points and _num_different(run) == num_points), None)


def point_key(params: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what two equal points have in common, and no others."""
    return tuple(sorted((name, repr(value)) for name, value in params.items()))


def value_of(trial: Trial) -> float:
    """Return the value of a trial that is done."""
    assert trial.value is not None
    return trial.value


def _num_different(run: SearchRun) -> int:
    return len({point_key(trial.params) for trial in run.trials})
