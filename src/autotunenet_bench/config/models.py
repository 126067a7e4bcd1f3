"""What a config may say: one run over some seeds, or a suite of tasks x regimes x controllers x seeds."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from autotunenet.controllers import Controller
from autotunenet.space import Categorical, Dimension, Float, Int, Ordinal, SearchSpace
from autotunenet_bench.config.compute import Compute
from autotunenet_bench.config.errors import did_you_mean
from autotunenet_bench.config.experiment import Experiment, Full, NumEpochs, Scale, Seeds
from autotunenet_bench.controllers import CONTROLLERS
from autotunenet_bench.controllers.base import MethodConfig
from autotunenet_bench.controllers.own import config_of
from autotunenet_bench.member import Member
from autotunenet_bench.regimes import REGIMES
from autotunenet_bench.regimes.base import RegimeConfig
from autotunenet_bench.tasks import TASKS
from autotunenet_bench.tasks.base import Task
from autotunenet_bench.types import Horizon

TASK = Member("task", TASKS, Task)
REGIME = Member("regime", REGIMES, RegimeConfig)
CONTROLLER = Member("controller", CONTROLLERS, MethodConfig, adapted=Controller, adapt=config_of)

AnyTask = Annotated[Task, TASK]
AnyRegime = Annotated[RegimeConfig, REGIME]
AnyController = Annotated[MethodConfig, CONTROLLER]


class Range(BaseModel):
    """A range of one hyperparameter; replaces the task's own.

    >>> Range(low=1e-5, high=1.0, log=True)
    Range(low=1e-05, high=1.0, log=True)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float = Field(description="smallest value")
    high: float = Field(description="largest value")
    log: bool = Field(False, description="whether the order of magnitude is what is searched")

    @model_validator(mode="before")
    @classmethod
    def _no_bare_list(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            bounds = "{low: 1e-5, high: 1.0, log: true}"
            if len(value) == 2 and all(isinstance(bound, int | float) for bound in value):
                bounds = f"{{low: {value[0]}, high: {value[1]}, log: {str(value[0] > 0).lower()}}}"
            raise PydanticCustomError(
                "range_list",
                "a range is not a list, which could as well mean a choice; write {bounds}",
                {"bounds": bounds},
            )
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        self.over(Float(0.0, 1.0))
        return self

    def over(self, dimension: Float | Int) -> Float | Int:
        """Return a dimension of the same kind with these bounds.

        Raises:
            ValueError: If the bounds are not ordered, or not positive where `log` is set, or not whole for an `Int`.
        """
        if isinstance(dimension, Int):
            if not (self.low.is_integer() and self.high.is_integer()):
                raise ValueError(f"bounds must be whole numbers here, got low={self.low}, high={self.high}")
            return Int(int(self.low), int(self.high), self.log)
        return Float(self.low, self.high, self.log)


def search_space(task: Task, ranges: Mapping[str, Range]) -> SearchSpace:
    """Return the task's space with some ranges replaced.

    Raises:
        ValueError: If a name is not in the task's space, or is one that has choices instead of a range.
    """
    dimensions = dict(task.space)
    for name, bounds in ranges.items():
        dimensions[name] = _replaced(task, name, bounds)
    return SearchSpace(dimensions)


def _replaced(task: Task, name: str, bounds: Range) -> Dimension:
    if name not in task.space:
        known = ", ".join(task.space)
        raise ValueError(f"{task.name} has no such hyperparameter; {did_you_mean(name, task.space)}it has {known}")
    dimension = task.space[name]
    if isinstance(dimension, Categorical | Ordinal):
        choices = tuple(map(dimension.value_at, range(dimension.num_values)))
        raise ValueError(f"{task.name} has the choices {choices} here, no range; remove it")
    replaced = bounds.over(dimension)
    initial = task.defaults.get(name)
    if initial is not None and not replaced.contains(initial):
        raise ValueError(
            f"{task.name} starts from {initial:g}, outside of this range; change low or high, or set task.{name}"
        )
    return replaced


def _check_together(config: RunConfig | SuiteConfig) -> None:
    """Check what depends on two keys at once; raise one ValidationError that points at every fault."""
    errors: list[InitErrorDetails] = []

    def check(loc: tuple[str | int, ...], value: Any, rule: Callable[[], object]) -> None:
        try:
            rule()
        except ValueError as error:
            kind = PydanticCustomError("value_error", "{error}", {"error": str(error)})
            errors.append(InitErrorDetails(type=kind, loc=loc, input=value))

    for task, (name, bounds) in itertools.product(config.tasks, config.space.items()):
        check(("space", name), bounds, partial(_replaced, task, name, bounds))
    # How many steps an epoch has is known only with the data; when a regime strikes is told in epochs.
    horizon = Horizon(num_epochs=config.num_epochs, steps_per_epoch=1)
    for index, regime in enumerate(config.regimes):
        loc = ("regime",) if isinstance(config, RunConfig) else ("regimes", index)
        check(loc, regime, partial(regime.start, horizon, config.seeds[0]))
    for index, controller in enumerate(config.controllers):
        loc = ("controller",) if isinstance(config, RunConfig) else ("controllers", index)
        check(loc, controller, partial(controller.check_length, config.num_epochs))
        # Here and not in the controller's own checks: a stored spec spells out every default.
        for key, reason in controller.idle_keys().items():
            if key in controller.model_fields_set:
                rule = f"has no effect because {reason}; remove it"
                check((*loc, key), getattr(controller, key), partial(_refuse, rule))
    if isinstance(config, SuiteConfig) and config.experiment:
        for place, display in _names_in(config.experiment):
            check(("experiment", *place), display, partial(_known_controller, display, config))
        asked = config.experiment
        if set(asked.subjects) & set(asked.against):
            itself = "holds the subject, which would be compared with itself; remove it"
            check(("experiment", "against"), asked.against, partial(_refuse, itself))
        if asked.subject in asked.also:
            check(
                ("experiment", "also"),
                asked.also,
                partial(_refuse, "holds the subject, which is asked of anyway; remove it"),
            )
        for name in asked.target.val_loss if asked.target else ():
            check(("experiment", "target", "val_loss", name), name, partial(_known_task, name, config))
    if errors:
        raise ValidationError.from_exception_data("config", errors)


def _names_in(experiment: Experiment) -> Iterator[tuple[tuple[str | int, ...], str]]:
    yield ("subject",), experiment.subject
    yield from ((("also", index), name) for index, name in enumerate(experiment.also))
    if experiment.target and experiment.target.baseline:
        yield ("target", "baseline"), experiment.target.baseline
    yield from ((("against", index), name) for index, name in enumerate(experiment.against))


def _known_controller(name: str, config: SuiteConfig) -> None:
    known = [controller.display for controller in config.controllers]
    if name not in known:
        mend = f"{did_you_mean(name, known)}choose from {', '.join(known)}, or set experiment to null"
        raise ValueError(f"is no controller of this suite; {mend}")


def _known_task(name: str, config: SuiteConfig) -> None:
    known = [task.display for task in config.tasks]
    if name not in known:
        raise ValueError(f"is no task of this suite; {did_you_mean(name, known)}choose from {', '.join(known)}")


def _refuse(rule: str) -> None:
    raise ValueError(rule)


def unique_names(members: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return members as they are; raise ValueError where two have one display name."""
    first: dict[str, int] = {}
    for index, member in enumerate(members):
        if member.display in first:
            raise ValueError(
                f"items {first[member.display]} and {index} are both shown as {member.display!r}, so tables would "
                "merge them; give one of them a `label:`, or remove it"
            )
        first[member.display] = index
    return members


class _Config(BaseModel):
    """What runs and suites share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str | None = Field(None, min_length=1, max_length=120, description="the report's heading")
    description: str | None = Field(None, max_length=2000, description="what the comparison asks")
    num_epochs: NumEpochs = Field(description="passes over the training data")
    seeds: Seeds = Field(description="one run is done per seed; equal seeds give equal runs")
    num_threads: int = Field(1, ge=1, le=256, description="CPU threads of each run; part of what makes runs equal")
    compute: Compute = Field(Compute(), description="on what the runs are computed")
    space: dict[str, Range] = Field({}, description="ranges that replace the task's own")
    full: Full | None = Field(None, description="what --full puts over this config")


def _fit_for_folders(scales: dict[str, Any]) -> dict[str, Any]:
    for name in scales:
        if not re.fullmatch("[A-Za-z0-9_]{1,30}", name):
            raise ValueError(
                f"a scale's name has letters, digits and _ only, 30 at most, since it names a folder; got {name!r}"
            )
    return scales


SCALE_NAMES = AfterValidator(_fit_for_folders)


class RunScale(Scale):
    """What ``--scale`` puts over a config of one run; a key that is left out stays as it is."""

    task: AnyTask | None = Field(None, description="what is trained at this size")
    regime: AnyRegime | None = Field(None, description="what changes while it trains")
    controller: AnyController | None = Field(None, description="who changes the hyperparameters")


class SuiteScale(Scale):
    """What ``--scale`` puts over a suite; a key that is left out stays as it is."""

    tasks: Annotated[tuple[AnyTask, ...], AfterValidator(unique_names)] | None = Field(
        None, min_length=1, description="what is trained at this size"
    )
    regimes: Annotated[tuple[AnyRegime, ...], AfterValidator(unique_names)] | None = Field(
        None, min_length=1, description="what changes while it trains"
    )
    controllers: Annotated[tuple[AnyController, ...], AfterValidator(unique_names)] | None = Field(
        None, min_length=1, description="who changes the hyperparameters"
    )


class RunConfig(_Config):
    """One task, regime and controller, over some seeds."""

    task: AnyTask = Field(description="what is trained")
    regime: AnyRegime = Field(description="what changes while it trains")
    controller: AnyController = Field(description="who changes the hyperparameters")
    scales: Annotated[dict[str, RunScale], SCALE_NAMES] = Field(
        {}, description="what --scale NAME puts over this config, by name"
    )

    @property
    def tasks(self) -> Sequence[Task]:
        """The task, as a suite has it."""
        return (self.task,)

    @property
    def regimes(self) -> Sequence[RegimeConfig]:
        """The regime, as a suite has it."""
        return (self.regime,)

    @property
    def controllers(self) -> Sequence[MethodConfig]:
        """The controller, as a suite has it."""
        return (self.controller,)

    @model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        _check_together(self)
        return self


class SuiteConfig(_Config):
    """Every combination of the tasks, regimes, controllers and seeds."""

    tasks: Annotated[tuple[AnyTask, ...], AfterValidator(unique_names)] = Field(
        min_length=1, description="what is trained"
    )
    regimes: Annotated[tuple[AnyRegime, ...], AfterValidator(unique_names)] = Field(
        min_length=1, description="what changes while it trains"
    )
    controllers: Annotated[tuple[AnyController, ...], AfterValidator(unique_names)] = Field(
        min_length=1, description="who changes the hyperparameters"
    )
    experiment: Experiment | None = Field(None, description="the question, and the rule that answers it")
    scales: Annotated[dict[str, SuiteScale], SCALE_NAMES] = Field(
        {}, description="what --scale NAME puts over this config, by name"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> SuiteConfig:
        _check_together(self)
        return self
