"""Where a table of outcomes comes from."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from autotunenet.hpo import Direction
from autotunenet.space import SearchSpace
from autotunenet_bench.config.dimensions import DimensionConfig


class Provenance(BaseModel):
    """What was computed, from which data, with which versions, on what kind of machine.

    Attributes:
        title: In a line.
        task: The task of the first point, every key.
        regime: What changed while it trained.
        controller: Who changed hyperparameters inside a training.
        num_epochs: Passes over the training data, where the space does not say it.
        space: The dimensions, as a config says them.
        objective: What the column ``value`` is: ``"val_accuracy"``.
        direction: Which way it is better.
        training_seeds: Seeds whose mean every number is; the cost is their sum.
        num_threads: Of each training.
        data: What it was trained on, as `DataInfo`.
        protocol: Version of the measurement rules.
        versions: Of Python and the packages that decide about numbers, as the trainings stored them.
        machine: The kind of machine, in words.
        commit: Of the source that trained; empty where nobody knows.
        command: The command line that trained.
        sha256: Of the CSV file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    task: dict[str, Any]
    regime: dict[str, Any]
    controller: dict[str, Any]
    num_epochs: int
    space: dict[str, DimensionConfig] = Field(min_length=1)
    objective: str
    direction: Direction
    training_seeds: tuple[int, ...]
    num_threads: int
    data: dict[str, Any]
    protocol: str
    versions: dict[str, str]
    machine: str
    commit: str
    command: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")

    def search_space(self) -> SearchSpace:
        """Return the space whose points the table has."""
        return SearchSpace({name: one.dimension() for name, one in self.space.items()})
