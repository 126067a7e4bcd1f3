"""What lies in the folder of an offline search.

hpo.json              what was searched, by whom; written before the first training
searches/<search>/    the journal of a search's trials, as `autotunenet.hpo.tune` keeps it
<run id>/             a training: an ordinary run
report.html ...       the report
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autotunenet.files import write_atomically
from autotunenet.hpo import Search, Trial, TrialState
from autotunenet.hpo.journal import FILE as JOURNAL_FILE
from autotunenet.hpo.journal import Journal
from autotunenet_bench.config import Departure, HpoConfig

HPO_FILE = "hpo.json"
SEARCHES_FOLDER = "searches"


class HpoFileError(ValueError):
    """A folder's ``hpo.json`` is missing or damaged."""


class SearchEntry(BaseModel):
    """A search with a seed.

    Attributes:
        id: Name of its folder.
        index: Which of the config's searches.
        label: Its name in tables.
        seed: Its seed.
        num_trials: How many trials it was to have.
        looks_at_results: Whether what it asks depends on what it was told.
        packages: By name, the versions of those that decide about what it asks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    index: int
    label: str
    seed: int
    num_trials: int
    looks_at_results: bool
    packages: dict[str, str] = {}


class HpoAbout(BaseModel):
    """What ``hpo.json`` says.

    Attributes:
        name: The config's name.
        title: The report's heading.
        description: A paragraph below it.
        config: The config as it was run, without its sections.
        searches: Every search, once a seed.
        departure: What a command line had put over the config.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    description: str
    config: dict[str, Any]
    searches: tuple[SearchEntry, ...]
    departure: Departure = Departure()

    def resolved(self) -> HpoConfig:
        """Return the config.

        Raises:
            ValidationError: If it is of another version.
        """
        return HpoConfig.model_validate_json(json.dumps(self.config), strict=True)


def is_hpo_folder(folder: Path) -> bool:
    """Return whether an offline search was done in a folder."""
    return (folder / HPO_FILE).exists()


def write_about(folder: Path, about: HpoAbout) -> None:
    """Write ``hpo.json``."""
    write_atomically(folder / HPO_FILE, about.model_dump_json(indent=2) + "\n")


def read_about(folder: Path) -> HpoAbout:
    """Return what ``hpo.json`` says.

    Raises:
        HpoFileError: If it is missing or damaged.
    """
    path = folder / HPO_FILE
    mend = "run the config again, which writes it anew"
    try:
        return HpoAbout.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HpoFileError(f"{path}: there is no such file, so this is no folder of an offline search") from None
    except ValidationError as error:
        raise HpoFileError(f"{path}: this file is damaged ({error.error_count()} faults); {mend}") from error
    except ValueError as error:
        raise HpoFileError(f"{path}: this file is damaged ({error}); {mend}") from error


def read_trials(folder: Path, entry: SearchEntry, search: Search) -> tuple[Trial, ...]:
    """Return the trials of a search that have ended, by number, no more than it was to have.

    Args:
        folder: Of the whole.
        entry: Which search.
        search: It, fresh.

    Raises:
        JournalError: If its journal is damaged, or of another search.
    """
    place = folder / SEARCHES_FOLDER / entry.id
    if not (place / JOURNAL_FILE).exists():
        return ()
    with Journal(place, search) as journal:
        trials = journal.search.trials
    ended = [trial for trial in trials if trial.state is not TrialState.PENDING]
    return tuple(trial for trial in ended if trial.number < entry.num_trials)
