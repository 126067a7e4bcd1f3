"""How long do listing, reporting, verifying and exporting a store of thousands of runs take, and how much memory?

    python benchmarks/bench_store.py --runs 10000

A few real runs of the digits are made first (2 regimes x 5 controllers). The store is made of copies of them under
other seeds, each with the id that its spec has, so that every check of a store holds for it. Each command runs in a
process of its own; told are its CPU seconds, wall seconds and the most memory that it held. CPU seconds are what counts
on a machine that does other work too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from autotunenet_bench.config import parse_config
from autotunenet_bench.data import DataSource
from autotunenet_bench.results import ResultStore, RunFolder
from autotunenet_bench.results.run_id import run_id_of
from autotunenet_bench.results.suite_file import note_checksums, read_suite_file, write_suite_file
from autotunenet_bench.suite import run_suite

CONFIG = """\
title: Thousands of runs
tasks: [digits_mlp]
regimes: [stationary, {name: data_shift, kind: label_noise, severity: 0.4}]
controllers: [fixed, cosine, plateau, heuristic, autotunenet]
num_epochs: 5
seeds: [0]
"""

TASKS = 10
"""Names of the task, so that there are many cells, as in a large suite."""

COMMANDS = {
    "list runs": ("list", "runs", "--out", "."),
    "report": ("report", "many"),
    "verify": ("verify", "many"),
    "export": ("export", "many", "--out", "many.parquet"),
    "gc, nothing to do": ("gc", "many"),
}


LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024])
sys.exit(code)
"""
"""A small process between this one and the command: a child's peak begins with what its parent held at its start."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10_000, help="runs of the store")
    parser.add_argument("--folder", type=Path, help="where to make it; kept. Default: a temporary one")
    parser.add_argument("--only", nargs="*", choices=COMMANDS, default=list(COMMANDS), help="commands to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.folder or Path(temporary)
        if not (root / "many" / "suite.json").exists():
            make_store(root, options.runs)
        size = sum(path.stat().st_size for path in (root / "many").glob("*/*"))
        print(f"{options.runs} runs, {size / 1e6:.0f} MB\n")
        print("| command | CPU s | wall s | peak MB |\n| --- | --- | --- | --- |")
        for name in options.only:
            cpu, wall, peak = measure(COMMANDS[name], root)
            print(f"| {name} | {cpu:.1f} | {wall:.1f} | {peak:.0f} |", flush=True)


def make_store(root: Path, num_runs: int) -> None:
    """Make `num_runs` finished runs in ``root/many``."""
    run_suite(parse_config(CONFIG, "few.yaml"), root / "few", DataSource(), num_workers=1)
    few = ResultStore(root / "few").folders()
    names = []
    for number in range(num_runs):
        seed, of_seed = divmod(number, TASKS * len(few))
        task, template = divmod(of_seed, len(few))
        names.append(copy_run(few[template], root / "many", task, seed))
    write_suite_file(root / "many", {**read_suite_file(root / "few"), "runs": names, "checksums": {}})
    note_checksums(root / "many")


def copy_run(template: RunFolder, root: Path, task: int, seed: int) -> str:
    """Copy a run under another seed and another name of its task; return its id."""
    spec = template.spec()
    spec = {**spec, "seed": seed, "task": {**spec["task"], "label": f"digits {task}"}}
    spec["labels"] = {**spec["labels"], "task": f"digits {task}"}
    run = RunFolder(root / run_id_of(spec))
    run.path.mkdir(parents=True)
    (run.path / "spec.json").write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
    # Other losses for every run, since equal ones would be the easier case of statistics and figures.
    text = template.events_path.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in text]
    for row in rows:
        if row["event"] == "epoch":
            row["val"]["loss"] *= 1 + 0.01 * (seed % 17) + 0.003 * task
    run.events_path.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows), encoding="utf-8")
    run.finish(spec["num_epochs"])
    return run.path.name


def measure(arguments: tuple[str, ...], root: Path) -> tuple[float, float, float]:
    """Run a command; return its CPU seconds, wall seconds and the most memory in MB that it held."""
    command = [sys.executable, "-m", "autotunenet_bench", *arguments]
    started = time.perf_counter()
    with (root / "output.txt").open("w", encoding="utf-8") as output:
        launcher = [sys.executable, "-S", "-c", LAUNCHER, *command]
        done = subprocess.run(launcher, cwd=root, stdout=subprocess.PIPE, stderr=output, text=True, check=False)
    wall = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}; see {root / 'output.txt'}")
    cpu, peak = json.loads(done.stdout)
    return cpu, wall, peak


if __name__ == "__main__":
    main()
