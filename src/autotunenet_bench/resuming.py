"""Go on with what is unfinished in a folder of results, without the config file that it came from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autotunenet_bench.config import Departure, RunConfig, SuiteConfig
from autotunenet_bench.config.stored import read_stored_config, references_in
from autotunenet_bench.data import DataSource
from autotunenet_bench.executors import CellUpdate
from autotunenet_bench.results.suite_file import SUITE_FILE, read_suite_file
from autotunenet_bench.suite import Plan, SuiteResult, resolve, run_suite

NUM_TOLD = 3
"""Runs that a message names before it counts the rest."""


class ResumeError(ValueError):
    """A folder does not tell how to go on; the message says why, and what to do instead."""


def resume_folder(
    folder: Path,
    source: DataSource,
    *,
    allow_own: bool = False,
    num_workers: int | None = None,
    on_plan: Callable[[Plan], None] = lambda plan: None,
    on_update: Callable[[CellUpdate], None] = lambda update: None,
) -> SuiteResult:
    """Run what a folder's suite has not finished, and write the report again.

    Args:
        folder: As `autotunenet_bench.suite.run_suite` left it, whenever it was stopped.
        source: Where data may come from; they must be those of the runs that are there.
        allow_own: Whether modules that the folder names as ``module:Class`` may be imported, which runs their code.
        num_workers: Processes; None: as many as the cores allow.
        on_plan: Called once, before the first run starts.
        on_update: Called whenever a run makes progress.

    Raises:
        ResumeError: If the folder does not tell what its suite was; if it names classes and `allow_own` is off; or if
            the same config asks for other runs here and now.
        SuiteFileError: If its ``suite.json`` is damaged.
        ConfigError: If its config is of another version.
        DataError, OSError: As `run_suite`.
        KeyboardInterrupt: As `run_suite`.
    """
    about = read_suite_file(folder)
    config = stored_suite(folder, about, allow_own=allow_own)
    _check_runs(folder, [spec.run_id for spec in resolve(config, source)], about["runs"])
    return run_suite(
        config,
        folder,
        source,
        name=about.get("title", folder.name),
        departure=_departure(folder, about),
        num_workers=num_workers,
        on_plan=on_plan,
        on_update=on_update,
    )


def stored_suite(folder: Path, about: dict[str, Any], *, allow_own: bool) -> RunConfig | SuiteConfig:
    """Return the config of a folder; the arguments are those of `resume_folder`, and what its ``suite.json`` says.

    Raises:
        ResumeError: If there is none, or it names classes that may not be imported.
        ConfigError: If it is of another version.
    """
    path = folder / SUITE_FILE
    again = "give the command again that made it, which goes on with what is unfinished too"
    if not about:
        raise ResumeError(f"{path}: there is no such file, so this is no folder of a suite; {again}")
    if not isinstance(about.get("config"), dict) or not about.get("runs"):
        why = about.get("no_config") or "it was written before configs were stored"
        raise ResumeError(f"{path}: this file does not hold the config of its runs: {why}; {again}")
    if (own := references_in(about["config"])) and not allow_own:
        raise ResumeError(
            f"{path}: its runs need classes that do not come with this package: {', '.join(own)}. To go on imports "
            "their modules, which runs whatever code they hold; if they are yours, say so with --own-classes"
        )
    return read_stored_config(about["config"], str(path), allow_own=allow_own)


def _check_runs(folder: Path, found: list[str], wanted: list[str]) -> None:
    """Refuse to run anything else than what the folder was begun with."""
    if lost := [name for name in wanted if name not in set(found)]:
        more = f" and {len(lost) - NUM_TOLD} more" if lost[NUM_TOLD:] else ""
        raise ResumeError(
            f"{folder / SUITE_FILE}: its config asks for other runs now than when it was begun: "
            f"{', '.join(lost[:NUM_TOLD])}{more} would not come out again. The data at hand are others (look at "
            "--data-dir and --download, and at `data` in a spec.json), or this is another version of the package"
        )


def _departure(folder: Path, about: dict[str, Any]) -> Departure | None:
    if about.get("departure") is None:
        return None
    try:
        return Departure.model_validate_json(json.dumps(about["departure"]), strict=True)
    except ValidationError as error:
        raise ResumeError(
            f"{folder / SUITE_FILE}: its key 'departure' is damaged; remove the key to go on without the words about it"
        ) from error
