"""A table of outcomes, and the objective that looks them up.

NAME.csv     a row a point: its hyperparameters, the value of the objective, metrics, cost
NAME.json    where it comes from: task, data, space, objective, versions, and the SHA-256 of the CSV file
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autotunenet.hpo import Cost, Outcome, Trial
from autotunenet.space import Dimension, Float, SearchSpace
from autotunenet_bench.config.errors import did_you_mean
from autotunenet_bench.tables.provenance import Provenance

COST_COLUMNS = ("steps", "seconds", "flops")

Point = tuple[Any, ...]
"""The values of a point, in the order of the space."""


class TableError(ValueError):
    """A table is missing, damaged or not complete."""


@dataclass(frozen=True)
class OutcomeTable:
    """The outcomes of every point of a finite space.

    Attributes:
        name: The file's, without its ending.
        provenance: Where it comes from.
        space: Where its points lie.
        outcomes: By point; the value is NaN where the training had diverged.

    >>> table = load_table("digits_mlp")
    >>> table.space.num_points == len(table.outcomes)
    True
    """

    name: str
    provenance: Provenance
    space: SearchSpace
    outcomes: Mapping[Point, Outcome]

    def look_up(self, params: Mapping[str, Any]) -> Outcome:
        """Return the outcome of a point.

        Raises:
            KeyError: If there is no such point.
        """
        point = tuple(params.get(name) for name in self.space)
        if point not in self.outcomes or params.keys() != self.space.keys():
            raise KeyError(f"{dict(params)} is no point of the table {self.name}; it has {self.space}")
        return self.outcomes[point]

    @property
    def best(self) -> float:
        """The best value of all points."""
        values = [float(one.value) for one in self.outcomes.values() if math.isfinite(float(one.value))]
        return max(values) if self.provenance.direction == "maximize" else min(values)

    def regret(self, value: float) -> float:
        """Return how much worse a value is than the best one, at least 0."""
        return self.best - value if self.provenance.direction == "maximize" else value - self.best

    @property
    def cost(self) -> Cost:
        """What all points took."""
        first, *others = (one.cost for one in self.outcomes.values())
        return sum(others, start=first)


class TableObjective:
    """An objective for `autotunenet.hpo.tune` that looks its outcomes up: the recorded values, metrics and costs.

    Args:
        table: Where.

    >>> from autotunenet.hpo import tune
    >>> table = load_table("digits_mlp")
    >>> result = tune(TableObjective(table), table.space, "grid", 24, direction=table.provenance.direction)
    >>> result.best.value == table.best
    True
    """

    def __init__(self, table: OutcomeTable) -> None:
        self.table = table

    def __call__(self, trial: Trial) -> Outcome:
        """Return the outcome of the trial's point; raises KeyError as `OutcomeTable.look_up`."""
        return self.table.look_up(trial.params)


def shipped_tables() -> list[str]:
    """Return the names of the tables that come with the package."""
    return sorted(path.stem for path in _shipped_folder().glob("*.csv"))


def find_table(name: str) -> Path:
    """Return the CSV file that a name means: a path, or the name of a shipped table.

    Raises:
        TableError: If there is no such file.
    """
    for path in (Path(name), Path(f"{name}.csv"), _shipped_folder() / f"{name}.csv"):
        if path.is_file():
            return path
    known = shipped_tables()
    hint = did_you_mean(name, known)
    raise TableError(f"{name}: there is no such file and no such shipped table; {hint}choose from {', '.join(known)}")


def load_table(name: str) -> OutcomeTable:
    """Read a table and check it against its provenance.

    Args:
        name: A path of a CSV file, or the name of a shipped table.

    Raises:
        TableError: If a file is missing or damaged, they do not belong together, or a point is missing.
    """
    path = find_table(name)
    provenance = _read_provenance(path.with_suffix(".json"))
    try:
        text = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror}") from error
    if hashlib.sha256(text).hexdigest() != provenance.sha256:
        raise TableError(f"{path}: this is not the file that {path.stem}.json tells of; make both again by hpo-table")
    return _read(path.stem, provenance, text.decode("utf-8"))


def to_text(space: SearchSpace, outcomes: Mapping[Point, Outcome]) -> str:
    """Return the CSV of outcomes; numbers are written so that they read back unchanged."""
    rows = [_row(space, point, outcome) for point, outcome in outcomes.items()]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(space: SearchSpace, point: Point, outcome: Outcome) -> dict[str, Any]:
    cost = {name: getattr(outcome.cost, name) for name in COST_COLUMNS}
    return {**dict(zip(space, point, strict=True)), "value": float(outcome.value), **outcome.metrics, **cost}


def _read_provenance(path: Path) -> Provenance:
    try:
        return Provenance.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror}; a table has its provenance beside it") from error
    except ValidationError as error:
        raise TableError(f"{path}: this is no provenance of a table ({error.error_count()} faults)") from error


def _read(name: str, provenance: Provenance, text: str) -> OutcomeTable:
    space = provenance.search_space()
    words = {key: _words(dimension) for key, dimension in space.items()}
    outcomes: dict[Point, Outcome] = {}
    for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        try:
            point = tuple(words[key][row.pop(key)] for key in space)
            outcomes[point] = _outcome(row)
        except (KeyError, TypeError, ValueError) as error:
            raise TableError(f"{name}.csv:{number}: this row is damaged ({error!r})") from error
    if len(outcomes) != space.num_points:
        raise TableError(f"{name}.csv: it has {len(outcomes)} points, and the space {space.num_points}")
    return OutcomeTable(name, provenance, space, outcomes)


def _words(dimension: Dimension) -> dict[str, Any]:
    """Return the values of a dimension, by how a CSV file has them."""
    if isinstance(dimension, Float):
        raise ValueError(f"a table has finitely many points, and {dimension} has more")
    values = [dimension.value_at(rank) for rank in range(dimension.num_values)]
    return {str(value): value for value in values}


def _outcome(row: dict[str, str]) -> Outcome:
    steps, seconds, flops = (row.pop(key) for key in COST_COLUMNS)
    cost = Cost(steps=int(steps), seconds=float(seconds), flops=float(flops) if flops else None)
    return Outcome(float(row.pop("value")), {key: float(word) for key, word in row.items() if word}, cost)


def _shipped_folder() -> Path:
    return Path(str(resources.files("autotunenet_bench").joinpath("tables")))
