"""What a config of an offline search says: one training, the space of its hyperparameters, and who searches there."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from autotunenet.hpo import Direction, Search
from autotunenet.space import SearchSpace
from autotunenet_bench.config.compute import Compute
from autotunenet_bench.config.dimensions import DimensionConfig
from autotunenet_bench.config.errors import Loc, Problem, did_you_mean, dotted
from autotunenet_bench.config.experiment import Full, NumEpochs, Scale, Seeds
from autotunenet_bench.config.explain import explain
from autotunenet_bench.config.models import (
    CONTROLLER,
    REGIME,
    SCALE_NAMES,
    TASK,
    AnyController,
    AnyRegime,
    AnyTask,
    RunConfig,
    unique_names,
)
from autotunenet_bench.config.yaml import Document
from autotunenet_bench.controllers.fixed import FixedConfig
from autotunenet_bench.member import Member
from autotunenet_bench.regimes.stationary import Stationary
from autotunenet_bench.searches import SEARCHES, SearchConfig

SEARCH = Member("search", SEARCHES, SearchConfig)
AnySearch = Annotated[SearchConfig, SEARCH]

FAMILIES = {"task": TASK, "regime": REGIME, "controller": CONTROLLER}
"""The keys of a run config whose own keys may be searched: ``task.lr``. Beside them there is ``num_epochs``."""

MAX_CHECKED_POINTS = 256
"""Points of a finite space that are all checked before anything runs; of a larger one the ends of its dimensions."""

ObjectiveName = Literal["val_accuracy", "val_loss", "val_f1", "val_top5_accuracy"]


@dataclass(frozen=True, slots=True)
class Objective:
    """What a search is to make large or small.

    Attributes:
        metric: Its name among the validation metrics of a run.
        direction: Which way is better.
        title: In words.
    """

    metric: str
    direction: Direction
    title: str


OBJECTIVES: dict[ObjectiveName, Objective] = {
    "val_accuracy": Objective("accuracy", "maximize", "validation accuracy"),
    "val_loss": Objective("loss", "minimize", "validation loss"),
    "val_f1": Objective("f1", "maximize", "validation F1"),
    "val_top5_accuracy": Objective("top5_accuracy", "maximize", "validation top-5 accuracy"),
}
"""Metrics of the finished model on the validation data. The test data are for nobody who chooses."""

AnySpace = Annotated[dict[str, DimensionConfig], Field(min_length=1)]
AnySearches = Annotated[tuple[AnySearch, ...], Field(min_length=1), AfterValidator(unique_names)]


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"a config may stand once, {twice!r} stands {names.count(twice)} times; remove the others")
    return names


NumTrials = Annotated[int, Field(ge=1, le=100_000)]


class HpoSetConfig(BaseModel):
    """Several offline searches, each in its own folder, and what they say together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str | None = Field(None, min_length=1, max_length=120, description="the report's heading")
    description: str | None = Field(None, max_length=2000, description="what is asked of all of them")
    configs: Annotated[tuple[str, ...], AfterValidator(_unique)] = Field(
        min_length=1, description="configs of offline searches: shipped ones, or files"
    )


