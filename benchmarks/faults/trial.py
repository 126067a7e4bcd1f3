"""One try of a fault: a store of its own, the program that is disturbed, and what must hold afterwards."""

import hashlib
import logging
import threading
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from faults import cells, diary
from faults.processes import kill_tree, wait_until
from faults.tables import table_of

from autotunenet.processes import Starter
from autotunenet_bench.config import parse_config
from autotunenet_bench.data import DataSource
from autotunenet_bench.executors import make_executor, run_cells
from autotunenet_bench.results import ResultStore
from autotunenet_bench.results.claims import Claims
from autotunenet_bench.suite import make_plan, resolve, run_suite

CONFIG = """
tasks: [digits_mlp]
regimes: [stationary, {name: data_shift, severity: 0.4}]
controllers: [fixed, autotunenet]
num_epochs: 6
seeds: [0, 1]
"""
NUM_WORKERS = {"local": 2, "ray": 3, "slurm": 1}
SMALLER = {"slurm": ("regimes=[stationary]", "seeds=[0]")}
"""Overrides where a cell costs seconds before it begins."""


class MissedError(Exception):
    """The fault did not strike: the moment was too late, or nothing was there to be struck."""


class ImpossibleError(Exception):
    """The fault cannot be made here."""


class RecordingExecutor:
    """An executor whose cells keep a diary."""

    def __init__(self, inner, cell=cells.recorded_cell):
        self._inner, self._cell = inner, cell

    @property
    def is_remote(self):
        return self._inner.is_remote

    def default_workers(self, num_threads):
        return self._inner.default_workers(num_threads)

    def run(self, specs, job, on_update):
        return self._inner.run(specs, replace(job, run_cell=self._cell), on_update)

    def close(self):
        self._inner.close()


@dataclass
class Lab:
    """What the tries share.

    Attributes:
        folder: Where everything is written; each try has a folder in it.
        cluster: A `faults.nodes.Nodes`, which begins when it is needed.
    """

    folder: Path
    cluster: object = None
    _tables: dict = field(default_factory=dict)

    def undisturbed(self, executor, overrides):
        """The folder of an undisturbed run of the same cells, by the local executor."""
        key = (*SMALLER.get(executor, ()), *overrides)
        root = self.folder / f"undisturbed-{zlib.crc32(repr(key).encode()):08x}"
        specs = make_plan(resolve(config(key), DataSource()), ResultStore(root)).pending
        failures = run_cells(specs, root=root, source=DataSource(), num_workers=NUM_WORKERS["local"])
        if failures:
            raise AssertionError(f"undisturbed, and yet: {failures}")
        return root

    def table(self, executor, overrides):
        """The table of it."""
        key = (executor, overrides)
        if key not in self._tables:
            self._tables[key] = table_of(self.undisturbed(*key))
        return self._tables[key]


def config(overrides):
    return parse_config(CONFIG, "faults.yaml", overrides)


