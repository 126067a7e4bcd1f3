"""From a config to its cells: one task, regime, controller and seed each, resolved down to the last default."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, field_serializer, model_serializer

from autotunenet.space import SearchSpace
from autotunenet_bench.config.compute import Compute
from autotunenet_bench.config.models import (
    CONTROLLER,
    REGIME,
    TASK,
    AnyController,
    AnyRegime,
    AnyTask,
    Range,
    RunConfig,
    SuiteConfig,
    search_space,
)
from autotunenet_bench.controllers.base import MethodConfig
from autotunenet_bench.member import Member, own_class, own_reference
from autotunenet_bench.protocol import PROTOCOL_VERSION
from autotunenet_bench.references import source_digest
from autotunenet_bench.regimes.base import RegimeConfig
from autotunenet_bench.results.run_id import FAMILIES, run_id_of
from autotunenet_bench.tasks.base import Task
from autotunenet_bench.types import DataInfo

__all__ = ["PROTOCOL_VERSION", "Cell", "RunSpec", "expand", "run_id_of", "sources_of"]


class RunSpec(BaseModel):
    """Everything that decides what a run does: stored beside its results as ``spec.json``.

    ``RunSpec.model_validate_json(text)`` gives back an equal spec. `sources` has the SHA-256 of the file of every class
    of the user's own: a run of another version of the file is another run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: str = PROTOCOL_VERSION
    task: AnyTask
    regime: AnyRegime
    controller: AnyController
    seed: int
    num_epochs: int
    num_threads: int
    compute: Compute = Compute()
    space: dict[str, Range]
    data: DataInfo
    labels: dict[str, str]
    sources: dict[str, str] = {}

    @model_serializer(mode="wrap")
    def _leave_out_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `sources` where all classes are ours and `compute` on the CPU, as in runs of before they were."""
        values: dict[str, Any] = handler(self)
        return {key: value for key, value in values.items() if key not in ("sources", "compute") or value}

    @field_serializer("data")
    def _plain_data(self, data: DataInfo) -> dict[str, Any]:
        """Write what not all data have only where it is there, so that runs of before there was any keep their ids."""
        optional = ("num_test", "pretrained", "weights_sha256")
        return {key: value for key, value in asdict(data).items() if key not in optional or value}

    @property
    def run_id(self) -> str:
        """A file name that begins readably and ends in a hash of the whole spec."""
        return run_id_of(self.model_dump(mode="json"))

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages, beside those that every run needs, whose versions decide about its numbers."""
        return tuple(dict.fromkeys((*self.task.packages, *self.controller.packages)))

    def search_space(self) -> SearchSpace:
        """Return the space that the controller moves in: the task's, with the config's ranges over it."""
        return search_space(self.task, self.space)


def sources_of(task: Task, regime: RegimeConfig, controller: MethodConfig) -> dict[str, str]:
    """Return the SHA-256 of the file of every class of the user's own, by its name ``module:Class``."""
    members: list[tuple[Member, BaseModel]] = [(TASK, task), (REGIME, regime), (CONTROLLER, controller)]
    members += [(REGIME, part) for part in getattr(regime, "parts", ())]
    own = [value for family, value in members if not family.is_registered(value)]
    digests = {own_reference(value): source_digest(own_class(value)) for value in own}
    return {name: digest for name, digest in digests.items() if digest}


@dataclass(frozen=True)
class Cell:
    """One run that a config asks for, before its data are known."""

    config: RunConfig | SuiteConfig
    task: AnyTask
    regime: AnyRegime
    controller: AnyController
    seed: int

    def resolve(self, data: DataInfo) -> RunSpec:
        """Return the complete spec of this run on these data."""
        return RunSpec(
            task=self.task,
            regime=self.regime,
            controller=self.controller,
            seed=self.seed,
            num_epochs=self.config.num_epochs,
            num_threads=self.config.num_threads,
            compute=self.config.compute.resolved(),
            space=self.config.space,
            data=data,
            labels={name: getattr(self, name).display for name in FAMILIES},
            sources=sources_of(self.task, self.regime, self.controller),
        )


def expand(config: RunConfig | SuiteConfig) -> list[Cell]:
    """Return the cells of a config: tasks, then regimes, then controllers, then seeds, in the config's order."""
    combinations = itertools.product(config.tasks, config.regimes, config.controllers, config.seeds)
    return [Cell(config, *combination) for combination in combinations]