class OneSearch(BaseModel):
    """A single search, as it stands in a config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    search: AnySearch = Field(description="who searches")


class HpoScale(Scale):
    """What ``--scale`` puts over a config of an offline search; a key that is left out stays as it is."""

    task: AnyTask | None = Field(None, description="what is trained at this size")
    regime: AnyRegime | None = Field(None, description="what changes while it trains")
    controller: AnyController | None = Field(None, description="who changes hyperparameters inside a training")
    space: AnySpace | None = Field(None, description="what is searched at this size")
    objective: ObjectiveName | None = Field(None, description="what is searched for at this size")
    searches: AnySearches | None = Field(None, description="who searches at this size")
    num_trials: NumTrials | None = Field(None, description="trials of a search that does not say its own")
    training_seeds: Seeds | None = Field(None, description="seeds of the trainings at this size")


class HpoConfig(BaseModel):
    """One training, over a space of its hyperparameters, by some searches.

    `seeds` are those of the searches: each search is done once a seed. `training_seeds` are those of the trainings: a
    point is trained once a training seed, and the mean of these trainings is what every search is told of it. So two
    searches, or two seeds of one, that ask for the same point ask for the same trainings.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str | None = Field(None, min_length=1, max_length=120, description="the report's heading")
    description: str | None = Field(None, max_length=2000, description="what is searched, and why")
    task: AnyTask = Field(description="what is trained")
    regime: AnyRegime = Field(Stationary(), description="what changes while it trains")
    controller: AnyController = Field(FixedConfig(), description="who changes hyperparameters inside a training")
    num_epochs: NumEpochs = Field(description="passes over the training data, where the space does not say it")
    space: AnySpace = Field(description="what is searched, by the dotted names of a run config's keys: task.lr")
    objective: ObjectiveName = Field("val_accuracy", description="what is searched for, of the finished model")
    searches: AnySearches = Field(description="who searches")
    num_trials: NumTrials | None = Field(None, description="trials of a search that does not say its own")
    seeds: Seeds = Field((0,), description="seeds of the searches; each search is done once a seed")
    training_seeds: Seeds = Field((0,), description="seeds of the trainings; a point's value is the mean over them")
    num_threads: int = Field(1, ge=1, le=256, description="CPU threads of each run; part of what makes runs equal")
    compute: Compute = Field(Compute(), description="on what the runs are computed")
    full: Full | None = Field(None, description="what --full puts over this config")
    scales: Annotated[dict[str, HpoScale], SCALE_NAMES] = Field(
        {}, description="what --scale NAME puts over this config, by name"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> HpoConfig:
        faults = list(_unknown_names(self)) or [*_point_faults(self), *_search_faults(self)]
        faults += _objective_faults(self)
        if faults:
            raise ValidationError.from_exception_data("config", faults)
        return self

    @property
    def goal(self) -> Objective:
        """The objective, with its direction."""
        return OBJECTIVES[self.objective]

    def search_space(self) -> SearchSpace:
        """Return the space of the searches; its names are dotted ones, ``"task.lr"``."""
        return SearchSpace({name: one.dimension() for name, one in self.space.items()})

    def as_written(self) -> dict[str, Any]:
        """Return the keys that were written, as JSON has them, without `scales` and `full`, applied or not."""
        values = self.model_dump(mode="json", exclude_unset=True, exclude={"scales", "full"})
        members = {name: _as_written(member, getattr(self, name)) for name, member in FAMILIES.items()}
        return {**values, **members, "searches": [_as_written(SEARCH, search) for search in self.searches]}

    def first_point(self) -> dict[str, Any]:
        """Return a point that stands for all: of every dimension the first value, or the lower end."""
        return {name: one.probes()[0] for name, one in self.space.items()}

    def build_search(self, index: int, seed: int) -> Search:
        """Return one of the searches, fresh.

        Raises:
            ValueError: If it cannot search this space, or a package that it needs is not installed.
        """
        return self.searches[index].build(self.search_space(), seed=seed, direction=self.goal.direction)

    def run_config(self, params: Mapping[str, Any]) -> RunConfig:
        """Return the config of the trainings of a point: one run a training seed.

        Raises:
            ValidationError: If the point is none that can be trained.
        """
        return RunConfig.model_validate_json(json.dumps(self._run_values(params)), strict=True)

    def point_problems(self, params: Mapping[str, Any], where: str = "") -> list[Problem]:
        """Return what is wrong with a point, at the keys of the run config; empty where it can be trained."""
        try:
            self.run_config(params)
        except ValidationError as error:
            return explain(error, Document(where, self._run_values(params)), RunConfig)
        return []

    def _run_values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {
            name: _as_written(member, getattr(self, name)) for name, member in FAMILIES.items()
        } | {
            "num_epochs": self.num_epochs,
            "seeds": list(self.training_seeds),
            "num_threads": self.num_threads,
            "compute": self.compute.model_dump(mode="json"),
        }
        for name, value in params.items():
            family, _, key = name.partition(".")
            if key:
                values[family][key] = value
            else:
                values[family] = value
        return values


def _as_written(member: Member, value: BaseModel) -> dict[str, Any]:
    """Return a member with the keys that its author wrote; the others follow from what the space puts beside them."""
    return {**value.model_dump(mode="json", exclude_unset=True), "name": member.write(value)["name"]}


def _unknown_names(config: HpoConfig) -> Iterator[InitErrorDetails]:
    """Yield the names of the space that are no keys of a training, or none that may be searched."""
    for name, dimension in config.space.items():
        family, _, key = name.partition(".")
        if name == "num_epochs":
            continue
        if family not in FAMILIES or not key:
            near = " or ".join(repr(one) for one in _near_keys(config, name))
            hint = f"did you mean {near}? " if near else ""
            rule = f"is no key that can be searched; {hint}write num_epochs, task.KEY, regime.KEY or controller.KEY"
            yield _fault(("space", name), dimension, rule)
            continue
        keys = [one for one in type(getattr(config, family)).model_fields if one not in ("name", "label")]
        if key not in keys:
            rule = f"{family} {getattr(config, family).name} has no such key; {did_you_mean(key, keys)}it has "
            yield _fault(("space", name), dimension, rule + ", ".join(keys))


def _near_keys(config: HpoConfig, name: str) -> Iterator[str]:
    """Yield the dotted names whose last part is meant by a name that has no family: ``lr``, ``model.lr``."""
    last = name.rpartition(".")[2]
    for family in FAMILIES:
        if last in type(getattr(config, family)).model_fields:
            yield f"{family}.{last}"


def _point_faults(config: HpoConfig) -> Iterator[InitErrorDetails]:
    """Yield what is wrong with points of the space, each fault once, at the key of the space that it is about."""
    seen: set[tuple[Loc, str]] = set()
    for params in _checked_points(config):
        for problem in config.point_problems(params):
            name = dotted(problem.loc)
            at = ", ".join(f"{key} {value}" for key, value in params.items())
            rule = f"{problem.rule}{'; ' if problem.mend else ''}{problem.mend}"
            if name in config.space:
                loc: Loc = ("space", name, config.space[name].key_of(params[name]))
                text = f"{params[name]!r} cannot be trained: {rule}"
            else:
                loc, text = problem.loc, f"{rule}; at the point {at}"
            key = (loc, text if name in config.space else rule)
            if key not in seen:
                seen.add(key)
                yield _fault(loc, {}, text)  # the text tells the value


def _checked_points(config: HpoConfig) -> Iterator[dict[str, Any]]:
    probes = {name: one.probes() for name, one in config.space.items()}
    num_points = math.prod(len(values) for values in probes.values())
    if num_points <= MAX_CHECKED_POINTS:
        for point in itertools.product(*probes.values()):
            yield dict(zip(probes, point, strict=True))
        return
    for name, values in probes.items():
        yield from ({**config.first_point(), name: value} for value in values)


def _search_faults(config: HpoConfig) -> Iterator[InitErrorDetails]:
    """Yield the searches that nobody gives a number of trials, or that cannot search this space."""
    space = config.search_space()
    for index, search in enumerate(config.searches):
        try:
            search.trials_of(space, config.num_trials)
            config.build_search(index, seed=0)
        except ValueError as error:
            yield _fault(("searches", index), search, str(error))


def _objective_faults(config: HpoConfig) -> Iterator[InitErrorDetails]:
    measured = ("loss", "accuracy", *config.task.more_metrics)
    if config.goal.metric not in measured:
        known = ", ".join(name for name, one in OBJECTIVES.items() if one.metric in measured)
        yield _fault(("objective",), config.objective, f"{config.task.name} does not measure it; choose from {known}")


def _fault(loc: Loc, value: Any, text: str) -> InitErrorDetails:
    kind = PydanticCustomError("value_error", "{error}", {"error": text})
    return InitErrorDetails(type=kind, loc=loc, input=value)