@dataclass
class Trial:
    """A try.

    Attributes:
        lab: What it shares with others.
        executor: Name of the executor.
        folder: Of this try; the store is its folder ``results``.
        rng: For all that is random.
        overrides: Put over `CONFIG`.
        begun_anew: Runs whose checkpoint was thrown away, as the message said.
    """

    lab: Lab
    executor: str
    folder: Path
    rng: object
    overrides: tuple = ()
    begun_anew: set = field(default_factory=set)
    _finished: dict = field(default_factory=dict)

    def __post_init__(self):
        self.root.mkdir(parents=True)

    @property
    def root(self):
        return self.folder / "results"

    @property
    def config(self):
        return config((*SMALLER.get(self.executor, ()), *self.overrides))

    @cached_property
    def specs(self):
        return resolve(self.config, DataSource())

    @property
    def num_workers(self):
        return NUM_WORKERS[self.executor]

    # -- the program -------------------------------------------------------------------------------------------------

    def run(self, cell=cells.recorded_cell, limits=None, executor=None, on_update=lambda update: None):
        """Run, or go on with, all cells from this process; workers are processes all the same.

        Returns:
            What went wrong, by run id.
        """
        name = executor or self.executor
        with quiet():
            failures = run_cells(
                make_plan(self.specs, ResultStore(self.root)).pending,
                root=self.root,
                source=DataSource(),
                num_workers=NUM_WORKERS[name],
                executor=self._made(name, cell, limits),
                on_update=on_update,
            )
        return {failure.run_id: failure.message for failure in failures}

    def run_with_report(self, cell=cells.recorded_cell, num_workers=None):
        """The same as the whole suite does it, which takes seconds longer."""
        num_workers, made = num_workers or self.num_workers, self._made(self.executor, cell, None)
        with quiet():
            return run_suite(self.config, self.root, DataSource(), num_workers=num_workers, executor=made).failures

    def _made(self, name, cell, limits):
        if name == "ray":
            self.lab.cluster.begin()
        options = {"address": "local"} if name == "slurm" else {}
        return RecordingExecutor(make_executor(name, limits, **options), cell)

    @contextmanager
    def program(self, *options):
        """The same in a program of its own, none of whose processes is left at the end.

        It is forked by the fork server of this process, which has imported torch already, and begins one of its own
        for its workers; so all of them are below it.
        """
        from faults.program import begin

        settings = [f"--set={one}" for one in (*SMALLER.get(self.executor, ()), *self.overrides)]
        arguments = [str(self.root), "--executor", self.executor, *settings, *options]
        process = Starter({}, preload=[], needs_main=False).start(begin, (self.folder / "program.txt", arguments))
        try:
            yield process
        finally:
            if process.is_alive():
                kill_tree(process.pid)
            process.join()

    @contextmanager
    def disturbed(self, disturb):
        """Call something in another thread meanwhile; what it raises is raised here at the end."""
        raised = []

        def act():
            try:
                disturb()
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        yield
        thread.join()
        if raised:
            raise raised[0]

    # -- moments -----------------------------------------------------------------------------------------------------

    def await_moment(self, process=None):
        """Wait until a random moment between the first row of the first cell and the last row of the last one.

        Raises:
            MissedError: If the program ended before.
        """
        num_epochs = self.num_cells * self.config.num_epochs
        after, began = self.rng.randrange(num_epochs), None
        while (done := diary.num_epochs_done(self.root)) < after or not diary.entries(self.root):
            began = began or (time.monotonic() if diary.entries(self.root) else None)
            if (process and not process.is_alive()) or self.is_complete():
                raise MissedError(f"the program ended before epoch {after}")
            time.sleep(0.003)
        pace = (time.monotonic() - began) / done if began and done else 0.1
        time.sleep(self.rng.uniform(0, pace))

    @property
    def num_cells(self):
        return len(self.specs)

    def claims(self):
        """The claims of cells that stand now, by run id."""
        claims = Claims(self.root).active()
        return {name: found for name, found in claims.items() if found.owner and name != "suite.json"}

    def await_claim(self):
        """A claim of a cell, drawn from those that stand.

        Raises:
            MissedError: If all cells are done.
        """
        claims = wait_until(lambda: self.claims() or (self.is_complete() and {"": None}))
        name = self.rng.choice(sorted(claims))
        if not name:
            raise MissedError("all cells were done")
        return claims[name]

    def is_complete(self):
        return len(self.done()) == self.num_cells

    def done(self):
        return [folder for folder in ResultStore(self.root).folders() if folder.is_done()]

    def unfinished(self):
        """Folders of cells that have a checkpoint and are not done.

        Raises:
            MissedError: If there is none.
        """
        found = [folder for folder in ResultStore(self.root).folders() if not folder.is_done()]
        found = [folder for folder in found if (folder.path / "checkpoint.pt").exists()]
        if not found:
            raise MissedError("no cell was in its middle")
        return found

    def interrupt(self):
        """Run until a random moment, and stop as Ctrl-C does."""
        num_epochs = self.rng.randrange(1, self.num_cells * self.config.num_epochs)
        seen = []

        def on_update(update):
            seen.append(update.state)
            if seen.count("epoch") >= num_epochs:
                raise KeyboardInterrupt

        try:
            self.run(executor="local", on_update=on_update)
        except KeyboardInterrupt:
            return
        raise MissedError("it came to its end")

    # -- what must hold ----------------------------------------------------------------------------------------------

    def note_finished(self):
        """Note what finished cells are now; none of them may change any more."""
        self._finished = finished_in(self.root) | self._finished

    def outcome(self):
        """Go on with what is unfinished, and look at everything."""
        self.note_finished()
        failures = self.run()
        done = {folder.path.name for folder in self.done()}
        lost = changed_in(self.root, self._finished)
        lost |= {spec.run_id for spec in self.specs} - done | failures.keys()
        duplicated = diary.duplicates(self.root, self.begun_anew)
        is_equal = table_of(self.root) == self.lab.table(self.executor, self.overrides)
        faults = [f"{name}: lost or changed" for name in sorted(lost)]
        faults += [f"{name}: {why}" for name, why in sorted(duplicated.items())]
        faults += [] if is_equal else ["the table is another"]
        return Outcome(len(lost), len(duplicated), is_equal, tuple(faults))


@dataclass(frozen=True)
class Outcome:
    """What a try came to; without a word, everything is wrong.

    Attributes:
        num_lost: Cells that were finished and have changed since, or that do not come to their end.
        num_duplicated: Cells of which something was trained twice, or by two processes; None: not counted.
        is_equal: Whether the table is that of an undisturbed run.
        faults: What is wrong, in words; empty where nothing is.
        remark: Why there was no try.
    """

    num_lost: int = 0
    num_duplicated: int | None = None
    is_equal: bool = False
    faults: tuple = ()
    remark: str = ""

    @property
    def words(self):
        """All of it in a line, or more where something is wrong."""
        duplicated = "" if self.num_duplicated is None else f", {self.num_duplicated} duplicated"
        table = "equal" if self.is_equal else "not equal"
        return "\n  ".join([f"{self.num_lost} lost{duplicated}, table {table}", *self.faults])


def finished_in(root):
    """Content and times of the files of all finished cells, by run id."""
    return {folder.path.name: _state_of(folder.path) for folder in ResultStore(root).folders() if folder.is_done()}


def changed_in(root, finished):
    """Which of them are not what they were."""
    return {name for name, state in finished.items() if _state_of(root / name) != state}


def _state_of(path):
    files = ("spec.json", "events.jsonl", "status.json")
    found = [path / name for name in files]
    return [
        (file.name, file.stat().st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest())
        for file in found
        if file.exists()
    ]


@contextmanager
def quiet():
    """Without the warnings that the faults cause on purpose."""
    logger = logging.getLogger("autotunenet_bench")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
