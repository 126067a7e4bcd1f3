"""What is lost when something breaks: fault x executor -> lost cells, duplicated cells, is the table equal?

Each try makes a store of its own, runs a suite of small cells in it, lets one fault strike at a random moment, goes on
with what is unfinished, and looks at everything:

  lost        cells that were finished and have changed since, or that do not come to their end
  duplicated  cells of which an epoch was trained twice, one after the other or at once, or that began again when done
  table       whether events, summary.csv and overall.csv are those of an undisturbed run, apart from clocks

    python benchmarks/fault_matrix.py                                       all of it: about an hour on two cores
    python benchmarks/fault_matrix.py --faults worker power --moments 5     some of it
    python benchmarks/fault_matrix.py --keep out --markdown matrix.md       can be interrupted: what is in `out` stays
    python benchmarks/fault_matrix.py --faults oha                          the suite oha, on Ray as on one machine

It ends in 1 where a number is not zero or a table is another. Progress goes to stderr.
"""

import argparse
import json
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from faults.catalog import FAULTS
from faults.nodes import Nodes
from faults.program import warm_up
from faults.trial import ImpossibleError, Lab, MissedError, Outcome, Trial

from autotunenet_bench.executors.base import num_cores

EXECUTORS = ("local", "ray", "slurm")
MAX_MISSES = 10
RECORD_FILE = "outcomes.jsonl"


def main(argv=None):
    arguments = parse(argv)
    with work_folder(arguments.keep) as folder:
        record = Record(folder / RECORD_FILE)
        lab = Lab(folder, Nodes())
        warm_up()
        with (folder / "stdout.txt").open("a") as file, redirect_stdout(file):  # of Ray, on all that it loses
            try:
                for key in keys(arguments):
                    if not record.has(key):
                        record.add(key, attempt(lab, key))
            finally:
                lab.cluster.end()
        chosen = [(name, executor, arguments.seed) for name in arguments.faults for executor in arguments.executors]
        table = markdown(record, chosen)
        print(table, end="")
        if arguments.markdown:
            arguments.markdown.write_text(table, encoding="utf-8")
        return int(record.has_faults(chosen))


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executors", nargs="+", choices=EXECUTORS, default=["local"], help="default: local")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS), help="default: all")
    parser.add_argument("--moments", type=int, default=50, help="tries a fault at most; costly ones have fewer")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep what was found there, and go on from that")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    return parser.parse_args(argv)


@contextmanager
def work_folder(keep):
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()


def keys(arguments):
    """What tells tries apart: fault, executor, seed, number."""
    for name in arguments.faults:
        for executor in arguments.executors:
            for number in range(min(arguments.moments, FAULTS[name].tries.get(executor, 0))):
                yield name, executor, arguments.seed, number


def attempt(lab, key):
    """One try; the moment is drawn again where the fault has missed."""
    name, executor, _, number = key
    fault = FAULTS[name]
    for again in range(MAX_MISSES):
        began, folder = time.monotonic(), lab.folder / f"{name}-{executor}-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        rng = random.Random(f"{key} {again}")
        trial = Trial(lab, executor, folder, rng, fault.overrides)
        try:
            outcome = fault.inflict(trial) or trial.outcome()
        except MissedError as error:
            say(f"{name}, {executor}, {number + 1}: missed, {error}; once more")
            continue
        except ImpossibleError as error:
            say(f"{name}, {executor}: {error}")
            return Outcome(remark=str(error))
        except Exception:  # it is a finding too, and the other tries count all the same
            outcome = Outcome(faults=(traceback.format_exc(),))
        say(f"{name}, {executor}, {number + 1}: {outcome.words}  ({time.monotonic() - began:.0f} s)")
        if not outcome.faults:
            shutil.rmtree(folder)
        return outcome
    return Outcome(faults=(f"the fault has missed {MAX_MISSES} times",))


class Record:
    """What was found so far, a line a try."""

    def __init__(self, path):
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._found = {tuple(key): Outcome(**values) for key, values in map(json.loads, lines)}

    def has(self, key):
        return key in self._found

    def add(self, key, outcome):
        self._found[key] = outcome
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([key, asdict(outcome)]) + "\n")

    def of(self, name, executor, seed):
        return [outcome for key, outcome in sorted(self._found.items()) if key[:3] == (name, executor, seed)]

    def has_faults(self, chosen):
        return any(outcome.faults for one in chosen for outcome in self.of(*one))


def markdown(record, chosen):
    """The table, and on what it was made."""
    heads = ("fault", "executor", "moments", "lost", "duplicated", "table equal")
    rows = [heads, ["---"] * len(heads)]
    for name, executor, seed in chosen:
        found = record.of(name, executor, seed)
        hits = [outcome for outcome in found if not outcome.remark]
        what = [FAULTS[name].words, f"`{executor}`", len(hits)]
        if hits:
            num_equal = sum(outcome.is_equal for outcome in hits)
            equal = "yes" if num_equal == len(hits) else f"no, in {len(hits) - num_equal} of {len(hits)}"
            rows.append([*what, _sum(hits, "num_lost"), _sum(hits, "num_duplicated"), equal])
        elif found:
            rows.append([*what, found[0].remark, "", ""])
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([*lines, "", circumstances(), ""])


def _sum(outcomes, name):
    numbers = [getattr(outcome, name) for outcome in outcomes]
    return "not counted" if None in numbers else sum(numbers)


def circumstances():
    """Commit, machine and versions."""
    here = Path(__file__).resolve().parent
    git = partial(subprocess.run, cwd=here, capture_output=True, text=True, check=False)
    commit = git(["git", "rev-parse", "--short", "HEAD"]).stdout.strip() or "unknown"
    changed = " with changes" if git(["git", "status", "--porcelain", "--", "../src", "."]).stdout.strip() else ""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "ray", "submitit") if _is_installed(name))
    machine = f"{num_cores()} cores of {platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    return f"Commit {commit}{changed}; {machine}, {versions}."


def _is_installed(name):
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def say(words):
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
