"""From a config to its cells: one task, regime, controller and seed each, resolved down to the last default."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, field_serializer

from autotunenet.space import SearchSpace
from autotunenet_bench.config.models import (
    AnyController,
    AnyRegime,
    AnyTask,
    Range,
    RunConfig,
    SuiteConfig,
    search_space,
)
from autotunenet_bench.protocol import PROTOCOL_VERSION
from autotunenet_bench.types import DataInfo

__all__ = ["PROTOCOL_VERSION", "Cell", "RunSpec", "expand"]


class RunSpec(BaseModel):
    """Everything that decides what a run does: stored beside its results as ``spec.json``.

    ``RunSpec.model_validate_json(text)`` gives back an equal spec.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: str = PROTOCOL_VERSION
    task: AnyTask
    regime: AnyRegime
    controller: AnyController
    seed: int
    num_epochs: int
    num_threads: int
    space: dict[str, Range]
    data: DataInfo
    labels: dict[str, str]

    @field_serializer("data")
    def _plain_data(self, data: DataInfo) -> dict[str, Any]:
        """Write `num_test` only where there is a test part, so that runs of before there were any keep their ids."""
        return {key: value for key, value in asdict(data).items() if key != "num_test" or value}

    @property
    def run_id(self) -> str:
        """A file name that begins readably and ends in a hash of the whole spec."""
        names = "-".join((self.task.name, self.regime.name, self.controller.name, f"s{self.seed}"))
        plain = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return f"{re.sub(r'[^A-Za-z0-9_-]', '_', names)}-{hashlib.sha256(plain.encode()).hexdigest()[:10]}"

    def search_space(self) -> SearchSpace:
        """Return the space that the controller moves in: the task's, with the config's ranges over it."""
        return search_space(self.task, self.space)


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
            space=self.config.space,
            data=data,
            labels={name: getattr(self, name).display for name in ("task", "regime", "controller")},
        )


def expand(config: RunConfig | SuiteConfig) -> list[Cell]:
    """Return the cells of a config: tasks, then regimes, then controllers, then seeds, in the config's order."""
    combinations = itertools.product(config.tasks, config.regimes, config.controllers, config.seeds)
    return [Cell(config, *combination) for combination in combinations]
