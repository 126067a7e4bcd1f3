"""The inside of a worker process: it claims one trial after another from the journal, and ends when its parent does."""

from __future__ import annotations

import pickle
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from autotunenet.hpo.base import Search
from autotunenet.hpo.budget import Budget
from autotunenet.hpo.journal import Journal
from autotunenet.hpo.objective import Objective, evaluate
from autotunenet.hpo.store import TrialStore
from autotunenet.processes import obey_parent, summarize

PAUSES = (0.05, 0.5)
"""Seconds after which a worker that has nothing to do looks again: at first, and at the most."""


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker of a search is given.

    Attributes:
        objective: What is tuned.
        search: How to search.
        budget: Of all workers together.
        catch: Exceptions of the objective that make its trial a failed one.
        max_attempts: A trial whose workers have died this many times has failed.
    """

    objective: Objective
    search: Search
    budget: Budget
    catch: tuple[type[BaseException], ...]
    max_attempts: int


@dataclass(frozen=True, slots=True)
class Report:
    """Worker to parent. "over" and "failed" are the worker's last words.

    Attributes:
        kind: "changed": look into the journal. "over": nothing is left to do. "failed": `error` was raised.
        error: The pickled exception.
        details: Its traceback.
    """

    kind: Literal["changed", "over", "failed"]
    error: bytes = b""
    details: str = ""


def run_trials(
    store: TrialStore,
    objective: Objective,
    budget: Budget,
    catch: tuple[type[BaseException], ...],
    on_change: Callable[[], None],
) -> None:
    """Claim, evaluate and tell, until nothing is left to do."""
    pause, longest_pause = PAUSES
    while (claim := store.claim(budget)).kind != "over":
        on_change()
        if claim.trial is None:
            time.sleep(pause)
            pause = min(2 * pause, longest_pause)
            continue
        pause, _ = PAUSES
        store.tell(claim.trial.number, evaluate(objective, claim.trial, catch))
        on_change()


def worker_main(channel: Connection, pickled_job: bytes, folder: Path, name: str) -> None:
    """Run trials until nothing is left to do; the target of a worker process.

    Args:
        channel: Takes the reports.
        pickled_job: A `Job`, pickled, so that an objective which cannot be loaded is an error that is told.
        folder: Of the journal.
        name: Of this worker, in the journal.
    """
    obey_parent()
    try:
        job: Job = pickle.loads(pickled_job)
        with Journal(folder, job.search, worker=name, max_attempts=job.max_attempts) as journal:

            def on_change() -> None:
                journal.take_news()  # the parent reads them in the file
                _send(channel, Report("changed"))

            run_trials(journal, job.objective, job.budget, job.catch, on_change)
    except BaseException as error:  # SystemExit too: an objective may not end a worker without a word
        _send(channel, Report("failed", _pickled(error), traceback.format_exc()))
    else:
        _send(channel, Report("over"))


def _send(channel: Connection, report: Report) -> None:
    try:
        channel.send(report)
    except OSError:  # the parent is gone; this process is just about to be, too
        return


def _pickled(error: BaseException) -> bytes:
    """Return the pickled exception; of one that does not survive it, what it says."""
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:
        return pickle.dumps(RuntimeError(summarize(error)))
    return data
