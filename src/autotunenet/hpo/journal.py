"""The trials of a search on disk: processes share them, and a kill at any moment loses none.

<folder>/trials.jsonl      a row for the search, then one for everything that happens to a trial; see `rows`
         trials/<number>/  what the objective left in the folder of a trial
         workers/<name>    locked by the worker of that name for as long as it lives
         .lock             locked by whoever reads and appends
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from autotunenet.files import FolderInUseError, LifeLine, locked
from autotunenet.hpo.base import Search
from autotunenet.hpo.budget import Budget
from autotunenet.hpo.objective import Ending, RunningTrial
from autotunenet.hpo.row_file import JournalError, RowFile
from autotunenet.hpo.rows import FORMAT, Row, asked_row, asked_trial, differences, search_row, told_ending, told_row
from autotunenet.hpo.store import Claim, News, TrialStore, nothing_to_try, tell
from autotunenet.hpo.trial import Cost, Trial, TrialState
from autotunenet.processes import summarize

logger = logging.getLogger(__name__)

FILE = "trials.jsonl"


@dataclass(frozen=True, slots=True)
class _Holding:
    """Who has a pending trial. One that was `given_back` waits for the next who asks."""

    worker: str
    attempt: int
    given_back: bool = False


class Journal(TrialStore):
    """Keeps the trials of a search in a file that many processes of one machine read and append to.

    Whatever changes it is done under a lock, after the rows of others have been read, and is on the disk when the call
    returns. So all processes see the same search. A call that fails, for want of space perhaps, leaves the file as it
    was; the next one reads it anew.

    A trial that is pending belongs to a worker, whose life shows in a lock that the operating system frees at its end.
    So a trial whose worker was killed is handed out again, and one whose worker is merely slow never is.

    An instance is one worker, and is used by one thread. It is a context manager: at the end it gives back trials that
    it has not told.

    Args:
        folder: Made where it is missing.
        search: Asked and told here, and by nobody else meanwhile. Trials that it has go into a new journal.
        worker: Name of this worker, its own; made up where none is given.
        max_attempts: A trial whose workers have died this many times has failed.

    Raises:
        JournalError: If the folder holds another search's trials, or a row is damaged.
        OSError: If the folder cannot be written to, or its file system has no locks.
        TypeError, ValueError: If the space has choices that cannot be written down.

    >>> import tempfile
    >>> from autotunenet import Float, SearchSpace
    >>> from autotunenet.hpo import Budget, Ending, RandomSearch
    >>> space = SearchSpace({"x": Float(0.0, 1.0)})
    >>> folder = tempfile.TemporaryDirectory()
    >>> with Journal(Path(folder.name), RandomSearch(space)) as journal:
    ...     trial = journal.claim(Budget(trials=1)).trial
    ...     told = journal.tell(trial.number, Ending(value=0.5))
    >>> with Journal(Path(folder.name), RandomSearch(space)) as journal:
    ...     journal.search.trials == (told,), journal.claim(Budget(trials=1)).kind
    (True, 'over')
    >>> folder.cleanup()
    """

    def __init__(self, folder: Path, search: Search, *, worker: str = "", max_attempts: int = 3) -> None:
        super().__init__(search, folder / "trials")
        self.folder = folder
        self.path = folder / FILE
        self._worker = worker or uuid.uuid4().hex
        self._workers = folder / "workers"
        self._life_line: LifeLine | None = None
        self._max_attempts = max_attempts
        self._holdings: dict[int, _Holding] = {}
        self._first = search_row(search)
        self._file = RowFile(self.path)
        self._num_announced = 0
        self._is_stale = False
        self._open()

    # -- what a worker does ------------------------------------------------------------------------------------------

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def claim(self, budget: Budget) -> Claim:
        """Return a trial to run: one whose worker has died first, else a new one within the budget."""
        with self._exclusive():
            for number, holding in list(self._holdings.items()):
                if self._is_in_hands(holding):
                    continue
                attempt = holding.attempt + (not holding.given_back)
                if attempt <= self._max_attempts:
                    return self._hand_out(self.search.trials[number], attempt)
                self._append_told(number, Ending(value=None, error=f"its worker died {holding.attempt} times"))
            if not budget.may_start(self.search.trials):
                return Claim("wait" if self._holdings else "over")
            trial = self.search.ask()
            return self._hand_out(trial, attempt=1) if trial else nothing_to_try(self.search)

    def tell(self, number: int, ending: Ending) -> Trial:
        """Take how a trial ended that was claimed here.

        Raises:
            KeyError: If no such trial was asked for.
            ValueError: If it has been told before, or belongs to another worker.
        """
        with self._exclusive():
            holding = self._holdings.get(number)
            if holding is not None and (holding.given_back or holding.worker != self._worker):
                raise ValueError(f"trial {number} belongs to another worker; tell it where it was claimed")
            if holding is None:
                tell(self.search, number, ending)  # which says what is wrong with the number
            return self._append_told(number, ending)

    def give_back(self, workers: Collection[str]) -> None:
        """Let others run what these workers, which have ended, left unfinished; that does not count as an attempt.

        Where that cannot be written down, it counts as one.
        """
        try:
            with self._exclusive():
                for number, holding in list(self._holdings.items()):
                    if holding.worker in workers and not holding.given_back:
                        self._append({"row": "released", "number": number, "worker": holding.worker})
        except (OSError, JournalError) as error:  # must not hide why the workers have ended
            logger.warning("%s: that workers have ended was not written down (%s)", self.path, error)

    def refresh(self) -> None:
        """Read what others have appended."""
        self._read()

    def close(self) -> None:
        """Give back what this worker has not told, and end its life as a worker."""
        if self._life_line is not None:
            self.give_back([self._worker])
            self._life_line.cut()
            self._life_line = None

    def _is_in_hands(self, holding: _Holding) -> bool:
        if holding.given_back:
            return False
        return holding.worker == self._worker or LifeLine.is_held(self._workers / holding.worker)

    def _hand_out(self, trial: Trial, attempt: int) -> Claim:
        if self._life_line is None:  # before the row, or others would take this worker for dead
            self._life_line = LifeLine(self._workers / self._worker)
        self._append(asked_row(trial, self._worker, attempt))
        return Claim("run", RunningTrial.of(self.search.trials[trial.number], root=self.root, attempt=attempt))

    def _append_told(self, number: int, ending: Ending) -> Trial:
        """Append a row that says how a trial ended."""
        self._append(told_row(number, ending, self._worker))
        return self.search.trials[number]

    # -- the file ----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Read the file, or begin it with the trials that the search has."""
        given = self.search.trials
        self._workers.mkdir(parents=True, exist_ok=True)
        self._is_stale = True
        try:
            with self._exclusive():
                self._refuse_folder_without_locks()
                for path in self._workers.iterdir():
                    if not LifeLine.is_held(path):
                        path.unlink(missing_ok=True)
                if self._file.is_unread:
                    self._append(self._first, *(row for trial in given for row in _rows_of(trial)))
                    _sync(self.folder)
                self._refuse_other_trials(given)
        except BaseException:
            self.search.load_trials(given)
            raise
        self.take_news()  # what is there already is no news

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Do something alone, knowing all rows; after an error, start anew with what the file says."""
        with locked(self.folder, wait=True):
            try:
                self._read()
                yield
            except BaseException:
                self._is_stale = True
                raise

    def _read(self) -> None:
        """Read what is new in the file."""
        if self._is_stale:
            self.search.load_trials([])
            self.finished.clear()
            self._holdings.clear()
            self._file.rewind()
            self._is_stale = False
        self._apply_all(self._file.read())

    def _append(self, *rows: Row) -> None:
        self._apply_all(self._file.append(rows))

    def _apply_all(self, rows: list[tuple[int, Row]]) -> None:
        """Do to the search what rows say has happened, whoever wrote them."""
        for line, row in rows:
            try:
                news = self._apply(line, row)
            except JournalError:
                raise
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                raise self._file.damage(line, summarize(error)) from error
            if news is not None and line > self._num_announced:
                self._news.append(news)
            self._num_announced = max(self._num_announced, line)

    def _apply(self, line: int, row: Row) -> News | None:
        if (row["row"] == "search") != (line == 1):
            raise ValueError("the first row, and no other, says what is searched")
        if line == 1:
            self._refuse_other_search(row)
            return None
        number = row["number"]
        if type(number) is not int or number < 0:
            raise TypeError(f"the number of a trial is a whole one from 0 on, got {number!r}")
        if row["row"] == "asked":
            return self._apply_asked(row, number)
        holding = self._holdings[number]
        if row["row"] == "released":
            self._holdings[number] = replace(holding, given_back=True)
            return None
        told = tell(self.search, number, told_ending(row))
        del self._holdings[number]
        self.finished.append(number)
        return News("told", told, holding.attempt)

    def _apply_asked(self, row: Row, number: int) -> News:
        if number == len(self.search.trials):  # else this worker has asked for it, or it is handed out again
            self.search.add(asked_trial(row, self.search.space))
        trial = self.search.trials[number]
        if trial.state is not TrialState.PENDING:
            raise ValueError(f"trial {number} is handed out again after it was told")
        if not isinstance(row["worker"], str) or type(row["attempt"]) is not int:
            raise TypeError("its worker must be a text and its attempt a whole number")
        self._holdings[number] = _Holding(row["worker"], row["attempt"])
        return News("asked", trial, row["attempt"])

    # -- what is refused ---------------------------------------------------------------------------------------------

    def _refuse_folder_without_locks(self) -> None:
        try:
            with locked(self.folder):
                pass
        except FolderInUseError:  # as it should be: this very process holds it
            return
        raise OSError(
            f"{self.folder}: its file system has no locks (flock), which keep workers apart and tell whose worker is "
            "dead; use a folder on a local disk"
        )

    def _refuse_other_search(self, row: Row) -> None:
        if row.get("format") != FORMAT:
            raise JournalError(f"{self.path} has format {row.get('format')}; this version reads {FORMAT}")
        differing = differences(row, self._first)
        if differing:
            raise JournalError(
                f"{self.folder} holds the trials of another search: {'; '.join(differing)}. Use another folder, or "
                "call with what is there"
            )

    def _refuse_other_trials(self, given: Sequence[Trial]) -> None:
        known = [trial.params for trial in self.search.trials]
        if [trial.params for trial in given] != known[: len(given)]:
            raise JournalError(
                f"the search has {len(given)} trials, which are not the first ones of the {len(known)} in {self.path}; "
                "use another folder, or a search without trials"
            )


def _rows_of(trial: Trial) -> list[Row]:
    """Return the rows of a trial that was asked, and perhaps told, before there was a journal."""
    pending = replace(trial, state=TrialState.PENDING, value=None, metrics={}, cost=Cost(), error="")
    asked = asked_row(pending, worker="given", attempt=1)
    if trial.state is TrialState.PENDING:
        return [asked, {"row": "released", "number": trial.number, "worker": "given"}]
    ending = Ending(value=trial.value, error=trial.error, metrics=trial.metrics, cost=trial.cost)
    return [asked, told_row(trial.number, ending, worker="given")]


def _sync(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
